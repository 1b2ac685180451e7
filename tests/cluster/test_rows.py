"""Rows that are here, asked by the workers of a cluster: as without one, and when a worker dies."""

import json
import subprocess
import sys
import threading
from contextlib import closing
from decimal import Decimal

import pytest
from pydantic import BaseModel

from o3magic.errors import (
    Interrupted,
    LedgerUnavailable,
    NoConnection,
    OverBudget,
    RateLimited,
    WrongKey,
)
from o3magic.money import usd
from o3magic.rows.map_job import map_rows
from o3magic.rows.store import JobStore
from tests.cluster.conftest import kill_a_worker, killed_if, wait_for
from tests.rows.conftest import texts
from tests.rows.kernels import HOUSE
from tests.rows.loopback import COST_NANO_USD
from tests.sessions import session_at

LIMIT = 100
WORST_NANO_USD = 128 * 1100 + LIMIT * 4400


class Label(BaseModel):
    label: str
    score: int


def test_one_of_two_workers_is_killed_and_every_row_is_answered_once(caller, client, server):
    server.begin(latency_s=0.1)
    rows, width = 300, 16

    def kill():
        wait_for(lambda: sum(server.stats["answered"].values()) >= 100)
        kill_a_worker(client)

    killer = threading.Thread(target=kill)
    killer.start()
    out = caller.map(texts(rows), schema=Label, concurrency=width)
    killer.join()
    assert list(out.label) == [f"row {n}" for n in range(rows)]
    assert out.error.isna().all()
    stats, job, live = server.stats, caller.job, caller.live
    # Paid once: what the server answered is in the books, or was on its way when a worker died.
    assert len(stats["begun"]) == rows
    begun = sum(stats["begun"].values())
    assert rows <= begun <= rows + job.lost_calls
    assert 0 < job.lost_calls <= width
    assert (job.done_rows, job.claimed_rows, job.failed_rows) == (rows, 0, 0)
    assert live.cost_nano_usd == job.spent_nano_usd == rows * COST_NANO_USD
    assert sum(out.cost_usd) == usd(rows * COST_NANO_USD)
    assert live.unknown_cost_calls == job.lost_calls
    assert live.calls == rows + job.lost_calls
    assert f"{job.lost_calls} calls were" in out.attrs["o3magic"]["said"] or job.lost_calls == 1
    assert "when a worker died: their cost is unknown" in out.attrs["o3magic"]["said"]
    # Again, with the worker that took its place: nothing is asked.
    server.begin()
    again = caller.map(texts(rows), schema=Label, concurrency=width)
    assert again.equals(out)
    assert server.stats["requests"] == 0


def test_a_kernel_dies_and_the_next_one_goes_on_where_it_stopped(caller, client, server):
    server.begin(latency_s=0.05)
    said = {"address": client.scheduler.address, "base_url": server.base_url, "rows": 300}
    said |= {"folder": str(caller.folder), "width": 8}
    line = [sys.executable, "-m", "tests.cluster.lone_caller", json.dumps(said)]
    kernel = subprocess.Popen(line, cwd=HOUSE)
    wait_for(lambda: sum(server.stats["answered"].values()) >= 60)
    wait_for(lambda: killed_if(kernel.pid, lambda: caller.job.claimed_rows > 0))
    kernel.wait()
    out = caller.map(texts(300), schema=Label, concurrency=8)
    assert list(out.label) == [f"row {n}" for n in range(300)]
    job, live = caller.job, caller.live
    assert 0 < job.lost_calls <= 8
    # A row is claimed before its call is entered, and that before it leaves.
    again = sum(server.stats["begun"].values()) - 300
    assert again <= live.unknown_cost_calls <= job.lost_calls
    assert live.cost_nano_usd == job.spent_nano_usd == 300 * COST_NANO_USD
    assert out.attrs["o3magic"]["before"] >= 50


def test_the_table_is_the_one_that_is_made_without_a_cluster(caller, server):
    import pandas

    frame = pandas.DataFrame(
        {"a": ["x", None, "y", "x", float("nan")], "n": [1, 2, 3, 1, 5]}, index=[7, 7, 1, 2, 3]
    )
    prompt = "{{ a }} {{ n }}"
    with session_at(server.base_url) as session, closing(JobStore(":memory:")) as store:
        here = map_rows(session, store, frame, prompt, schema=Label)
    server.begin()
    there = caller.map(frame, prompt, schema=Label)
    assert there.equals(here)
    assert (there.dtypes == here.dtypes).all()
    assert list(there.index) == [7, 7, 1, 2, 3]
    assert there.attrs == here.attrs
    assert server.stats["requests"] == 4  # two rows are identical
    assert list(there.cost_usd)[3] == Decimal(0)


