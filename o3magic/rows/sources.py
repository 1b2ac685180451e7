"""Input rows: of a DataFrame of any library, a list of dicts, or an iterator, read on demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from o3magic.dataframes import from_interchange
from o3magic.errors import BadOption
from o3magic.prompts.tabular import is_frame, is_lazy

SourceRow = Mapping[str, Any]


@dataclass(frozen=True)
class RowSource:
    """The input rows of a job. total: None for an iterator. frame: the DataFrame they come from.

    columns: the names that a template may use; () where there is no row.
    """

    rows: Iterator[SourceRow]
    columns: tuple[str, ...]
    total: int | None = None
    frame: Any = None


def read_source(rows: Any) -> RowSource:
    """Return the rows of the argument of a user. Raises BadOption for other types."""
    if hasattr(rows, "__dask_graph__"):
        raise BadOption(
            "rows of Dask are asked where they are, by the workers of a cluster",
            hint="o3.map(..., client=dask.distributed.Client(...)), or give rows.compute()",
        )
    if is_lazy(rows):
        raise BadOption("a LazyFrame is not computed yet", hint="give frame.collect()")
    if is_frame(rows):
        return read_frame(rows)
    if hasattr(rows, "__dataframe__"):
        return read_frame(from_interchange(rows))
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        raise BadOption(
            f"rows cannot be a {type(rows).__name__}",
            hint="a DataFrame, a list of dicts, or an iterator of dicts",
        )
    if isinstance(rows, Sequence):
        for number, row in enumerate(rows):
            require_row(row, number)
        columns = dict.fromkeys(str(name) for row in rows for name in row)
        return RowSource(map(with_string_names, rows), tuple(columns), len(rows))
    return read_iterator(iter(rows))


def read_iterator(rows: Iterator[Any]) -> RowSource:
    """Return the rows of an iterator, of which the first is read here."""
    for first in rows:
        require_row(first, 0)
        return RowSource(chain_rows(with_string_names(first), rows), tuple(map(str, first)))
    return RowSource(iter(()), ())


def chain_rows(first: SourceRow, rows: Iterator[Any]) -> Iterator[SourceRow]:
    """Iterate over the first row and the rest."""
    yield first
    for number, row in enumerate(rows, 1):
        require_row(row, number)
        yield with_string_names(row)


def require_row(row: Any, number: int) -> None:
    """Raise BadOption for a row that is not a mapping."""
    if not isinstance(row, Mapping):
        raise BadOption(
            f"row {number} is a {type(row).__name__}", hint="each row is a dict of its columns"
        )


def with_string_names(row: SourceRow) -> SourceRow:
    """Return the row with strings as column names."""
    if all(type(name) is str for name in row):
        return row
    return {str(name): value for name, value in row.items()}


def read_frame(frame: Any) -> RowSource:
    """Return the rows of a DataFrame; a named index counts as a column."""
    names = ["/".join(map(str, n)) if isinstance(n, tuple) else str(n) for n in frame.columns]
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise BadOption(f"two columns are called {duplicate!r}", hint="rename one of them")
    levels = [str(n) for n in getattr(getattr(frame, "index", None), "names", ()) if n is not None]
    levels = [name for name in levels if name not in names]
    rows: Iterator[SourceRow]
    if hasattr(frame, "iter_rows"):
        rows = (dict(zip(names, row, strict=True)) for row in frame.iter_rows())
    elif levels:
        rows = iterate_with_index(frame, names, levels)
    else:
        tuples = frame.itertuples(index=False, name=None)
        rows = (dict(zip(names, row, strict=True)) for row in tuples)
    return RowSource(rows, (*names, *levels), len(frame), frame)


def iterate_with_index(
    frame: Any, names: Sequence[str], levels: Sequence[str]
) -> Iterator[SourceRow]:
    """Iterate over the rows with the levels of their index."""
    pairs = zip(frame.index, frame.itertuples(index=False, name=None), strict=True)
    is_multi = frame.index.nlevels > 1
    positions = {
        str(name): index for index, name in enumerate(frame.index.names) if name is not None
    }
    for label, row in pairs:
        labels = label if is_multi else (label,)
        yield dict(zip(names, row, strict=True)) | {
            name: labels[positions[name]] for name in levels
        }
