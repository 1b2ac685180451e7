"""Tools that come with o3magic, each only where its name is asked for: python, sql, web_search."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib import import_module
from types import CodeType
from typing import Any, Final

from o3magic.errors import BadOption
from o3magic.messages import HostedTool
from o3magic.prompts.jsonable import plain, short_repr
from o3magic.prompts.tabular import is_frame
from o3magic.tools.execution import when_left
from o3magic.tools.function import LONGEST_DESCRIPTION, ToolFunction, tool_of

PLACE: Final = "<the python tool>"
MOST_ROWS: Final = 200
MOST_TABLES: Final = 30
SQL_MEMORY: Final = "1GB"
MOST_RESULT_CHARS: Final = 20_000


def built_in(name: str, namespace: Mapping[str, Any]) -> ToolFunction | HostedTool | None:
    """The built-in tool of that name, or None. Raises BadOption where it needs what is not there.

    namespace: the names of the notebook, which `python` changes and `sql` reads.
    """
    if name == "python":
        return python_tool(namespace)
    if name == "sql":
        return sql_tool(namespace)
    if name == "web_search":
        return HostedTool("web_search")
    return None


def python_tool(namespace: Mapping[str, Any]) -> ToolFunction:
    """Runs code in the notebook, after the user has said yes to each piece of it."""
    if not isinstance(namespace, dict):
        raise BadOption("the python tool needs the names of a notebook", hint="use it in %%o3")

    def python(code: str) -> str:
        """Run Python code in the user's notebook: its variables are there, and stay changed.

        What it prints and the value of its last expression are the result.

        Args:
            code: the code, one or more lines
        """
        body, last = compiled(code)
        exec(body, namespace)
        if last is None:
            return "done"
        value = eval(last, namespace)
        return "done" if value is None else short_repr(value, MOST_RESULT_CHARS)

    return tool_of(python, dangerous=True, tells_prints=True)


def compiled(code: str) -> tuple[CodeType, CodeType | None]:
    """The code without its last expression, and that expression if there is one."""
    tree = ast.parse(code, PLACE)
    last: CodeType | None = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        ended = tree.body.pop()
        assert isinstance(ended, ast.Expr)
        last = compile(ast.Expression(ended.value), PLACE, "eval")
    return compile(tree, PLACE, "exec"), last


def sql_tool(namespace: Mapping[str, Any]) -> ToolFunction:
    """Reads the DataFrames of the notebook with DuckDB: no file, no network, nothing is changed.

    Raises BadOption where DuckDB is not installed.
    """
    try:
        duckdb = import_module("duckdb")
    except ImportError:
        raise BadOption("the sql tool needs DuckDB", hint="%pip install duckdb") from None

    def sql(query: str) -> dict[str, Any]:
        """Run one SELECT over the DataFrames.

        Args:
            query: one statement in DuckDB's SQL
        """
        return selected(duckdb, query, tables(namespace))

    about = f"Run one SELECT of DuckDB's SQL. Tables: {listed(tables(namespace))}"
    return tool_of(sql, description=about[:LONGEST_DESCRIPTION])


def tables(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The DataFrames of the notebook by their names."""
    found = {
        name: value
        for name, value in [*namespace.items()]
        if not name.startswith("_") and is_frame(value)
    }
    return dict([*found.items()][:MOST_TABLES])


def listed(frames: Mapping[str, Any]) -> str:
    """Names and columns of tables: `df(a, b)`."""
    said = []
    for name, frame in frames.items():
        said.append(f"{name}({', '.join(map(str, [*frame.columns][:30]))})")
    return "; ".join(said) or "none yet"


def selected(duckdb: Any, query: str, frames: Mapping[str, Any]) -> dict[str, Any]:
    """The first rows of a query over `frames`, as data. Raises ValueError for what is no SELECT."""
    settings = {
        "python_enable_replacements": "false",  # no other Python variable is a table
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": SQL_MEMORY,
        "threads": "1",
    }
    with duckdb.connect(":memory:", config=settings) as connection:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ValueError("one SELECT, and nothing else")
        for name, frame in frames.items():
            if name.casefold() in query.casefold():
                connection.register(name, frame)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        when_left(connection.interrupt)
        return _rows(connection, statements[0])


def _rows(connection: Any, statement: Any) -> dict[str, Any]:
    done = connection.execute(statement)
    rows = done.fetchmany(MOST_ROWS + 1)
    columns = [each[0] for each in done.description]
    made: dict[str, Any] = {"columns": columns}
    made["rows"] = [plain(list(row), 5_000) for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        made["note"] = f"only the first {MOST_ROWS} rows: say less in the query"
    return made
