"""Convert a JSON Schema, as pydantic makes it, to OpenAI's strict subset.

In the subset every object is closed and all its properties are required. So an optional property
becomes a nullable one (optional_fields removes these nulls again), and a map with free keys cannot
be expressed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from o3magic.errors import NotStrict
from o3magic.wire import json_access
from o3magic.wire.optional_fields import accepts_null, ref_name, resolve_refs

SchemaNode = dict[str, Any]
RefuseSchema = Callable[[str, str, str], NoReturn]  # what is wrong, path, hint


@dataclass(frozen=True, slots=True)
class StrictLimits:
    """Limits of a schema. enum_chars: of a single string enum with more than 250 values."""

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
# Keywords that constrain values; all others are annotations and left out.
MEANING: Final = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "format", "properties", "required"}
    | {"additionalProperties", "patternProperties", "propertyNames", "items", "prefixItems"}
    | _SAID.keys()
    | REFUSED
)
# Groups other than a plain `(?:...)`, back references, Python's own anchors.
_ODD_PATTERN: Final = re.compile(r"\(\?(?!:)|\\[1-9AZz]")


def kept(keyword: str, value: Any) -> bool:
    """Whether the subset supports this keyword with this value."""
    if keyword == "format":
        return value in _FORMATS
    return keyword != "pattern" or not _ODD_PATTERN.search(value)


def words(keyword: str, value: Any) -> str:
    """Describe a keyword in words, such as `at least 3 characters`, or ""."""
    if keyword == "format":
        return _FORMAT_WORDS.get(value, f"in the format {value}")
    if keyword not in _SAID or value is False:
        return ""
    text = _SAID[keyword][1].format(value)
    return re.sub(r"\b1 (character|item|field)s$", r"1 \1", text)


def constrained(kind: str, schema: Mapping[str, Any], extra: Sequence[str] = ()) -> SchemaNode:
    """Build a node of one type. Constraints outside the subset go into the description."""
    node: SchemaNode = {"type": kind}
    notes = [*extra]
    family = "number" if kind == "integer" else kind
    for keyword, value in schema.items():
        if keyword in KEPT.get(kind, ()) and kept(keyword, value):
            node[keyword] = value
        elif keyword == "format" or _SAID.get(keyword, ("",))[0] == family:
            notes.append(words(keyword, value))
    return described(node, schema.get("description"), notes)


def described(node: SchemaNode, description: str | None, notes: Sequence[str] = ()) -> SchemaNode:
    """Add a description, such as `the name (at least 3 characters)`."""
    note = "; ".join(word for word in notes if word)
    text = f"{description} ({note})" if description and note else description or note
    if not text:
        return node
    if "$ref" in node:  # the subset allows no siblings of $ref
        return {"anyOf": [node], "description": text}
    below = node.get("description")
    return {**node, "description": f"{text}; {below}" if below else text}


def check(strict: SchemaNode, limits: StrictLimits, refuse: RefuseSchema) -> None:
    """Refuse a strict schema that exceeds `limits`, with the path where it does."""
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
                here = f"{path}/properties/{escape_step(name)}"
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
    """Combine nodes, without duplicates and nested anyOf."""
    distinct: list[SchemaNode] = []
    for option in options:
        inner = option["anyOf"] if option.keys() == {"anyOf"} else [option]
        distinct += [node for node in inner if node not in distinct]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def or_null(node: SchemaNode, default: Any) -> SchemaNode:
    """Make a node nullable. The description names a short default that null stands for."""
    bare = {key: value for key, value in node.items() if key != "description"}
    plain = isinstance(default, str | int | float)
    default_text = json.dumps(default, ensure_ascii=False) if plain else ""
    note = f"null for the default {default_text}" if 0 < len(default_text) <= 40 else ""
    return described(any_of([bare, {"type": "null"}]), node.get("description"), [note])


def list_types(schema: Mapping[str, Any]) -> list[str]:
    """The JSON types of a schema, explicit or implied by keywords; [] if there are none."""
    types = schema.get("type")
    if types is not None:
        return [types] if isinstance(types, str) else [*types]
    return [kind for kind, keywords in IMPLIED.items() if schema.keys() & set(keywords)][:1]


def scalar_type(value: Any) -> str:
    """The JSON type of a scalar, or ""."""
    names = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}
    return names.get(type(value), "")


def escape_step(name: str) -> str:
    """Escape a name for a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _children(node: SchemaNode, path: str) -> Iterator[tuple[str, SchemaNode]]:
    """Yield the direct children with their paths, without definitions."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}/properties/{escape_step(name)}", child
    for i, child in enumerate(node.get("anyOf", ())):
        yield f"{path}/anyOf/{i}", child
    if "items" in node:
        yield f"{path}/items", node["items"]


def _nodes(node: SchemaNode, path: str) -> Iterator[tuple[str, SchemaNode]]:
    yield path, node
    for where, child in _children(node, path):
        yield from _nodes(child, where)
    for name, definition in node.get("$defs", {}).items():
        yield from _nodes(definition, f"{path}/$defs/{escape_step(name)}")


def _deepest(
    node: SchemaNode, path: str, defs: SchemaNode, known: dict[str, tuple[int, str]]
) -> tuple[int, str]:
    """Nesting depth of objects and the path of the deepest; a recursive $ref counts once."""
    if "$ref" in node:
        pointer, name = node["$ref"].removeprefix("#"), ref_name(node["$ref"])
        if name not in known:
            known[name] = (0, pointer)
            known[name] = _deepest(defs[name], pointer, defs, known)
        return known[name]
    below = [_deepest(child, where, defs, known) for where, child in _children(node, path)]
    levels, deepest = max(below, default=(0, path), key=lambda found: found[0])
    own = 1 if node.get("type") == "object" else 0
    return levels + own, deepest if levels else path


__all__ = ["AZURE", "OPENAI", "StrictLimits", "make_strict_schema"]

AnySchema = Mapping[str, Any]
SAY_WHAT = "say what it is: str, a model, list[str], a union of them"
_KINDS = {"object", "array", "string", "number", "integer", "boolean", "null"}


def make_strict_schema(schema: AnySchema, limits: StrictLimits = OPENAI) -> dict[str, Any]:
    """Convert a schema to the strict subset, as a new dict.

    Raises NotStrict if the subset cannot express it or it exceeds `limits`.
    """
    problem, path = json_access.find_fault(schema)
    if problem:
        place = f"the schema at {path}" if path else "the schema"
        raise NotStrict(f"{place} {problem}", path=path, hint="write it as a JSON Schema")
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
    """Converts a document; each definition in use is converted once, the others are left out."""

    def __init__(self, document: AnySchema) -> None:
        self._document = document
        self._defs: AnySchema = {**document.get("definitions", {}), **document.get("$defs", {})}
        self._wanted: dict[str, None] = {}
        self._inlined: list[str] = []
        self._tags = set(_discriminators(document))

    def root(self) -> SchemaNode:
        """Convert the root, and all definitions in use."""
        top = {k: v for k, v in self._document.items() if k not in ("$defs", "definitions")}
        flat = self._flat(top, "")
        self._inlined.clear()
        if list_types(flat) not in ([], ["object"]) or flat.keys() & {"anyOf", "oneOf", "enum"}:
            self.refuse("is no object", "", "wrap it in an object with one property")
        strict = self._node(flat, "")
        definitions: SchemaNode = {}
        while waiting := [name for name in self._wanted if name not in definitions]:
            for name in waiting:
                self._inlined = [name]
                definitions[name] = self._node(self._defs[name], f"/$defs/{escape_step(name)}")
        return {**strict, "$defs": definitions} if definitions else strict

    def refuse(self, what: str, path: str, hint: str) -> NoReturn:
        """Raise NotStrict about the schema at `path`."""
        raise NotStrict(f"{self._format_path(path)} {what}", path=path, hint=hint)

    def _format_path(self, path: str) -> str:
        """Format a path as `Invoice.lines[].rates`."""
        title = self._document.get("title") or self._title(self._document)
        text = str(title or "the answer")
        steps = iter(path.split("/")[1:])
        for step in steps:
            name = "" if step == "items" else next(steps).replace("~1", "/").replace("~0", "~")
            if step == "$defs":
                text = self._title(self._defs[name]) or name
            elif step == "properties":
                text += f".{name}"
            elif step in ("items", "prefixItems"):
                text += f"[{name}]"
        return text

    def _title(self, schema: Any) -> str:
        return str(resolve_refs(schema, self._defs).get("title", ""))

    def _node(self, schema: Any, path: str) -> SchemaNode:
        """Convert any schema."""
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
        kinds = list_types(schema)
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
        name = self._resolve_name(schema["$ref"], path)
        rest = {k: v for k, v in schema.items() if k in MEANING}
        if rest and name not in self._inlined:
            return self._inline(schema, path)
        self._wanted.setdefault(name)
        # Inside its own definition it cannot be inlined, which would not end.
        notes = [words(key, value) for key, value in rest.items()]
        node = {"$ref": f"#/$defs/{escape_step(name)}"}
        return described(node, schema.get("description"), notes)

    def _resolve_name(self, ref: str, path: str) -> str:
        name = ref_name(ref)
        if name not in self._defs:
            self.refuse(f"refers to {ref}, which is not there", path, "define it in $defs")
        return name

    def _all(self, schema: AnySchema, path: str) -> SchemaNode:
        rest = {k: v for k, v in schema.items() if k != "allOf"}
        only = schema["allOf"][0] if len(schema["allOf"]) == 1 else None
        if isinstance(only, Mapping) and not rest.keys() & only.keys() & MEANING:
            return self._node({**only, **rest}, path)
        return self._inline(schema, path)

    def _inline(self, schema: AnySchema, path: str) -> SchemaNode:
        before = len(self._inlined)
        try:
            return self._node(self._flat(schema, path), path)
        finally:
            del self._inlined[before:]

    def _flat(self, schema: AnySchema, path: str) -> SchemaNode:
        """Merge `$ref` and `allOf` of a schema into it."""
        if not isinstance(schema, Mapping):
            self.refuse("can be anything (Any)", path, SAY_WHAT)
        parts = [*schema.get("allOf", ())]
        if "$ref" in schema:
            name = self._resolve_name(schema["$ref"], path)
            if name in self._inlined:
                self.refuse("is made of itself", path, "refer to it from a property instead")
            self._inlined.append(name)
            parts.insert(0, self._defs[name])
        flat: SchemaNode = {}
        rest = {k: v for k, v in schema.items() if k not in ("$ref", "allOf")}
        for part in [*(self._flat(part, path) for part in parts), rest]:
            for key, value in part.items():
                same = key not in flat or flat[key] == value
                flat[key] = value if same else self._combine(key, flat[key], value, path)
        return flat

    def _combine(self, key: str, one: Any, two: Any, path: str) -> Any:
        """Combine two values of a keyword so that both schemas hold."""
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
        if key == "type" and {"integer", "number"} == {*_as_list(one), *_as_list(two)}:
            return "integer"
        if key in ("type", "enum") and (left := [v for v in _as_list(one) if v in _as_list(two)]):
            return left
        return self.refuse(f"asks for two kinds of `{key}` at once", path, "write it as one type")

    def _union(self, schema: AnySchema, key: str, path: str) -> SchemaNode:
        rest = {k: v for k, v in schema.items() if k in MEANING and k != key}
        options = [{"allOf": [option, rest]} if rest else option for option in schema[key]]
        if not options:
            self.refuse("has no type", path, "say what it is: str, a model, list[str]")
        options_made = [self._node(option, f"{path}/{key}/{i}") for i, option in enumerate(options)]
        return described(any_of(options_made), schema.get("description"))

    def _values(self, schema: AnySchema, path: str) -> SchemaNode:
        """Convert an enum or const; values of several types become an anyOf."""
        values = [schema["const"]] if "const" in schema else schema["enum"]
        by_kind: dict[str, list[Any]] = {}
        for value in values:
            kind = scalar_type(value)
            if not kind:
                self.refuse(f"has the value {value!r}", path, "use text or numbers as values")
            by_kind.setdefault(kind, []).append(value)
        if not by_kind:
            self.refuse("has no values", path, "give the enum its members")
        if len(by_kind) > 1 and "number" in by_kind:  # 1 is a number too
            by_kind["number"] += by_kind.pop("integer", [])
        word = "const" if "const" in schema else "enum"
        options: list[SchemaNode] = []
        for kind, some in by_kind.items():
            node: SchemaNode = {"type": kind}
            if kind != "null":
                node[word] = some[0] if word == "const" else some
            options.append(node)
        return described(any_of(options), schema.get("description"))

    def _object(self, schema: AnySchema, path: str) -> SchemaNode:
        given = schema.get("properties", {})
        extra = schema.get("additionalProperties", None if "properties" in schema else True)
        if not given and (extra not in (None, False) or "patternProperties" in schema):
            hint = "write a list of models with the fields key and value: list[Entry]"
            self.refuse("is a map with free keys (dict)", path, hint)
        properties: SchemaNode = {}
        for name, prop in given.items():
            node = self._node(prop, f"{path}/properties/{escape_step(name)}")
            is_required = name in schema.get("required", ()) or name in self._tags
            # A const with a default has one value only; null would obscure the tag of a union.
            if not is_required and "const" not in prop and not accepts_null(prop, self._defs):
                node = or_null(node, prop.get("default"))
            properties[name] = node
        node = constrained("object", schema)
        node |= {"properties": properties, "required": [*properties]}
        return {**node, "additionalProperties": False}

    def _array(self, schema: AnySchema, path: str) -> SchemaNode:
        """Convert an array. The description has the order of a tuple."""
        prefix = schema.get("prefixItems", [])
        items = [self._node(item, f"{path}/prefixItems/{i}") for i, item in enumerate(prefix)]
        if not items or schema.get("items", False) is not False:
            items.append(self._node(schema.get("items"), f"{path}/items"))
        order = ", ".join(self._describe_item(item) for item in prefix)
        node = constrained("array", schema, [f"in this order: {order}"] if order else ())
        return {**node, "items": any_of(items)}

    def _describe_item(self, schema: Any) -> str:
        """Describe an item of a tuple: its name, if any, and its type."""
        meant = resolve_refs(schema, self._defs)
        kind = meant.get("title") if "$ref" in schema else "/".join(list_types(meant))
        name = schema.get("title", "")
        return f"{name} ({kind})" if name and kind else name or kind or "one of several"


def _as_list(value: Any) -> list[Any]:
    return [*value] if isinstance(value, list) else [value]


def _discriminators(schema: Any) -> Iterator[str]:
    """Yield the discriminator properties of all unions."""
    if isinstance(schema, Mapping):
        tag = schema.get("discriminator")
        if isinstance(tag, Mapping) and isinstance(tag.get("propertyName"), str):
            yield tag["propertyName"]
        schema = [*schema.values()]
    if isinstance(schema, list):
        for part in schema:
            yield from _discriminators(part)
