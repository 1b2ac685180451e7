"""Structured data as a Markdown table: what is shown where there is no tree of it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from o3magic.render.markdown.sanitize import code_span, safe_markdown, table_cell

ROWS = 50
COLUMNS = 30
CELL = 200  # characters
DEPTH = 4  # of fields within fields that have rows of their own
NAMES = 3  # of an object that is only named
FormatCell = Callable[[Any], str]


def as_markdown(
    data: Any,
    name: str | None = "",
    *,
    rows: int = ROWS,
    cell: int = CELL,
    brief: bool = False,
) -> str:
    """`data` - what JSON can say - as safe Markdown, under its name.

    An object has a row for every field, a list of objects a column; what is too long is
    shortened, and says so. brief: of a list in a cell only how long it is, of an object its names.
    """
    title = f"**{table_cell(name, cell)}**" if name and name.strip() else ""
    value = partial(_brief if brief else _value, cell=cell)
    shown = _body(data, rows, cell, value)
    return safe_markdown("\n\n".join(part for part in (title, shown) if part))


def _body(data: Any, rows: int, cell: int, value: FormatCell) -> str:
    if isinstance(data, Mapping) and data:
        return _object(data, rows, cell, value)
    if _is_list(data) and data:
        if all(isinstance(each, Mapping) for each in data) and any(data):
            return _objects(data, rows, cell, value)
        return _table(["value"], ([value(each)] for each in data[:rows]), len(data) - rows)
    shown = value(data)
    return shown if shown.startswith("`") or not shown else f"**{shown}**"


def _object(data: Mapping[str, Any], rows: int, cell: int, value: FormatCell) -> str:
    """Fields and values; the fields of a field as `field.field`."""
    fields = list(_fields(data, "", DEPTH))
    shown = ([table_cell(field, cell), value(said)] for field, said in fields[:rows])
    return _table(["field", "value"], shown, len(fields) - rows)


def _fields(data: Mapping[str, Any], above: str, depth: int) -> Iterable[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value and depth > 1:
            yield from _fields(value, f"{above}{key}.", depth - 1)
        else:
            yield f"{above}{key}", value


def _objects(data: Sequence[Mapping[str, Any]], rows: int, cell: int, value: FormatCell) -> str:
    """A row for every object, a column for every field that one of them has."""
    fields = list(dict.fromkeys(str(key) for each in data for key in each))
    head = [table_cell(field, cell) for field in fields[:COLUMNS]]
    body = ([value(each.get(field, "")) for field in fields[:COLUMNS]] for each in data[:rows])
    return _table(head, body, len(data) - rows, len(fields) - COLUMNS)


def _table(
    head: list[str], rows: Iterable[list[str]], more_rows: int, more_columns: int = 0
) -> str:
    lines = [_row(head), _row(["---"] * len(head)), *map(_row, rows)]
    more = [
        f"{count:,} more {unit}{'s' if count > 1 else ''}"
        for count, unit in ((more_rows, "row"), (more_columns, "column"))
        if count > 0
    ]
    return "\n".join(lines) + (f"\n\n… and {', '.join(more)}" if more else "")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(value: Any, cell: int) -> str:
    """A value in a cell: words as they are, an object or a list as JSON."""
    if isinstance(value, str):
        return table_cell(value, cell)
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False, default=str, separators=(", ", ": "))
    if not isinstance(value, Mapping) and not _is_list(value):
        return table_cell(text, cell)
    return code_span(text if len(text) <= cell else text[: cell - 1] + "…")


def _brief(value: Any, cell: int) -> str:
    """The same, of an object or a list only what it has: `3 items`, `{name, price, …}`."""
    if _is_list(value):
        return "1 item" if len(value) == 1 else f"{len(value):,} items"
    if isinstance(value, Mapping):
        names = [str(name) for name in value][: NAMES + 1]
        return table_cell(f"{{{', '.join([*names[:NAMES], *('…' for _ in names[NAMES:])])}}}", cell)
    return _value(value, cell)


def _is_list(data: Any) -> bool:
    return isinstance(data, list | tuple)
