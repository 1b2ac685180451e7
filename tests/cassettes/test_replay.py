"""A take as events: they fold into what was recorded, at every speed."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3magic.answer_builder import AnswerBuilder
from o3magic.cassettes import replay
from o3magic.cassettes.entry import Recording
from o3magic.events import Accepted, Finished, TextDelta, Usage
from o3magic.messages import ToolCall
from tests.cassettes.conftest import question, take

SPEEDS = [0, 0.5, 1, 20]
TEXTS = st.text(max_size=80)
CALLS = st.builds(ToolCall, st.text(max_size=8), st.text(max_size=8), st.text(max_size=30))
USAGES = st.none() | st.builds(Usage, *[st.none() | st.integers(0, 10**6)] * 6)
REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "refusal"])


def folded(events):
    draft = AnswerBuilder()
    for event in events:
        draft.add(event)
    return draft


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, TEXTS, st.lists(CALLS, max_size=3), USAGES, REASONS, st.sampled_from(SPEEDS))
def test_an_answer_is_recorded_and_replayed_as_it_was(
    text, thoughts, refusal, calls, usage, reason, speed
):
    finished = Finished(reason, usage, "resp_1", "o3-mini-2025-01-31", "flex", "why", ("odd",))
    draft = AnswerBuilder()
    for event in replay.replay_events(
        Recording(
            "k", text=text, reasoning_summary=thoughts, refusal=refusal, tool_calls=tuple(calls)
        ),
        speed=0,
    ):
        draft.add(event)
    draft.add(finished)
    answer = draft.answer()
    assert (answer.text, answer.refusal, answer.tool_calls) == (text, refusal, tuple(calls))
    one = Recording.of(question(), 1, answer, finished)
    again = folded(
        replay.replay_events(Recording.from_json(one.to_json()), speed=speed, sleep=lambda _: None)
    )
    assert again.answer() == answer
    assert again.finished == finished


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_replay_never_takes_longer_than_three_seconds(speed):
    slept = []
    long = replace(take(text="rain " * 50_000), total_ms=600_000)
    count = sum(1 for _ in replay.replay_events(long, speed=speed, sleep=slept.append))
    assert sum(slept) <= 3.0001
    assert count < 200
    assert bool(slept) is bool(speed)


def test_a_quick_answer_is_not_replayed_slower_than_it_came():
    slept = []
    quick = replace(take(text="rain " * 100), total_ms=500)
    assert len([*replay.replay_events(quick, sleep=slept.append)]) == 103
    assert sum(slept) == pytest.approx(0.5)


def test_without_a_pace_the_text_comes_in_a_few_pieces():
    events = [*replay.replay_events(take(text="a" * 100_000), speed=0, sleep=pytest.fail)]
    assert sum(isinstance(event, TextDelta) for event in events) == 4


def test_recorded_pieces_come_as_they_came():
    one = replace(take(text="It rains."), pieces=(2, 1, 6))
    said = [
        e.text for e in replay.replay_events(one, sleep=lambda _: None) if isinstance(e, TextDelta)
    ]
    assert said == ["It", " ", "rains."]


def test_pieces_that_do_not_fit_an_edited_text_are_not_used():
    one = replace(take(text="It rains again."), pieces=(2, 1, 6))
    assert folded(replay.replay_events(one, sleep=lambda _: None)).text == "It rains again."


def test_json_without_blanks_is_cut_too():
    text = '{"rain":"' + "x" * 200 + '"}'
    said = [*replay.split_text(text, 1)]
    assert "".join(said) == text
    assert max(map(len, said)) <= 24


def test_what_the_simulator_said_says_so_again():
    first = next(replay.replay_events(replace(take(), source="simulated")))
    assert first == Accepted("", True)
    assert next(replay.replay_events(take())) == Accepted("", False)


def test_who_sleeps_may_stop_it():
    class StoppedError(Exception):
        pass

    def sleep(_):
        raise StoppedError

    events = replay.replay_events(take(), sleep=sleep)
    with pytest.raises(StoppedError):
        list(events)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=300), st.lists(st.integers(1, 9), max_size=20))
def test_any_text_in_words_is_the_text(text, cuts):
    ends = [end for end in accumulate(cuts) if end < len(text)]
    pieces = [two - one for one, two in pairwise([0, *ends, len(text)])] if text else []
    for speed in SPEEDS:
        assert "".join(replay.split_text(text, speed, pieces)) == text
