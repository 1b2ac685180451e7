"""What a request says of itself comes back in its answer, as the API does it."""

import json
from typing import Any

import pytest

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        (None, "default"),
        ("auto", "default"),
        ("default", "default"),
        ("flex", "flex"),
        ("priority", "priority"),
        ("fast", "priority"),
    ],
)
def test_the_tier_comes_back_by_the_name_it_is_served_at(http: Any, asked, served):
    said = {} if asked is None else {"service_tier": asked}
    whole = http.post("/responses", json={"model": "o3", "input": "hello", **said}).json()
    assert whole["service_tier"] == served
    chat = {"model": "o3", "messages": MESSAGES, **said}
    assert http.post("/chat/completions", json=chat).json()["service_tier"] == served
    streamed = http.post("/chat/completions", json=chat | {"stream": True}).text
    frames = [
        row.removeprefix("data: ") for row in streamed.splitlines() if row.startswith("data: {")
    ]
    assert {json.loads(frame)["service_tier"] for frame in frames} == {served}


def test_what_was_said_besides_comes_back(http: Any):
    said = {
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "metadata": {"a": "b"},
        "truncation": "auto",
    }
    body = {"model": "gpt-5.5", "input": "hello", "text": {"verbosity": "low"}, **said}
    whole = http.post("/responses", json=body | {"reasoning": {"mode": "pro"}}).json()
    assert {name: whole[name] for name in said} == said
    assert whole["text"]["verbosity"] == "low"
    assert whole["reasoning"] == {"effort": "medium", "summary": None, "mode": "pro"}


def test_a_model_without_reasoning_answers_without_it(http: Any):
    body = {"model": "gpt-4.1", "input": "hello", "store": False}
    whole = http.post("/responses", json=body).json()
    assert [item["type"] for item in whole["output"]] == ["message"]
