"""What can go wrong around the rows: limits, a server that is gone, an interrupt, a full disk."""

import _thread
import threading
import time

import pytest

from o3magic.errors import Interrupted, LedgerUnavailable, NoConnection, RateLimited
from o3magic.rows.store import JobStore
from tests.rows.conftest import texts
from tests.rows.loopback import COST_NANO_USD


def all_once(server, rows):
    stats = server.stats
    assert len(stats["answered"]) == rows
    assert set(stats["answered"].values()) == {1}
    return stats


def test_a_limit_on_every_second_request_loses_no_row(mapped, server):
    server.begin(limit_every=2, retry_after_s=0.005)
    out = mapped(texts(60), concurrency=16)
    assert out.error.isna().all()
    stats = all_once(server, 60)
    assert stats["limited"] >= 59


def test_a_server_that_takes_few_at_once_makes_the_job_narrow(mapped, server):
    server.begin(most_at_once=4, latency_s=0.02, retry_after_s=0.02)
    out = mapped(texts(150), concurrency=32)
    assert out.error.isna().all()
    stats = all_once(server, 150)
    assert stats["limited"] < 150


def test_a_wait_nobody_has_time_for_stops_the_job(mapped, server):
    server.begin(limit_every=1, retry_after_s=3600)
    with pytest.raises(RateLimited) as caught:
        mapped(texts(5))
    assert "3,600 s" in caught.value.hint
    assert list(caught.value.answer.error.str[:9]) == ["not asked"] * 5


def test_own_limits_are_kept(mapped, server):
    mapped(texts(25), requests_per_min=1200, concurrency=16)
    times = server.stats["times_s"]
    assert times[-1] - times[0] > 22 / 20 * 0.9  # 20 a second, a few at once to begin with


def test_the_limits_a_server_tells_are_kept(mapped, server):
    told = {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "0"}
    told |= {"x-ratelimit-reset-requests": "1m0s"}
    server.begin(headers=told)
    mapped(texts(14), concurrency=1)
    times = server.stats["times_s"]
    assert times[-1] - times[0] > 12 / 10 * 0.9  # ten a second


def test_a_server_that_dies_in_the_middle_costs_no_row(mapped, server):
    server.begin(latency_s=0.01, down_after=40, down_s=1.5)
    out = mapped(texts(120), concurrency=8)
    assert out.error.isna().all()
    all_once(server, 120)


def test_a_server_that_stays_away_stops_the_job_with_its_rows_kept(mapped, server, store):
    server.begin(latency_s=0.01, down_after=30, down_s=60)
    with pytest.raises(NoConnection) as caught:
        mapped(texts(80), concurrency=4, most_down_s=0.5)
    job, out = store.jobs()[0], caught.value.answer
    assert job.done_rows == out.error.isna().sum() > 20
    assert out.error.dropna().str.startswith(("not asked", "NoConnection")).all()
    server.begin()
    again = mapped(texts(80), concurrency=4)
    assert again.error.isna().all()
    assert len(server.stats["answered"]) == 80 - job.done_rows


def test_errors_drops_and_cut_answers_are_tried_again(mapped, server):
    server.begin(broken=0.1, dropped=0.1, cut=0.1, seed=5)
    out = mapped(texts(60), concurrency=8)
    assert out.error.isna().all()
    all_once(server, 60)


def test_an_interrupt_keeps_what_is_done(mapped, server, store):
    server.begin(latency_s=0.05)

    class Stopper:
        def update(self, progress):
            if progress.asked >= 20 and not progress.over:
                _thread.interrupt_main()

    with pytest.raises(Interrupted, match="rows are done") as caught:
        mapped(texts(400), concurrency=8, show=Stopper())
    out = caught.value.answer
    assert len(out) == 400
    assert set(out.error.dropna()) == {"not asked: interrupted"}
    done = store.jobs()[0].done_rows
    assert done == out.error.isna().sum() >= 20
    assert store.jobs()[0].claimed_rows == 0
    server.begin()
    assert mapped(texts(400)).error.isna().all()
    assert len(server.stats["begun"]) == 400 - done


def test_an_interrupt_does_not_wait_for_slow_answers(mapped, server):
    server.begin(latency_s=30)
    timer = threading.Timer(0.5, _thread.interrupt_main)
    timer.start()
    began_s = time.monotonic()
    with pytest.raises(Interrupted):
        mapped(texts(4))
    assert time.monotonic() - began_s < 10


def test_answers_that_no_file_takes_are_still_given(mapped, server, store, monkeypatch):
    """As on a full disk, from the moment on when it is full."""
    server.begin(latency_s=0.02)
    real, asked = JobStore.end, []

    def end(self, job, run, endings, settled=()):
        asked.append(1)
        if len(asked) > 3:
            raise LedgerUnavailable("the file of jobs cannot grow: the disk is full")
        real(self, job, run, endings, settled)

    monkeypatch.setattr(JobStore, "end", end)
    with pytest.raises(LedgerUnavailable, match="disk is full") as caught:
        mapped(texts(100), concurrency=4)
    out = caught.value.answer
    answered = sum(server.stats["answered"].values())
    assert out.error.isna().sum() == answered > store.jobs()[0].done_rows
    assert out.cost_usd.dropna().sum() * 10**9 == answered * COST_NANO_USD


def test_progress_is_shown_while_rows_land(mapped, server):
    server.begin(latency_s=0.05)
    seen = []

    class Watch:
        def update(self, progress):
            seen.append(progress)

    mapped(texts(60), concurrency=8, show=Watch())
    assert [each.rows for each in seen] == sorted(each.rows for each in seen)
    middle, last = seen[len(seen) // 2], seen[-1]
    assert 0 < middle.rows < 60
    assert middle.landed
    assert "about $" in middle.words()
    assert (last.rows, last.over, last.spent_nano_usd) == (60, True, 60 * COST_NANO_USD)
    assert last.words().startswith("60 of 60 rows · ")
