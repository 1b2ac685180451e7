"""Rows as a pandas DataFrame. The door of pandas, an optional package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Any:
    """A DataFrame. Raises ImportError, with the way to get it, where pandas is not installed."""
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise ImportError("to_frame() needs pandas: %pip install pandas") from error
    return pandas.DataFrame(list(rows), columns=None if columns is None else list(columns))


def from_interchange(value: Any) -> Any:
    """A DataFrame of any library that speaks the interchange protocol, as pandas' own."""
    try:
        return import_module("pandas.api.interchange").from_dataframe(value)
    except ImportError as error:
        raise ImportError("reading this DataFrame needs pandas: %pip install pandas") from error


def has_pandas() -> bool:
    """Whether pandas is installed; it is loaded then."""
    try:
        import_module("pandas")
    except ImportError:
        return False
    return True


def typed_frame(
    columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, str], index: Any = None
) -> Any:
    """A pandas DataFrame of columns whose kinds are known.

    kinds: integer, number, boolean, moment, or text for what stays as it is. A column that lacks
    values keeps its kind: whole numbers do not become fractions.
    """
    pandas = import_module("pandas")
    nullable = {"integer": "Int64", "number": "Float64", "boolean": "boolean"}
    plain = {"integer": "int64", "number": "float64", "boolean": "bool"}
    made = {}
    for name, values in columns.items():
        kind = kinds.get(name, "text")
        series = pandas.Series(list(values), dtype=object)
        try:
            if kind == "moment":
                series = pandas.to_datetime(series, format="ISO8601")
            elif kind in nullable:
                lacking = any(value is None for value in values)
                series = series.astype(nullable[kind] if lacking else plain[kind])
        except (TypeError, ValueError, OverflowError):
            pass  # a number beyond 64 bits, a date before year one: as it came
        made[name] = series
    frame = pandas.DataFrame(made, columns=list(columns))
    if index is not None:
        frame.index = index
    return frame


def fixed_frame(
    columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, str], index: Any = None
) -> Any:
    """A pandas DataFrame whose columns have the types of their kinds, whatever is in them.

    kinds: those of `typed_frame`, of which moment is UTC; date, text and object besides.
    """
    pandas = import_module("pandas")
    types = {"integer": "Int64", "number": "Float64", "boolean": "boolean", "text": "string"}
    types |= {"date": "datetime64[us]", "moment": "datetime64[us, UTC]"}
    made = {}
    for name, values in columns.items():
        kind = kinds.get(name, "object")
        series = pandas.Series(list(values), dtype=object)
        try:
            if kind == "number":
                series = series.map(float, na_action="ignore")
            elif kind in ("date", "moment"):
                series = pandas.to_datetime(series, format="ISO8601", utc=kind == "moment")
            made[name] = series.astype(types.get(kind, object))
        except (TypeError, ValueError, OverflowError):
            made[name] = series  # a number beyond 64 bits, a date before year one: as it came
    frame = pandas.DataFrame(made, columns=list(columns))
    if index is not None:
        frame.index = index
    return frame
