"""The same question has the same key, another one has another."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3magic.cassettes.request_key import (
    CanonicalRequest,
    compute_key,
    join_lines,
    normalize_request,
    normalize_schema,
    split_lines,
    trim_blank_lines,
)
from o3magic.errors import CassetteError
from o3magic.messages import HostedTool, Image, Message, Raw, Text, Tool, ToolCall, ToolResult
from tests.cassettes.conftest import question

SHAPES = json.loads((Path(__file__).parent / "data" / "pydantic_schemas.json").read_text("utf-8"))
SCHEMA = SHAPES["2.14.3"]
TOOL = Tool("rain", "Says whether it rains", {"type": "object", "properties": {"town": {}}})
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def test_a_key_is_short_hex_and_never_changes():
    assert re.fullmatch("[0-9a-f]{16}", question().key)
    # Cassettes in other people's repositories depend on it.
    assert question("What is rain?", effort="high").key == "07714095b887efcb"


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "Explain rain\nin three lines"},
        {"prompt": "Explain  rain\nin two lines"},
        {"model": "o4-mini"},
        {"effort": "high"},
        {"api": "chat"},
        {"summary": "auto"},
        {"max_output_tokens": 100},
        {"sample": 2},
        {"options": {"temperature": 0.5}},
        {"tools": (TOOL,)},
        {"tools": (HostedTool("web_search"),)},
        {"schema": SCHEMA, "schema_name": "Invoice"},
    ],
)
def test_whatever_may_change_the_answer_changes_the_key(other):
    assert question(**other).key != question().key


def test_system_is_developer_in_another_word_and_a_user_is_neither():
    prompt = question().messages
    said = {
        role: replace(question(), messages=(Message.of(role, "Be brief"), *prompt)).key
        for role in ("developer", "system", "user")
    }
    assert said["developer"] == said["system"] != said["user"]


@pytest.mark.parametrize(
    "same",
    [
        {"prompt": "Explain rain\r\nin two lines\r\n"},
        {"prompt": "\n  \nExplain rain\nin two lines\n\n"},
        {"summary": "none"},
        {"options": {"temperature": None}},
        {"options": {"service_tier": "flex", "store": False, "metadata": {"a": "b"}}},
        {"tools": ()},
    ],
)
def test_what_changes_nothing_changes_no_key(same):
    assert question(**same).key == question().key


def test_whole_numbers_with_and_without_a_point_are_the_same():
    one, two = (question(options={"temperature": value}) for value in (1, 1.0))
    assert one.key == two.key != question(options={"temperature": 1.5}).key


def test_indentation_and_blank_lines_inside_a_prompt_count():
    assert trim_blank_lines("\n\n    x = 1\n\n    y\n \n") == "    x = 1\n\n    y"


def test_the_schema_of_one_model_has_one_key_with_six_versions_of_pydantic():
    raw = {json.dumps(shape, sort_keys=True) for shape in SHAPES.values()}
    keys = {question(schema=shape, schema_name="Invoice").key for shape in SHAPES.values()}
    assert len(raw) == 5  # so the test can fail
    assert len(keys) == 1


def test_the_hash_of_the_schema_as_sent_tells_them_apart():
    hashes = {question(schema=shape).schema_sha for shape in SHAPES.values()}
    assert len(hashes) == 5
    assert question().schema_sha == ""
    sent = question(schema=SCHEMA, sent_schema=SHAPES["2.5.3"])
    assert sent.schema_sha == question(schema=SHAPES["2.5.3"]).schema_sha
    assert sent.key == question(schema=SCHEMA).key


def test_the_order_of_properties_counts_for_answers_are_written_in_it():
    def schema(*names):
        return {"type": "object", "properties": {name: {"type": "string"} for name in names}}

    one, two = question(schema=schema("why", "what")), question(schema=schema("what", "why"))
    assert one.key != two.key
    assert [*one.canonical()["schema"]["properties"]] == ["why", "what"]


def test_the_order_of_keywords_and_of_required_does_not_count():
    one = {"type": "object", "required": ["a", "b"], "properties": {"a": {}, "b": {}}}
    two = {"properties": {"a": {}, "b": {}}, "required": ["b", "a"], "type": "object"}
    assert question(schema=one).key == question(schema=two).key


def test_properties_called_like_keywords_stay():
    named = {"title": {"type": "string"}, "default": {"type": "integer"}, "properties": {}}
    assert [*normalize_schema({"properties": named})["properties"]] == [*named]
    less = {"properties": {"default": {"type": "integer"}, "properties": {}}}
    assert question(schema={"properties": named}).key != question(schema=less).key


def test_a_constant_null_is_not_nothing():
    assert normalize_schema({"const": None}) == {"enum": [None]}


def test_what_stands_beside_an_all_of_is_closer_than_what_is_in_it():
    inner = {"type": "object", "description": "any"}
    assert normalize_schema({"allOf": [inner], "description": "this one"}) == {
        "type": "object",
        "description": "this one",
    }
    assert [*normalize_schema({"allOf": [inner, inner]})] == ["allOf"]


def test_a_picture_is_kept_as_its_hash_and_an_address_as_it_is():
    picture = Message("user", (Text("What is it?"), Image(PIXEL, "low")))
    asked = replace(question(), messages=(picture,))
    text = json.dumps(asked.canonical())
    assert "iVBOR" not in text
    assert "sha256:" in text
    other = Message("user", (Text("What is it?"), Image(PIXEL.replace("iV", "iX"), "low")))
    assert replace(asked, messages=(other,)).key != asked.key
    address = Message("user", (Image("https://example.org/a.png"),))
    assert "https://example.org/a.png" in json.dumps(
        replace(asked, messages=(address,)).canonical()
    )


def test_the_random_ids_of_tool_calls_do_not_count_but_which_result_is_whose_does():
    def asked(one, two, first, second):
        return question(tools=(TOOL,)).with_messages(
            Message("assistant", (ToolCall(one, "rain", "{}"), ToolCall(two, "snow", "{}"))),
            Message("tool", (ToolResult(first, "yes"), ToolResult(second, "no"))),
        )

    assert asked("call_x", "call_y", "call_x", "call_y").key == asked("a", "b", "a", "b").key
    assert asked("a", "b", "b", "a").key != asked("a", "b", "a", "b").key


def test_output_items_sent_back_do_not_count_beside_the_words_they_repeat():
    words = (ToolCall("c", "rain", "{}"),)
    one = question().with_messages(Message("assistant", words))
    items = Raw(({"type": "reasoning", "id": "rs_1", "encrypted_content": "x"},))
    two = question().with_messages(Message("assistant", (*words, items)))
    assert one.key == two.key


def test_words_side_by_side_are_one_text():
    split = Message("user", (Text("Explain rain\n"), Text("in two lines")))
    assert replace(question(), messages=(split,)).key == question().key


def test_a_key_can_be_computed_from_what_the_file_says():
    asked = question(
        schema=SCHEMA, schema_name="Invoice", tools=(TOOL,), options={"top_p": 1.0}, effort="low"
    ).with_messages(Message("user", (Text("and this"), Image(PIXEL))))
    stored = json.loads(json.dumps(asked.canonical()))
    assert compute_key(stored) == asked.key
    shuffled = dict(reversed([*stored.items()]))
    assert compute_key(shuffled) == asked.key


def test_a_request_by_hand_may_be_short():
    by_hand = {"model": "o3-mini", "prompt": "Explain rain\nin two lines"}
    assert compute_key(by_hand) == question().key
    as_lines = {
        "model": "o3-mini",
        "messages": [{"role": "user", "content": ["Explain rain\n", "in two lines\n"]}],
    }
    assert compute_key(as_lines) == question().key


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": "hello"},
        {"messages": ["hello"]},
        {"messages": [{"content": "hello"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [5]}]},
        {"messages": [{"role": "user", "content": {"text": "a"}}]},
        {"messages": [{"role": "user", "content": [{"text": 5}]}]},
        {"tools": ["rain"]},
        {"tools": {"name": "rain"}},
        {"prompt": 5},
    ],
)
def test_what_is_no_request_is_said(request_):
    with pytest.raises(CassetteError):
        compute_key(request_)


def test_odd_numbers_and_objects_make_valid_json():
    odd = {"a": float("inf"), "b": float("nan"), "c": Path("x"), "d": (1, 2), "e": -0.0}
    stored = question(options=odd).canonical()["options"]
    assert json.loads(json.dumps(stored, allow_nan=False)) == {
        "a": "inf",
        "b": "nan",
        "c": "x",
        "d": [1, 2],
        "e": 0,
    }


BLANK = st.sampled_from(["", "\n", "\r\n", "  \n", "\n\n"])
TEXTS = st.text(max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None, max_examples=60)
@given(TEXTS, BLANK, BLANK)
def test_blank_lines_around_any_prompt_never_count(prompt, before, after):
    prompt = prompt.replace("\r", "")
    assert question(f"{before}{prompt}\n{after}").key == question(prompt).key


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_line_ends_of_any_prompt_never_count(prompt):
    unix = prompt.replace("\r", "")
    assert question(unix.replace("\n", "\r\n")).key == question(unix).key


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_any_text_survives_being_written_as_lines(text):
    assert join_lines(split_lines(text)) == text
    assert trim_blank_lines(trim_blank_lines(text)) == trim_blank_lines(text)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.randoms())
def test_the_order_of_options_never_counts(options, random):
    items = [*options.items()]
    random.shuffle(items)
    assert question(options=dict(items)).key == question(options=options).key


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), TEXTS), max_size=4))
def test_the_form_of_a_form_is_itself(said):
    asked = CanonicalRequest("m", tuple(Message.of(role, text) for role, text in said))
    once = asked.canonical()
    assert normalize_request(json.loads(json.dumps(once))) == once
    assert compute_key(once) == asked.key
