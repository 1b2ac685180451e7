"""The Responses API: every request is a valid one, and every answer is understood."""

import itertools
import json
import random

import pytest

from o3magic.answer_builder import AnswerBuilder
from o3magic.errors import (
    BrokenAnswer,
    ContentFiltered,
    ProviderDown,
    QuotaExhausted,
    RateLimited,
    RequestFailed,
    RequestRefused,
)
from o3magic.events import (
    Finished,
    KeepAlive,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from o3magic.messages import (
    AnswerSchema,
    Image,
    Message,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from o3magic.wire.responses import ResponsesReader, decode, encode

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}
PICTURE = Image("data:image/png;base64,AAAA", "low")
TALK = (
    Message.of("developer", "Formatting re-enabled"),
    Message.of("user", "What is on it?"),
    Message("user", (Text("Look:"), PICTURE)),
    Message("assistant", (Text("Let me see."), ToolCall("call_1", "look", "{}"))),
    Message("tool", (ToolResult("call_1", "a fox"),)),
    Message.of("assistant", "A fox."),
)
TOOLS = (Tool("look", "Look at it", SCHEMA), Tool("hear", "", SCHEMA, strict=False))

CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "o3-mini"}}
DONE = {
    "type": "response.completed",
    "response": {
        "id": "resp_1",
        "model": "o3-mini-2025-01-31",
        "status": "completed",
        "service_tier": "default",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    },
}


def delta(text):
    return {"type": "response.output_text.delta", "output_index": 0, "delta": text}


def completed(**response):
    return {"type": "response.completed", "response": {**DONE["response"], **response}}


def call_item(call_id, name, arguments=""):
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def call_begins(index, *call):
    return {
        "type": "response.output_item.added",
        "output_index": index,
        "item": call_item(*call),
    }


def arguments(index, text):
    return {
        "type": "response.function_call_arguments.delta",
        "output_index": index,
        "delta": text,
    }


# Requests


def test_a_plain_request_says_nothing_that_was_not_chosen():
    assert encode(Request("o3-mini", (Message.of("user", "four?"),))) == {
        "model": "o3-mini",
        "input": [{"role": "user", "content": "four?"}],
        "stream": True,
    }


def test_every_combination_of_choices_is_a_valid_request(faults):
    formats = AnswerSchema("Invoice", SCHEMA), AnswerSchema("Loose", SCHEMA, strict=False)
    for messages, effort, summary, limit, wanted, tools, stream, options in itertools.product(
        (TALK, TALK[1:2]),
        (None, "none", "minimal", "low", "medium", "high", "xhigh", "max"),
        (None, "auto", "concise", "detailed"),
        (None, 16),
        (None, *formats),
        ((), TOOLS),
        (True, False),
        ({}, {"store": False, "metadata": {"a": "b"}}),
    ):
        request = Request(
            "o3-mini", messages, effort, summary, limit, wanted, tools, stream, options
        )
        body = encode(request)
        assert faults("responses_request.strict", body) == [], body
        assert ("reasoning" in body) == (effort is not None or summary is not None)
        assert ("text" in body) == (wanted is not None)
        assert not {"temperature", "top_p", "parallel_tool_calls", "max_tokens"} & set(body)


def test_a_talk_becomes_items_in_its_order():
    items = encode(Request("o3-mini", TALK))["input"]
    assert [item.get("role") or item["type"] for item in items] == [
        "developer",
        "user",
        "user",
        "assistant",
        "function_call",
        "function_call_output",
        "assistant",
    ]
    assert items[2]["content"][1] == {
        "type": "input_image",
        "image_url": PICTURE.url,
        "detail": "low",
    }


