"""When it is asked again: the policy without clock or network, then over real sockets."""

import os
import signal
import socket
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from o3magic import errors
from o3magic.client.retry import (
    LONGEST_WAIT_S,
    RetryPolicy,
    is_retryable,
    parse_retry_after_s,
    parse_should_retry,
)
from o3magic.errors import BrokenAnswer, NoConnection, ProviderDown, RateLimited
from o3magic.events import Retrying
from o3magic.simulator import Reply
from tests.sessions import COST_NANO_USD, entries, response, response_stream, session_at

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
AT_ONCE = {"retry-after-ms": "1"}


def failed(kind=RateLimited, *, after_s=None, retry=None, status=None):
    error = kind("No.", status=status)
    error.retry_after_s, error.should_retry = after_s, retry
    return error


def waits(policy, *outcomes, jitter=0.0):
    """The seconds the policy waits after each of these errors; shorter where it ends."""
    policy = policy.waits(lambda: jitter)
    said = [next(policy)]
    for outcome in outcomes:
        try:
            said.append(policy.send(outcome))
        except StopIteration:
            break
    return said[1:]


# The policy


def test_waits_double_up_to_the_longest_one():
    assert waits(RetryPolicy(7), *[failed()] * 7) == [0.5, 1, 2, 4, 8, 8, 8]


def test_it_ends_after_as_many_retries_as_were_allowed():
    assert waits(RetryPolicy(2), *[failed()] * 5) == [0.5, 1]
    assert waits(RetryPolicy(0), failed()) == []


def test_jitter_shortens_a_wait_by_a_quarter_at_most():
    for jitter in (0.0, 0.3, 0.999):
        (wait_s,) = waits(RetryPolicy(1), failed(), jitter=jitter)
        assert wait_s == 0.5 * (1 - jitter / 4)
        assert 0.375 <= wait_s <= 0.5
    for _ in range(100):
        policy = RetryPolicy(1).waits()
        next(policy)
        assert 0.375 <= policy.send(failed()) <= 0.5


@pytest.mark.parametrize("wait_s", [0.001, 3.5, LONGEST_WAIT_S])
def test_the_provider_s_own_wait_is_kept_to_the_letter(wait_s):
    assert waits(RetryPolicy(1), failed(after_s=wait_s), jitter=1.0) == [wait_s]


def test_a_wait_of_nothing_is_a_backoff_all_the_same():
    errors = [failed(after_s=0.0)] * 3
    assert waits(RetryPolicy(3), *errors, jitter=0.0) == [0.5, 1.0, 2.0]


def test_a_wait_over_two_minutes_is_given_up_and_said():
    error = failed(after_s=121.4)
    assert waits(RetryPolicy(5), error) == []
    assert "121 s" in error.hint
    assert "run the cell again" in error.hint


@pytest.mark.parametrize(
    "kind", [errors.QuotaExhausted, errors.TooLarge, errors.WrongKey, errors.RequestRefused]
)
def test_what_cannot_succeed_is_not_tried_again(kind):
    assert waits(RetryPolicy(5), failed(kind, status=429)) == []


@pytest.mark.parametrize("kind", [RateLimited, ProviderDown, NoConnection])
def test_what_may_succeed_is_tried_again(kind):
    assert is_retryable(failed(kind))


def test_a_broken_answer_is_not_tried_again():
    assert not is_retryable(failed(BrokenAnswer))


def test_the_provider_s_word_comes_before_ours():
    assert waits(RetryPolicy(1), failed(ProviderDown, retry=False)) == []
    assert waits(RetryPolicy(1), failed(errors.RequestRefused, retry=True)) == [0.5]
    assert [
        parse_should_retry({"x-should-retry": said}) for said in ("true", "False", "perhaps")
    ] == [*(True, False, None)]
    assert parse_should_retry({}) is None


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500.5", "retry-after": "7"}, 1.5005),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": format_datetime(NOW.replace(second=42), usegmt=True)}, 42),
        ({"retry-after": "Fri, 20 Nov 2026 12:01:00 -0000"}, 60),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "6m0s"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Fri, 99 Nov 2026 12:00:00 GMT"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_a_wait_is_read_in_every_form_it_comes_in(headers, wait_s):
    found = parse_retry_after_s(headers, NOW)
    assert found == pytest.approx(wait_s) if wait_s is not None else found is None


# Over real sockets


@pytest.fixture
def session(sim):
    with session_at(sim.base_url) as made:
        yield made


def test_a_full_house_is_asked_again_and_each_attempt_is_in_the_books(sim, session):
    sim.script(Reply(status=429, headers=AT_ONCE), Reply(status=429, headers=AT_ONCE))
    sim.script(Reply(body=response()))
    answer = session.ask("four?")
    assert answer.text == "four"
    rows = [(row.kind, row.status, row.error, row.cost_nano_usd) for row in entries(session)]
    limited = ("error", "RateLimited", 0)
    assert rows == [("ask", *limited), ("retry", *limited), ("retry", "ok", "", COST_NANO_USD)]
    assert answer.cost_usd is not None
    assert len({received.raw for received in sim.requests}) == 1
    assert answer.first_token_s > 0


def test_a_broken_server_may_have_billed_and_that_is_said(sim, session):
    sim.script(Reply(status=500, headers=AT_ONCE), Reply(body=response()))
    answer = session.ask("four?")
    assert answer.cost_usd is None
    assert "may have been billed" in answer.notes[-1]
    assert [row.cost_nano_usd for row in entries(session)] == [None, COST_NANO_USD]


