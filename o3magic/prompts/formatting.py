"""How a Python value reads in a prompt: words as they are, tables as CSV, objects as JSON.

Bounded, and sliced before it is formatted: of a table of millions of rows only those that are
shown are touched. What was left out is said in the text and in a note for the user. The same
value gives the same bytes, for they are part of the key under which an answer is recorded.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from types import ModuleType
from typing import Any, Final

from pydantic import BaseModel

from o3magic.errors import TemplateError
from o3magic.events import Answer
from o3magic.prompts.jsonable import ADDRESS, completed, cut_words, json_text, short_repr
from o3magic.prompts.tabular import (
    MOST_COLUMNS,
    column,
    first_rows,
    has_words,
    is_frame,
    is_lazy,
    is_missing,
    is_series,
)

MOST_ROWS: Final = 100
MOST_CHARS: Final = 100_000
MOST_CELL_CHARS: Final = 1_000
LONGEST_INLINE: Final = 200
_AS_THEY_ARE: Final = (bool, int, float, complex, Decimal, timedelta, date, time)


@dataclass(frozen=True, slots=True)
class FormattedValue:
    """Text that stands for a value; `inline`: it goes in without a mark that it is data."""

    text: str
    notes: tuple[str, ...] = ()
    inline: bool = False

    def __str__(self) -> str:
        """The text, for filters that work on any text."""
        return self.text


def shown(value: Any) -> FormattedValue:
    """A value as a prompt shows it. Raises TemplateError for what has no form for a reader."""
    if isinstance(value, FormattedValue):
        return value
    value = completed(value)
    if isinstance(value, Answer):
        return as_json(value.data) if value.data is not None else FormattedValue(value.text)
    if isinstance(value, str) and not isinstance(value, Enum):
        return FormattedValue(str(value))
    if value is os.environ:
        raise TemplateError("the environment holds keys", hint="take one value: os.environ['HOME']")
    if is_frame(value) or is_series(value):
        return as_csv(value)
    if isinstance(value, Enum):
        return shown(value.value)
    if value is None or is_missing(value) or has_words(value) or isinstance(value, _AS_THEY_ARE):
        return FormattedValue(_number(value))
    if isinstance(value, Mapping | list | tuple | set | frozenset | range | BaseModel):
        return as_json(value)
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(value)
    if hasattr(value, "tolist") and hasattr(value, "shape"):
        return as_array(value)
    return as_words(value)


def as_words(value: Any) -> FormattedValue:
    """An object by what it says of itself. Raises TemplateError where that says nothing."""
    kind = type(value)
    if kind.__module__.partition(".")[0] in ("PIL", "matplotlib"):
        raise TemplateError(f"a {kind.__name__} is a picture", hint="{{ figure | image }}")
    if is_lazy(value):
        hint = "{{ frame | head(100) }}, or frame.collect() in a cell"
        raise TemplateError("a LazyFrame is not computed yet", hint=hint)
    if isinstance(value, bytes | bytearray | memoryview):
        raise TemplateError(f"{len(value):,} bytes are no text", hint="decode them, or | image")
    if isinstance(value, ModuleType):
        raise TemplateError(f"{value.__name__} is a module", hint="name something in it")
    if isinstance(value, type) or callable(value):
        raise TemplateError(f"{short_repr(value, 60)} is code", hint="{{ function | code }}")
    said = str(value)
    if ADDRESS.search(said) or len(said) > MOST_CHARS:
        hint = "name one of its fields, or give it a __str__"
        raise TemplateError(f"an object of type {kind.__name__} has no short text", hint=hint)
    return FormattedValue(said)


def as_json(value: Any) -> FormattedValue:
    """A value as JSON."""
    return FormattedValue(*json_text(value, MOST_CHARS))


def as_array(value: Any) -> FormattedValue:
    """An array as its shape and its numbers; a scalar of its kind as a number."""
    if not value.shape:
        return shown(value.tolist())
    inner = as_json(value)
    shape = " x ".join(f"{side:,}" for side in value.shape)
    return FormattedValue(f"array of {shape}, {value.dtype}:\n{inner.text}", inner.notes)


def as_csv(value: Any, most_rows: int = MOST_ROWS) -> FormattedValue:
    """A table as CSV. Raises TemplateError for what has no rows."""
    if most_rows < 0:
        raise TemplateError(f"{most_rows} rows cannot be shown", hint="| csv(100)")
    if is_series(value):
        return _table(*column(value, most_rows), len(value), most_rows)
    if is_frame(value):
        names, rows = first_rows(value, most_rows)
        made = _table(names, rows, len(value), most_rows)
        if len(value.columns) <= MOST_COLUMNS:
            return made
        note = cut_words(MOST_COLUMNS, len(value.columns), "columns")
        return FormattedValue(f"{made.text}\n{note}", (*made.notes, note.strip("[.] ")))
    if isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) for v in value):
        top = value[:most_rows]
        keys = [*dict.fromkeys(key for row in top for key in row)]
        filled = (tuple(row.get(key) for key in keys) for row in top)
        return _table([str(key) for key in keys], filled, len(value), most_rows)
    kind = type(value).__name__
    raise TemplateError(f"a {kind} has no rows for CSV", hint="a DataFrame, or a list of dicts")


def _table(
    names: list[str], rows: Iterable[tuple[Any, ...]], count: int, most: int
) -> FormattedValue:
    """Rows as CSV, until there are enough of them or of their characters."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow([_cell(name) for name in names])
    written = 0
    for row in rows:
        if written >= most or made.tell() > MOST_CHARS:
            break
        writer.writerow([_cell(value) for value in row])
        written += 1
    text = made.getvalue().rstrip("\n")
    if count <= written:
        return FormattedValue(text)
    note = cut_words(written, count, "rows")
    return FormattedValue(f"{text}\n{note}", (note.strip("[.] "),))


def _cell(value: Any) -> str:
    """One field of a row."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or is_missing(value) or (isinstance(value, float) and math.isnan(value)):
        return ""
    said = value if isinstance(value, str) else _in_cell(value)
    if len(said) <= MOST_CELL_CHARS:
        return said
    return said[:MOST_CELL_CHARS] + cut_words(MOST_CELL_CHARS, len(said), "characters")


def _in_cell(value: Any) -> str:
    if isinstance(value, _AS_THEY_ARE) or has_words(value):
        return _number(value)
    return json_text(value, MOST_CELL_CHARS)[0]


def _number(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no more than 4300 digits
        raise TemplateError("a number has too many digits", hint="shorten it first") from None


def marked(said: FormattedValue, name: str) -> str:
    """The text, marked as data where it is long or of several lines.

    What is inside cannot end the mark: the tag is one that does not occur in it.
    """
    text = said.text.encode("utf-8", "replace").decode()
    if said.inline or (len(text) <= LONGEST_INLINE and "\n" not in text and "\r" not in text):
        return text
    tag, folded, tries = "data", text.casefold(), 0
    while f"</{tag}" in folded:
        tag = "data-" + sha256(f"{tries} {text}".encode()).hexdigest()[:8]
        tries += 1
    label = " ".join(name.replace('"', "'").replace("<", "").replace(">", "").split())[:60]
    return f'<{tag} name="{label}">\n{text}\n</{tag}>'