def test_what_an_assistant_said_before_it_called_stands_before_the_call():
    talk = (Message("assistant", (Text("Let me see."), ToolCall("call_1", "look", "{}"))),)
    assert encode(Request("o3-mini", talk))["input"] == [
        {"type": "message", "role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
    ]


def test_an_assistant_s_words_in_parts_are_output_and_a_user_s_are_input():
    parts = (Text("a"), Text("b"))
    items = encode(Request("m", (Message("assistant", parts), Message("user", parts))))["input"]
    assert [part["type"] for item in items for part in item["content"]] == [
        "output_text",
        "output_text",
        "input_text",
        "input_text",
    ]


def test_effort_schema_and_tools_are_flat_here_and_the_limit_has_its_own_name():
    body = encode(
        Request("m", TALK, "high", None, 4096, AnswerSchema("Invoice", SCHEMA), TOOLS[:1])
    )
    assert body["reasoning"] == {"effort": "high"}
    assert body["max_output_tokens"] == 4096
    assert body["text"]["format"] == {
        "type": "json_schema",
        "name": "Invoice",
        "schema": SCHEMA,
        "strict": True,
    }
    assert body["tools"] == [
        {
            "type": "function",
            "name": "look",
            "description": "Look at it",
            "parameters": SCHEMA,
            "strict": True,
        }
    ]


# Whole answers


def test_a_recorded_answer_gives_its_recorded_words_and_counts(recorded, fold):
    document = recorded("o3mini_responses.json")
    answer = fold(decode(json.dumps(document).encode()))
    assert answer.text == document["output"][1]["content"][0]["text"]
    assert (answer.id, answer.model) == (document["id"], document["model"])
    assert answer.usage == Usage(
        input_tokens=document["usage"]["input_tokens"],
        cached_tokens=document["usage"]["input_tokens_details"]["cached_tokens"],
        output_tokens=document["usage"]["output_tokens"],
        reasoning_tokens=document["usage"]["output_tokens_details"]["reasoning_tokens"],
        total_tokens=document["usage"]["total_tokens"],
    )
    assert (answer.finish_reason, answer.notes) == ("stop", ())


def test_a_gateway_s_answer_is_read_and_its_odd_status_is_said(recorded, fold):
    document = recorded("launch_aimlapi_responses.json")
    answer = fold(decode(document))
    texts = [
        part["text"]
        for item in document["output"]
        if item["type"] == "message"
        for part in item["content"]
    ]
    assert answer.text == "".join(texts) != ""
    assert answer.usage.output_tokens == 2520
    assert any("in_progress" in note for note in answer.notes)


def test_the_text_is_joined_from_its_parts_whatever_output_text_says(fold):
    parts = [{"type": "output_text", "text": "Hel"}, {"type": "output_text", "text": "lo"}]
    document = {
        "status": "completed",
        "output_text": "wrong",
        "output": [{"type": "message", "content": parts}],
    }
    assert fold(decode(document)).text == "Hello"


def test_a_whole_answer_with_everything_in_it(fold):
    document = {
        "id": "resp_1",
        "model": "m",
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": [{"text": "one"}, {"text": "two"}]},
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "three"}]},
            {"type": "web_search_call"},
            {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]},
            call_item("call_1", "look", "{}"),
            call_item("call_2", "hear", '{"a": 1}'),
        ],
    }
    answer = fold(decode(document))
    assert answer.reasoning_summary == "one\n\ntwo\n\nthree"
    assert answer.refusal == "No."
    assert answer.tool_calls == (
        ToolCall("call_1", "look", "{}"),
        ToolCall("call_2", "hear", '{"a": 1}'),
    )
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"status": "completed"}, "stop", ""),
        ({"status": "incomplete"}, "length", ""),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "length",
            "max_output_tokens",
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
            "content_filter",
        ),
        ({"status": "completed", "incomplete_details": None}, "stop", ""),
    ],
)
def test_why_an_answer_ended_is_understood(fields, reason, detail):
    end = list(decode({"output": [], **fields}))[-1]
    assert (end.reason, end.detail, end.notes) == (reason, detail, ())


def test_an_answer_cut_off_while_thinking_has_no_message_and_is_still_one(fold):
    document = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "reasoning", "summary": []}],
        "usage": {"output_tokens": 512, "output_tokens_details": {"reasoning_tokens": 512}},
    }
    answer = fold(decode(document))
    assert (answer.text, answer.finish_reason) == ("", "length")
    assert answer.usage.reasoning_tokens == 512


@pytest.mark.parametrize("status", [None, "queued", "in_progress", "cancelled", 3, "odd"])
def test_a_status_that_does_not_say_complete_is_a_note(status):
    fields = {} if status is None else {"status": status}
    assert list(decode({"output": [], **fields}))[-1].notes


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"status": "failed", "output": [], "error": {"code": "server_error"}}, ProviderDown),
        ({"status": "failed", "error": {"code": "rate_limit_exceeded"}}, RateLimited),
        ({"status": "failed", "error": {"code": "invalid_prompt"}}, RequestRefused),
        ({"error": {"code": "content_filter", "message": "no"}}, ContentFiltered),
        ({"error": "broken"}, ProviderDown),
        ({"detail": "not here"}, ProviderDown),
        ({}, BrokenAnswer),
        ({"choices": []}, BrokenAnswer),
        ({"output": None}, BrokenAnswer),
        ([], BrokenAnswer),
        ("text", BrokenAnswer),
        (None, BrokenAnswer),
    ],
)
def test_a_document_that_is_no_answer_says_what_it_is(document, kind):
    with pytest.raises(RequestFailed) as caught:
        list(decode(json.dumps(document).encode()))
    assert type(caught.value) is kind


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"<html>", b"[" * 10_000, b"data: {}\n\n"])
def test_bytes_that_are_no_json_are_a_broken_answer(data):
    with pytest.raises(BrokenAnswer, match="not JSON"):
        list(decode(data))


