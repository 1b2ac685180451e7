"""Chat Completions: every request is a valid one, and every answer is understood."""

import itertools
import json
import random

import pytest

from o3magic.answer_builder import AnswerBuilder
from o3magic.errors import (
    BrokenAnswer,
    ContentFiltered,
    ProviderDown,
    RateLimited,
    RequestFailed,
    RequestRefused,
)
from o3magic.events import Finished, KeepAlive, ReasoningDelta, Started, TextDelta, Usage
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
from o3magic.wire.chat import ChatReader, decode, encode

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
    Message("assistant", (ToolCall("call_2", "look", "{}"), ToolCall("call_3", "hear", "{}"))),
    Message("tool", (ToolResult("call_2", "a fox"), ToolResult("call_3", "a bark"))),
    Message.of("assistant", "A fox."),
)
TOOLS = (Tool("look", "Look at it", SCHEMA), Tool("hear", "", SCHEMA, strict=False))


def chunk(delta=None, reason=None, **fields):
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": reason}
    return {"id": "chatcmpl-1", "model": "o3-mini", "choices": [choice], **fields}


def said(text):
    return chunk({"content": text})


def call(index, call_id=None, name=None, arguments=None):
    function = {"name": name, "arguments": arguments}
    return chunk({"tool_calls": [{"index": index, "id": call_id, "function": function}]})


ROLE = chunk({"role": "assistant", "content": "", "refusal": None})
STOP = chunk({}, "stop")
COUNTS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
USAGE = {"id": "chatcmpl-1", "model": "o3-mini", "choices": [], "usage": COUNTS}
END = (STOP, USAGE, "[DONE]")


# Requests


def test_a_plain_request_says_nothing_that_was_not_chosen():
    assert encode(Request("o3-mini", (Message.of("user", "four?"),), stream=False)) == {
        "model": "o3-mini",
        "messages": [{"role": "user", "content": "four?"}],
        "stream": False,
    }


def test_every_combination_of_choices_is_a_valid_request(faults):
    formats = AnswerSchema("Invoice", SCHEMA), AnswerSchema("Loose", SCHEMA, strict=False)
    for messages, effort, limit, wanted, tools, stream, options in itertools.product(
        (TALK, TALK[1:2]),
        (None, "none", "minimal", "low", "medium", "high", "xhigh", "max"),
        (None, 16),
        (None, *formats),
        ((), TOOLS),
        (True, False),
        ({}, {"store": False, "metadata": {"a": "b"}}),
    ):
        request = Request(
            "m", messages, effort, None, limit, wanted, tools, stream, options=options
        )
        body = encode(request)
        assert faults("chat_request.strict", body) == [], body
        assert ("stream_options" in body) == stream
        assert ("response_format" in body) == (wanted is not None)
        assert not {"temperature", "top_p", "parallel_tool_calls", "max_tokens"} & set(body)


def test_a_talk_becomes_messages_in_its_order():
    messages = encode(Request("m", TALK))["messages"]
    roles = "developer user user assistant tool assistant tool tool assistant"
    assert [message["role"] for message in messages] == roles.split()
    assert messages[2]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": PICTURE.url, "detail": "low"},
    }
    assert messages[3]["content"] == "Let me see."
    assert messages[5]["content"] is None
    assert [call["id"] for call in messages[5]["tool_calls"]] == ["call_2", "call_3"]
    assert [m["tool_call_id"] for m in messages if m["role"] == "tool"] == [
        "call_1",
        "call_2",
        "call_3",
    ]


