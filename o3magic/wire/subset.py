"""What OpenAI's strict subset of JSON Schema holds: which keywords, how many, how deep.

A keyword it lacks is told in the description, where the model reads it; validation of the answer
enforces it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from o3magic.wire.fillers import target

Node = dict[str, Any]
Refuse = Callable[[str, str, str], NoReturn]  # what is wrong, path, hint


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a schema may be. `enum_chars` is for one string enum of more than 250 values."""

    properties: int = 5000
    levels: int = 10
    name_chars: int = 120_000
    enum_values: int = 1000
    enum_chars: int = 15_000


OPENAI: Final = Limits()
AZURE: Final = Limits(properties=100, levels=5)

_NUMBER: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
KEPT: Final[Mapping[str, Sequence[str]]] = {
    "string": ("pattern", "format"),
    "number": _NUMBER,
    "integer": _NUMBER,
    "array": ("minItems", "maxItems"),
}
IMPLIED: Final[Mapping[str, Sequence[str]]] = {
    "object": ("properties", "additionalProperties", "patternProperties"),
    "array": ("items", "prefixItems", "uniqueItems", "minItems", "maxItems"),
    "string": ("pattern", "format", "minLength", "maxLength", "contentMediaType"),
    "number": _NUMBER,
}
REFUSED: Final = frozenset(
    {"not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"}
    | {"contains", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef"}
)
_SAID: Final[Mapping[str, tuple[str, str]]] = {
    "minLength": ("string", "at least {} characters"),
    "maxLength": ("string", "at most {} characters"),
    "pattern": ("string", "matching the regular expression {}"),
    "contentMediaType": ("string", "text of type {}"),
    "contentEncoding": ("string", "encoded as {}"),
    "minItems": ("array", "at least {} items"),
    "maxItems": ("array", "at most {} items"),
    "uniqueItems": ("array", "no duplicates"),
    "minProperties": ("object", "at least {} fields"),
    "maxProperties": ("object", "at most {} fields"),
    "minimum": ("number", "at least {}"),
    "maximum": ("number", "at most {}"),
    "exclusiveMinimum": ("number", "more than {}"),
    "exclusiveMaximum": ("number", "less than {}"),
    "multipleOf": ("number", "a multiple of {}"),
}
_FORMATS: Final = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)
_FORMAT_WORDS: Final[Mapping[str, str]] = {
    "uri": "a URL",
    "path": "a file path",
    "file-path": "the path of a file",
    "directory-path": "the path of a folder",
    "binary": "bytes, as text",
    "password": "a secret",
    "json-string": "JSON text",
}
# Keywords that say what may be there; every other is a word about it, and left out.
MEANING: Final = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "format", "properties", "required"}
    | {"additionalProperties", "patternProperties", "propertyNames", "items", "prefixItems"}
    | _SAID.keys()
    | REFUSED
)
# Groups other than a plain `(?:...)`, back references, Python's own anchors.
_ODD_PATTERN: Final = re.compile(r"\(\?(?!:)|\\[1-9AZz]")


def kept(keyword: str, value: Any) -> bool:
    """Whether the subset has this keyword with this value, on the type it belongs to."""
    if keyword == "format":
        return value in _FORMATS
    return keyword != "pattern" or not _ODD_PATTERN.search(value)


def words(keyword: str, value: Any) -> str:
    """The keyword in plain words, "" where it says nothing: `at least 3 characters`."""
    if keyword == "format":
        return _FORMAT_WORDS.get(value, f"in the format {value}")
    if keyword not in _SAID or value is False:
        return ""
    said = _SAID[keyword][1].format(value)
    return re.sub(r"\b1 (character|item|field)s$", r"1 \1", said)


def constrained(kind: str, schema: Mapping[str, Any], extra: Sequence[str] = ()) -> Node:
    """A node of one type with the constraints of `schema`: as keywords or, lacking those, words."""
    node: Node = {"type": kind}
    said = [*extra]
    family = "number" if kind == "integer" else kind
    for keyword, value in schema.items():
        if keyword in KEPT.get(kind, ()) and kept(keyword, value):
            node[keyword] = value
        elif keyword == "format" or _SAID.get(keyword, ("",))[0] == family:
            said.append(words(keyword, value))
    return described(node, schema.get("description"), said)


