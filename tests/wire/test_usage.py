"""Token counts: read as they are, and said to be odd where they cannot be right."""

import json

import pytest

from o3magic.events import Usage
from o3magic.wire import chat, responses
from o3magic.wire.usage import find_usage_problems, parse_usage


def test_counts_go_by_other_names_in_each_api():
    details = {"cached_tokens": 2, "cache_write_tokens": 1}
    assert parse_usage(
        {
            "input_tokens": 9,
            "input_tokens_details": details,
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 4},
            "total_tokens": 14,
        },
        "responses",
    ) == parse_usage(
        {
            "prompt_tokens": 9,
            "prompt_tokens_details": details,
            "completion_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": 4},
            "total_tokens": 14,
        },
        "chat",
    )


def test_what_was_not_said_is_unknown_and_not_zero():
    assert parse_usage({"prompt_tokens": 9}, "chat") == Usage(input_tokens=9)
    counts = {"prompt_tokens": 9, "prompt_tokens_details": None, "completion_tokens": 0}
    assert parse_usage(counts, "chat") == Usage(input_tokens=9, output_tokens=0)


@pytest.mark.parametrize("counts", [None, {}, [], "9", 9, {"prompt": 9}, {"input_tokens": 9}])
def test_where_nothing_was_counted_there_is_no_usage(counts):
    assert parse_usage(counts, "chat") is None


@pytest.mark.parametrize("count", [-1, 1.5, "9", True, None, [9], {"n": 9}, float("nan")])
def test_a_count_that_is_no_whole_number_is_unknown(count):
    counts = {"prompt_tokens": count, "completion_tokens": 5, "completion_tokens_details": count}
    assert parse_usage(counts, "chat") == Usage(output_tokens=5)


def test_recorded_usage_is_not_odd(recorded, hear, fold):
    answers = [
        fold(chat.decode(recorded("o3mini_chat.json"))),
        fold(responses.decode(recorded("o3mini_responses.json"))),
        hear("responses", recorded("o3mini_responses_stream.sse")).answer,
        hear("responses", recorded("responses_function_call_stream.sse")).answer,
        hear("chat", recorded("chat_stream_moderation.sse")).answer,
    ]
    for answer in answers:
        visible = len(answer.text.encode()) + sum(
            len(call.name + call.arguments) for call in answer.tool_calls
        )
        assert answer.usage.output_tokens
        assert find_usage_problems(answer.usage, visible, None) == (), answer


def test_a_gateway_s_odd_usage_is_said_to_be_odd(recorded, fold):
    short = fold(chat.decode(recorded("launch_aimlapi_chat.json")))
    (said,) = find_usage_problems(short.usage, len(short.text.encode()), None)
    assert said.startswith("odd usage from the provider: ")
    assert "output tokens besides reasoning" in said
    limited = fold(responses.decode(json.dumps(recorded("launch_aimlapi_responses.json")).encode()))
    said = find_usage_problems(limited.usage, len(limited.text.encode()), 512)
    assert any("2,520 output tokens are over the limit of 512" in each for each in said)


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        (Usage(output_tokens=5, reasoning_tokens=6), "6 reasoning tokens are more than the 5"),
        (Usage(output_tokens=100, reasoning_tokens=0), "100 output tokens besides reasoning"),
        (
            Usage(output_tokens=101, reasoning_tokens=101),
            "101 output tokens are over the limit of 100",
        ),
        (Usage(input_tokens=5, cached_tokens=6), "6 cached tokens are more than the 5"),
        (
            Usage(input_tokens=5, output_tokens=1, total_tokens=7),
            "the total of 7 is not input plus output",
        ),
    ],
)
def test_what_cannot_be_right_is_said_in_one_sentence_each(usage, words):
    (said,) = find_usage_problems(usage, 10, 100)
    assert words in said


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(input_tokens=5, cached_tokens=5, output_tokens=100, reasoning_tokens=100),
        Usage(output_tokens=74, reasoning_tokens=0),
        Usage(reasoning_tokens=10**9),
        Usage(input_tokens=5, output_tokens=1, total_tokens=6),
        Usage(input_tokens=5, total_tokens=99),
    ],
)
def test_what_may_be_right_is_not_odd(usage):
    assert find_usage_problems(usage, 10, 100) == ()