def test_an_iterator_and_no_rows_at_all(caller, server):
    out = caller.map(({"a": f"row {n}"} for n in range(150)), schema=Label)
    assert list(out.label) == [f"row {n}" for n in range(150)]
    assert len(caller.map([], "nothing in it")) == 0
    assert server.stats["requests"] == 150


def test_progress_is_that_of_all_workers(caller, server):
    server.begin(latency_s=0.1)
    seen = []

    class Watch:
        def update(self, progress):
            seen.append(progress)

    caller.map(texts(120), schema=Label, concurrency=16, show=Watch())
    assert [each.rows for each in seen] == sorted(each.rows for each in seen)
    assert any(0 < each.rows < 120 and each.landed for each in seen)
    assert 4 < max(each.flying for each in seen) <= 16
    assert (seen[-1].rows, seen[-1].over) == (120, True)


def test_no_more_leaves_than_the_budget_allows(caller, server):
    server.begin(latency_s=0.01)
    budget = usd(40 * COST_NANO_USD + WORST_NANO_USD - COST_NANO_USD)
    out = caller.map(texts(120), budget=budget, concurrency=8, max_output_tokens=LIMIT)
    answered = out.error.isna().sum()
    assert 36 <= answered <= 41
    assert set(out.error.dropna()) == {"not asked: budget"}
    assert sum(server.stats["begun"].values()) == answered
    job = caller.job
    assert job.spent_nano_usd == answered * COST_NANO_USD <= budget * 10**9
    assert job.held_nano_usd == 0
    more = caller.map(texts(120), budget=1, concurrency=8, max_output_tokens=LIMIT)
    assert more.error.isna().all()
    assert set(server.stats["begun"].values()) == {1}
    with pytest.raises(OverBudget):
        caller.map(texts(3), name="b", budget="0.0000001", max_output_tokens=LIMIT)


