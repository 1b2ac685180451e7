"""Any Python value as JSON data of bounded size: for prompts and for what a tool gives back.

What is left out is said in the data and in `notes`. The same value gives the same data: no
addresses, sets in one order.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, SecretBytes, SecretStr

from o3magic.errors import O3Error, TemplateError
from o3magic.events import Answer
from o3magic.prompts.tabular import (
    MOST_COLUMNS,
    column,
    first_rows,
    has_words,
    is_frame,
    is_missing,
    is_series,
    plain_index,
)

MOST_CHARS: Final = 50_000
MOST_DEEP: Final = 30
MOST_REPR_CHARS: Final = 300
MOST_INT_BITS: Final = 10_000
ADDRESS: Final = re.compile(r"(?: object)? at 0x[0-9a-fA-F]+")
_TEXT_FORM: Final = (Decimal, timedelta, UUID, PurePath, SecretStr, SecretBytes, complex)


def completed(value: Any) -> Any:
    """A value; in place of one that is still arriving, as of `--background`, its answer.

    Such a value has a method `__o3_answer__` that waits for it. Raises TemplateError where it
    failed.
    """
    wait = getattr(type(value), "__o3_answer__", None)
    if wait is None:
        return value
    try:
        return wait(value)
    except O3Error as error:
        raise TemplateError(f"the answer failed: {error}", hint=error.hint) from None


def json_text(value: Any, most_chars: int = MOST_CHARS) -> tuple[str, tuple[str, ...]]:
    """`value` as JSON of about `most_chars` at the most, and what a reader should know of it."""
    maker = _JsonMaker(most_chars)
    data = maker.plain(value)
    return json.dumps(data, ensure_ascii=False), tuple(maker.notes)


def plain(value: Any, most_chars: int = MOST_CHARS) -> Any:
    """`value` as JSON data."""
    return _JsonMaker(most_chars).plain(value)


def short_repr(value: Any, most_chars: int = MOST_REPR_CHARS) -> str:
    """The repr of anything: bounded, without addresses, also where `__repr__` fails."""
    try:
        said = ADDRESS.sub("", repr(value))
    except Exception as error:
        said = f"<{type(value).__name__}: its repr raises {type(error).__name__}>"
    return said if len(said) <= most_chars else said[: most_chars - 1] + "…"


def cut_words(kept: int, of: int, what: str) -> str:
    """What was left out, in the words of every place that leaves something out."""
    return f"[... {of - kept:,} of {of:,} {what} cut]"


class _JsonMaker:
    """Makes one value plain, and counts the characters that are left for it."""

    def __init__(self, most_chars: int) -> None:
        self._left = most_chars
        self._inside: set[int] = set()
        self._seen_notes: dict[str, None] = {}

    @property
    def notes(self) -> list[str]:
        """What was changed or left out, each said once."""
        return [*self._seen_notes]

    def plain(self, value: Any) -> Any:
        """JSON data for `value`."""
        if hasattr(type(value), "_fail_with_undefined_error"):  # of a template
            raise TemplateError("something in it is not defined")
        if value is None or is_missing(value):
            return self._spent(None, 4)
        if isinstance(value, bool):
            return self._spent(value, 5)
        if isinstance(value, Enum):
            return self.plain(value.value)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            if value.bit_length() > MOST_INT_BITS:
                return self._odd(f"<an integer of {value.bit_length():,} bits>", "a huge integer")
            return self._spent(int(value), value.bit_length() // 3 + 1)
        if isinstance(value, float):
            if math.isfinite(value):
                return self._spent(float(value), 20)
            return self._odd(None, f"{float(value)!r} became null: JSON has none")
        if isinstance(value, date | datetime | time):
            return self._text(value.isoformat())
        if isinstance(value, _TEXT_FORM) or has_words(value):
            return self._text(str(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return self._odd(f"<{len(value):,} bytes>", "bytes have no JSON form")
        return self._compound(value)

    def _compound(self, value: Any) -> Any:
        if id(value) in self._inside:
            return self._odd("<the same again>", "it holds itself")
        if len(self._inside) >= MOST_DEEP:
            return self._odd("<nested too deeply>", f"cut below level {MOST_DEEP}")
        self._inside.add(id(value))
        try:
            return self._opened(value)
        except TemplateError:
            raise
        except Exception as error:  # the object's own code: a property, a serializer
            return self._odd(short_repr(value), f"{type(value).__name__}: {type(error).__name__}")
        finally:
            self._inside.discard(id(value))

    def _opened(self, value: Any) -> Any:
        """The inside of anything that has one."""
        value = completed(value)
        if isinstance(value, Answer):
            return self.plain(value.text if value.data is None else value.data)
        if isinstance(value, BaseModel):
            return self._object(value.model_dump())
        if is_dataclass(value) and not isinstance(value, type):
            return self._object({f.name: getattr(value, f.name) for f in fields(value)})
        if isinstance(value, Mapping):
            return self._object(value)
        if isinstance(value, set | frozenset):
            return self._list(sorted(value, key=short_repr), len(value))
        if isinstance(value, list | tuple | range):
            return self._list(value, len(value))
        if is_frame(value):
            return self._frame(value)
        if is_series(value):
            return self._series(value)
        if callable(inner := getattr(value, "tolist", None)) and hasattr(value, "shape"):
            return self._array(value, inner)
        said = short_repr(value)
        return self._odd(said, f"{type(value).__name__} has no JSON form: this is its repr")

    def _object(self, value: Mapping[Any, Any], count: int | None = None) -> dict[str, Any]:
        """An object. count: how many fields there are, where `value` has only the first of them."""
        count = len(value) if count is None else count
        made: dict[str, Any] = {}
        for name, inner in value.items():
            if self._left <= 0:
                made["..."] = self._cut(len(made), count, "fields")
                break
            said = name if isinstance(name, str) else str(self.plain(name))
            self._left -= len(said) + 4
            made[said] = self.plain(inner)
        return made

    def _list(self, values: Iterable[Any], count: int) -> list[Any]:
        made: list[Any] = []
        for value in values:
            if self._left <= 0:
                made.append(self._cut(len(made), count, "items"))
                break
            self._left -= 2
            made.append(self.plain(value))
        return made

    def _frame(self, value: Any) -> Any:
        """The rows of a DataFrame as objects, no more of them than there is room for."""
        count = len(value)
        names, rows = first_rows(value, self._left // 8 + 1)
        if (columns := len(value.columns)) > MOST_COLUMNS:
            self._cut(MOST_COLUMNS, columns, "columns")
        names = self._apart(names)
        return self._list((dict(zip(names, row, strict=False)) for row in rows), count)

    def _series(self, value: Any) -> Any:
        """A column: its values alone where its rows are only numbered, else each with its label."""
        count = len(value)
        if not hasattr(value, "index") or not hasattr(value, "iloc") or plain_index(value):
            return self._list(islice(iter(value), count), count)
        names, rows = column(value, self._left // 4 + 1)
        if len(names) == 2 and getattr(value.index, "is_unique", False):
            return self._object(dict(rows), count)
        names = self._apart(names)
        return self._list((dict(zip(names, row, strict=False)) for row in rows), count)

    def _apart(self, names: list[str]) -> list[str]:
        """The names of columns, those that are there before numbered: "n", "n (2)"."""
        seen: Counter[str] = Counter()
        apart = []
        for name in names:
            seen[name] += 1
            apart.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
        for name, times in seen.items():
            if times > 1:
                self._seen_notes.setdefault(f"{times} columns are called {name!r}: numbered")
        return apart

    def _array(self, value: Any, inner: Callable[[], Any]) -> Any:
        """An array or a scalar of numpy's kind; sliced before it becomes Python objects."""
        if not value.shape:
            return self.plain(inner())
        rows = int(value.shape[0])
        most = max(1, self._left // max(1, 2 * (int(value.size) // max(rows, 1))))
        made = self._list(value[:most].tolist(), rows)
        if rows > most and len(made) == most:
            made.append(self._cut(most, rows, "items"))
        return made

    def _text(self, value: str) -> str:
        value = value.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
        kept = max(self._left, 200)
        self._left -= len(value) + 2
        if len(value) <= kept:
            return value
        return value[:kept] + self._cut(kept, len(value), "characters")

    def _cut(self, kept: int, of: int, what: str) -> str:
        return str(self._odd(cut_words(kept, of, what), f"{of - kept:,} of {of:,} {what} cut"))

    def _odd(self, data: Any, note: str) -> Any:
        self._seen_notes.setdefault(note)
        return self._spent(data, len(str(data)))

    def _spent(self, data: Any, chars: int) -> Any:
        self._left -= chars + 2
        return data
