"""Turns with tools and pictures: what came goes back word for word, and requests stay valid."""

import json
from dataclasses import replace

import pytest

from o3magic.answer_builder import AnswerBuilder
from o3magic.citations import Citation
from o3magic.events import Answer
from o3magic.messages import (
    HostedTool,
    Image,
    Message,
    Raw,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from o3magic.wire import chat, responses
from o3magic.wire.sse import Decoder

SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [],
    "encrypted_content": "gAAAA",
    "status": None,
}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "look",
    "arguments": "{}",
    "status": "completed",
}
CITED = {
    "type": "url_citation",
    "start_index": 2,
    "end_index": 5,
    "url": "https://example.com/a",
    "title": "A",
}
SAID = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [
        {"type": "output_text", "text": "A fox.", "annotations": []},
        {"type": "output_text", "text": "It is red.", "annotations": [CITED, {"type": "other"}]},
    ],
}
ANSWER = {
    "id": "resp_1",
    "model": "o4-mini",
    "status": "completed",
    "output": [REASONING, CALL],
    "usage": None,
}


def folded(events):
    draft = AnswerBuilder()
    for event in events:
        draft.add(event)
    return draft.answer()


def streamed(*frames):
    reader = responses.ResponsesReader()
    return folded(event for each in frames for event in reader.read(json.dumps(each).encode()))


def turn(items):
    """A tool's turn as the tools make it: the items, and the same said for other dialects."""
    said = Message("assistant", (Raw(items), Text("Let me see."), ToolCall("call_1", "look", "{}")))
    return (
        Message.of("user", "What is it?"),
        said,
        Message("tool", (ToolResult("call_1", "a fox"),)),
    )


def test_the_items_of_an_answer_are_kept_word_for_word():
    whole = folded(responses.decode(ANSWER))
    assert whole.items == (REASONING, CALL)
    assert streamed({"type": "response.completed", "response": ANSWER}).items == (REASONING, CALL)
    assert Answer().items == ()


def test_items_that_the_last_snapshot_leaves_out_are_those_of_the_stream():
    done = [
        {"type": "response.output_item.done", "output_index": 1, "item": CALL},
        {"type": "response.output_item.done", "output_index": 0, "item": REASONING},
    ]
    end = {"type": "response.completed", "response": {**ANSWER, "output": []}}
    assert streamed(*done, end).items == (REASONING, CALL)


def test_a_recorded_call_keeps_its_item(recorded):
    reader, events = responses.ResponsesReader(), []
    decoder = Decoder()
    for data in decoder.feed(recorded("responses_function_call_stream.sse")):
        events += reader.read(data)
    answer = folded(events)
    assert [item["type"] for item in answer.items] == ["function_call"]
    assert answer.items[0]["call_id"] == answer.tool_calls[0].id


def test_reasoning_goes_back_with_the_item_that_follows_it(faults):
    body = responses.encode(Request("o4-mini", turn((REASONING, CALL))))
    assert faults("responses_request.strict", body) == []
    kinds = [item.get("type", "message") for item in body["input"]]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
    assert body["input"][1] == {k: v for k, v in REASONING.items() if v is not None}
    assert body["input"][2] == CALL


def test_chat_says_the_same_turn_in_its_own_words(faults):
    body = chat.encode(Request("o4-mini", turn((REASONING, CALL))))
    assert faults("chat_request.strict", body) == []
    assert [each["role"] for each in body["messages"]] == ["user", "assistant", "tool"]
    assert "rs_1" not in json.dumps(body)


def test_a_turn_without_items_is_said_by_its_parts(faults):
    messages = tuple(
        replace(m, parts=tuple(p for p in m.parts if not isinstance(p, Raw))) for m in turn(())
    )
    body = responses.encode(Request("o4-mini", messages))
    assert faults("responses_request.strict", body) == []
    assert [item.get("type", "message") for item in body["input"]] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
    ]


def test_a_tool_of_the_provider_is_declared_by_its_type(faults):
    tools = (Tool("look", "", SCHEMA), HostedTool("web_search", {"search_context_size": "low"}))
    request = Request("gpt-5.5", (Message.of("user", "hi"),), tools=tools)
    body = responses.encode(request)
    assert faults("responses_request.strict", body) == []
    assert body["tools"][1] == {"type": "web_search", "search_context_size": "low"}
    assert len(chat.encode(request)["tools"]) == 1
    assert "tools" not in chat.encode(replace(request, tools=tools[1:]))


def test_citations_are_at_their_place_in_the_whole_text():
    answer = folded(responses.decode({**ANSWER, "output": [SAID]}))
    (cited,) = answer.citations
    assert cited == Citation("https://example.com/a", "A", 8, 11)
    assert answer.text[8:11] == " is"


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message"},
        {"type": "message", "content": "text"},
        {"type": "message", "content": [None, 3, {"type": "output_text"}]},
        {"type": "message", "content": [{"type": "output_text", "annotations": [None, {}, 3]}]},
        {"type": "message", "content": [{"type": "output_text", "annotations": [CITED]}]},
        {"content": []},
    ],
)
def test_citations_of_any_shape_break_nothing(item):
    answer = folded(responses.decode({**ANSWER, "output": [item]}))
    assert all(isinstance(each.url, str) for each in answer.citations)


def test_a_request_with_a_picture_is_a_valid_one(faults):
    picture = Image("data:image/png;base64,AAAA")
    message = Message("user", (Text("Look:"), picture, Text("What is it?")))
    request = Request("o4-mini", (message,))
    body = responses.encode(request)
    assert faults("responses_request.strict", body) == []
    assert faults("chat_request.strict", chat.encode(request)) == []
    kinds = [part["type"] for part in body["input"][0]["content"]]
    assert kinds == ["input_text", "input_image", "input_text"]
