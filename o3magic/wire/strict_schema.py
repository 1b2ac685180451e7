"""A JSON Schema, as pydantic makes it, in OpenAI's strict subset.

In the subset every object is closed and names all its properties as required. So a property that
may be left out becomes one that may be null (wire/fillers takes these nulls out again), and a map
with free keys cannot be said at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from o3magic.errors import NotStrict
from o3magic.wire import json_access
from o3magic.wire.optional_fields import nullable, resolved, target

SchemaNode = dict[str, Any]
RefuseSchema = Callable[[str, str, str], NoReturn]  # what is wrong, path, hint


@dataclass(frozen=True, slots=True)
class StrictLimits:
    """How large a schema may be. `enum_chars` is for one string enum of more than 250 values."""

    properties: int = 5000
    levels: int = 10
    name_chars: int = 120_000
    enum_values: int = 1000
    enum_chars: int = 15_000


OPENAI: Final = StrictLimits()
AZURE: Final = StrictLimits(properties=100, levels=5)

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


def constrained(kind: str, schema: Mapping[str, Any], extra: Sequence[str] = ()) -> SchemaNode:
    """A node of one type with the constraints of `schema`: as keywords or, lacking those, words."""
    node: SchemaNode = {"type": kind}
    said = [*extra]
    family = "number" if kind == "integer" else kind
    for keyword, value in schema.items():
        if keyword in KEPT.get(kind, ()) and kept(keyword, value):
            node[keyword] = value
        elif keyword == "format" or _SAID.get(keyword, ("",))[0] == family:
            said.append(words(keyword, value))
    return described(node, schema.get("description"), said)


def described(node: SchemaNode, description: str | None, said: Sequence[str] = ()) -> SchemaNode:
    """`node` with a description: `the name (at least 3 characters)`."""
    told = "; ".join(word for word in said if word)
    whole = f"{description} ({told})" if description and told else description or told
    if not whole:
        return node
    if "$ref" in node:  # which has no siblings in the subset
        return {"anyOf": [node], "description": whole}
    below = node.get("description")
    return {**node, "description": f"{whole}; {below}" if below else whole}


def check(strict: SchemaNode, limits: StrictLimits, refuse: RefuseSchema) -> None:
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


def any_of(options: Sequence[SchemaNode]) -> SchemaNode:
    """One node for several, without doubles and without an anyOf right below the anyOf."""
    distinct: list[SchemaNode] = []
    for option in options:
        inner = option["anyOf"] if option.keys() == {"anyOf"} else [option]
        distinct += [node for node in inner if node not in distinct]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def or_null(node: SchemaNode, default: Any) -> SchemaNode:
    """`node` or null, which stands for the default; the description says so where it is short."""
    bare = {key: value for key, value in node.items() if key != "description"}
    plain = isinstance(default, str | int | float)
    shown = json.dumps(default, ensure_ascii=False) if plain else ""
    said = f"null for the default {shown}" if 0 < len(shown) <= 40 else ""
    return described(any_of([bare, {"type": "null"}]), node.get("description"), [said])


def types_of(schema: Mapping[str, Any]) -> list[str]:
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


def _children(node: SchemaNode, path: str) -> Iterator[tuple[str, SchemaNode]]:
    """The nodes right below, with their paths; definitions are not among them."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}/properties/{escaped(name)}", child
    for i, child in enumerate(node.get("anyOf", ())):
        yield f"{path}/anyOf/{i}", child
    if "items" in node:
        yield f"{path}/items", node["items"]


def _nodes(node: SchemaNode, path: str) -> Iterator[tuple[str, SchemaNode]]:
    yield path, node
    for where, child in _children(node, path):
        yield from _nodes(child, where)
    for name, definition in node.get("$defs", {}).items():
        yield from _nodes(definition, f"{path}/$defs/{escaped(name)}")