def test_why_and_how_long_is_said_while_it_waits(sim, session):
    error = {"message": "Slow down."}
    sim.script(Reply(status=429, error=error, headers={"retry-after": "0.02"}))
    (event,) = [e for e in session.stream("four?") if isinstance(e, Retrying)]
    assert event == Retrying("Slow down (HTTP 429)", 0.02)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_a_status_that_may_pass_is_asked_again(sim, session, status):
    sim.script(Reply(status=status, body={}, headers=AT_ONCE), Reply(body=response()))
    assert session.ask("four?").text == "four"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_status_that_stays_is_not_asked_again(sim, session, status):
    sim.script(Reply(status=status, body={}))
    with pytest.raises(errors.RequestFailed):
        session.ask("four?", retries=5, api="responses")
    assert len(sim.requests) == 1


def test_the_provider_may_forbid_and_demand_another_attempt(sim, session):
    sim.script(Reply(status=503, headers={"x-should-retry": "false"}))
    with pytest.raises(ProviderDown):
        session.ask("four?")
    demanded = Reply(status=400, body={}, headers=AT_ONCE | {"x-should-retry": "true"})
    sim.script(demanded, Reply(body=response()))
    assert session.ask("four?").text == "four"
    assert len(sim.requests) == 3


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("insufficient_quota", "No credit.", errors.QuotaExhausted),
        ("credit_balance_exhausted", "No credit.", errors.QuotaExhausted),
        ("rate_limit_exceeded", "Request too large for o3-mini.", errors.TooLarge),
    ],
)
def test_a_hopeless_429_ends_at_once(sim, session, code, message, kind):
    sim.script(Reply(status=429, error={"code": code, "message": message}, headers=AT_ONCE))
    with pytest.raises(kind):
        session.ask("four?", retries=5)
    assert len(sim.requests) == 1
    assert [row.cost_nano_usd for row in entries(session)] == [0]


def test_a_provider_that_wants_to_be_left_alone_for_long_is(sim, session):
    sim.script(Reply(status=429, headers={"retry-after": "3600"}))
    began = time.monotonic()
    with pytest.raises(RateLimited) as caught:
        session.ask("four?", retries=5)
    assert time.monotonic() - began < 5
    assert "3,600 s" in caught.value.hint


@pytest.mark.parametrize("body", [response_stream("one", "two"), b": ping\n\n"])
def test_nothing_is_sent_again_once_an_answer_broke_off(sim, session, body):
    sim.script(Reply(body=body, cut_after_bytes=220))
    with pytest.raises(BrokenAnswer):
        session.ask("four?", retries=5)
    assert len(sim.requests) == 1


def test_an_error_in_the_stream_is_asked_again_only_before_the_first_word(sim, session):
    error = {"code": "server_error", "message": "Down."}
    sim.script(Reply(text="one two", error=error, error_after=1), Reply(body=response()))
    assert session.ask("four?").text == "four"
    sim.script(Reply(text="one two three", error=error, error_after=8))
    with pytest.raises(ProviderDown) as caught:
        session.ask("four?")
    assert caught.value.answer.text
    assert len(sim.requests) == 3


def test_a_line_that_breaks_before_the_answer_is_asked_again_and_may_cost(sim, session):
    sim.script(Reply(hang_up=True), Reply(body=response()))
    answer = session.ask("four?")
    assert (answer.text, answer.cost_usd) == ("four", None)
    assert [row.error for row in entries(session)] == ["NoConnection", ""]


def test_nobody_there_is_asked_again_and_given_up_for_nothing():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with session_at(f"http://127.0.0.1:{port}/v1") as session:
        with pytest.raises(NoConnection, match="cannot be reached") as caught:
            session.ask("four?", retries=1)
        assert [row.cost_nano_usd for row in entries(session)] == [0, 0]
        assert caught.value.answer.cost_usd == 0


def test_an_interrupt_while_it_waits_is_taken_at_once_and_the_books_are_right(sim, session):
    sim.script(Reply(status=429, headers={"retry-after": "100"}))
    asking = session.begin(session.plan("four?", session.layers.profile()))
    events = iter(asking)
    while not isinstance(next(events), Retrying):
        pass
    began = time.monotonic()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(events)
    assert time.monotonic() - began < 10
    timer.join()
    assert [(row.status, row.cost_nano_usd) for row in entries(session)] == [("error", 0)]
    assert asking.answer.finish_reason == "error"
    assert len(sim.requests) == 1


def test_a_stream_closed_while_it_would_wait_is_not_asked_again(sim, session):
    sim.script(Reply(status=429, headers={"retry-after": "100"}))
    stream = session.stream("four?")
    while not isinstance(next(stream), Retrying):
        pass
    stream.close()
    assert [row.status for row in entries(session)] == ["error"]
    assert len(sim.requests) == 1


def test_the_waits_are_those_that_were_announced(sim, session):
    slept = []
    sim.script(*[Reply(status=503)] * 2, Reply(body=response()))
    planned = session.plan("four?", session.layers.profile())
    asking = session.begin(planned, sleep=slept.append)
    announced = [event.wait_s for event in asking if isinstance(event, Retrying)]
    assert slept == announced
    assert 0.375 <= slept[0] <= 0.5
    assert 0.75 <= slept[1] <= 1.0
