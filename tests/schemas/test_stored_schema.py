"""Answers without their Python type: checked against the JSON Schema they were asked with."""

import json
from enum import Enum
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Len
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from o3magic.schemas.lookup import SchemaMismatch, answer_type
from o3magic.schemas.stored_schema import StoredAnswerType, problems

jsonschema = pytest.importorskip("jsonschema")


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
        ({"number": 0}, "number: minimum is 1"),
        ({"number": 1.5}, "number: should be integer"),
        ({"number": True}, "number: should be integer"),
        ({"price": "much"}, "price: should be"),
        ({"colour": "green"}, "colour: should be one of 'red', 'blue'"),
        ({"kind": "c"}, "kind: should be one of 'a', 'b'"),
        ({"parts": []}, "parts: minItems is 1"),
        ({"parts": [{"name": "x"}]}, "parts[0].inner: is missing"),
        ({"parts": [{"name": "x", "inner": [{"name": 3, "inner": []}]}]}, "parts[0].inner[0].name"),
        ({"paid": 1}, "paid: should be boolean"),
    ],
)
def test_a_fault_is_named_where_it_is(changed, said):
    with pytest.raises(SchemaMismatch) as caught:
        kept(Order).validate(json.dumps(GOOD | changed))
    [problem] = caught.value.problems
    assert problem.startswith(said)


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
    assert any("nested too deeply" in each for each in problems(value, kept(Part).schema))


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
def test_it_says_no_where_a_validator_says_no(changed):
    schema = answer_type(Order).schema
    right = jsonschema.Draft202012Validator(schema).is_valid(GOOD | changed)
    assert (problems(GOOD | changed, schema) == []) == right
