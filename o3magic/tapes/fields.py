"""Reading an entry that a person may have written.

What is missing is empty, what is of the wrong kind is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from o3magic.errors import CassetteError
from o3magic.tapes.canonical import joined

Word = TypeVar("Word", bound=str)


class Fields:
    """The fields of one object of a cassette. All methods raise CassetteError for a wrong kind."""

    def __init__(self, raw: Any, name: str) -> None:
        if raw is not None and not isinstance(raw, Mapping):
            raise CassetteError(f"{name} is no object")
        self.said = raw is not None
        self.raw: Mapping[str, Any] = raw or {}

    def section(self, name: str) -> Fields:
        """A nested object; an empty one where it is missing."""
        return Fields(self.raw.get(name), name)

    def word(self, name: str) -> str:
        """A text of one line, or ""."""
        found = self.raw.get(name)
        if found is not None and not isinstance(found, str):
            raise CassetteError(f"{name} is no text")
        return found or ""

    def text(self, name: str) -> str:
        """A text that may be written as lines, or ""."""
        try:
            return joined(self.raw.get(name) or "")
        except CassetteError:
            raise CassetteError(f"{name} is neither a text nor a list of lines") from None

    def listed(self, name: str) -> Sequence[Any]:
        """A list, or an empty one."""
        found = self.raw.get(name)
        if found is not None and not isinstance(found, list):
            raise CassetteError(f"{name} is no list")
        return found or []

    def words(self, name: str) -> list[str]:
        """A list of texts."""
        found = self.listed(name)
        if not all(isinstance(each, str) for each in found):
            raise CassetteError(f"{name} is no list of texts")
        return [*found]

    def count(self, name: str, at_least: int = 0) -> int | None:
        """A whole number, or None."""
        found = self.raw.get(name)
        if found is None:
            return None
        if type(found) is not int or found < at_least:
            raise CassetteError(f"{name} is no whole number from {at_least} on")
        return found

    def one_of(self, name: str, words: Sequence[Word], default: Word) -> Word:
        """One of some words."""
        found = self.raw.get(name, default)
        for word in words:
            if word == found:
                return word
        raise CassetteError(f"{name} is none of {', '.join(words)}")
