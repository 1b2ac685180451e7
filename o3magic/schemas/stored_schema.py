"""An answer against the JSON Schema it was asked with, where its Python type is not there.

A restarted kernel may not know the type. What is checked is what the strict subset can say: types,
properties, items, enumerations, unions, references and bounds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Final

from o3magic.schemas.lookup import AnswerType, SchemaMismatch
from o3magic.wire.optional_fields import resolved, without_fillers

MOST_PROBLEMS: Final = 20
MOST_DEPTH: Final = 100
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_BOUNDS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
    "minItems": lambda value, limit: len(value) >= limit,
    "maxItems": lambda value, limit: len(value) <= limit,
}


def problems(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """What is wrong with a value, one short line for each fault."""
    return [*islice(_faults(value, schema, schema, "", 0), MOST_PROBLEMS)]


@dataclass(frozen=True)
class StoredAnswerType(AnswerType):
    """The type of a job's answers, of which nothing is left but its name and its JSON Schema."""

    kept: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema, as pydantic made it."""
        return dict(self.kept)

    def validate(self, text: str) -> Any:
        """The data of an answer. Raises SchemaMismatch."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise SchemaMismatch(["it is no JSON"]) from None
        inside = wrapper(self.kept)
        if inside and isinstance(data, dict) and data.keys() == {inside}:
            data = data[inside]
        data = without_fillers(data, self.schema)
        if found := problems(data, self.kept):
            raise SchemaMismatch(found)
        return data

    def dump(self, parsed: Any) -> Any:
        """The data as it is."""
        return parsed


def wrapper(schema: Mapping[str, Any]) -> str:
    """The one property of the object that a root which is none is sent in, or ""."""
    root = resolved(schema, schema.get("$defs", {}))
    if root.get("type") == "object":
        return ""
    return "items" if root.get("type") == "array" else "value"


def _faults(
    value: Any, schema: Any, root: Mapping[str, Any], path: str, depth: int
) -> Iterator[str]:
    where = f"{path}: " if path else ""
    if depth > MOST_DEPTH:
        yield f"{where}is nested too deeply"
        return
    if not isinstance(schema, Mapping):
        return
    if "$ref" in schema:
        yield from _faults(value, _target(schema["$ref"], root), root, path, depth + 1)
        return
    if any_of := schema.get("anyOf"):
        ways = [[*_faults(value, way, root, path, depth + 1)] for way in any_of]
        if all(ways):
            yield from min(ways, key=len)
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where}should be {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}should be one of {', '.join(map(repr, schema['enum'][:5]))}"
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted or []
    if names and not any(_is(value, name) for name in names):
        yield f"{where}should be {' or '.join(names)}"
        return
    yield from _out_of_bounds(value, schema, where)
    if isinstance(value, dict):
        yield from _in_object(value, schema, root, path, depth)
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from _faults(item, schema["items"], root, f"{path}[{number}]", depth + 1)


def _in_object(
    value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], path: str, depth: int
) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{_step(path, name)}: is missing"
    for name, inner in value.items():
        if name in known:
            yield from _faults(inner, known[name], root, _step(path, name), depth + 1)
        elif schema.get("additionalProperties") is False:
            yield f"{_step(path, name)}: was not asked for"


def _out_of_bounds(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, holds in _BOUNDS.items():
        counted = isinstance(value, list) if name.endswith("Items") else _is(value, "number")
        if name in schema and counted and not holds(value, schema[name]):
            yield f"{where}{name} is {schema[name]}"


def _is(value: Any, name: str) -> bool:
    """Whether a value is of a type; True is no number, and 1.0 is a whole one."""
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, (object,)))


def _target(reference: Any, root: Mapping[str, Any]) -> Any:
    """What a reference within the schema means; anything goes where it leads nowhere."""
    found: Any = root
    for step in str(reference).removeprefix("#").strip("/").split("/"):
        if step:
            found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _step(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