def test_effort_is_flat_and_schema_and_tools_are_nested_and_the_limit_counts_reasoning():
    body = encode(Request("m", TALK, "high", "auto", 4096, AnswerSchema("I", SCHEMA), TOOLS[:1]))
    assert body["reasoning_effort"] == "high"
    assert body["max_completion_tokens"] == 4096
    assert body["response_format"]["json_schema"] == {"name": "I", "schema": SCHEMA, "strict": True}
    assert body["tools"][0]["function"]["strict"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert "reasoning" not in body


# Whole answers


def test_a_recorded_answer_gives_its_recorded_words_and_counts(recorded, fold):
    document = recorded("o3mini_chat.json")
    answer = fold(decode(json.dumps(document).encode()))
    assert answer.text == document["choices"][0]["message"]["content"] != ""
    counts = document["usage"]
    assert answer.usage == Usage(
        input_tokens=counts["prompt_tokens"],
        cached_tokens=counts["prompt_tokens_details"]["cached_tokens"],
        output_tokens=counts["completion_tokens"],
        reasoning_tokens=counts["completion_tokens_details"]["reasoning_tokens"],
        total_tokens=counts["total_tokens"],
    )
    assert (answer.id, answer.model) == (document["id"], document["model"])
    assert (answer.finish_reason, answer.notes) == ("stop", ())


def test_a_gateway_s_answer_is_read_whatever_it_leaves_out(recorded, fold):
    document = recorded("launch_aimlapi_chat.json")
    answer = fold(decode(document))
    assert answer.text == document["choices"][0]["message"]["content"]
    assert answer.usage.output_tokens == document["usage"]["completion_tokens"]


def test_an_error_recorded_in_a_200_is_that_error(recorded):
    with pytest.raises(ContentFiltered):
        list(decode(recorded("azure_prompt_filter_error_in_200.json")))


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"message": {"content": "x"}, "finish_reason": "stop"}, "stop"),
        ({"message": {"content": "x"}, "finish_reason": "length"}, "length"),
        ({"message": {"content": None}, "finish_reason": "length"}, "length"),
        ({"finish_reason": "content_filter", "content_filter_results": {}}, "content_filter"),
        ({"message": {"tool_calls": []}, "finish_reason": "tool_calls"}, "tool_calls"),
        ({"message": {}, "finish_reason": "function_call"}, "tool_calls"),
        ({"message": {"refusal": "No."}, "finish_reason": "stop"}, "refusal"),
        ({"message": {"content": "x"}, "finish_reason": "error"}, "error"),
        ({"message": {"content": "x"}, "finish_reason": "eos"}, "stop"),
    ],
)
def test_why_an_answer_ended_is_understood(choice, reason, fold):
    answer = fold(decode({"choices": [choice]}))
    assert (answer.finish_reason, answer.notes) == (reason, ())


@pytest.mark.parametrize("reason", [None, "", 3])
def test_an_answer_that_does_not_say_why_it_ended_has_a_note(reason):
    end = list(decode({"choices": [{"message": {"content": "x"}, "finish_reason": reason}]}))[-1]
    assert (end.reason, len(end.notes)) == ("stop", 1)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_goes_by_two_names(name, fold, hear):
    message = {name: "Hm.", "content": "Hello"}
    answer = fold(decode({"choices": [{"message": message, "finish_reason": "stop"}]}))
    assert (answer.reasoning_summary, answer.text) == ("Hm.", "Hello")
    heard = hear("chat", ROLE, chunk({name: "H"}), chunk({name: "m."}), said("Hello"), *END)
    assert (heard.answer.reasoning_summary, heard.answer.text) == ("Hm.", "Hello")
    assert type(heard.events[2]) is ReasoningDelta


def test_reasoning_that_goes_by_both_names_is_said_once(hear):
    both = chunk({"reasoning": "Hm.", "reasoning_content": "Hm.", "content": ""})
    assert hear("chat", ROLE, both, *END).answer.reasoning_summary == "Hm."


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"choices": []}, BrokenAnswer),
        ({"choices": None}, BrokenAnswer),
        ({"choices": "x"}, BrokenAnswer),
        ({"choices": [3]}, BrokenAnswer),
        ({}, BrokenAnswer),
        ({"output": []}, BrokenAnswer),
        ([], BrokenAnswer),
        (3, BrokenAnswer),
        ({"error": {"code": 429, "message": "slow"}}, RateLimited),
        ({"error": "broken"}, ProviderDown),
        ({"object": "error", "message": "bad", "code": 400}, RequestRefused),
        ({"detail": "Not Found"}, ProviderDown),
        ({"code": 1302, "msg": "slow"}, ProviderDown),
        ([{"error": {"code": 429, "message": "slow"}}], RateLimited),
    ],
)
def test_a_document_that_is_no_answer_says_what_it_is(document, kind):
    with pytest.raises(RequestFailed) as caught:
        list(decode(json.dumps(document).encode()))
    assert type(caught.value) is kind


# Streams


