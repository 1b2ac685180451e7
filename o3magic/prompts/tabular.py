"""The rows of a DataFrame, whichever library made it: pandas and polars are known by their shape.

Neither is imported here, and no more rows are touched than are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

MOST_COLUMNS: Final = 200
_LIBRARIES: Final = ("pandas", "polars", "geopandas", "modin", "cudf")


def is_frame(value: Any) -> bool:
    """Whether it is a table with named columns."""
    kind = type(value)
    if is_arrow_table(value):
        return True
    if kind.__module__.partition(".")[0] == "polars":
        return kind.__name__ == "DataFrame"
    return all(hasattr(kind, name) for name in ("columns", "itertuples", "head", "iloc"))


def is_lazy(value: Any) -> bool:
    """Whether it is a table that is not computed yet, so that nobody knows how long it is."""
    return type(value).__name__ == "LazyFrame" and hasattr(value, "collect")


def is_series(value: Any) -> bool:
    """Whether it is one column or an index of a table."""
    library = type(value).__module__.partition(".")[0]
    return library in _LIBRARIES and not is_frame(value) and hasattr(value, "dtype")


def is_missing(value: Any) -> bool:
    """Whether it is pandas' own way to say that nothing is there; NaN is a number."""
    return type(value).__name__ in ("NAType", "NaTType")


def has_words(value: Any) -> bool:
    """Whether pandas has words of its own for it: an Interval is "(0, 5]", a Period "2026-01"."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    return library == "pandas" and kind.__name__ in ("Interval", "Period")


def is_arrow_table(value: Any) -> bool:
    """Whether it is a table of pyarrow, whose columns are no attributes of their own."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    return library == "pyarrow" and kind.__name__ in ("Table", "RecordBatch")


def first_rows(frame: Any, rows: int) -> tuple[list[str], Iterable[tuple[Any, ...]]]:
    """The names of the columns, those of a meaningful index among them, and the first rows."""
    if is_arrow_table(frame):
        names = [*frame.column_names][:MOST_COLUMNS]
        top = frame.slice(0, rows).select(range(len(names)))
        return names, zip(*(column.to_pylist() for column in top.columns), strict=True)
    top = frame.head(rows)
    if hasattr(top, "iter_rows"):
        return [*top.columns][:MOST_COLUMNS], (row[:MOST_COLUMNS] for row in top.iter_rows())
    top = top.iloc[:, :MOST_COLUMNS]
    names = [_said(name) for name in top.columns]
    if plain_index(frame):
        return names, top.itertuples(index=False, name=None)
    levels = [_said(name) if name is not None else "index" for name in top.index.names]
    if len(levels) == 1:
        return [*levels, *names], top.itertuples(index=True, name=None)
    opened = ((*row[0], *row[1:]) for row in top.itertuples(index=True, name=None))
    return [*levels, *names], opened


def column(series: Any, rows: int) -> tuple[list[str], Iterable[tuple[Any, ...]]]:
    """One column as a table, with its index where that says something: of counts, what counts."""
    name = "value" if getattr(series, "name", None) is None else _said(series.name)
    if not hasattr(series, "index") or not hasattr(series, "iloc") or plain_index(series):
        return [name], ((each,) for each in series[:rows])
    index = [_said(each) if each is not None else "index" for each in series.index.names]
    pairs = series.iloc[:rows].items()
    if len(index) == 1:
        return [*index, name], pairs
    return [*index, name], ((*key, each) for key, each in pairs)


def plain_index(frame: Any) -> bool:
    """Whether its rows are only numbered."""
    index: Any = getattr(frame, "index", None)
    return type(index).__name__ == "RangeIndex" and index.name is None


def _said(name: Any) -> str:
    return "/".join(map(str, name)) if isinstance(name, tuple) else str(name)
