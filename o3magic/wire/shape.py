"""Reading JSON that may be anything: what is not of the shape looked for is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from o3magic.errors import BrokenAnswer


def load(data: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    """The object in some JSON. Raises BrokenAnswer where it is none."""
    try:
        value = from_json(data) if isinstance(data, bytes) else data
    except ValueError:
        raise BrokenAnswer("the provider sent something that is no JSON") from None
    if not isinstance(value, Mapping):
        raise BrokenAnswer("the provider sent JSON that is no object")
    return value


def word(value: Mapping[str, Any], name: str) -> str:
    """A text field, or ""."""
    found = value.get(name)
    return found if isinstance(found, str) else ""


def section(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A nested object, or an empty one."""
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def objects(value: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a list, or nothing."""
    found = value.get(name)
    if isinstance(found, list):
        yield from (each for each in found if isinstance(each, Mapping))


def count(value: Mapping[str, Any], name: str) -> int | None:
    """A whole number that is not negative, or None."""
    found = value.get(name)
    return found if type(found) is int and found >= 0 else None


def load_partial(text: str) -> Any:
    """What the beginning of some JSON says so far, or None where it says nothing yet."""
    try:
        return from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return None