def test_a_recorded_stream_gives_its_recorded_words_and_counts(recorded, hear):
    heard = hear("chat", recorded("chat_stream_moderation.sse"))
    assert heard.answer.text == "Paris."
    assert heard.answer.usage == Usage(
        input_tokens=13,
        cached_tokens=0,
        output_tokens=11,
        reasoning_tokens=0,
        total_tokens=24,
    )
    assert heard.answer.finish_reason == "stop"
    assert heard.finished.service_tier == "default"
    assert heard.events[0] == Started(heard.answer.id, "gpt-5-2025-08-07")


def test_the_usage_comes_in_a_chunk_without_choices_behind_the_end(hear):
    heard = hear("chat", ROLE, said("Hel"), said("lo"), *END)
    assert heard.events == [
        Started("chatcmpl-1", "o3-mini"),
        TextDelta("Hel"),
        TextDelta("lo"),
        KeepAlive(),
        KeepAlive(),
        Finished(
            "stop",
            Usage(input_tokens=3, output_tokens=2, total_tokens=5),
            id="chatcmpl-1",
            model="o3-mini",
            detail="stop",
        ),
    ]


def test_usage_of_null_in_every_earlier_chunk_takes_nothing_away(hear):
    frames = [{**frame, "usage": None} for frame in (ROLE, said("Hello"), STOP)]
    assert hear("chat", *frames, USAGE, "[DONE]").answer.usage.output_tokens == 2
    assert hear("chat", *frames, USAGE, frames[2], "[DONE]").answer.usage.output_tokens == 2
    assert hear("chat", *frames, "[DONE]").answer.usage == Usage()


def test_usage_may_come_with_the_last_chunk_of_text(hear):
    last = {**chunk({"content": "lo"}, "stop"), "usage": COUNTS}
    answer = hear("chat", ROLE, said("Hel"), last, "[DONE]").answer
    assert (answer.text, answer.usage.output_tokens) == ("Hello", 2)


def test_a_stream_without_usage_has_an_unknown_one_and_not_none(hear):
    heard = hear("chat", ROLE, said("Hello"), STOP, "[DONE]")
    assert heard.finished.usage is None
    assert heard.answer.usage == Usage()


FILTERS = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "choices": [],
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
}


@pytest.mark.parametrize(
    "frame",
    [
        FILTERS,
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{}]},
        {"choices": [{"index": 0, "finish_reason": None, "content_filter_results": {}}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {}}]},
        {"choices": [{"delta": {"content": None}}]},
        {"choices": [{"delta": {"content": ""}}]},
        {"choices": [{"delta": {"content": 3}}]},
        {"choices": [{"delta": {"tool_calls": None, "function_call": None, "role": None}}]},
        {"choices": {"0": {}}},
        {"timings": {"predicted_n": 3}},
        {"error": None, "choices": []},
        {},
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_what_says_nothing_is_a_sign_of_life_wherever_it_comes(frame, place, hear):
    frames = [ROLE, said("Hel"), said("lo"), *END]
    heard = hear("chat", *frames[:place], frame, *frames[place:])
    assert heard.answer == hear("chat", *frames).answer
    assert heard.events[place] == KeepAlive()
    assert heard.events.count(KeepAlive()) == 3


def test_any_valid_chunk_can_come_between_others(schema, faults, maker, hear):
    make = maker("chat_chunk").make
    for full in (False, True):
        made = make(schema("chat_chunk"), full=full)
        assert faults("chat_chunk", made) == []
        heard = hear("chat", ROLE, said("Hel"), made, said("lo"), *END)
        assert heard.answer.text == ("Helxlo" if full else "Hello")
        assert heard.answer.finish_reason in ("stop", "refusal")


@pytest.mark.parametrize("extra", [{}, {"error": None}, {"usage": None}, {"obfuscation": "xyz"}])
def test_text_is_text_whatever_else_its_chunk_holds(extra, hear):
    heard = hear("chat", ROLE, {**said("Hel"), **extra}, {**said("lo"), **extra}, *END)
    assert heard.answer.text == "Hello"


def test_a_stream_may_begin_with_text_and_without_a_role(hear):
    heard = hear("chat", said("Hel"), said("lo"), *END)
    assert heard.events[:2] == [Started("chatcmpl-1", "o3-mini"), TextDelta("Hel")]
    assert heard.answer.text == "Hello"


def test_chunks_without_ids_are_an_answer_too(hear):
    frames = [{"choices": frame["choices"]} for frame in (said("Hel"), said("lo"), STOP)]
    heard = hear("chat", *frames, "[DONE]")
    assert (heard.answer.text, heard.answer.id) == ("Hello", "")


