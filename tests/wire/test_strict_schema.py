"""Schemas become strict by the provider's rules, or are refused by name.

The rules (R1 to R12) are checked by a checker of this module's own, which shares nothing with the
code it judges.
"""

from __future__ import annotations

import copy
import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from o3magic.errors import NotStrict
from o3magic.wire.strict_schema import AZURE, OPENAI, StrictLimits, make_strict_schema

SHARED = Path(__file__).resolve().parents[3] / "shared" / "api" / "strict_cases.json"
CASES = json.loads(SHARED.read_text("utf-8")) if SHARED.exists() else {"cases": []}

# Which of the shared cases the strict subset has no words for, and where each says so.
REFUSED = {
    "list_any": "/properties/xs/items",
    "any_field": "/properties/x",
    "dict_bare": "/properties/d",
    "dict_of_models": "/properties/d",
    "root_union": "",
    "root_list": "",
    "deep_11_levels": "/$defs/L11",
    "enum_251_long": "/$defs/E",
    "props_5001": "/properties/p5000",
}

FORMATS = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"]
KEYWORDS = {
    *("type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const"),
    *("description", "pattern", "format", "multipleOf", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "$defs", "$ref"),
}


def broken_rules(schema: dict[str, Any], limits: StrictLimits = OPENAI) -> list[str]:
    """What in `schema` the provider would refuse."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return ["R1 the root is no object"]
    defs = schema.get("$defs", {})
    nodes = [*below(schema), *(node for one in defs.values() for node in below(one))]
    found = [problem for node in nodes for problem in broken_in(node, defs)]
    names = [*defs, *(name for node in nodes for name in node.get("properties", ()))]
    enums = [node["enum"] for node in nodes if "enum" in node]
    values = [value for enum in enums for value in enum]
    consts = [node["const"] for node in nodes if "const" in node]
    if len(names) - len(defs) > limits.properties or levels(schema, defs, ()) > limits.levels:
        found.append("R10 too large or too deep")
    if len(values) > 1000 or any(len(e) > 250 and len("".join(map(str, e))) > 15000 for e in enums):
        found.append("R11 too many or too long enum values")
    if sum(len(str(word)) for word in [*names, *values, *consts]) > 120_000:
        found.append("R12 too many characters in names")
    return found


def below(node: Any) -> Iterator[dict[str, Any]]:
    yield node
    for child in children(node):
        yield from below(child)


def children(node: dict[str, Any]) -> list[dict[str, Any]]:
    items = [node["items"]] if "items" in node else []
    return [*node.get("properties", {}).values(), *node.get("anyOf", ()), *items]


def broken_in(node: dict[str, Any], defs: dict[str, Any]) -> Iterator[str]:
    if "$ref" in node:
        if len(node) > 1:
            yield "R9 a sibling next to $ref"
        if node["$ref"].removeprefix("#/$defs/") not in defs:
            yield f"{node['$ref']} leads nowhere"
        return
    for keyword in node.keys() - KEYWORDS:
        yield f"R5/R6 keyword {keyword}"
    if "type" not in node and "anyOf" not in node:
        yield "R7 no type"
    if node.get("type") == "array" and "items" not in node:
        yield "R7 an array of anything"
    if node.get("type") == "object":
        if node.get("additionalProperties") is not False or "properties" not in node:
            yield "R2 an open object"
        if list(node.get("properties", ())) != node.get("required"):
            yield "R3 a property that is not required"
    if node.get("format", "date") not in FORMATS or re.search(
        r"\(\?<?[=!]", node.get("pattern", "")
    ):
        yield "R8 format or pattern"


def levels(node: dict[str, Any], defs: dict[str, Any], on_the_way: tuple[str, ...]) -> int:
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        return 0 if name in on_the_way else levels(defs[name], defs, (*on_the_way, name))
    deepest = max((levels(child, defs, on_the_way) for child in children(node)), default=0)
    return deepest + (node.get("type") == "object")


def obj(required: Any = None, /, **properties: Any) -> dict[str, Any]:
    """The schema of a model with these fields, all required unless said."""
    names = list(properties) if required is None else required
    return {"title": "M", "type": "object", "properties": properties, "required": names}


def field(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What becomes of one required field."""
    strict = make_strict_schema({**obj(x=schema), **more})
    assert broken_rules(strict) == []
    made: dict[str, Any] = strict["properties"]["x"]
    return made


