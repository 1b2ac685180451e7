"""Answers without their Python type: checked against the JSON Schema they were asked with."""

import json
from enum import Enum
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Len
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from o3magic.schemas.lookup import SchemaMismatch, answer_type
from o3magic.schemas.stored_schema import StoredAnswerType, find_problems


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str
    inner: "list[Part]"


class Order(BaseModel):
    number: Annotated[int, Ge(1)]
    price: float | None
    colour: Colour
    kind: Literal["a", "b"]
    parts: Annotated[list[Part], Len(1, 3)]
    paid: bool


GOOD = {"number": 2, "price": 1.5, "colour": "red", "kind": "a", "paid": True}
GOOD |= {"parts": [{"name": "x", "inner": [{"name": "y", "inner": []}]}]}


def kept(python_type):
    made = answer_type(python_type)
    return StoredAnswerType(made.name, None, json.loads(json.dumps(made.schema)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"number": 0}, "number: 0 is less than the minimum of 1"),
        ({"number": 1.5}, "number: 1.5 is not of type 'integer'"),
        ({"number": True}, "number: True is not of type 'integer'"),
        ({"price": "much"}, "price: 'much' is not of type 'number'"),
        ({"colour": "green"}, "colour: 'green' is not one of ['red', 'blue']"),
        ({"kind": "c"}, "kind: 'c' is not one of ['a', 'b']"),
        ({"parts": []}, "parts: [] should be non-empty"),
        ({"parts": [{"name": "x"}]}, "parts[0]: 'inner' is a required property"),
        (
            {"parts": [{"name": "x", "inner": [{"name": 3, "inner": []}]}]},
            "parts[0].inner[0].name: 3 is not of type 'string'",
        ),
        ({"paid": 1}, "paid: 1 is not of type 'boolean'"),
    ],
)
def test_a_fault_is_named_where_it_is(changed, said):
    with pytest.raises(SchemaMismatch) as caught:
        kept(Order).validate(json.dumps(GOOD | changed))
    [problem] = caught.value.problems
    assert problem == said


def test_an_answer_that_fits_gives_its_data():
    assert kept(Order).validate(json.dumps(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("python_type", "text", "data"),
    [
        (list[Colour], '{"items": ["red"]}', ["red"]),
        (int | None, '{"value": 7}', 7),
        (Colour, '{"value": "blue"}', "blue"),
    ],
)
def test_what_was_wrapped_is_unwrapped(python_type, text, data):
    assert kept(python_type).validate(text) == data


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "NaN"])
def test_what_is_no_answer_is_told(text):
    with pytest.raises(SchemaMismatch):
        kept(Order).validate(text)


def test_an_answer_that_is_nested_for_ever_is_refused():
    value = {"name": "x", "inner": []}
    for _ in range(200):
        value = {"name": "x", "inner": [value]}
    assert find_problems(value, kept(Part).schema) == ["it is nested too deeply"]


def test_a_long_value_is_cut_in_the_message():
    [problem] = find_problems("x" * 1000, {"type": "integer"})
    assert problem == f"'{'x' * 59}… is not of type 'integer'"


@pytest.mark.parametrize("ref", ["http://127.0.0.1:9/x", "file:///etc/passwd", "#/$defs/absent"])
def test_a_reference_out_of_the_schema_is_reported_and_never_fetched(ref, monkeypatch):
    def fails(*args, **kwargs):
        pytest.fail("it was fetched")

    monkeypatch.setattr("urllib.request.urlopen", fails)
    [problem] = find_problems({"a": 1}, {"properties": {"a": {"$ref": ref}}})
    assert problem == f"its schema refers to {ref.removeprefix('#')!r}, which it does not contain"


def test_patterns_are_not_checked_for_they_are_not_pythons():
    assert find_problems("x", {"type": "string", "pattern": r"\p{Lu}("}) == []


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats(-2, 2)
    | st.sampled_from(["a", "red"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*GOOD, "name", "inner"]), inner, max_size=6)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*GOOD]), VALUES))
def test_it_says_no_where_the_python_type_says_no(changed):
    made = answer_type(Order)
    data = json.dumps(GOOD | changed)
    try:
        Order.model_validate_json(data, strict=True)
        right = set(GOOD) >= set(changed)
    except ValidationError:
        right = False
    assert (find_problems(json.loads(data), made.schema) == []) == right