def test_one_chunk_may_hold_everything(hear):
    delta = {
        "role": "assistant",
        "reasoning": "Hm.",
        "content": "Hello",
        "tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}],
    }
    answer = hear("chat", {**chunk(delta, "tool_calls"), "usage": COUNTS}, "[DONE]").answer
    assert (answer.text, answer.reasoning_summary) == ("Hello", "Hm.")
    assert answer.tool_calls == (ToolCall("call_1", "f", "{}"),)
    assert (answer.finish_reason, answer.usage.total_tokens) == ("tool_calls", 5)


CALLS = (ToolCall("call_a", "look", '{"a": 1}'), ToolCall("call_b", "hear", '{"b": 2}'))


def test_calls_in_pieces_that_interleave_come_apart_by_their_index(hear):
    answer = hear(
        "chat",
        ROLE,
        call(0, "call_a", "look", ""),
        call(1, "call_b", "hear", '{"b"'),
        call(0, None, None, '{"a"'),
        call(1, None, None, ": 2}"),
        call(0, None, None, ": 1}"),
        chunk({}, "tool_calls"),
        "[DONE]",
    ).answer
    assert answer.tool_calls == CALLS
    assert answer.finish_reason == "tool_calls"


def test_ids_and_names_repeated_in_every_chunk_are_said_once(hear):
    pieces = [call(0, "call_a", "look", text) for text in ('{"a"', ": ", "1}")]
    answer = hear("chat", ROLE, *pieces, chunk({}, "tool_calls"), "[DONE]").answer
    assert answer.tool_calls == CALLS[:1]


def test_calls_whose_pieces_have_no_index_are_taken_by_their_place(hear):
    whole = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in CALLS
    ]
    answer = hear("chat", ROLE, chunk({"tool_calls": whole}, "tool_calls"), "[DONE]").answer
    assert answer.tool_calls == CALLS


@pytest.mark.parametrize("function", [{"name": "look"}, {"name": "look", "arguments": None}])
def test_a_call_without_arguments_has_empty_ones(function, hear):
    piece = chunk({"tool_calls": [{"index": 0, "id": "call_a", "function": function}]})
    answer = hear("chat", ROLE, piece, chunk({}, "tool_calls"), "[DONE]").answer
    assert answer.tool_calls == (ToolCall("call_a", "look", ""),)


def test_a_refusal_in_pieces_is_one(hear):
    pieces = [chunk({"refusal": text}) for text in ("I can", "not.")]
    answer = hear("chat", ROLE, *pieces, *END).answer
    assert (answer.refusal, answer.text, answer.finish_reason) == ("I cannot.", "", "refusal")


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls", "error"])
def test_why_a_stream_ended_is_understood(reason, hear):
    assert (
        hear("chat", ROLE, said("Hel"), chunk({}, reason), "[DONE]").answer.finish_reason == reason
    )


def test_a_filtered_end_without_a_delta_keeps_the_text(hear):
    last = {"choices": [{"finish_reason": "content_filter", "content_filter_results": {}}]}
    answer = hear("chat", ROLE, said("Hel"), last, "[DONE]").answer
    assert (answer.text, answer.finish_reason) == ("Hel", "content_filter")


def test_a_stream_that_said_why_it_ended_needs_no_done(hear):
    heard = hear("chat", ROLE, said("Hello"), STOP, USAGE)
    assert heard.answer == hear("chat", ROLE, said("Hello"), *END).answer
    assert type(heard.events[-1]) is Finished


# What other servers do


def two_calls(*pieces):
    """Frames, each with a piece of a call: id, name, arguments, and its index if it has one."""
    for call_id, name, text, *index in pieces:
        piece = {"id": call_id, "function": {"name": name, "arguments": text}}
        yield chunk({"tool_calls": [piece | ({"index": index[0]} if index else {})]})


