"""Reading JSON that may be anything: what is not of the shape looked for is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic_core import from_json

from o3magic.errors import BrokenAnswer
from o3magic.redaction import redact

_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties")
_WORDS: Final = ("$ref", "pattern", "format", "title", "description")
_NUMBERS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
)


def fault(document: Any) -> tuple[str, str]:
    """What is wrong and where, as a JSON pointer; both "" where nothing is.

    Walks without recursion, so that no depth is too much for it.
    """
    todo = [(document, "")]
    while todo:
        schema, path = todo.pop()
        if isinstance(schema, bool):
            continue
        if not isinstance(schema, Mapping):
            return "is no schema", path
        for keyword, value in schema.items():
            if not _fits(keyword, value):
                return f"has a `{keyword}` of the wrong kind", path
            todo += [(part, f"{path}/{step}") for step, part in _parts(keyword, value)]
    return "", ""


def _fits(keyword: Any, value: Any) -> bool:
    """Whether a keyword may have such a value; one we do not know may have any."""
    if keyword in _MAPS:
        return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    if keyword in (*_LISTS, "enum"):
        return isinstance(value, list)
    if keyword in _WORDS:
        return isinstance(value, str)
    if keyword in _NUMBERS:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if keyword in ("required", "type"):
        several = value if isinstance(value, list) else [value]
        return (keyword == "type" or value is several) and all(
            isinstance(each, str) for each in several
        )
    return isinstance(keyword, str)


def _parts(keyword: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The schemas in a keyword's value, each with the steps that lead there."""
    if keyword in _MAPS:
        for name, part in value.items():
            yield f"{keyword}/{name.replace('~', '~0').replace('/', '~1')}", part
    elif keyword in _LISTS:
        for index, part in enumerate(value):
            yield f"{keyword}/{index}", part
    elif keyword in _SINGLE:
        yield keyword, value


MOST_QUOTED_CHARS = 200


def load(data: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    """The object in some JSON, also where it is wrapped in a list, as Google's errors are.

    Raises BrokenAnswer, with the beginning of what is there, where it is none.
    """
    try:
        value = from_json(data) if isinstance(data, bytes) else data
    except ValueError:
        raise BrokenAnswer(f"the provider sent something that is not JSON{quoted(data)}") from None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Mapping):
        raise BrokenAnswer(f"the provider sent JSON that is not an object{quoted(data)}")
    return value


def quoted(data: Any) -> str:
    """The beginning of what a server sent instead of an answer, behind a colon."""
    said = (
        data[: 20 * MOST_QUOTED_CHARS].decode("utf-8", "replace") if isinstance(data, bytes) else ""
    )
    # Cut last: half a key does not look like one.
    words = redact(said)[:MOST_QUOTED_CHARS]
    return f": {words}" if words else ""


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