def refusal(schema: dict[str, Any], limits: StrictLimits = OPENAI) -> NotStrict:
    with pytest.raises(NotStrict) as caught:
        make_strict_schema(schema, limits)
    assert len(caught.value.lines()) == 2
    return caught.value


@pytest.fixture
def shared_schema(monkeypatch: pytest.MonkeyPatch, case: dict[str, Any]) -> dict[str, Any]:
    # pydantic looks names up in the module of the class, so there must be one.
    module = types.ModuleType("strict_case")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(CASES["preamble"] + case["python"], module.__dict__)
    kind = module.__dict__[case["root"]]
    adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    schema: dict[str, Any] = adapter.json_schema()
    return schema


@pytest.mark.skipif(not SHARED.exists(), reason="shared/api/strict_cases.json is not here")
@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["id"])
def test_a_shared_case_breaks_no_rule_or_is_refused_at_its_place(
    case: dict[str, Any], shared_schema: dict[str, Any]
) -> None:
    given = copy.deepcopy(shared_schema)
    if case["id"] in REFUSED:
        assert refusal(shared_schema).path == REFUSED[case["id"]]
    else:
        assert broken_rules(make_strict_schema(shared_schema)) == []
    assert shared_schema == given


@pytest.mark.skipif(not SHARED.exists(), reason="shared/api/strict_cases.json is not here")
def test_every_refused_case_is_among_the_shared_ones() -> None:
    assert REFUSED.keys() <= {case["id"] for case in CASES["cases"]}


def test_the_checker_sees_what_is_wrong() -> None:
    wrong = obj(a={"$ref": "#/$defs/A", "description": "x"}, b={}, c={"type": "array"})
    wrong["properties"]["d"] = {"type": "string", "minLength": 3, "format": "uri"}
    found = " ".join(broken_rules({**wrong, "$defs": {"A": {"type": "object"}}}))
    assert {word for word in found.split() if word[0] == "R"} == {
        *("R2", "R3", "R5/R6", "R7", "R8", "R9")
    }


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"type": "string", "title": "X", "examples": ["a"]}, {"type": "string"}),
        ({"type": "string", "minLength": 3}, "at least 3 characters"),
        ({"type": "string", "maxLength": 1}, "at most 1 character"),
        (
            {"type": "string", "description": "a code", "minLength": 2, "maxLength": 4},
            "a code (at least 2 characters; at most 4 characters)",
        ),
        ({"type": "string", "format": "uri"}, "a URL"),
        ({"type": "string", "format": "binary"}, "bytes, as text"),
        ({"type": "string", "format": "isbn"}, "in the format isbn"),
        ({"type": "string", "pattern": "(?!x)."}, "matching the regular expression (?!x)."),
        ({"type": "string", "contentMediaType": "image/png"}, "text of type image/png"),
        (
            {"type": "string", "format": "uuid", "pattern": "^(?:a|b)$"},
            {"type": "string", "format": "uuid", "pattern": "^(?:a|b)$"},
        ),
        (
            {"type": "integer", "minimum": 1, "exclusiveMaximum": 9, "multipleOf": 2},
            {"type": "integer", "minimum": 1, "exclusiveMaximum": 9, "multipleOf": 2},
        ),
        (
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
            {
                "type": "array",
                "minItems": 1,
                "description": "no duplicates",
                "items": {"type": "string"},
            },
        ),
        (
            {"enum": ["a", 1, 2.5, True, None]},
            {
                "anyOf": [
                    {"type": "string", "enum": ["a"]},
                    {"type": "number", "enum": [2.5, 1]},
                    {"type": "boolean", "enum": [True]},
                    {"type": "null"},
                ]
            },
        ),
        ({"const": 3}, {"type": "integer", "const": 3}),
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            {"allOf": [{"type": "string"}], "description": "d"},
            {"type": "string", "description": "d"},
        ),
        (
            {"allOf": [{"type": "number", "minimum": 1}, {"type": "integer", "minimum": 2}]},
            {"type": "integer", "minimum": 2},
        ),
        (
            {"anyOf": [{"type": "integer"}, {"type": "null"}], "minimum": 3, "x-note": 1},
            {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
        ),
        (
            {"anyOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"type": "string"}]},
            {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        ),
    ],
)
def test_a_field_keeps_what_can_be_said_and_tells_the_rest(given: Any, made: Any) -> None:
    expected = {"type": given.get("type"), "description": made} if isinstance(made, str) else made
    assert field(given) == expected


def test_a_field_with_a_default_may_be_null_and_says_which() -> None:
    strict = make_strict_schema(
        obj(
            [],
            plain={"type": "integer", "default": 5, "description": "how many"},
            null={"type": ["string", "null"], "default": "x"},
            many={"type": "array", "items": {"type": "string"}, "default": []},
            tag={"const": "a", "type": "string", "default": "a"},
        )
    )
    assert broken_rules(strict) == []
    assert strict["properties"]["plain"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "description": "how many (null for the default 5)",
    }
    assert strict["properties"]["null"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert strict["properties"]["many"]["anyOf"][1] == {"type": "null"}
    assert strict["properties"]["tag"] == {"type": "string", "const": "a"}


def test_the_tag_of_a_union_is_never_null() -> None:
    cat = obj(["age"], kind={"enum": ["cat", "lion"], "default": "cat"}, age={"type": "integer"})
    tagged = {
        "oneOf": [{"$ref": "#/$defs/Cat"}],
        "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/Cat"}},
    }
    strict = make_strict_schema({**obj(pet=tagged), "$defs": {"Cat": cat}})
    assert broken_rules(strict) == []
    assert strict["$defs"]["Cat"]["properties"]["kind"] == {
        "type": "string",
        "enum": ["cat", "lion"],
    }


