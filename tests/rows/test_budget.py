"""The budget of a job: shared by all its runs; each row that it rejects says so."""

import random

import pytest

from o3magic.errors import OverBudget
from o3magic.money import usd
from o3magic.rows.store import JobStore
from tests.rows.conftest import texts
from tests.rows.kernels import Kernel
from tests.rows.loopback import COST_NANO_USD

LIMIT = 100
WORST_NANO_USD = 128 * 1100 + LIMIT * 4400


def test_a_job_stops_before_its_budget_and_says_so(mapped, server, store):
    server.begin(latency_s=0.01)
    budget = usd(20 * COST_NANO_USD + WORST_NANO_USD - COST_NANO_USD)
    out = mapped(texts(60), budget=budget, concurrency=8, max_output_tokens=LIMIT)
    answered = out.error.isna().sum()
    assert 18 <= answered <= 21
    assert set(out.error.dropna()) == {"not asked: budget"}
    assert len(out) == 60
    stats = server.stats
    assert sum(stats["answered"].values()) == answered
    assert answered * COST_NANO_USD <= budget * 10**9
    assert store.jobs()[0].spent_nano_usd == answered * COST_NANO_USD
    assert store.jobs()[0].held_nano_usd == 0
    assert "budget" in out.attrs["o3magic"]["said"]


def test_more_budget_goes_on(mapped, server):
    some = usd(5 * WORST_NANO_USD)
    first = mapped(texts(20), budget=some, max_output_tokens=LIMIT)
    assert first.error.notna().any()
    out = mapped(texts(20), budget=1, max_output_tokens=LIMIT)
    assert out.error.isna().all()
    assert set(server.stats["begun"].values()) == {1}


def test_not_one_row_fits(mapped, server):
    with pytest.raises(OverBudget):
        mapped(texts(3), budget="0.0000001", max_output_tokens=LIMIT)
    assert server.stats["requests"] == 0


def test_the_budgets_of_the_session_hold_too(mapped, server, session):
    limit = usd(10 * COST_NANO_USD + WORST_NANO_USD)
    out = mapped(texts(40), budget_session=limit, max_output_tokens=LIMIT, concurrency=4)
    answered = out.error.isna().sum()
    assert 9 <= answered <= 11
    assert "this session" in out.attrs["o3magic"]["said"]
    [total] = session.ledger.totals(by=())
    assert total.live.cost_nano_usd == answered * COST_NANO_USD
    assert session.ledger.standing([], session.id) == []


def test_the_budget_of_one_question_is_one_of_each_row(mapped, server):
    with pytest.raises(OverBudget, match="one question"):
        mapped(texts(3), budget_call=usd(WORST_NANO_USD // 2), max_output_tokens=LIMIT)
    out = mapped(texts(3), budget_call=usd(WORST_NANO_USD * 2), max_output_tokens=LIMIT)
    assert out.error.isna().all()


def test_a_budget_just_enough_where_many_are_refused(mapped, server, store):
    # Refused ones wait for their turn beside those that wait for money, and block none of them.
    server.begin(latency_s=0.01, most_at_once=4)
    budget = usd(60 * COST_NANO_USD + WORST_NANO_USD)
    out = mapped(texts(60), budget=budget, concurrency=16, max_output_tokens=LIMIT)
    assert out.error.isna().all()
    assert server.stats["limited"] > 0
    assert set(server.stats["answered"].values()) == {1}
    job = store.jobs()[0]
    assert (job.spent_nano_usd, job.held_nano_usd) == (60 * COST_NANO_USD, 0)


def test_a_row_that_is_refused_again_and_again_holds_the_money_of_one_call(mapped, server):
    server.begin(limited=0.5)
    out = mapped(texts(1), budget=usd(WORST_NANO_USD), concurrency=1, max_output_tokens=LIMIT)
    assert out.error.isna().all()
    server.begin(limit_every=2)
    budget = usd(19 * COST_NANO_USD + WORST_NANO_USD)
    out = mapped(texts(20), "{{ a }}!", budget=budget, concurrency=2, max_output_tokens=LIMIT)
    assert out.error.isna().all()


def test_a_row_whose_call_was_lost_and_that_no_budget_allows_again(mapped, server, store):
    server.begin(dropped=1.0)
    budget = usd(WORST_NANO_USD + COST_NANO_USD)
    out = mapped(texts(1), budget=budget, max_output_tokens=LIMIT)
    assert list(out.error) == ["not asked again: budget"]
    assert "stopped by a budget" in out.attrs["o3magic"]["said"]
    job = store.jobs()[0]
    assert (job.state, job.spent_nano_usd) == ("stopped", 0)
    assert 0 < job.held_nano_usd <= WORST_NANO_USD  # what it may have cost
    server.begin()
    out = mapped(texts(1), budget=1, max_output_tokens=LIMIT)
    assert out.error.isna().all()
    assert store.jobs()[0].state == "done"


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_budget_and_the_server_a_job_ends_and_never_overspends(
    mapped, server, store, session, seed
):
    chance, rows = random.Random(seed), 40
    ways = {name: chance.choice([0, 0.1]) for name in ("limited", "broken", "dropped", "cut")}
    server.begin(latency_s=0.005, most_at_once=chance.choice([0, 1, 4]), seed=seed, **ways)
    enough = chance.choice([rows // 2, rows]) * COST_NANO_USD
    budget = enough + chance.choice([1, 4, 16]) * WORST_NANO_USD
    of_session = budget + chance.choice([-1, 1]) * 10**6
    limits = {"budget": usd(budget), "budget_session": usd(of_session)}
    width = chance.choice([1, 8, 32])
    out = mapped(texts(rows), concurrency=width, max_output_tokens=LIMIT, **limits)
    job, [total] = store.jobs()[0], session.ledger.totals(by=())
    answered_nano_usd = len(server.stats["sent"]) * COST_NANO_USD
    assert job.spent_nano_usd == total.live.cost_nano_usd == answered_nano_usd
    assert job.spent_nano_usd + job.held_nano_usd <= budget
    assert total.live.cost_nano_usd + total.live.held_nano_usd <= of_session
    assert (job.done_rows, job.claimed_rows) == (out.error.isna().sum(), 0)
    assert not out.error.dropna().str.contains("kernel").any()


def test_two_kernels_share_one_budget(server, tmp_path):
    server.begin(latency_s=0.02)
    budget = float(usd(40 * COST_NANO_USD))
    said = {"wish": {"concurrency": 4, "budget": budget}, "options": {"max_output_tokens": LIMIT}}
    kernels = [Kernel(server, tmp_path, 200, **said), Kernel(server, tmp_path, 200, **said, back=1)]
    for each in kernels:
        each.result()
    stats, job = server.stats, JobStore(tmp_path / "jobs.sqlite3").jobs()[0]
    answered = sum(stats["answered"].values())
    assert 35 <= answered <= 40
    assert set(stats["begun"].values()) == {1}
    assert job.spent_nano_usd == answered * COST_NANO_USD <= 40 * COST_NANO_USD