# Streams


def test_a_recorded_stream_gives_its_recorded_words_and_counts(recorded, hear):
    heard = hear("responses", recorded("o3mini_responses_stream.sse"))
    last = recorded("o3mini_responses_stream.sse").rsplit(b"data: ", 1)[1]
    document = json.loads(last)["response"]
    reasoning, message = document["output"]
    assert heard.answer.text == message["content"][0]["text"]
    assert heard.answer.text.startswith("I'm not a road safety professional")
    assert heard.answer.reasoning_summary == "\n\n".join(p["text"] for p in reasoning["summary"])
    assert heard.answer.usage == Usage(
        input_tokens=13,
        cached_tokens=0,
        output_tokens=1680,
        reasoning_tokens=1408,
        total_tokens=1693,
    )
    assert heard.finished == Finished(
        "stop", heard.answer.usage, document["id"], "o3-mini-2025-01-31", "default"
    )
    assert heard.events[0] == Started(document["id"], "o3-mini-2025-01-31")
    assert sum(type(event) is TextDelta for event in heard.events) > 200


def test_a_recorded_stream_says_the_same_as_its_last_snapshot(recorded, hear, fold):
    for name in ("o3mini_responses_stream.sse", "responses_function_call_stream.sse"):
        last = recorded(name).rsplit(b"data: ", 1)[1]
        assert (
            fold(decode(json.loads(last)["response"])) == hear("responses", recorded(name)).answer
        )


def test_a_recorded_function_call_is_whole(recorded, hear):
    heard = hear("responses", recorded("responses_function_call_stream.sse"))
    (call,) = heard.answer.tool_calls
    assert call.name == "get_current_weather"
    assert json.loads(call.arguments).keys() == {"location", "unit"}
    assert call.id.startswith("call_")
    assert heard.answer.finish_reason == "tool_calls"


def test_a_stream_needs_neither_names_of_events_nor_sequence_numbers(recorded, hear):
    whole = recorded("o3mini_responses_stream.sse")
    frames = []
    for block in whole.split(b"\n\n"):
        if block:
            frame = json.loads(block.split(b"data: ", 1)[1])
            del frame["sequence_number"]
            frames.append(frame)
    assert hear("responses", *frames).answer == hear("responses", whole).answer
    assert hear("responses", *frames, "[DONE]").answer == hear("responses", whole).answer


MEANT = {
    "error": RequestFailed,
    "response.failed": RequestFailed,
    "response.completed": "end",
    "response.incomplete": "end",
    "response.output_text.delta": TextDelta("x"),
    "response.refusal.delta": RefusalDelta("x"),
    "response.refusal.done": RefusalDelta("x"),
    "response.reasoning_summary_text.delta": ReasoningDelta("x"),
    "response.reasoning_text.delta": ReasoningDelta("x"),
    "response.created": Started("x", "x"),
    "response.function_call_arguments.delta": ToolCallDelta(1, "", "", "x"),
}