@pytest.mark.parametrize(
    "pieces",
    [
        # All at one index.
        [("call_a", "look", '{"a": 1}', 0), ("call_b", "hear", '{"b": 2}', 0)],
        [
            ("call_a", "look", "", 0),
            (None, None, '{"a": 1}', 0),
            ("call_b", "hear", '{"b"', 0),
            (None, None, ": 2}", 0),
        ],
        # No index at all, in pieces that name their call or do not.
        [("call_a", "look", '{"a": 1}'), ("call_b", "hear", '{"b": 2}')],
        [
            ("call_a", "look", '{"a"'),
            ("call_b", "hear", '{"b"'),
            ("call_a", None, ": 1}"),
            ("call_b", None, ": 2}"),
        ],
        [
            ("call_a", "look", '{"a"'),
            (None, None, ": 1}"),
            ("call_b", "hear", '{"b": '),
            (None, "", "2}"),
        ],
        # A new id in each piece.
        [
            ("call_a", "look", "", 0),
            ("call_x", None, '{"a": 1}', 0),
            ("call_b", "hear", "", 1),
            ("call_y", None, '{"b": 2}', 1),
        ],
        # The object itself.
        [("call_a", "look", {"a": 1}, 0), ("call_b", "hear", {"b": 2}, 0)],
    ],
)
def test_two_calls_are_two_however_they_are_numbered(pieces, hear):
    answer = hear("chat", ROLE, *two_calls(*pieces), chunk({}, "tool_calls"), "[DONE]").answer
    assert [(c.id, c.name, json.loads(c.arguments)) for c in answer.tool_calls] == [
        ("call_a", "look", {"a": 1}),
        ("call_b", "hear", {"b": 2}),
    ]


def test_calls_without_ids_are_told_apart_by_their_names(hear):
    pieces = two_calls((None, "look", '{"a": 1}', 0), (None, "hear", '{"b": 2}', 0))
    answer = hear("chat", ROLE, *pieces, chunk({}, "tool_calls"), "[DONE]").answer
    assert [c.name for c in answer.tool_calls] == ["look", "hear"]


def test_calls_of_a_whole_answer_are_taken_by_their_place(fold):
    calls = [
        {"id": "call_a", "index": 0, "function": {"name": "look", "arguments": {"a": 1}}},
        {"id": "call_b", "index": 0, "function": {"name": "hear", "arguments": {}}},
    ]
    choice = {"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}
    answer = fold(decode(json.dumps({"choices": [choice]}).encode()))
    assert answer.tool_calls == (
        ToolCall("call_a", "look", '{"a":1}'),
        ToolCall("call_b", "hear", ""),
    )


PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "two "}]},
    {"type": "thinking", "thinking": "and "},
    {"type": "reasoning", "text": "two"},
    {"type": "text", "text": "fo"},
    "u",
    {"type": "output_text", "text": "r"},
    {"type": "image_url", "image_url": {"url": "https://example.com"}},
    {"type": "reference", "reference_ids": [1]},
    3,
]


def test_content_in_parts_is_text_and_thoughts(hear, fold):
    streamed = hear("chat", ROLE, *[chunk({"content": [part]}) for part in PARTS], *END).answer
    choice = {"message": {"content": PARTS}, "finish_reason": "stop"}
    whole = fold(decode(json.dumps({"choices": [choice]}).encode()))
    for answer in (streamed, whole):
        assert (answer.text, answer.reasoning_summary) == ("four", "two and two")


def test_a_refusal_may_be_a_part(hear):
    piece = chunk({"content": [{"type": "refusal", "refusal": "No."}]})
    assert hear("chat", ROLE, piece, *END).answer.refusal == "No."


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("abort", "error"),
        ("cancelled", "error"),
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("eos", "stop"),
        ("tool_use", "tool_calls"),
    ],
)
def test_why_an_answer_ended_goes_by_other_words(word, reason, hear, fold):
    answer = hear("chat", ROLE, said("Hel"), chunk({}, word), "[DONE]").answer
    assert (answer.text, answer.finish_reason, answer.notes) == ("Hel", reason, ())


def test_a_word_for_the_end_that_nobody_knows_is_said(hear):
    answer = hear("chat", ROLE, said("Hel"), chunk({}, "moon"), "[DONE]").answer
    assert (answer.finish_reason, len(answer.notes)) == ("stop", 1)
    assert "'moon' as its reason for ending" in answer.notes[0]


def test_done_behind_words_is_an_end_that_says_no_reason(hear):
    answer = hear("chat", ROLE, said("Hel"), said("lo"), "[DONE]").answer
    assert (answer.text, answer.finish_reason) == ("Hello", "stop")
    assert answer.notes == ("the provider did not say why the answer ended",)


