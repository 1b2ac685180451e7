"""Kernels die, are started again, and share their rows: each is answered and paid for once."""

import random
import time

import pytest

from o3magic.cost.ledger import Ledger
from o3magic.rows.store import JobStore
from tests.rows.conftest import texts
from tests.rows.kernels import Kernel
from tests.rows.loopback import COST_NANO_USD


def wait_for(condition, timeout_s=60):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, "it took too long"
        time.sleep(0.01)


def job_in(folder):
    return JobStore(folder / "jobs.sqlite3").jobs()[0]


def test_the_same_call_again_asks_nothing(mapped, server):
    first = mapped(texts(30))
    again = mapped(texts(30))
    assert server.stats["requests"] == 30
    assert list(again.text) == list(first.text)
    assert list(again.cost_usd) == list(first.cost_usd)
    assert again.attrs["o3magic"]["before"] == 30


def test_more_rows_ask_only_what_is_new(mapped, server):
    mapped(texts(10))
    mapped(texts(15))
    assert server.stats["requests"] == 15


@pytest.mark.parametrize(
    "changed", [{"prompt": "{{ a }}!"}, {"effort": "low"}, {"name": "another"}, {"schema": int}]
)
def test_another_prompt_schema_effort_or_name_is_another_job(mapped, server, store, changed):
    server.begin(text="5")
    mapped(texts(3))
    mapped(texts(3), **changed)
    assert server.stats["requests"] == 6
    assert len(store.jobs()) == 2


def test_a_killed_kernel_goes_on_where_it_stopped(server, tmp_path):
    server.begin(latency_s=0.05)
    rows, width = 300, 8
    chance = random.Random(7)
    for _ in range(2):
        kernel = Kernel(server, tmp_path, rows, wish={"concurrency": width})
        begun = server.stats["requests"]
        wanted = begun + chance.randrange(30, 90)
        wait_for(lambda wanted=wanted: server.stats["requests"] >= wanted)
        kernel.kill()
    found = Kernel(server, tmp_path, rows, wish={"concurrency": width}).result()
    stats = server.stats
    assert found["labels"] == [f"row {n}" for n in range(rows)]
    assert found["errors"] == []
    # An answer that had not arrived is paid and lost: as many as were on their way, and told.
    twice = sum(count - 1 for count in stats["begun"].values())
    assert twice <= 2 * width
    job = job_in(tmp_path)
    assert twice <= job.lost_calls <= 2 * width
    assert "on their way when a kernel died" in found["attrs"]["said"] or not twice
    # The ledger knows every call: what is known is right, the lost ones are unknown.
    [total] = Ledger(tmp_path / "ledger.sqlite3").totals(by=())
    assert total.live.cost_nano_usd == rows * COST_NANO_USD == found["cost_nano_usd"]
    assert total.live.unknown_cost_calls == job.lost_calls


def test_two_kernels_share_the_rows_of_a_job(server, tmp_path):
    server.begin(latency_s=0.05)
    rows = 200
    kernels = [Kernel(server, tmp_path, rows, wish={"concurrency": 4}) for _ in range(2)]
    found = [kernel.result() for kernel in kernels]
    stats = server.stats
    assert set(stats["begun"].values()) == {1}
    for each in found:
        assert each["labels"] == [f"row {n}" for n in range(rows)]
        assert each["cost_nano_usd"] == rows * COST_NANO_USD
        assert each["attrs"]["asked"] > 0
    assert sum(each["attrs"]["asked"] for each in found) == rows


def test_rows_of_a_dead_kernel_are_free_for_one_that_waits(server, tmp_path):
    server.begin(latency_s=1.0)
    first = Kernel(server, tmp_path, 8, wish={"concurrency": 8})
    wait_for(lambda: server.stats["requests"] == 8)
    second = Kernel(server, tmp_path, 8, wish={"concurrency": 8})
    first.kill()
    found = second.result()
    assert found["labels"] == [f"row {n}" for n in range(8)]
    assert job_in(tmp_path).lost_calls == 8


def test_an_answer_kept_by_a_kernel_that_died_before_the_ledger_knew_is_settled(server, tmp_path):
    """As if the kill came between the two files."""
    Kernel(server, tmp_path, 4).result()
    ledger, store = Ledger(tmp_path / "ledger.sqlite3"), JobStore(tmp_path / "jobs.sqlite3")
    with ledger._store.write() as connection:
        connection.execute(
            "UPDATE entries SET status = 'pending', cost_nano_usd = NULL WHERE id = 2"
        )
    with store.store.write() as connection:
        connection.execute("UPDATE rows SET entry = 2 WHERE id = 2")
    assert ledger.totals(by=())[0].live.cost_nano_usd == 3 * COST_NANO_USD
    Kernel(server, tmp_path, 4).result()
    [total] = ledger.totals(by=())
    assert (total.live.cost_nano_usd, total.live.unknown_cost_calls) == (4 * COST_NANO_USD, 0)
    assert store.unsettled_rows(1) == []