@pytest.mark.parametrize("full", [False, True], ids=["least", "full"])
def test_every_event_there_is_can_arrive_between_others(
    shared_api, schema, faults, maker, hear, full
):
    index = schema("responses_stream_events")["x-event-index"]
    listed = json.loads((shared_api / "events.json").read_text("utf-8"))["events"]
    assert {event["type"] for event in listed} == set(index)
    make = maker("responses_stream_events").make
    for kind, reference in index.items():
        event = make({"$ref": reference}, full=full)
        assert event["type"] == kind
        assert faults("responses_stream_events", event) == [], kind
        frames = [CREATED, delta("Hel"), event, delta("lo"), DONE]
        meant = MEANT.get(kind, KeepAlive())
        if meant is RequestFailed:
            with pytest.raises(RequestFailed):
                hear("responses", *frames)
            continue
        heard = hear("responses", *frames)
        if meant == "end":
            assert heard.answer.text == "Hel", kind
            continue
        assert heard.answer.text == ("Helxlo" if type(meant) is TextDelta else "Hello"), kind
        assert (type(heard.events[2]), heard.events[2]) == (type(meant), meant), kind
        refused = type(meant) is RefusalDelta
        assert heard.answer.finish_reason == ("refusal" if refused else "stop"), kind


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "keepalive", "sequence_number": 3},
        {"type": "response.of.the.future", "delta": "x"},
        {"type": None},
        {"type": 3},
        {"type": ["response.completed"]},
        {},
        {"error": None},
        {"type": "response.output_text.delta"},
        {"type": "response.output_text.delta", "delta": None},
        {"type": "response.output_text.delta", "delta": ""},
        {"type": "response.output_text.delta", "delta": {"text": "x"}},
        {"type": "response.output_item.added"},
        {"type": "response.output_item.added", "item": None},
        {"type": "response.output_item.added", "item": {"type": "message"}},
    ],
)
def test_what_says_nothing_is_a_sign_of_life(frame, hear):
    heard = hear("responses", CREATED, frame, delta("Hello"), DONE)
    assert heard.answer.text == "Hello"
    assert heard.events[1] == KeepAlive()


def test_text_that_never_came_as_deltas_is_taken_from_the_last_snapshot(hear):
    assert hear("responses", CREATED, DONE).answer.text == "Hello"
    assert hear("responses", CREATED, delta(""), DONE).answer.text == "Hello"
    assert hear("responses", DONE).answer.id == "resp_1"


def test_text_that_came_is_not_said_twice(hear):
    assert hear("responses", CREATED, delta("Hel"), delta("lo"), DONE).answer.text == "Hello"


def test_text_that_came_late_beside_a_call_is_not_lost(hear):
    call = call_item("call_1", "look", "{}")
    frames = [CREATED, call_begins(1, "call_1", "look"), arguments(1, "{}")]
    end = completed(output=[*DONE["response"]["output"], call])
    answer = hear("responses", *frames, end).answer
    assert answer.text == "Hello"
    assert answer.tool_calls == (ToolCall("call_1", "look", "{}"),)


def test_a_late_refusal_is_one(hear):
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    answer = hear("responses", CREATED, completed(output=[item])).answer
    assert (answer.refusal, answer.finish_reason) == ("No.", "refusal")


def test_a_refusal_in_pieces_is_said_once(hear):
    pieces = [{"type": "response.refusal.delta", "delta": text} for text in ("I can", "not.")]
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    answer = hear("responses", CREATED, *pieces, completed(output=[item])).answer
    assert (answer.refusal, answer.text, answer.finish_reason) == ("I cannot.", "", "refusal")


def test_calls_in_pieces_that_interleave_come_apart_again(hear):
    answer = hear(
        "responses",
        CREATED,
        call_begins(1, "call_a", "look"),
        call_begins(2, "call_b", "hear"),
        arguments(2, '{"b"'),
        arguments(1, '{"a"'),
        arguments(2, ": 2}"),
        arguments(1, ": 1}"),
        completed(
            output=[
                {"type": "reasoning", "summary": []},
                call_item("call_a", "look", '{"a": 1}'),
                call_item("call_b", "hear", '{"b": 2}'),
            ]
        ),
    ).answer
    assert answer.tool_calls == (
        ToolCall("call_a", "look", '{"a": 1}'),
        ToolCall("call_b", "hear", '{"b": 2}'),
    )
    assert answer.finish_reason == "tool_calls"


def test_arguments_that_never_came_as_deltas_are_taken_from_the_last_snapshot(hear):
    for begins in ([], [call_begins(0, "call_a", "look")]):
        end = completed(output=[call_item("call_a", "look", '{"a": 1}')])
        answer = hear("responses", CREATED, *begins, end).answer
        assert answer.tool_calls == (ToolCall("call_a", "look", '{"a": 1}'),)


def test_a_call_is_not_made_twice_where_the_snapshot_s_places_are_others(hear):
    end = completed(output=[call_item("call_a", "look", "{}")])
    for piece in ([arguments(3, "{}")], []):
        answer = hear("responses", CREATED, call_begins(3, "call_a", "look"), *piece, end).answer
        assert answer.tool_calls == (ToolCall("call_a", "look", "{}"),)


def test_a_call_whose_beginning_was_lost_gets_its_name_from_the_last_snapshot(hear):
    end = completed(output=[call_item("call_a", "look", "{}")])
    answer = hear("responses", CREATED, arguments(0, "{}"), end).answer
    assert answer.tool_calls == (ToolCall("call_a", "look", "{}"),)