def _deepest(
    node: SchemaNode, path: str, defs: SchemaNode, known: dict[str, tuple[int, str]]
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


__all__ = ["AZURE", "OPENAI", "StrictLimits", "strict_schema"]

AnySchema = Mapping[str, Any]
SAY_WHAT = "say what it is: str, a model, list[str], a union of them"
_KINDS = {"object", "array", "string", "number", "integer", "boolean", "null"}


def strict_schema(schema: AnySchema, limits: StrictLimits = OPENAI) -> dict[str, Any]:
    """`schema` in the strict subset: a new dict, the given one is left alone.

    Raises NotStrict where the subset has no words for it or it is larger than `limits`.
    """
    what, path = json_access.fault(schema)
    if what:
        place = f"the schema at {path}" if path else "the schema"
        raise NotStrict(f"{place} {what}", path=path, hint="write it as a JSON Schema")
    try:
        maker = _StrictMaker(schema)
        strict = maker.root()
        check(strict, limits, maker.refuse)
    except RecursionError:
        raise NotStrict(
            "the schema is nested too deeply", hint="split the model and ask in several steps"
        ) from None
    return strict


class _StrictMaker:
    """Makes one document strict; each definition in use is made once, the others are left out."""

    def __init__(self, document: AnySchema) -> None:
        self._document = document
        self._defs: AnySchema = {**document.get("definitions", {}), **document.get("$defs", {})}
        self._wanted: dict[str, None] = {}
        self._inlined: list[str] = []
        self._tags = set(_tags(document))

    def root(self) -> SchemaNode:
        """The whole schema, its root an object with all definitions in use below it."""
        top = {k: v for k, v in self._document.items() if k not in ("$defs", "definitions")}
        flat = self._flat(top, "")
        self._inlined.clear()
        if types_of(flat) not in ([], ["object"]) or flat.keys() & {"anyOf", "oneOf", "enum"}:
            self.refuse("is no object", "", "wrap it in an object with one property")
        strict = self._node(flat, "")
        made: SchemaNode = {}
        while waiting := [name for name in self._wanted if name not in made]:
            for name in waiting:
                self._inlined = [name]
                made[name] = self._node(self._defs[name], f"/$defs/{escaped(name)}")
        return {**strict, "$defs": made} if made else strict

    def refuse(self, what: str, path: str, hint: str) -> NoReturn:
        """Raise NotStrict about the place at `path`."""
        raise NotStrict(f"{self._spoken(path)} {what}", path=path, hint=hint)

    def _spoken(self, path: str) -> str:
        """`path` as its writer would say it: `Invoice.lines[].rates`."""
        title = self._document.get("title") or self._title(self._document)
        said = str(title or "the answer")
        steps = iter(path.split("/")[1:])
        for step in steps:
            name = "" if step == "items" else next(steps).replace("~1", "/").replace("~0", "~")
            if step == "$defs":
                said = self._title(self._defs[name]) or name
            elif step == "properties":
                said += f".{name}"
            elif step in ("items", "prefixItems"):
                said += f"[{name}]"
        return said

    def _title(self, schema: Any) -> str:
        return str(resolved(schema, self._defs).get("title", ""))

    def _node(self, schema: Any, path: str) -> SchemaNode:
        """The strict node for any schema."""
        if not isinstance(schema, Mapping) or not schema.keys() & {"$ref", *MEANING}:
            self.refuse("can be anything (Any)", path, SAY_WHAT)
        for keyword in sorted(REFUSED & schema.keys()):
            hint = "check it in a validator of the model and leave it out of the schema"
            self.refuse(f"has `{keyword}`, which a strict schema lacks", path, hint)
        if "$ref" in schema:
            return self._reference(schema, path)
        if "allOf" in schema:
            return self._all(schema, path)
        for key in ("oneOf", "anyOf"):
            if key in schema:
                return self._union(schema, key, path)
        if "enum" in schema or "const" in schema:
            return self._values(schema, path)
        kinds = types_of(schema)
        if not {*kinds} <= _KINDS:
            self.refuse(f"has the type {kinds}", path, "say a JSON type")
        if len(kinds) != 1:
            options = {k: v for k, v in schema.items() if k != "type"}
            options["anyOf"] = [{"type": kind} for kind in kinds]
            return self._union(options, "anyOf", path)
        if kinds == ["object"]:
            return self._object(schema, path)
        if kinds == ["array"]:
            return self._array(schema, path)
        return constrained(kinds[0], schema)

    def _reference(self, schema: AnySchema, path: str) -> SchemaNode:
        name = self._known(schema["$ref"], path)
        rest = {k: v for k, v in schema.items() if k in MEANING}
        if rest and name not in self._inlined:
            return self._written_out(schema, path)
        self._wanted.setdefault(name)
        # Inside its own definition it cannot be written out, for that would never end.
        said = [words(key, value) for key, value in rest.items()]
        node = {"$ref": f"#/$defs/{escaped(name)}"}
        return described(node, schema.get("description"), said)

    def _known(self, ref: str, path: str) -> str:
        name = target(ref)
        if name not in self._defs:
            self.refuse(f"refers to {ref}, which is not there", path, "define it in $defs")
        return name

    def _all(self, schema: AnySchema, path: str) -> SchemaNode:
        rest = {k: v for k, v in schema.items() if k != "allOf"}
        only = schema["allOf"][0] if len(schema["allOf"]) == 1 else None
        if isinstance(only, Mapping) and not rest.keys() & only.keys() & MEANING:
            return self._node({**only, **rest}, path)
        return self._written_out(schema, path)

    def _written_out(self, schema: AnySchema, path: str) -> SchemaNode:
        before = len(self._inlined)
        try:
            return self._node(self._flat(schema, path), path)
        finally:
            del self._inlined[before:]

    def _flat(self, schema: AnySchema, path: str) -> SchemaNode:
        """`schema` with no `$ref` and no `allOf` of its own."""
        if not isinstance(schema, Mapping):
            self.refuse("can be anything (Any)", path, SAY_WHAT)
        parts = [*schema.get("allOf", ())]
        if "$ref" in schema:
            name = self._known(schema["$ref"], path)
            if name in self._inlined:
                self.refuse("is made of itself", path, "refer to it from a property instead")
            self._inlined.append(name)
            parts.insert(0, self._defs[name])
        flat: SchemaNode = {}
        rest = {k: v for k, v in schema.items() if k not in ("$ref", "allOf")}
        for part in [*(self._flat(part, path) for part in parts), rest]:
            for key, value in part.items():
                same = key not in flat or flat[key] == value
                flat[key] = value if same else self._both(key, flat[key], value, path)
        return flat

    def _both(self, key: str, one: Any, two: Any, path: str) -> Any:
        """The value of a keyword that two schemas which both hold have each their own way."""
        if key == "additionalProperties" or key not in MEANING:
            return False if one is False else two
        if key == "required":
            return [*one, *(name for name in two if name not in one)]
        if key == "properties":
            shared = {k: {"allOf": [one[k], two[k]]} for k in one if k in two}
            return {**one, **two, **shared}
        if key == "items":
            return {"allOf": [one, two]}
        if key.lower().startswith(("min", "exclusivemin")):
            return max(one, two)
        if key.lower().startswith(("max", "exclusivemax")):
            return min(one, two)
        if key == "type" and {"integer", "number"} == {*_several(one), *_several(two)}:
            return "integer"
        if key in ("type", "enum") and (left := [v for v in _several(one) if v in _several(two)]):
            return left
        return self.refuse(f"asks for two kinds of `{key}` at once", path, "write it as one type")

    def _union(self, schema: AnySchema, key: str, path: str) -> SchemaNode:
        rest = {k: v for k, v in schema.items() if k in MEANING and k != key}
        options = [{"allOf": [option, rest]} if rest else option for option in schema[key]]
        if not options:
            self.refuse("has no type", path, "say what it is: str, a model, list[str]")
        made = [self._node(option, f"{path}/{key}/{i}") for i, option in enumerate(options)]
        return described(any_of(made), schema.get("description"))

    def _values(self, schema: AnySchema, path: str) -> SchemaNode:
        """An enum or const; where its values are of several types, one option for each."""
        values = [schema["const"]] if "const" in schema else schema["enum"]
        by_kind: dict[str, list[Any]] = {}
        for value in values:
            kind = kind_of(value)
            if not kind:
                self.refuse(f"has the value {value!r}", path, "use text or numbers as values")
            by_kind.setdefault(kind, []).append(value)
        if not by_kind:
            self.refuse("has no values", path, "give the enum its members")
        if len(by_kind) > 1 and "number" in by_kind:  # 1 is a number too
            by_kind["number"] += by_kind.pop("integer", [])
        word = "const" if "const" in schema else "enum"
        made: list[SchemaNode] = []
        for kind, some in by_kind.items():
            node: SchemaNode = {"type": kind}
            if kind != "null":
                node[word] = some[0] if word == "const" else some
            made.append(node)
        return described(any_of(made), schema.get("description"))

    def _object(self, schema: AnySchema, path: str) -> SchemaNode:
        given = schema.get("properties", {})
        extra = schema.get("additionalProperties", None if "properties" in schema else True)
        if not given and (extra not in (None, False) or "patternProperties" in schema):
            hint = "write a list of models with the fields key and value: list[Entry]"
            self.refuse("is a map with free keys (dict)", path, hint)
        properties: SchemaNode = {}
        for name, prop in given.items():
            node = self._node(prop, f"{path}/properties/{escaped(name)}")
            said = name in schema.get("required", ()) or name in self._tags
            # A const with a default has nothing to choose: null would only blur a union's tag.
            if not said and "const" not in prop and not nullable(prop, self._defs):
                node = or_null(node, prop.get("default"))
            properties[name] = node
        node = constrained("object", schema)
        node |= {"properties": properties, "required": [*properties]}
        return {**node, "additionalProperties": False}

    def _array(self, schema: AnySchema, path: str) -> SchemaNode:
        """An array; of a tuple's places the subset knows the types, their order is told."""
        prefix = schema.get("prefixItems", [])
        made = [self._node(item, f"{path}/prefixItems/{i}") for i, item in enumerate(prefix)]
        if not made or schema.get("items", False) is not False:
            made.append(self._node(schema.get("items"), f"{path}/items"))
        order = ", ".join(self._called(item) for item in prefix)
        node = constrained("array", schema, [f"in this order: {order}"] if order else ())
        return {**node, "items": any_of(made)}

    def _called(self, schema: Any) -> str:
        """A tuple's place in a few words: its name, if it has one, and its type."""
        meant = resolved(schema, self._defs)
        kind = meant.get("title") if "$ref" in schema else "/".join(types_of(meant))
        name = schema.get("title", "")
        return f"{name} ({kind})" if name and kind else name or kind or "one of several"


def _several(value: Any) -> list[Any]:
    return [*value] if isinstance(value, list) else [value]


def _tags(schema: Any) -> Iterator[str]:
    """The names of the properties by which unions tell their members apart."""
    if isinstance(schema, Mapping):
        tag = schema.get("discriminator")
        if isinstance(tag, Mapping) and isinstance(tag.get("propertyName"), str):
            yield tag["propertyName"]
        schema = [*schema.values()]
    if isinstance(schema, list):
        for part in schema:
            yield from _tags(part)
