"""Whether a schema is one at all: each keyword with a value of its kind."""

from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]

MAPS = ("properties", "$defs", "definitions")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
SINGLES = ("items", "additionalProperties")
COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
TEXTS = ("format", "pattern", "$ref", "title", "description")


def fault(schema: Any) -> str | None:
    """The first value of a wrong kind, as the API words it; None if there is none."""
    return next(_faults(schema, ()), None)


def _faults(node: Any, path: Path) -> Iterator[str]:
    if isinstance(node, bool) and path:
        return
    if not isinstance(node, dict):
        yield _said(path, node, "'object', 'boolean'")
        return
    for name, value in node.items():
        yield from _value_faults(name, value, (*path, name))


def _value_faults(name: str, value: Any, path: Path) -> Iterator[str]:
    wanted = _wanted(name, value)
    if wanted:
        yield _said(path, value, wanted)
    elif name in MAPS:
        for key, child in value.items():
            yield from _faults(child, (*path, key))
    elif name in LISTS:
        for index, child in enumerate(value):
            yield from _faults(child, (*path, str(index)))
    elif name in SINGLES:
        yield from _faults(value, path)


def _wanted(name: str, value: Any) -> str | None:
    """The kind a keyword's value should have had; None if it has it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    names = value if isinstance(value, list) else [value]
    kinds = (
        (MAPS, "'object'", isinstance(value, dict)),
        (LISTS, "'array'", isinstance(value, list) and value != []),
        (("enum",), "'array'", isinstance(value, list) and value != []),
        (("required",), "'array'", isinstance(value, list) and _texts(value)),
        (("type",), "'string', 'array'", names != [] and _texts(names)),
        (COUNTS, "'integer'", number and isinstance(value, int) and value >= 0),
        (NUMBERS, "'number'", number and (name != "multipleOf" or value > 0)),
        (TEXTS, "'string'", isinstance(value, str)),
    )
    return next((kind for words, kind, right in kinds if name in words and not right), None)


def _texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _said(path: Path, value: Any, wanted: str) -> str:
    return f"In context={path!r}, {str(value)[:40]!r} is not of type {wanted}."
