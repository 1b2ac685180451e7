"""When functions are called, with which arguments, and what comes after their results."""

import json
from typing import Any

import pytest

QUESTION = "Good morning"
TOOLS = [
    {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
    {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
]


def responses(**more: Any) -> dict[str, Any]:
    return {"model": "o3-mini", "input": QUESTION, **more}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "o3-mini", "messages": [{"role": "user", "content": QUESTION}], **more}


def flat_tools() -> list[dict[str, Any]]:
    return [{"type": "function", **tool} for tool in TOOLS]


def nested_tools() -> list[dict[str, Any]]:
    return [{"type": "function", "function": tool} for tool in TOOLS]


def text_of(response: dict[str, Any]) -> str:
    parts = [part for item in response["output"] for part in item.get("content", [])]
    return "".join(part["text"] for part in parts)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"tool_choice": "required"}, ["get_weather"]),
        ({"tool_choice": {"type": "function", "name": "get_time"}}, ["get_time"]),
        ({"input": "Use get_time, then get_weather"}, ["get_weather", "get_time"]),
        ({"input": "What does get weather say?"}, ["get_weather"]),
        ({"input": "get_time", "tool_choice": "none"}, []),
        ({"input": "Hello"}, []),
    ],
)
def test_a_tool_is_called_when_it_must_be_or_is_named(http, valid, events, more, names):
    body = responses(tools=flat_tools(), **more)
    whole = http.post("/responses", json=body).json()
    valid("responses_response", whole)
    calls = [item for item in whole["output"] if item["type"] == "function_call"]
    assert [call["name"] for call in calls] == names
    stream = events(http.post("/responses", json={**body, "stream": True}))
    for event in stream:
        valid("responses_stream_events", event)
    for call in calls:
        deltas = [e["delta"] for e in stream if e.get("item_id") == call["id"] and "delta" in e]
        assert "".join(deltas) == call["arguments"]


def test_a_tool_loop_ends_with_a_text_that_quotes_the_result(http):
    question = [{"role": "user", "content": "Ask get_weather"}]
    first = http.post("/responses", json=responses(input=question, tools=flat_tools())).json()
    call = first["output"][-1]
    assert set(json.loads(call["arguments"])) == {"city", "unit"}
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "19 degrees"}
    by_hand = [*question, *first["output"], result]
    for body in (
        responses(input=by_hand, tools=flat_tools(), tool_choice="required"),
        responses(input=[result], previous_response_id=first["id"], tools=flat_tools()),
    ):
        text = text_of(http.post("/responses", json=body).json())
        assert "`get_weather` answered `19 degrees`" in text


def test_a_tool_loop_over_chat_ends_with_a_text_that_quotes_the_result(http, valid, events):
    asked = [{"role": "user", "content": "Ask get_weather and get_time"}]
    body = chat(messages=asked, tools=nested_tools())
    whole = http.post("/chat/completions", json=body).json()
    valid("chat_response", whole)
    message = whole["choices"][0]["message"]
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    chunks = events(http.post("/chat/completions", json={**body, "stream": True}))
    deltas = [d for c in chunks for d in c["choices"][0]["delta"].get("tool_calls", [])]
    for index, call in enumerate(message["tool_calls"]):
        first, *rest = [delta for delta in deltas if delta["index"] == index]
        assert (first["id"], first["function"]["name"]) == (call["id"], call["function"]["name"])
        assert all(set(delta) == {"index", "function"} for delta in rest)
        joined = "".join(delta["function"]["arguments"] for delta in rest)
        assert joined == call["function"]["arguments"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"result {index}"}
        for index, call in enumerate(message["tool_calls"])
    ]
    body = chat(messages=[*asked, message, *results], tools=nested_tools())
    content = http.post("/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    assert "`get_weather` answered `result 0`" in content
    assert "`get_time` answered `result 1`" in content
