"""The nulls that say `nothing said`: told apart from meant ones, and taken out of an answer.

A strict schema has every property, so one that may be left out may be null there. Which null is
such a filler, only the schema before it became strict knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

JsonSchema = Mapping[str, Any]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def target(ref: str) -> str:
    """The name of the definition that `#/$defs/name` leads to."""
    return ref.rpartition("/")[2].replace("~1", "/").replace("~0", "~")


def resolved(schema: Any, defs: JsonSchema) -> JsonSchema:
    """The schema that `schema` stands for, through `$ref`s; {} where it leads nowhere."""
    seen: set[str] = set()
    while isinstance(schema, Mapping) and "$ref" in schema:
        name = target(schema["$ref"])
        schema = {} if name in seen else defs.get(name, {})
        seen.add(name)
    return schema if isinstance(schema, Mapping) else {}


def nullable(schema: Any, defs: JsonSchema) -> bool:
    """Whether null is a value of `schema` itself, so that a null is meant."""
    todo, seen = [schema], set()
    while todo:
        node = resolved(todo.pop(), defs)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if "null" in _listed(node.get("type", [])) or None in _listed(node.get("enum", [])):
            return True
        if node.get("const", ...) is None:
            return True
        todo += _options(node)
        todo += node["allOf"] if len(node.get("allOf", ())) == 1 else []
    return False


def without_fillers(answer: Any, schema: JsonSchema) -> Any:
    """`answer` to the strict form of `schema` as an answer to `schema`: fillers left out."""
    return _without(answer, schema, schema.get("$defs", {}))


def _without(data: Any, schema: Any, defs: JsonSchema) -> Any:
    schema = resolved(schema, defs)
    if options := _options(schema):
        return _without(data, _meant(data, options, defs), defs)
    if isinstance(data, list):
        places = [*schema.get("prefixItems", ())]
        places += [schema.get("items", {})] * (len(data) - len(places))
        return [_without(item, place, defs) for item, place in zip(data, places, strict=False)]
    if isinstance(data, dict):
        props, required = schema.get("properties", {}), schema.get("required", ())
        return {
            name: _without(value, props.get(name, {}), defs)
            for name, value in data.items()
            if value is not None
            or name not in props
            or name in required
            or nullable(props[name], defs)
        }
    return data


def _meant(data: Any, options: Sequence[Any], defs: JsonSchema) -> Any:
    """The member of a union that `data` follows, or comes nearest to."""
    near = [option for option in options if _typed(data, resolved(option, defs))]
    for option in near:
        if _follows(data, option, defs):
            return option
    return max(near, key=lambda option: _likeness(data, resolved(option, defs), defs), default={})


def _likeness(data: Any, schema: JsonSchema, defs: JsonSchema) -> int:
    """How many fields of an object fit, less those that are missing or too many."""
    if not isinstance(data, dict):
        return 0
    props = schema.get("properties", {})
    fit = sum(name in props and _follows(data[name], props[name], defs) for name in data)
    return fit - len(data.keys() ^ props.keys())


def _follows(data: Any, schema: Any, defs: JsonSchema) -> bool:
    """Whether `data` has the types and fields of `schema`; constraints are not looked at."""
    schema = resolved(schema, defs)
    if options := _options(schema):
        return any(_follows(data, option, defs) for option in options)
    if not _typed(data, schema) or data not in schema.get("enum", [data]):
        return False
    if "const" in schema and data != schema["const"]:
        return False
    if isinstance(data, list) and "items" in schema:
        return all(_follows(item, schema["items"], defs) for item in data)
    if isinstance(data, dict) and "properties" in schema:
        props, required = schema["properties"], {*schema.get("required", ())}
        return required <= data.keys() <= props.keys() and all(
            (value is None and name not in required) or _follows(value, props[name], defs)
            for name, value in data.items()
        )
    return True


def _typed(data: Any, schema: JsonSchema) -> bool:
    kinds = _listed(schema.get("type", []))
    if isinstance(data, bool):
        return not kinds or "boolean" in kinds
    return not kinds or any(isinstance(data, _TYPES.get(kind, ())) for kind in kinds)


def _options(schema: JsonSchema) -> list[Any]:
    return [*schema.get("anyOf", ()), *schema.get("oneOf", ())]


def _listed(value: Any) -> list[Any]:
    return [*value] if isinstance(value, list | tuple) else [value]
