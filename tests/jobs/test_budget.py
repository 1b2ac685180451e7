"""A budget of a job holds, whoever shares it, and what it did not allow is said row by row."""

import pytest

from o3magic.errors import OverBudget
from o3magic.jobs.store import JobStore
from o3magic.money import usd
from tests.jobs.conftest import texts
from tests.jobs.kernels import Kernel
from tests.jobs.loopback import COST_NANO_USD

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