def test_parts_and_items_of_a_summary_are_paragraphs(hear):
    def part(index):
        return {"type": "response.reasoning_summary_part.added", "summary_index": index}

    def thought(text):
        return {"type": "response.reasoning_summary_text.delta", "delta": text}

    answer = hear(
        "responses",
        CREATED,
        *(part(0), thought("o"), thought("ne")),
        *(part(1), thought("two")),
        *(part(0), thought("three")),
        DONE,
    ).answer
    assert answer.reasoning_summary == "one\n\ntwo\n\nthree"


def test_an_incomplete_stream_keeps_its_text_and_says_why(hear):
    end = completed(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    end["type"] = "response.incomplete"
    heard = hear("responses", CREATED, delta("Hel"), end)
    assert (heard.answer.text, heard.answer.finish_reason) == ("Hel", "length")
    assert heard.finished.detail == "max_output_tokens"
    assert heard.answer.usage.output_tokens == 2


ERROR = {
    "type": "insufficient_quota",
    "code": "credit_balance_exhausted",
    "message": "Nothing left",
}


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "error", "error": ERROR, "sequence_number": 2},
        {"type": "error", **{k: v for k, v in ERROR.items() if k != "type"}, "param": None},
        {"error": ERROR},
        {"type": "response.failed", "response": {"status": "failed", "error": ERROR}},
    ],
    ids=["nested", "flat", "bare", "failed"],
)
def test_an_error_in_the_stream_is_that_error_in_whatever_shape(frame, hear):
    with pytest.raises(QuotaExhausted, match="Nothing left") as caught:
        hear("responses", CREATED, delta("Hel"), frame, delta("lo"), DONE)
    assert caught.value.code == "credit_balance_exhausted"


def test_an_error_that_says_nothing_is_one_nevertheless(hear):
    for frame in ({"type": "error"}, {"type": "response.failed"}, {"type": "error", "error": 3}):
        with pytest.raises(ProviderDown):
            hear("responses", CREATED, frame)


# What other servers leave out

TEXT_PART = {"type": "output_text", "text": "four"}
CALL_ITEM = call_item("call_a", "look", '{"a": 1}') | {"id": "fc_1"}
TEXT_ENDS = [
    {"type": "response.output_text.done", "output_index": 0, "text": "four"},
    {"type": "response.content_part.done", "output_index": 0, "part": TEXT_PART},
    {
        "type": "response.output_item.done",
        "output_index": 0,
        "item": {"type": "message", "id": "msg_1", "content": [TEXT_PART]},
    },
    completed(output=[{"type": "message", "content": [TEXT_PART]}]),
]


@pytest.mark.parametrize("left_out", [0, 1, 2, 3])
def test_text_is_read_once_from_the_finest_event_that_has_it(left_out, hear):
    for frames in (TEXT_ENDS[left_out:], TEXT_ENDS[left_out : left_out + 1]):
        last = [] if frames[-1] is TEXT_ENDS[-1] else [completed(output=[])]
        assert hear("responses", CREATED, *frames, *last).answer.text == "four"
    half = [delta("fo"), delta("ur")]
    assert hear("responses", CREATED, *half, *TEXT_ENDS[left_out:]).answer.text == "four"


def test_words_of_a_finished_item_are_kept_where_the_stream_breaks(read_into):
    draft = AnswerBuilder()
    with pytest.raises(BrokenAnswer):
        read_into(draft, ResponsesReader(), CREATED, TEXT_ENDS[2])
    assert draft.text == "four"


@pytest.mark.parametrize(
    "frames",
    [
        [{"type": "response.output_item.done", "output_index": 0, "item": CALL_ITEM}],
        [{"type": "response.output_item.done", "item": CALL_ITEM}],
        [
            call_begins(0, "call_a", "look"),
            {
                "type": "response.function_call_arguments.done",
                "output_index": 0,
                "arguments": '{"a": 1}',
            },
        ],
        [
            call_begins(0, "call_a", "look"),
            arguments(0, '{"a"'),
            arguments(0, ": 1}"),
            {"type": "response.output_item.done", "output_index": 0, "item": CALL_ITEM},
        ],
    ],
)
@pytest.mark.parametrize("output", [[], [{"type": "message", "content": [TEXT_PART]}], [CALL_ITEM]])
def test_a_call_is_made_once_whatever_the_last_snapshot_leaves_out(frames, output, hear):
    answer = hear("responses", CREATED, *frames, completed(output=output)).answer
    assert answer.tool_calls == (ToolCall("call_a", "look", '{"a": 1}'),)
    assert answer.text == ("four" if output and output != [CALL_ITEM] else "")


