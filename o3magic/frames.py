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
