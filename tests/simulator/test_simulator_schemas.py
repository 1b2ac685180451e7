"""Structured answers fulfil the schema that was asked for, and strict mode refuses as it does."""

import json
from typing import Any

import jsonschema
import pytest

MODEL = "o3-mini"
NODE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
        "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
    },
    "required": ["name", "children", "next"],
    "additionalProperties": False,
}
EXPRESSION = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "left": {"$ref": "#/$defs/Expression"},
                "right": {"$ref": "#/$defs/Expression"},
            },
            "required": ["left", "right"],
            "additionalProperties": False,
        },
        {"type": "number"},
    ]
}
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
PATTERNS = (
    *(r"^[a-z]+$", r"^[A-Z]{2}\d{4}$", r"^(cat|dog)-\d+(\.\d+)?$", r"\w+@\w+\.com"),
    *(r"^[^a-z]+$", r"^.{3,5}$", r"^(a|b)\1$", r"^\S+\s\S+$", r"^[\d,]+$", r"^$"),
)


def obj(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TRICKY = {
    "scalars": obj(s={"type": "string"}, i={"type": "integer"}, b={"type": "boolean"}),
    "null": obj(n={"type": "null"}, m={"type": ["null", "integer"]}),
    "enums": obj(e={"enum": ["a", 1, None]}, c={"const": "always"}),
    "recursive list": {**obj(root={"$ref": "#/$defs/Node"}), "$defs": {"Node": NODE}},
    "recursive root": {**NODE, "$defs": {"Node": NODE}},
    "pointing root": {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
    "expression": {
        **obj(it={"$ref": "#/$defs/Expression"}),
        "$defs": {"Expression": EXPRESSION},
    },
    "arrays": obj(
        few={"type": "array", "items": {"type": "integer"}, "minItems": 5, "maxItems": 6},
        none={"type": "array", "items": {"type": "string"}, "maxItems": 0},
        deep={"type": "array", "items": {"type": "array", "items": obj(x={"type": "number"})}},
    ),
    "bounds": obj(
        inside={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        narrow={"type": "integer", "minimum": 7, "maximum": 7},
        below={"type": "integer", "exclusiveMaximum": -5},
        fives={"type": "integer", "multipleOf": 5, "minimum": 1, "maximum": 9},
        thousands={"type": "integer", "multipleOf": 1000, "minimum": 1},
        tenths={"type": "number", "multipleOf": 0.1, "minimum": 0, "maximum": 5},
        quarter={"type": "number", "multipleOf": 0.25, "minimum": 0.2, "maximum": 0.3},
    ),
    "formats": obj(**{name: {"type": "string", "format": name} for name in FORMATS}),
    "patterns": obj(**{f"p{i}": {"type": "string", "pattern": p} for i, p in enumerate(PATTERNS)}),
    "unicode": obj(**{"größe": {"type": "integer"}, "名前": {"type": "string"}, "a/b": NODE})
    | {"$defs": {"Node": NODE}},
}


def asked(api: str, schema: Any, question: str = "Go", **more: Any) -> tuple[str, dict[str, Any]]:
    named = {"name": "thing", "schema": schema, "strict": True, **more}
    if api == "responses":
        form = {"format": {"type": "json_schema", **named}}
        return "/responses", {"model": MODEL, "input": question, "text": form}
    form = {"type": "json_schema", "json_schema": named}
    messages = [{"role": "user", "content": question}]
    body = {"model": MODEL, "messages": messages, "response_format": form}
    return "/chat/completions", body


def parsed(answer: dict[str, Any]) -> Any:
    if "output" in answer:
        return json.loads(answer["output"][-1]["content"][0]["text"])
    return json.loads(answer["choices"][0]["message"]["content"])


def check(schema: Any, value: Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("name", TRICKY)
def test_an_answer_fulfils_the_schema_whatever_the_question(http, name, api):
    for question in range(10):
        path, body = asked(api, TRICKY[name], f"question {question}")
        answer = http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        check(TRICKY[name], parsed(answer.json()))


def test_strings_say_that_they_are_simulated(http):
    path, body = asked("responses", obj(city={"type": "string"}))
    assert parsed(http.post(path, json=body).json())["city"].startswith("simulated city ")


def test_rows_of_a_table_differ(http):
    rows = {"type": "array", "items": obj(n={"type": "integer"}), "minItems": 20, "maxItems": 20}
    path, body = asked("responses", obj(rows=rows))
    made = parsed(http.post(path, json=body).json())["rows"]
    assert len({row["n"] for row in made}) > 10


def test_what_strict_mode_does_not_know_is_fulfilled_when_it_is_off(http):
    schema = {
        "type": "object",
        "properties": {
            "any": {},
            "of": {"allOf": [{"$ref": "#/$defs/A"}, obj(y={"type": "integer"})]},
            "one": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "set": {
                "type": "array",
                "items": {"enum": [1, 2, 3]},
                "uniqueItems": True,
                "minItems": 3,
            },
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}]},
            "long": {"type": "string", "minLength": 90, "maxLength": 95},
            "short": {"type": "string", "maxLength": 3},
        },
        "$defs": {"A": {"type": "object", "properties": {"x": {"type": "string"}}}},
    }
    del schema["properties"]["of"]["allOf"][1]["additionalProperties"]
    path, body = asked("responses", schema, strict=False)
    check(schema, parsed(http.post(path, json=body).json()))


def test_a_schema_without_a_finite_value_still_gets_an_answer(http):
    loop = obj(again={"$ref": "#/$defs/Loop"})
    schema = {**obj(start={"$ref": "#/$defs/Loop"}), "$defs": {"Loop": loop}}
    path, body = asked("responses", schema)
    assert "start" in parsed(http.post(path, json=body).json())


def test_any_json_object_comes_when_any_will_do(http):
    body = {"model": MODEL, "input": "Some JSON", "text": {"format": {"type": "json_object"}}}
    assert parsed(http.post("/responses", json=body).json())["simulated"] is True


def test_what_pydantic_models_become_is_answered_or_refused_by_the_rules(http, api):
    cases = json.loads((api / "strict_cases.json").read_text("utf-8"))["cases"]
    for case in (case for case in cases if "sdk" in case):
        path, body = asked("responses", case["sdk"])
        answer = http.post(path, json=body)
        rules = {violation.split()[0] for violation in case["sdk_violations"]}
        # The limits of size are not simulated.
        expected = 400 if rules - {"R10", "R11", "R12"} else answer.status_code
        assert answer.status_code == expected, (case["id"], answer.text[:300])
        assert expected == 400 or not rules - {"R10", "R11", "R12"}
        if answer.status_code == 200:
            check(case["sdk"], parsed(answer.json()))
        elif not rules:
            pytest.fail(f"{case['id']}: {answer.text[:300]}")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "items": {"type": "string"}}, "'type: \"object\"'"),
        ({"type": "object", "properties": {}}, "'additionalProperties' is required"),
        ({**obj(a={"type": "string"}), "required": []}, "Missing 'a'"),
        (obj(a={"type": "string", "default": "x"}), "'default' is not permitted"),
        (obj(a={"oneOf": [{"type": "string"}]}), "'oneOf' is not permitted"),
        (obj(a={"allOf": [{"type": "string"}]}), "'allOf' is not permitted"),
        (obj(a={}), "'type' key"),
    ],
)
def test_a_schema_that_is_not_strict_is_refused_in_the_words_of_each_endpoint(
    http, valid, schema, said
):
    for api, param, code in (
        ("responses", "text.format.schema", "invalid_json_schema"),
        ("chat", "response_format", None),
    ):
        path, body = asked(api, schema)
        answer = http.post(path, json=body)
        valid("error", answer.json())
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
        assert error["message"].startswith("Invalid schema for response_format 'thing': ")
        assert said in error["message"]
