"""Optional properties in strict schemas: remove the nulls that stand for absent properties.

A strict schema requires every property, so an optional one is nullable there. Only the original
schema tells whether a null is such a filler or a value.
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


def ref_name(ref: str) -> str:
    """The name of the definition that `#/$defs/name` refers to."""
    return ref.rpartition("/")[2].replace("~1", "/").replace("~0", "~")


def resolve_refs(schema: Any, defs: JsonSchema) -> JsonSchema:
    """Follow the `$ref`s of a schema; {} if one is not defined."""
    seen: set[str] = set()
    while isinstance(schema, Mapping) and "$ref" in schema:
        name = ref_name(schema["$ref"])
        schema = {} if name in seen else defs.get(name, {})
        seen.add(name)
    return schema if isinstance(schema, Mapping) else {}


def accepts_null(schema: Any, defs: JsonSchema) -> bool:
    """Whether null is a value of the original schema."""
    todo, seen = [schema], set()
    while todo:
        node = resolve_refs(todo.pop(), defs)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if "null" in _as_list(node.get("type", [])) or None in _as_list(node.get("enum", [])):
            return True
        if node.get("const", ...) is None:
            return True
        todo += _options(node)
        todo += node["allOf"] if len(node.get("allOf", ())) == 1 else []
    return False


def drop_fillers(answer: Any, schema: JsonSchema) -> Any:
    """Convert an answer to the strict form of `schema` into one to `schema`: remove fillers."""
    return _drop(answer, schema, schema.get("$defs", {}))


def _drop(data: Any, schema: Any, defs: JsonSchema) -> Any:
    schema = resolve_refs(schema, defs)
    if options := _options(schema):
        return _drop(data, _choose_option(data, options, defs), defs)
    if isinstance(data, list):
        item_schemas = [*schema.get("prefixItems", ())]
        item_schemas += [schema.get("items", {})] * (len(data) - len(item_schemas))
        return [
            _drop(item, item_schema, defs)
            for item, item_schema in zip(data, item_schemas, strict=False)
        ]
    if isinstance(data, dict):
        props, required = schema.get("properties", {}), schema.get("required", ())
        return {
            name: _drop(value, props.get(name, {}), defs)
            for name, value in data.items()
            if value is not None
            or name not in props
            or name in required
            or accepts_null(props[name], defs)
        }
    return data


def _choose_option(data: Any, options: Sequence[Any], defs: JsonSchema) -> Any:
    """The member of a union that `data` matches best."""
    candidates = [option for option in options if _has_type(data, resolve_refs(option, defs))]
    for option in candidates:
        if _matches(data, option, defs):
            return option
    return max(
        candidates,
        key=lambda option: _score_fields(data, resolve_refs(option, defs), defs),
        default={},
    )


def _score_fields(data: Any, schema: JsonSchema, defs: JsonSchema) -> int:
    """Number of matching fields, less the missing and the additional ones."""
    if not isinstance(data, dict):
        return 0
    props = schema.get("properties", {})
    fit = sum(name in props and _matches(data[name], props[name], defs) for name in data)
    return fit - len(data.keys() ^ props.keys())


def _matches(data: Any, schema: Any, defs: JsonSchema) -> bool:
    """Whether `data` has the types and fields of `schema`; constraints are ignored."""
    schema = resolve_refs(schema, defs)
    if options := _options(schema):
        return any(_matches(data, option, defs) for option in options)
    if not _has_type(data, schema) or data not in schema.get("enum", [data]):
        return False
    if "const" in schema and data != schema["const"]:
        return False
    if isinstance(data, list) and "items" in schema:
        return all(_matches(item, schema["items"], defs) for item in data)
    if isinstance(data, dict) and "properties" in schema:
        props, required = schema["properties"], {*schema.get("required", ())}
        return required <= data.keys() <= props.keys() and all(
            (value is None and name not in required) or _matches(value, props[name], defs)
            for name, value in data.items()
        )
    return True


def _has_type(data: Any, schema: JsonSchema) -> bool:
    kinds = _as_list(schema.get("type", []))
    if isinstance(data, bool):
        return not kinds or "boolean" in kinds
    return not kinds or any(isinstance(data, _TYPES.get(kind, ())) for kind in kinds)


def _options(schema: JsonSchema) -> list[Any]:
    return [*schema.get("anyOf", ()), *schema.get("oneOf", ())]


def _as_list(value: Any) -> list[Any]:
    return [*value] if isinstance(value, list | tuple) else [value]
