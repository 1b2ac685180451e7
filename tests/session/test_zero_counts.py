"""Servers that count no tokens: what they say is unknown, never $0."""

import pytest

from o3magic.answer_builder import AnswerBuilder
from o3magic.events import Finished, RefusalDelta, TextDelta, ToolCallDelta, Usage
from o3magic.simulator import Reply
from tests.sessions import COST_NANO_USD, COUNTS, USAGE, chat_stream, entries, response

NOTHING = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def chat_counts(into, out):
    return {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}


@pytest.mark.parametrize(
    ("api", "body", "known", "note"),
    [
        ("chat", chat_stream("four", usage=chat_counts(0, 0)), (None, None), "input tokens and 0"),
        ("chat", chat_stream("four", usage=chat_counts(7, 0)), (7, None), "0 output tokens"),
        ("chat", chat_stream("four", usage=chat_counts(0, 87)), (None, 87), "0 input tokens"),
        ("responses", response(usage=NOTHING), (None, None), "0 input tokens and 0 output"),
        ("responses", response(usage=USAGE | {"input_tokens": 0}), (None, 87), "0 input tokens"),
        ("responses", response(usage=USAGE | {"output_tokens": 0}), (7, None), "0 output tokens"),
    ],
)
def test_zeros_that_cannot_be_are_unknown(sim, session, api, body, known, note):
    sim.script(Reply(body=body))
    answer = session.ask("four?", api=api)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == known
    assert answer.usage.total_tokens is None
    assert answer.cost_usd is None
    assert note in answer.notes[0]
    [row] = entries(session)
    assert (row.input_tokens, row.output_tokens, row.cost_nano_usd) == (*known, None)


def test_a_budget_takes_them_for_the_worst_case(sim, session):
    sim.script(Reply(body=response(usage=NOTHING)))
    session.ask("four?", max_output_tokens=1000, budget_day=1)
    [stands] = session.standing(session.layers.profile({"budget_day": 1}))
    assert stands.held_nano_usd >= 4_400_000


def test_an_answer_of_no_words_may_have_no_tokens(sim, session):
    filtered = response("", usage=USAGE | {"output_tokens": 0, "total_tokens": 7})
    filtered |= {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    sim.script(Reply(body=filtered))
    answer = session.ask("four?")
    assert (answer.usage.output_tokens, answer.finish_reason) == (0, "content_filter")
    assert answer.cost_usd is not None


@pytest.mark.parametrize(
    "said", [TextDelta("four"), RefusalDelta("No."), ToolCallDelta(0, "call_1", "look", "{}")]
)
def test_words_of_every_kind_have_tokens(said):
    draft = AnswerBuilder()
    draft.add(said)
    draft.add(Finished("stop", Usage(7, 0, 0, 0, None, 7)))
    draft.doubt_zeros()
    assert draft.finished.usage == Usage(7, 0, None, None, None, None)


def test_what_was_counted_stays(sim, session):
    sim.script(Reply(body=chat_stream("four", usage=COUNTS)))
    answer = session.ask("four?", api="chat")
    assert (answer.usage.output_tokens, answer.notes) == (87, ())
    assert entries(session)[0].cost_nano_usd == COST_NANO_USD