def test_a_tuple_is_an_array_that_tells_its_order() -> None:
    places = [{"title": "X", "type": "integer"}, {"type": "string"}, {"type": "integer"}]
    given = {"type": "array", "prefixItems": places, "minItems": 3, "maxItems": 3}
    assert field(given) == {
        "type": "array",
        "minItems": 3,
        "maxItems": 3,
        "description": "in this order: X (integer), string, integer",
        "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    }


def test_a_reference_with_words_beside_it_is_wrapped() -> None:
    defs = {"$defs": {"A": obj(x={"type": "integer"}), "Unused": {}}}
    strict = make_strict_schema({**obj(x={"$ref": "#/$defs/A", "description": "d"}), **defs})
    assert strict["properties"]["x"] == {"anyOf": [{"$ref": "#/$defs/A"}], "description": "d"}
    assert list(strict["$defs"]) == ["A"]


def test_a_reference_with_constraints_beside_it_is_written_out() -> None:
    score = {"$defs": {"Score": {"type": "integer", "minimum": 0}}}
    assert field({"$ref": "#/$defs/Score", "minimum": 3}, **score) == {
        "type": "integer",
        "minimum": 3,
    }


def test_a_constraint_inside_its_own_definition_ends_in_words() -> None:
    node = obj(name={"type": "string"}, child={"$ref": "#/$defs/N", "minProperties": 2})
    strict = make_strict_schema({**obj(root={"$ref": "#/$defs/N"}), "$defs": {"N": node}})
    assert broken_rules(strict) == []
    assert strict["$defs"]["N"]["properties"]["child"] == {
        "anyOf": [{"$ref": "#/$defs/N"}],
        "description": "at least 2 fields",
    }


def test_a_root_reference_becomes_an_object_at_the_root() -> None:
    node = obj(next={"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]})
    strict = make_strict_schema({"$ref": "#/$defs/N", "$defs": {"N": node}})
    assert broken_rules(strict) == []
    assert strict["properties"]["next"]["anyOf"][0] == {"$ref": "#/$defs/N"}


def test_fields_named_like_keywords_are_fields() -> None:
    names = ["$ref", "default", "title", "anyOf", "items", "a/b~c", "properties"]
    strict = make_strict_schema(obj(**{name: {"type": "string"} for name in names}))
    assert broken_rules(strict) == []
    assert list(strict["properties"]) == names


def test_allof_of_models_is_one_model() -> None:
    one = obj(a={"type": "string"}, n={"type": "number", "maximum": 9})
    two = obj(["b"], b={"type": "string"}, n={"type": "integer", "maximum": 7})
    strict = make_strict_schema({"allOf": [{"$ref": "#/$defs/One"}, two], "$defs": {"One": one}})
    assert broken_rules(strict) == []
    assert list(strict["properties"]) == ["a", "n", "b"]
    assert strict["properties"]["n"] == {"type": "integer", "maximum": 7}


FREE: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "number"}}


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        (obj(rates=FREE), "/properties/rates", "M.rates is a map with free keys (dict)"),
        (obj(rates={"type": "object"}), "/properties/rates", "M.rates is a map"),
        (
            obj(rates={"type": "object", "properties": {}, "additionalProperties": True}),
            "/properties/rates",
            "M.rates is a map",
        ),
        (
            obj(rows={"type": "array", "items": obj(cells=FREE)}),
            "/properties/rows/items/properties/cells",
            "M.rows[].cells is a map",
        ),
        (
            {**obj(a={"$ref": "#/$defs/A"}), "$defs": {"A": {**obj(b=FREE), "title": "Bill"}}},
            "/$defs/A/properties/b",
            "Bill.b is a map",
        ),
        (obj(x={"title": "X", "default": 1}), "/properties/x", "M.x can be anything (Any)"),
        (obj(x={"type": "array"}), "/properties/x/items", "M.x[] can be anything (Any)"),
        (
            obj(x={"anyOf": [{}, {"type": "null"}]}),
            "/properties/x/anyOf/0",
            "M.x can be anything (Any)",
        ),
        (
            obj(x={"type": "array", "prefixItems": [{"type": "string"}, True]}),
            "/properties/x/prefixItems/1",
            "M.x[1] can be anything",
        ),
        (obj(x={"enum": []}), "/properties/x", "M.x has no values"),
        (obj(x={"enum": [[1, 2]]}), "/properties/x", "M.x has the value [1, 2]"),
        (obj(x={"type": "string", "not": {"const": "a"}}), "/properties/x", "M.x has `not`"),
        (obj(x={"$ref": "#/$defs/Gone"}), "/properties/x", "M.x refers to #/$defs/Gone"),
        (
            obj(x={"allOf": [{"type": "string"}, {"type": "integer"}]}),
            "/properties/x",
            "M.x asks for two kinds of `type` at once",
        ),
        (
            {
                **obj(x={"$ref": "#/$defs/A"}),
                "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}, {"minimum": 1}]}},
            },
            "/$defs/A",
            "A is made of itself",
        ),
        ({"type": "array", "items": {"type": "string"}}, "", "the answer is no object"),
        ({"anyOf": [obj(), obj(a={"type": "string"})]}, "", "the answer is no object"),
    ],
)
def test_what_strict_cannot_say_is_refused_by_the_name_of_the_field(
    schema: dict[str, Any], path: str, message: str
) -> None:
    error = refusal(schema)
    assert error.path == path
    assert str(error).startswith(message)
    assert error.hint