def test_two_calls_at_one_place_are_two(hear):
    frames = []
    for name, text in (("a", '{"a": 1}'), ("b", '{"b": 2}')):
        item = call_item(f"call_{name}", "look") | {"id": f"fc_{name}"}
        added = {"type": "response.output_item.added", "output_index": 0, "item": item}
        frames.append([added, arguments(0, text) | {"item_id": f"fc_{name}"}])
    first, second = frames
    expected = {"call_a": '{"a": 1}', "call_b": '{"b": 2}'}
    for order in (first + second, [first[0], second[0], first[1], second[1]]):
        answer = hear("responses", CREATED, *order, completed(output=[])).answer
        assert {call.id: call.arguments for call in answer.tool_calls} == expected
    done = [
        {"type": "response.output_item.done", "output_index": 0, "item": call_item(i, "look", a)}
        for i, a in expected.items()
    ]
    answer = hear("responses", CREATED, *done, completed(output=[])).answer
    assert {call.id: call.arguments for call in answer.tool_calls} == expected


def test_an_item_with_another_id_in_each_frame_is_one(hear):
    frames = [
        call_begins(0, "call_a", "look"),
        arguments(0, '{"a"') | {"item_id": "x1"},
        arguments(0, ": 1}") | {"item_id": "x2"},
        {"type": "response.output_item.done", "output_index": 0, "item": CALL_ITEM},
    ]
    answer = hear("responses", CREATED, *frames, completed(output=[CALL_ITEM])).answer
    assert answer.tool_calls == (ToolCall("call_a", "look", '{"a": 1}'),)


def test_reasoning_that_only_its_item_says_is_kept(hear):
    item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "So"}]}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    assert hear("responses", CREATED, done, DONE).answer.reasoning_summary == "So"


@pytest.mark.parametrize("kind", ["response.completed", "response.failed"])
@pytest.mark.parametrize("before", [[], [delta("fo"), delta("ur")]])
def test_a_failed_answer_is_a_failure_that_keeps_its_words(kind, before, read_into):
    error = {"code": "server_error", "message": "It broke."}
    output = [{"type": "message", "content": [TEXT_PART]}]
    failed = {"status": "failed", "error": error, "output": output}
    draft, whole = AnswerBuilder(), AnswerBuilder()
    with pytest.raises(ProviderDown, match="It broke"):
        read_into(draft, ResponsesReader(), CREATED, *before, {"type": kind, "response": failed})
    assert draft.text == "four"
    with pytest.raises(ProviderDown, match="It broke"):
        any(map(whole.add, decode(json.dumps(failed).encode())))
    assert whole.text == "four"


@pytest.mark.parametrize(
    "frames", [[], [CREATED], [CREATED, delta("Hel")], [CREATED, delta("Hel"), "[DONE]"]]
)
def test_a_stream_that_ends_without_its_last_event_is_broken(frames, hear):
    with pytest.raises(BrokenAnswer, match="without its last event"):
        hear("responses", *frames)


@pytest.mark.parametrize("frame", ["{", "[]", "3", "null", "text", '"response.completed"'])
def test_a_frame_that_is_no_json_object_breaks_the_answer(frame, hear):
    with pytest.raises(BrokenAnswer):
        hear("responses", CREATED, frame)


def test_any_json_in_any_place_gives_events_or_one_of_our_errors():
    kinds = [*MEANT, "response.output_item.added", "response.reasoning_summary_part.added"]
    names = ["type", "delta", "response", "item", "output", "error", "usage", "status", "content"]

    def value(depth):
        choice = dice.randrange(9 if depth else 6)
        if choice >= 6:
            size = range(dice.randrange(4))
            if choice == 6:
                return [value(depth - 1) for _ in size]
            return {dice.choice(names): value(depth - 1) for _ in size}
        return [None, True, -1, 1.5, "message", "function_call"][choice]

    dice = random.Random(11)
    for _ in range(5000):
        reader = ResponsesReader()
        frame = {name: value(3) for name in names} | {"type": dice.choice(kinds)}
        data = json.dumps(frame).encode()
        for read in (reader.read, lambda data: list(decode(data))):
            try:
                events = read(data)
            except RequestFailed:
                continue
            assert all(isinstance(event, tuple | Finished) for event in events)
