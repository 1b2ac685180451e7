"""Which schemas strict Structured Outputs refuses, and with what words.

The rules are those of https://platform.openai.com/docs/guides/structured-outputs and of
the keywords that were seen to be refused besides.
"""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
Path = tuple[str, ...]

REFUSED = (
    *("allOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "oneOf"),
    *("default", "minLength", "maxLength", "uniqueItems", "contains", "minContains"),
    *("maxContains", "patternProperties", "propertyNames", "minProperties", "maxProperties"),
    *("unevaluatedProperties", "unevaluatedItems", "prefixItems"),
)
FORMATS = (*("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"),)
SAYS_TYPE = ("type", "enum", "const", "anyOf", "$ref")
MAX_LEVELS = 10


def fault(schema: Any) -> str | None:
    """The first thing strict mode refuses in a schema, as the API words it; None if it is fine."""
    if not isinstance(schema, dict):
        return "schema must be a JSON Schema object."
    if schema.get("type") != "object" or "anyOf" in schema:
        # A recursive root may point at its own definition.
        target = schema.get("$defs", {}).get(str(schema.get("$ref", "")).rpartition("/")[2], {})
        if target.get("type") != "object":
            kind = str(schema.get("type"))
            return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    return next(_faults(schema, (), 0), None)


def _faults(node: Any, path: Path, level: int) -> Iterator[str]:
    context = f"In context={path!r}, "
    if not isinstance(node, dict):
        yield f"{context}schema must be an object."
        return
    yield from (f"{context}'{word}' is not permitted." for word in REFUSED if word in node)
    if path and not any(word in node for word in SAYS_TYPE):
        yield f"{context}schema must have a 'type' key."
    if "$ref" in node and set(node) - {"$ref", "$defs"}:
        extra = sorted(set(node) - {"$ref", "$defs"})
        yield f"{context}$ref cannot have keywords {set(extra)}."
    if node.get("format", FORMATS[0]) not in FORMATS:
        yield f"{context}'format': '{node['format']}' is not permitted."
    if "(?=" in str(node.get("pattern")) or "(?!" in str(node.get("pattern")):
        yield f"{context}'pattern' with look-around is not permitted."
    if level > MAX_LEVELS:
        yield f"{context}nesting exceeds {MAX_LEVELS} levels."
        return
    if node.get("type") == "object" or "properties" in node:
        yield from _object_faults(node, path, context)
    if node.get("type") == "array" and "items" not in node:
        yield f"{context}array schema missing items."
    for step, child in _children(node):
        deeper = level + (step[0] != "$defs" and "anyOf" not in step)
        yield from _faults(child, (*path, *step), deeper)


def _object_faults(node: Json, path: Path, context: str) -> Iterator[str]:
    if node.get("additionalProperties") is not False:
        yield f"{context}'additionalProperties' is required to be supplied and to be false."
    names, required = list(node.get("properties", {})), node.get("required", [])
    for name in names:
        if name not in required:
            yield (
                f"{context}'required' is required to be supplied and to be an array "
                f"including every key in properties. Missing '{name}'."
            )
    for name in required:
        if name not in names:
            yield f"{context}Extra required key '{name}' supplied."


def _children(node: Json) -> Iterator[tuple[Path, Any]]:
    for name, child in node.get("properties", {}).items():
        yield ("properties", name), child
    if "items" in node:
        yield ("items",), node["items"]
    for index, child in enumerate(node.get("anyOf", [])):
        yield ("anyOf", str(index)), child
    for name, child in node.get("$defs", {}).items():
        yield ("$defs", name), child