def described(node: Node, description: str | None, said: Sequence[str] = ()) -> Node:
    """`node` with a description: `the name (at least 3 characters)`."""
    told = "; ".join(word for word in said if word)
    whole = f"{description} ({told})" if description and told else description or told
    if not whole:
        return node
    if "$ref" in node:  # which has no siblings in the subset
        return {"anyOf": [node], "description": whole}
    below = node.get("description")
    return {**node, "description": f"{whole}; {below}" if below else whole}


def check(strict: Node, limits: Limits, refuse: Refuse) -> None:
    """Refuse a strict schema that is larger than `limits`, at the place where it grows over."""
    split = "split the model and ask in several steps"
    fewer = "offer fewer values, or a str described in words"
    properties = chars = values = 0
    for path, node in _nodes(strict, ""):
        names = [*node.get("properties", ()), *node.get("$defs", ())]
        enum = node.get("enum", [])
        chars += sum(len(str(word)) for word in [*names, *enum, node.get("const", "")])
        for name in node.get("properties", ()):
            properties += 1
            if properties > limits.properties:
                here = f"{path}/properties/{escaped(name)}"
                refuse(f"is one of more than {limits.properties} fields", here, split)
        values += len(enum)
        if values > limits.enum_values:
            most = f"more than {limits.enum_values} enum values in all"
            refuse(f"makes it {most}", path, fewer)
        long = sum(len(value) for value in enum if isinstance(value, str))
        if len(enum) > 250 and long > limits.enum_chars:
            most = f"more than {limits.enum_chars}"
            refuse(f"has {long} characters of enum values, {most}", path, fewer)
        if chars > limits.name_chars:
            most = f"more than {limits.name_chars} characters of names and enum values in all"
            refuse(f"makes it {most}", path, split)
    levels, path = _deepest(strict, "", strict.get("$defs", {}), {})
    if levels > limits.levels:
        refuse(f"lies {levels} objects deep; {limits.levels} are allowed", path, split)


def any_of(options: Sequence[Node]) -> Node:
    """One node for several, without doubles and without an anyOf right below the anyOf."""
    distinct: list[Node] = []
    for option in options:
        inner = option["anyOf"] if option.keys() == {"anyOf"} else [option]
        distinct += [node for node in inner if node not in distinct]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def or_null(node: Node, default: Any) -> Node:
    """`node` or null, which stands for the default; the description says so where it is short."""
    bare = {key: value for key, value in node.items() if key != "description"}
    plain = isinstance(default, str | int | float)
    shown = json.dumps(default, ensure_ascii=False) if plain else ""
    said = f"null for the default {shown}" if 0 < len(shown) <= 40 else ""
    return described(any_of([bare, {"type": "null"}]), node.get("description"), [said])


def kinds(schema: Mapping[str, Any]) -> list[str]:
    """The JSON types a schema allows, as said or as its keywords imply; [] where it says none."""
    given = schema.get("type")
    if given is not None:
        return [given] if isinstance(given, str) else [*given]
    return [kind for kind, keywords in IMPLIED.items() if schema.keys() & set(keywords)][:1]


def kind_of(value: Any) -> str:
    """The JSON type of an enum's value, "" where it is no scalar."""
    names = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}
    return names.get(type(value), "")


def escaped(name: str) -> str:
    """`name` as one step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _children(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """The nodes right below, with their paths; definitions are not among them."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}/properties/{escaped(name)}", child
    for i, child in enumerate(node.get("anyOf", ())):
        yield f"{path}/anyOf/{i}", child
    if "items" in node:
        yield f"{path}/items", node["items"]


def _nodes(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, node
    for where, child in _children(node, path):
        yield from _nodes(child, where)
    for name, definition in node.get("$defs", {}).items():
        yield from _nodes(definition, f"{path}/$defs/{escaped(name)}")


def _deepest(
    node: Node, path: str, defs: Node, known: dict[str, tuple[int, str]]
) -> tuple[int, str]:
    """How many objects lie in one another, and where the last is; recursion counts once."""
    if "$ref" in node:
        pointer, name = node["$ref"].removeprefix("#"), target(node["$ref"])
        if name not in known:
            known[name] = (0, pointer)
            known[name] = _deepest(defs[name], pointer, defs, known)
        return known[name]
    below = [_deepest(child, where, defs, known) for where, child in _children(node, path)]
    levels, deepest = max(below, default=(0, path), key=lambda found: found[0])
    own = 1 if node.get("type") == "object" else 0
    return levels + own, deepest if levels else path
