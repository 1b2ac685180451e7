"""Budgets on the way of a question: refused before it is sent, held while it is, told after."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from o3magic.errors import BrokenAnswer, InvalidAnswer, OverBudget
from o3magic.simulator import Reply
from tests.sessions import COST_NANO_USD, entries, response, response_stream, session_at

# What a question like `four?` can cost with this limit: its bytes in, all tokens out.
LIMIT = {"max_output_tokens": 1000}
COST_USD = COST_NANO_USD / 1e9


@pytest.fixture
def session(sim):
    with session_at(sim.base_url) as opened:
        yield opened


def answers(sim, count):
    sim.script(*[Reply(body=response_stream("four")) for _ in range(count)])


def held(session, **budgets):
    """What the ledger holds for questions on their way and calls of unknown cost."""
    profile = session.layers.profile({"budget_day": 100, **budgets})
    from o3magic.session.estimate import build_budgets

    return session.keeping.standing(build_budgets(profile), session.id)[0].held_nano_usd


@pytest.mark.parametrize("scope", ["call", "session", "notebook", "day", "month"])
def test_a_question_over_a_budget_is_not_sent(sim, session, scope):
    with pytest.raises(OverBudget) as refused:
        session.ask("four?", **LIMIT, **{f"budget_{scope}": "0.004"})
    assert sim.requests == []
    assert entries(session) == []
    assert "it may cost up to $0.0044" in str(refused.value)
    assert f"budget_{scope}" in refused.value.hint


def test_the_refusal_says_which_limit_would_fit(sim, session):
    with pytest.raises(OverBudget) as refused:
        session.ask("four?", budget_call="0.02")
    assert "--max-output-tokens 4500" in refused.value.hint
    answers(sim, 1)
    assert session.ask("four?", budget_call="0.02", max_output_tokens=4500).text == "four"


def test_money_is_held_while_the_answer_comes_and_given_back_after(sim, session):
    answers(sim, 1)
    seen = []
    for _ in session.stream("four?", **LIMIT, budget_day=1):
        seen.append(held(session))
    assert min(seen) >= 4_400_000
    assert held(session) == 0
    assert entries(session)[0].cost_nano_usd == COST_NANO_USD


def test_repairs_are_held_for_too(sim, session):
    sim.script(Reply(body=response("no")), Reply(body=response("no")))
    with pytest.raises(OverBudget):
        session.ask("four?", schema=int, **LIMIT, budget_call="0.006")
    with pytest.raises(InvalidAnswer):
        session.ask("four?", schema=int, **LIMIT, budget_call="0.012")
    assert held(session) == 0
    assert len(sim.requests) == 2


def test_what_a_broken_answer_may_have_cost_stays_held(sim, session):
    sim.script(Reply(body=response_stream("four"), cut_after_bytes=200))
    with pytest.raises(BrokenAnswer):
        session.ask("four?", **LIMIT, budget_day=1)
    assert 4_400_000 <= held(session) < 4_600_000
    with pytest.raises(OverBudget, match="is left"):
        session.ask("four?", **LIMIT, budget_day="0.008")


def test_a_stopped_iterator_gives_its_hold_back(sim, session):
    answers(sim, 1)
    events = iter(session.stream("four?", **LIMIT, budget_day=1))
    next(events)
    events.close()
    assert 4_400_000 <= held(session) < 4_600_000  # the attempt itself, whose cost nobody knows


def test_a_budget_that_is_nearly_spent_is_told_below_the_answer(sim, session):
    answers(sim, 3)
    first = session.ask("four?", budget_session=1)
    assert first.notes == ()
    told = session.ask("four?", **LIMIT, budget_session="0.0051", budget_warn=0.1)
    [note] = told.notes
    assert note == "budget of this session: $0.000781 of $0.0051 spent"


def test_an_unknown_price_keeps_no_budget(sim, session):
    with pytest.raises(OverBudget, match="not known") as refused:
        session.ask("four?", model="made-up", budget_day=1)
    assert "[models.made-up]" in refused.value.hint
    assert sim.requests == []


def test_the_simulator_needs_no_budget(session):
    assert session.ask("four?", provider="simulator", budget_call=0).source == "simulated"


def test_threads_that_share_a_budget_never_pass_it(sim, tmp_path):
    budget = 20 * COST_USD
    answers(sim, 50)
    together = threading.Barrier(5)

    def ask(_):
        with session_at(sim.base_url, O3MAGIC_LEDGER=str(tmp_path / "ledger.db")) as session:
            together.wait()
            sent = 0
            for _ in range(10):
                try:
                    session.ask("four?", max_output_tokens=100, budget_day=budget)
                    sent += 1
                except OverBudget:
                    pass
            return sent

    with ThreadPoolExecutor(5) as pool:
        sent = sum(pool.map(ask, range(5)))
    assert sent == len(sim.requests)
    # Until less is left than the worst case of one.
    assert 18 <= sent <= 20


def test_an_answer_reaches_its_reader_where_the_ledger_cannot_be_written(sim):
    answers(sim, 2)
    with session_at(sim.base_url, O3MAGIC_LEDGER="/proc/none/ledger.db") as session:
        first, second = session.ask("four?"), session.ask("four?")
        assert first.text == "four"
        [note] = first.notes
        assert "in memory only" in note
        assert second.notes == ()
        assert [row.cost_nano_usd for row in entries(session)] == [COST_NANO_USD] * 2


def test_a_ledger_that_fails_in_the_middle_loses_no_row(sim, tmp_path):
    answers(sim, 1)
    path = tmp_path / "ledger.db"
    with session_at(sim.base_url, O3MAGIC_LEDGER=str(path)) as session:
        events = iter(session.stream("four?"))
        next(events)
        session.ledger.close()
        path.write_bytes(b"no database at all" * 100)
        for each in (path.with_name("ledger.db-wal"), path.with_name("ledger.db-shm")):
            each.unlink(missing_ok=True)
        list(events)
        assert [row.cost_nano_usd for row in entries(session)] == [COST_NANO_USD]
        assert "no SQLite file" in session.keeping.trouble


def test_with_a_budget_a_ledger_that_fails_stops_the_question(sim):
    from o3magic.errors import LedgerUnavailable

    with session_at(sim.base_url, O3MAGIC_LEDGER="/proc/none/ledger.db") as session:
        with pytest.raises(LedgerUnavailable):
            session.ask("four?", budget_day=1)
        assert sim.requests == []
