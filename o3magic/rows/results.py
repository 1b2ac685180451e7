"""Tables of answers: in the order of the rows, with a column for each field of the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, overload

from o3magic.dataframes import has_pandas, typed_frame
from o3magic.money import usd
from o3magic.rows.context import RowSums, StopReason
from o3magic.rows.records import RowOutcome, StoredRow
from o3magic.rows.runner import RowRunner
from o3magic.rows.sources import RowSource
from o3magic.rows.store import JobStore
from o3magic.schemas.lookup import AnswerType
from o3magic.session.comparison import flatten_fields
from o3magic.wire.optional_fields import resolve_refs

PAGE_ROWS = 2000
NOT_ASKED = "not asked"
TOKEN_COLUMNS = ("input_tokens", "output_tokens", "reasoning_tokens")
OWN_COLUMNS = ("error", "cost_usd", *TOKEN_COLUMNS)
UNANSWERED = {
    "budget": f"{NOT_ASKED}: budget",
    "interrupted": f"{NOT_ASKED}: interrupted",
    "error": f"{NOT_ASKED}: stopped at an error",
}


class MappedRows(Sequence[Mapping[str, Any]]):
    """A sequence of rows as dicts, where pandas is not installed."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], count: int) -> None:
        self._columns, self._count = dict(columns), count

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [*self._columns]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: str) -> list[Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[Mapping[str, Any]]: ...
    def __getitem__(self, at: int | str | slice) -> Any:
        """Return a row by index, rows by slice, or a column by name."""
        if isinstance(at, str):
            return self.column(at)
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(f"there are {len(self)} rows")
        return {name: values[at] for name, values in self._columns.items()}

    def __repr__(self) -> str:
        return f"Rows({len(self)} of {', '.join(self.columns)})"

    def column(self, name: str) -> list[Any]:
        """Return the values of a column."""
        return [*self._columns[name]]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return all rows as dicts."""
        return [dict(row) for row in self]


class ResultTable:
    """Builds the columns of a table row by row. errors: rows with an error so far."""

    def __init__(self, wanted: AnswerType | None, *, flatten: bool) -> None:
        self._wanted, self._flatten = wanted, flatten
        self._fields: dict[str, list[Any]] = {}
        self._own: dict[str, list[Any]] = {name: [] for name in OWN_COLUMNS}
        self._count = 0
        self.errors = 0
        if wanted is None:
            self._fields["text"] = []
        elif not flatten:
            for name in get_fields(wanted):
                self._fields[name] = []

    def add(self, row: StoredRow | RowOutcome | None, error: str | None, *, charged: bool) -> None:
        """Add the next row. charged: whether its cost counts here, not with an identical row."""
        values = self._values(row) if row is not None and row.state == "done" else {}
        for name in values.keys() - self._fields.keys():
            self._fields[name] = [None] * self._count
        for name, column in self._fields.items():
            column.append(values.get(name))
        error = error or (row.error if row is not None else None) or None
        self.errors += error is not None
        self._own["error"].append(error)
        cost: Decimal | None = None
        counts: Sequence[int | None] = (None, None, None)
        if row is not None and charged:
            cost, counts = usd(row.cost_nano_usd), get_token_counts(row)
        elif row is not None:
            cost, counts = Decimal(0), (0, 0, 0)
        self._own["cost_usd"].append(cost)
        for name, count in zip(TOKEN_COLUMNS, counts, strict=True):
            self._own[name].append(count)
        self._count += 1

    def _values(self, row: StoredRow | RowOutcome) -> dict[str, Any]:
        """Return the values of an answer by column."""
        content = row.said if isinstance(row, StoredRow) else row.answer or {}
        if self._wanted is None:
            return {"text": content.get("text", "")}
        data = content.get("data")
        if isinstance(data, Mapping):
            return flatten_fields(data) if self._flatten else dict(data)
        return {"value": data}

    def columns(self) -> dict[str, list[Any]]:
        """Return all columns; an own column named like a field gets the prefix `o3_`."""
        own = {f"o3_{n}" if n in self._fields else n: v for n, v in self._own.items()}
        return {**self._fields, **own}

    def result(self, source: RowSource) -> Any:
        """Build a DataFrame of the library of the input, else of pandas, else MappedRows."""
        columns, frame = self.columns(), source.frame
        if frame is not None and hasattr(frame, "iter_rows"):
            return type(frame)(
                {n: to_polars_values(values) for n, values in columns.items()}, strict=False
            )
        if frame is None and not has_pandas():
            return MappedRows(columns, self._count)
        kinds = get_column_kinds(self._wanted) if self._wanted else {}
        kinds = {name: kind for name, kind in kinds.items() if name in self._fields}
        own = dict.fromkeys((n if n in columns else f"o3_{n}" for n in TOKEN_COLUMNS), "integer")
        index = None
        if frame is not None:
            index = frame.index[: self._count]
        return typed_frame(columns, {**kinds, **own}, index)


def to_polars_values(values: list[Any]) -> list[Any]:
    """Convert decimals to floats: polars needs one scale for all decimals of a column."""
    return [float(value) if isinstance(value, Decimal) else value for value in values]


def get_token_counts(row: StoredRow | RowOutcome) -> Sequence[int | None]:
    """Return input, output and reasoning tokens."""
    usage = row.usage if isinstance(row, RowOutcome) else row
    return usage.input_tokens, usage.output_tokens, usage.reasoning_tokens


def get_fields(wanted: AnswerType) -> dict[str, Any]:
    """Return the fields of a type by name; a type without fields has one called `value`."""
    definitions = wanted.schema.get("$defs", {})
    root = resolve_refs(wanted.schema, definitions)
    fields = root.get("properties") if root.get("type") == "object" else None
    if not fields:
        return {"value": root}
    return {name: resolve_refs(field, definitions) for name, field in fields.items()}


def get_column_kinds(wanted: AnswerType) -> dict[str, str]:
    kinds = {name: get_column_kind(field) for name, field in get_fields(wanted).items()}
    return {name: kind for name, kind in kinds.items() if kind}


def get_column_kind(field: Mapping[str, Any]) -> str:
    """Return the kind of a field's column: integer, number, boolean, moment, or ""."""
    choices = [c for c in field.get("anyOf", [field]) if c.get("type") != "null"]
    kind = str(choices[0].get("type")) if len(choices) == 1 else ""
    if kind == "string" and choices[0].get("format") in ("date", "date-time"):
        return "moment"
    return kind if kind in ("integer", "number", "boolean") else ""


def fill_table(run: RowRunner, store: JobStore, table: ResultTable, sums: RowSums) -> ResultTable:
    """Add the rows of a run to a table, in their order, and to the sums; return the table."""
    tally, halt = run.tally, run.halt
    charged: set[str] = set()
    for start in range(0, len(tally.keys), PAGE_ROWS):
        keys = tally.keys[start : start + PAGE_ROWS]
        known = load_rows(run, store, keys)
        for index, key in enumerate(keys, start):
            if key is None:
                error = tally.local[index]
                table.add(None, f"{type(error).__name__}: {error}", charged=False)
                continue
            row = known.get(key)
            if row is None or row.state in ("open", "claimed"):
                table.add(None, format_unanswered(halt, row), charged=False)
                continue
            error_text = f"{row.error_kind}: {row.error}" if row.error else None
            table.add(row, error_text, charged=key not in charged)
            sums.add(row, charged=key not in charged)
            charged.add(key)
    return table


def load_rows(
    run: RowRunner, store: JobStore, keys: Sequence[str | None]
) -> dict[str, StoredRow | RowOutcome]:
    """Return the rows of these keys by key: unsaved outcomes, else from the job store."""
    unique = [*dict.fromkeys(key for key in keys if key is not None)]
    rows: dict[str, StoredRow | RowOutcome] = {}
    stored = [key for key in unique if key not in run.tally.endings]
    rows |= {row.key: row for row in store.read(run.job.id, stored)}
    rows |= {key: run.tally.endings[key] for key in unique if key in run.tally.endings}
    return rows


def format_unanswered(halt: StopReason | None, row: StoredRow | RowOutcome | None) -> str:
    """Format the reason why a row has no answer."""
    if halt is None or (row is not None and row.state == "claimed" and halt.why != "interrupted"):
        return f"{NOT_ASKED}: another kernel is at it"
    if halt.why == "budget" and row is not None and row.error_kind == "OverBudget":
        return f"{NOT_ASKED} again: budget"
    return UNANSWERED.get(halt.why) or f"{NOT_ASKED}: {halt.error}"


def read_stored_rows(run: RowRunner, store: JobStore) -> Iterator[StoredRow]:
    """Read all rows of a run that are in the job store, page by page."""
    keys = [key for key in dict.fromkeys(run.tally.keys) if key is not None]
    for start in range(0, len(keys), PAGE_ROWS):
        yield from store.read(run.job.id, keys[start : start + PAGE_ROWS])
