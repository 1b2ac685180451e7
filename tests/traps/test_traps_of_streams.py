"""The traps of a home-made client, 1 to 10: what streams do. Each over a real socket."""

import json

import pytest

from o3magic import errors
from o3magic.errors import BrokenAnswer
from o3magic.events import KeepAlive
from o3magic.simulator import Reply
from tests.sessions import (
    COST_NANO_USD,
    COUNTS,
    chat_stream,
    chunk,
    entries,
    frames,
    response,
    response_stream,
)

DELTA = {"type": "response.output_text.delta", "delta": "four"}
END = {"type": "response.completed", "response": response()}
BOTH = pytest.mark.parametrize("api", ["responses", "chat"])


@BOTH
@pytest.mark.parametrize("piece_bytes", [1, 7, None])
def test_trap_01_a_line_ends_at_no_other_character_than_cr_and_lf(say, api, piece_bytes):
    text = "one\u2028two\u2029three\x85four\x0bfive ☃ \U0001f98a"
    assert say(Reply(text=text, piece_bytes=piece_bytes), api).text == text


@BOTH
@pytest.mark.parametrize("clean", [True, False])
def test_trap_02_a_stream_that_just_stops_is_no_success(say, session, api, clean):
    body = (response_stream if api == "responses" else chat_stream)(*["one two three "] * 50)
    with pytest.raises(BrokenAnswer, match="broke off") as caught:
        say(Reply(body=body, cut_after_bytes=3000, clean=clean), api)
    assert caught.value.answer.text.startswith("one two three one two")
    assert caught.value.answer.cost_usd is None
    assert [(row.status, row.error) for row in entries(session)] == [("error", "BrokenAnswer")]


@pytest.mark.parametrize("done", [[], ["[DONE]"]])
@pytest.mark.parametrize("named", [True, False])
def test_trap_03_the_type_in_the_data_decides_and_no_done_is_needed(say, done, named):
    said = b"".join(
        (f"event: {each['type']}\n".encode() if named else b"") + frames(each)
        for each in (DELTA, END)
    )
    assert say(Reply(body=said + frames(*done))).text == "four"


def test_trap_03_what_stands_in_the_event_line_does_not_count(say):
    body = b"event: response.completed\n" + frames(DELTA) + b"event: error\n" + frames(END)
    assert say(Reply(body=body)).text == "four"


@pytest.mark.parametrize("flat", [True, False])
def test_trap_04_an_error_in_a_stream_is_flat_or_nested(say, flat):
    error = {"code": "rate_limit_exceeded", "message": "Slow down."}
    with pytest.raises(errors.RateLimited, match="Slow down") as caught:
        say(Reply(text="one two", error=error, error_after=6, flat=flat))
    assert caught.value.answer.finish_reason == "error"


def test_trap_04_a_rate_limit_in_a_200_with_headers_of_its_own_is_one(say, sim, session):
    error = {"type": "tokens", "code": "rate_limit_exceeded", "message": "Limit 30000.", "param": 0}
    error["headers"] = {"x-ratelimit-reset-tokens": "50.529s"}
    limited = Reply(body=frames({"type": "error", "error": error, "sequence_number": 2}))
    with pytest.raises(errors.RateLimited):
        say(limited)
    sim.script(limited)
    assert "SIMULATED" in session.ask("four?", retries=1).text  # nothing had come yet


def test_trap_05_events_nobody_knows_are_passed_over(say):
    unknown = [
        {"type": "keepalive", "sequence_number": 3},
        {"type": "response.compaction.compacting"},
        {"type": "response.from_the_future", "delta": "no", "response": {"output": 3}},
        {"type": "response.in_progress"},
        {},
    ]
    assert say(Reply(body=frames(*unknown, DELTA, *unknown, END))).text == "four"
    assert say(Reply(body=frames(*unknown[:3]) + chat_stream("four")), "chat").text == "four"


@pytest.mark.parametrize("ping", [": OPENROUTER PROCESSING", ":", ": ping"])
def test_trap_06_comments_are_signs_of_life_and_keep_the_line_open(sim, session, ping):
    pings = f"{ping.ljust(298)}\n\n".encode() * 12
    sim.script(Reply(body=pings + response_stream("four"), piece_bytes=300, pause_s=0.05))
    # Twelve pings take 0.6 s in all, each of them a twelfth of that.
    events = list(session.stream("four?", first_token_timeout_s=0.4, chunk_timeout_s=0.4))
    assert KeepAlive() in events
    assert "".join(e.text for e in events if type(e).__name__ == "TextDelta") == "four"


def test_trap_07_a_document_instead_of_the_stream_is_read_as_what_it_is(say):
    assert say(Reply(body=response())).text == "four"
    refused = {"error": {"message": "No credit.", "code": "insufficient_quota"}}
    for status in (200, 400, 429):
        with pytest.raises(errors.QuotaExhausted, match="No credit"):
            say(Reply(status=status, body=refused))
    with pytest.raises(BrokenAnswer, match="web page"):
        say(Reply(body="<html>nginx</html>", content_type="text/html"))


@BOTH
def test_trap_07_an_error_without_the_right_type_is_not_an_empty_answer(say, api):
    body = json.dumps({"error": {"message": "Too many.", "code": 429}})
    with pytest.raises(errors.RequestFailed):
        say(Reply(body=body), api)  # said to be an event stream


def test_trap_08_a_chunk_without_choices_is_no_reason_to_stumble(say):
    filtered = {"id": "", "model": "", "created": 0, "choices": []}
    filtered["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": {}}]
    timings = {"choices": [], "timings": {"predicted_n": 3}}
    stream = frames(filtered, {"choices": None}, {}) + chat_stream("four", done=False)
    answer = say(Reply(body=stream + frames(timings, "[DONE]")), "chat")
    assert (answer.text, answer.usage.output_tokens, answer.id) == ("four", 87, "chatcmpl-1")


def test_trap_09_a_choice_may_come_without_delta_or_message(say):
    note = chunk() | {"choices": [{"index": 0, "content_filter_offsets": {"start_offset": 1}}]}
    end = chunk(finish="content_filter")
    answer = say(Reply(body=frames(chunk({"content": "fo"}), note, end, "[DONE]")), "chat")
    assert (answer.text, answer.finish_reason) == ("fo", "content_filter")
    whole = {"id": "c", "choices": [{"index": 0, "finish_reason": "content_filter"}]}
    answer = say(Reply(body=whole), "chat")
    assert (answer.text, answer.finish_reason) == ("", "content_filter")


def test_trap_10_a_cost_without_its_usage_is_unknown_and_not_zero(say, session):
    silent = say(Reply(body=chat_stream("four", usage=None)), "chat")
    assert (silent.cost_usd, silent.usage.output_tokens) == (None, None)
    assert entries(session)[-1].cost_nano_usd is None
    # The usage is null in every chunk but the last one.
    early = frames(*(chunk({"content": word}, usage=None) for word in "abc"))
    counted = say(Reply(body=early + chat_stream("d", usage=COUNTS)), "chat")
    assert counted.text == "abcd"
    assert entries(session)[-1].cost_nano_usd == COST_NANO_USD
    with pytest.raises(BrokenAnswer) as caught:
        say(Reply(body=chat_stream("four", usage=COUNTS), cut_after_bytes=150), "chat")
    assert caught.value.answer.cost_usd is None