def test_a_model_without_fields_is_an_empty_object_and_no_map() -> None:
    assert field({"type": "object", "properties": {}}) == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


def nested(depth: int) -> dict[str, Any]:
    schema = obj(v={"type": "string"})
    for _ in range(depth - 1):
        schema = obj(n={"type": "array", "items": schema})
    return schema


def test_the_limits_hold_to_the_last_one() -> None:
    text = {"type": "string"}
    hundred = {f"p{i}": text for i in range(100)}
    assert broken_rules(make_strict_schema(obj(**hundred), AZURE), AZURE) == []
    assert refusal(obj(**hundred, last=text), AZURE).path == "/properties/last"
    assert broken_rules(make_strict_schema(nested(5), AZURE), AZURE) == []
    assert "6 objects deep; 5 are allowed" in str(refusal(nested(6), AZURE))
    assert broken_rules(make_strict_schema(nested(10))) == []
    assert refusal(nested(11)).path.endswith("/items")


def test_the_limits_of_enums_and_names_hold() -> None:
    thousand = {"enum": [f"v{i}" for i in range(1000)]}
    assert field(thousand)["type"] == "string"
    assert refusal(obj(x=thousand, y={"enum": ["one more"]})).path == "/properties/y"
    assert field({"enum": [f"{i:060}" for i in range(250)]})["type"] == "string"
    assert refusal(obj(x={"enum": [f"{i:060}" for i in range(251)]})).path == "/properties/x"
    assert "characters of names" in str(refusal(obj(**{"x" * 120_001: {"type": "string"}})))


def test_recursion_counts_as_one_level() -> None:
    node = obj(children={"type": "array", "items": {"$ref": "#/$defs/N"}})
    schema = {**obj(root={"$ref": "#/$defs/N"}), "$defs": {"N": node}}
    assert (
        broken_rules(make_strict_schema(schema, StrictLimits(levels=2)), StrictLimits(levels=2))
        == []
    )
    assert refusal(schema, StrictLimits(levels=1)).path == "/$defs/N"


def test_the_given_schema_is_left_alone_and_shares_nothing_with_the_new_one() -> None:
    given = obj([], x={"type": "integer", "default": 1}, y={"enum": ["a"], "type": "string"})
    before = copy.deepcopy(given)
    make_strict_schema(given)["properties"]["y"]["anyOf"][0]["enum"].append("b")
    assert given == before
