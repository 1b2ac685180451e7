"""Whether a document is a JSON Schema at all: each keyword with a value of the kind it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

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