def whole_message(content, reason=None):
    choice = {"index": 0, "message": {"content": content}, "finish_reason": reason}
    return {"id": "chatcmpl-1", "model": "o3-mini", "choices": [choice]}


def test_messages_in_place_of_deltas_are_read_and_not_beside_them(hear):
    only = hear("chat", whole_message("Hel"), whole_message("lo", "stop"), "[DONE]")
    both = hear("chat", ROLE, said("Hel"), said("lo"), whole_message("Hello", "stop"), "[DONE]")
    late = hear("chat", ROLE, whole_message("Hello", "stop"), "[DONE]")
    assert [heard.answer.text for heard in (only, both, late)] == ["Hello"] * 3


@pytest.mark.parametrize("beside", [{}, {"delta": {"content": "lo"}}, {"delta": {}}])
@pytest.mark.parametrize("behind", [[], ["[DONE]"], END])
def test_an_error_inside_a_choice_is_that_error_behind_its_words(beside, behind, read_into):
    error = {"code": 429, "message": "slow"}
    draft = AnswerBuilder()
    last = {"choices": [{"finish_reason": "error", "error": error} | beside]}
    with pytest.raises(RateLimited, match="slow"):
        read_into(draft, ChatReader(), ROLE, said("Hel"), last, *behind)
    assert draft.text == "Hel" + beside.get("delta", {}).get("content", "")


@pytest.mark.parametrize(
    "frame",
    [
        {"object": "error", "message": "The engine is dead.", "code": 500},
        {"detail": "The engine is dead."},
        {"code": 1234, "msg": "The engine is dead."},
        [{"error": {"message": "The engine is dead.", "status": "INTERNAL"}}],
    ],
)
def test_an_error_of_another_shape_in_a_stream_is_that_error(frame, hear):
    with pytest.raises(ProviderDown, match="engine is dead"):
        hear("chat", ROLE, said("Hel"), frame, "[DONE]")


@pytest.mark.parametrize(
    "frames", [[], [ROLE], [ROLE, said("Hel")], [ROLE, said("Hel"), USAGE], [ROLE, "[DONE]"]]
)
def test_a_stream_that_never_said_why_it_ended_is_broken(frames, hear):
    with pytest.raises(BrokenAnswer, match="without a finish reason"):
        hear("chat", *frames)


@pytest.mark.parametrize(
    "frame",
    [
        {"error": {"code": 429, "message": "slow"}},
        {"error": {"code": "rate_limit_exceeded"}, "choices": []},
        {"type": "error", "code": "rate_limit_exceeded"},
        {**said(""), "error": {"code": 429, "message": "slow"}},
        {**said("x"), "error": {"code": 429, "message": "slow"}},
        {**chunk({"content": ""}, "error"), "error": {"code": 429, "message": "slow"}},
    ],
)
def test_an_error_in_the_stream_is_that_error_in_whatever_shape(frame, hear):
    with pytest.raises(RateLimited):
        hear("chat", ROLE, said("Hel"), frame, *END)


@pytest.mark.parametrize("frame", ["{", "[]", "3", "null", "text", "[DONE", "[done]"])
def test_a_frame_that_is_no_json_object_breaks_the_answer(frame, hear):
    with pytest.raises(BrokenAnswer):
        hear("chat", ROLE, said("Hel"), frame, *END)


def test_any_json_in_any_place_gives_events_or_one_of_our_errors():
    names = "choices delta content tool_calls function index error usage id model finish_reason"

    def value(depth):
        choice = dice.randrange(9 if depth else 6)
        if choice >= 6:
            size = range(dice.randrange(4))
            if choice == 6:
                return [value(depth - 1) for _ in size]
            return {dice.choice(names.split()): value(depth - 1) for _ in size}
        return [None, True, -1, 1.5, "stop", 10**30][choice]

    dice = random.Random(13)
    for _ in range(5000):
        reader = ChatReader()
        frames = [
            {
                "choices": [
                    {"delta": value(3), "message": value(3)} for _ in range(dice.randrange(3))
                ]
            }
            | {name: value(3) for name in names.split() if dice.random() < 0.3}
            for _ in range(3)
        ]
        try:
            events = [event for f in frames for event in reader.read(json.dumps(f).encode())]
            events += [*reader.close(), *decode(frames[0])]
        except RequestFailed:
            continue
        assert all(isinstance(event, tuple | Finished) for event in events)