def test_the_budgets_of_the_session_hold_too_and_are_named(caller, server):
    limit = usd(10 * COST_NANO_USD + WORST_NANO_USD)
    out = caller.map(texts(40), budget_session=limit, max_output_tokens=LIMIT, concurrency=4)
    answered = out.error.isna().sum()
    assert 8 <= answered <= 11
    assert "this session" in out.attrs["o3magic"]["said"]
    assert caller.live.cost_nano_usd == answered * COST_NANO_USD
    said = {"budget_call": usd(WORST_NANO_USD // 2), "max_output_tokens": LIMIT}
    with pytest.raises(OverBudget, match="one question"):
        caller.map(texts(3), name="another", **said)


def test_a_repair_that_no_budget_allows_leaves_the_answer_as_it_came(caller, server):
    server.begin(text='{"label": "a"}', latency_s=0.02)
    budget = usd(2 * WORST_NANO_USD - COST_NANO_USD)
    said = {"max_output_tokens": LIMIT, "concurrency": 2}
    out = caller.map(texts(2), schema=Label, budget=budget, **said)
    assert sum(server.stats["begun"].values()) <= 3
    assert out.error.str.contains("budget|does not fit").all()
    job = caller.job
    assert job.spent_nano_usd + job.held_nano_usd <= budget * 10**9
    assert (job.claimed_rows, caller.live.unknown_cost_calls) == (0, 0)


def test_a_row_whose_call_was_lost_and_that_no_budget_allows_again(caller, server):
    server.begin(dropped=1.0)
    budget = usd(WORST_NANO_USD + COST_NANO_USD)
    out = caller.map(texts(2), budget=budget, max_output_tokens=LIMIT, concurrency=1)
    assert sorted(out.error) == ["not asked again: budget", "not asked: budget"]
    assert caller.job.state == "stopped"
    assert 0 < caller.job.held_nano_usd <= WORST_NANO_USD  # what it may have cost
    server.begin()
    assert caller.map(texts(2), budget=1, max_output_tokens=LIMIT).error.isna().all()


def test_answers_that_no_file_takes_are_still_given(caller, server, monkeypatch):
    """As on a full disk, from the moment on when it is full."""
    server.begin(latency_s=0.02)
    real, asked = JobStore.end, []

    def end(self, job, run, endings, settled=()):
        asked.extend(endings)
        if endings and len(asked) > 12:
            raise LedgerUnavailable("the file of jobs cannot grow: the disk is full")
        real(self, job, run, endings, settled)

    monkeypatch.setattr(JobStore, "end", end)
    with pytest.raises(LedgerUnavailable, match="disk is full") as caught:
        caller.map(texts(100), concurrency=4)
    out = caught.value.answer
    answered = sum(server.stats["answered"].values())
    assert out.error.isna().sum() == answered > caller.job.done_rows
    assert out.cost_usd.dropna().sum() * 10**9 == answered * COST_NANO_USD


def test_all_workers_share_one_rate_limit(caller, server):
    caller.map(texts(45), requests_per_min=1800, concurrency=16)
    times = server.stats["times_s"]
    assert times[-1] - times[0] > 40 / 30 * 0.9  # thirty a second, a few at once to begin with


def test_a_429_to_one_worker_makes_all_of_them_narrow(caller, server):
    server.begin(most_at_once=4, latency_s=0.05, retry_after_s=0.1)
    out = caller.map(texts(80), concurrency=32)
    assert out.error.isna().all()
    stats = server.stats
    assert set(stats["answered"].values()) == {1}
    assert len(stats["answered"]) == 80
    assert stats["limited"] < 160  # five hundred where nobody is told


def test_no_more_are_on_their_way_than_were_allowed(caller, server):
    server.begin(latency_s=0.03)
    caller.map(texts(120), concurrency=6)
    assert 4 <= server.stats["peak"] <= 6


def test_a_wait_nobody_has_time_for_stops_the_job(caller, server):
    server.begin(limit_every=1, retry_after_s=3600)
    with pytest.raises(RateLimited) as caught:
        caller.map(texts(5))
    assert "3,600 s" in caught.value.hint
    assert list(caught.value.answer.error.str[:9]) == ["not asked"] * 5


def test_a_server_that_dies_in_the_middle_costs_no_row(caller, server):
    server.begin(latency_s=0.01, down_after=40, down_s=1.0)
    out = caller.map(texts(120), concurrency=8)
    assert out.error.isna().all()
    assert set(server.stats["answered"].values()) == {1}


def test_a_server_that_stays_away_stops_the_job_with_its_rows_kept(caller, server):
    server.begin(latency_s=0.01, down_after=30, down_s=60)
    with pytest.raises(NoConnection) as caught:
        caller.map(texts(80), concurrency=4, most_down_s=0.3)
    out = caught.value.answer
    assert caller.job.done_rows == out.error.isna().sum() > 20
    server.begin()
    assert caller.map(texts(80), concurrency=4).error.isna().all()


def test_what_no_row_can_survive_is_raised(caller, server):
    server.begin(status=401)
    with pytest.raises(WrongKey):
        caller.map(texts(40), concurrency=4)
    assert server.stats["requests"] <= 12


NOTEBOOK = """
from pydantic import BaseModel, field_validator

class Small(BaseModel):
    label: str
    score: int

    @field_validator("score")
    @classmethod
    def small(cls, value):
        if value >= 10:
            raise ValueError("too large")
        return value
"""


def of_the_notebook(name):
    """A class that a cell of a notebook made: no module on a worker has it."""
    names = {"__name__": "__main__"}
    exec(NOTEBOOK, names)
    return names[name]


def test_an_answer_that_does_not_fit_is_repaired_and_the_first_error_can_stop_it(caller, server):
    Small = of_the_notebook("Small")
    server.begin(texts=['{"label": "a", "score": 11}', '{"label": "a", "score": 3}'])
    out = caller.map(texts(1), schema=Small)
    assert list(out.score) == [3]
    assert server.stats["requests"] == 2
    assert caller.live.calls == 2
    server.begin(text='{"label": "a", "score": 11}')
    out = caller.map(texts(4), schema=Small, name="all wrong")
    assert out.error.str.contains("too large").all()
    assert out.cost_usd.sum() * 10**9 == 8 * COST_NANO_USD
    with pytest.raises(Exception, match="too large"):
        caller.map(texts(40), schema=Small, name="raise", on_error="raise", concurrency=2)
    assert server.stats["requests"] < 8 + 40


def test_an_interrupt_keeps_what_is_done(caller, server):
    import _thread

    server.begin(latency_s=0.05)

    class Stopper:
        def update(self, progress):
            if progress.asked >= 20 and not progress.over:
                _thread.interrupt_main()

    with pytest.raises(Interrupted, match="rows are done") as caught:
        caller.map(texts(400), concurrency=8, show=Stopper())
    out = caught.value.answer
    assert set(out.error.dropna()) == {"not asked: interrupted"}
    job = caller.job
    assert job.done_rows == out.error.isna().sum() >= 20
    assert (job.claimed_rows, job.lost_calls) == (0, 0)
    assert server.stats["requests"] == job.done_rows
    assert caller.live.unknown_cost_calls == 0
    server.begin()
    assert caller.map(texts(400)).error.isna().all()
    assert len(server.stats["begun"]) == 400 - job.done_rows
