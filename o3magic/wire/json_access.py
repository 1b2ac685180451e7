"""Tolerant access to decoded JSON: a value of another type counts as absent."""

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


def find_fault(document: Any) -> tuple[str, str]:
    """Find a malformed part of a JSON Schema: the problem and its JSON pointer, or two "".

    Not recursive, so that any depth is accepted.
    """
    todo = [(document, "")]
    while todo:
        schema, path = todo.pop()
        if isinstance(schema, bool):
            continue
        if not isinstance(schema, Mapping):
            return "is not a schema", path
        for keyword, value in schema.items():
            if not _fits(keyword, value):
                return f"has a `{keyword}` of the wrong kind", path
            todo += [(part, f"{path}/{step}") for step, part in _parts(keyword, value)]
    return "", ""


def _fits(keyword: Any, value: Any) -> bool:
    """Whether a value is valid for a keyword; unknown keywords accept any."""
    if keyword in _MAPS:
        return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    if keyword in (*_LISTS, "enum"):
        return isinstance(value, list)
    if keyword in _WORDS:
        return isinstance(value, str)
    if keyword in _NUMBERS:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if keyword in ("required", "type"):
        values = value if isinstance(value, list) else [value]
        return (keyword == "type" or value is values) and all(
            isinstance(item, str) for item in values
        )
    return isinstance(keyword, str)


def _parts(keyword: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the subschemas of a keyword with their relative JSON pointers."""
    if keyword in _MAPS:
        for name, part in value.items():
            yield f"{keyword}/{name.replace('~', '~0').replace('/', '~1')}", part
    elif keyword in _LISTS:
        for index, part in enumerate(value):
            yield f"{keyword}/{index}", part
    elif keyword in _SINGLE:
        yield keyword, value


MOST_QUOTED_CHARS = 200


def load_object(data: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    """Decode a JSON object, which may be wrapped in a list, as Google's errors are.

    Raises BrokenAnswer with the beginning of the data.
    """
    try:
        value = from_json(data) if isinstance(data, bytes) else data
    except ValueError:
        raise BrokenAnswer(
            f"the provider sent something that is not JSON{quote_beginning(data)}"
        ) from None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Mapping):
        raise BrokenAnswer(f"the provider sent JSON that is not an object{quote_beginning(data)}")
    return value


def quote_beginning(data: Any) -> str:
    """Quote the beginning of a server's data behind a colon, without secrets."""
    text = (
        data[: 20 * MOST_QUOTED_CHARS].decode("utf-8", "replace") if isinstance(data, bytes) else ""
    )
    # Cut last, because redact does not recognize half a key.
    quoted = redact(text)[:MOST_QUOTED_CHARS]
    return f": {quoted}" if quoted else ""


def get_text(value: Mapping[str, Any], name: str) -> str:
    """A text field, or ""."""
    field = value.get(name)
    return field if isinstance(field, str) else ""


def get_object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A nested object, or an empty one."""
    field = value.get(name)
    return field if isinstance(field, Mapping) else {}


def iter_objects(value: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a list."""
    items = value.get(name)
    if isinstance(items, list):
        yield from (item for item in items if isinstance(item, Mapping))


def get_count(value: Mapping[str, Any], name: str) -> int | None:
    """A non-negative integer, or None."""
    number = value.get(name)
    return number if type(number) is int and number >= 0 else None


def parse_partial_json(text: str) -> Any:
    """Decode the beginning of a JSON text, or None if it holds no value yet."""
    try:
        return from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return None
