"""Kernels that write at the same time, and kernels that die."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from o3magic.cost.entries import LOST
from o3magic.cost.ledger import Attempt, Ledger, Outcome
from o3magic.cost.process import ProcessOwner, started
from o3magic.events import Usage

Start = Callable[..., subprocess.Popen[str]]
ASK = Attempt("s1", "openai", "o3-mini", "high")
OK = Outcome("ok", Usage(10, 0, 5), 1000)

KERNEL = """
import sys
from o3magic.cost.ledger import Attempt, Ledger, Outcome
from o3magic.events import Usage
ledger = Ledger(sys.argv[1])
ask = Attempt("child", "openai", "o3-mini", "high")
"""
ASKS = f"{KERNEL}\nprint(ledger.enter(ask), flush=True)\nsys.stdin.read()\n"
WRITES = f"""{KERNEL}
print("ready", flush=True)
sys.stdin.readline()
for cost in range(int(sys.argv[2])):
    ledger.settle(ledger.enter(ask), Outcome("ok", Usage(10, 0, 5), cost))
ledger.close()
"""
ENDLESS = f"""{KERNEL}
while True:
    entry = ledger.enter(ask)
    print("entered", entry, flush=True)
    ledger.settle(entry, Outcome("ok", Usage(10, 0, 5), 7))
    print("settled", entry, flush=True)
"""
REPORTS = f"{KERNEL}\nsys.stdin.readline()\nprint(len(ledger.orphans()))\nledger.close()\n"


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()


def test_a_call_of_a_killed_kernel_is_reported_once_with_its_cost_unknown(
    path: Path, start: Start
) -> None:
    child = start(ASKS, path)
    assert child.stdout is not None
    row = int(child.stdout.readline())
    with closing(Ledger(path)) as ledger:
        assert ledger.orphans() == []  # the kernel lives
    kill(child)
    with closing(Ledger(path)) as ledger:
        [lost] = ledger.orphans()
        assert (lost.id, lost.session, lost.status) == (row, "child", LOST)
        assert lost.cost_nano_usd is None
        assert ledger.orphans() == []
    with closing(Ledger(path)) as ledger:
        assert ledger.orphans() == []
        live = ledger.totals()[0].live
        assert (live.calls, live.unknown_cost_calls, live.cost_nano_usd) == (1, 1, 0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells a zombie")
def test_a_killed_kernel_that_nobody_waited_for_is_dead(path: Path, start: Start) -> None:
    child = start(ASKS, path)
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    with closing(Ledger(path)) as ledger:
        until_s = time.monotonic() + 10
        while not (lost := ledger.orphans()) and time.monotonic() < until_s:
            time.sleep(0.01)
    assert len(lost) == 1


def test_kernels_that_start_together_report_a_lost_call_once_between_them(
    path: Path, start: Start
) -> None:
    child = start(ASKS, path)
    assert child.stdout is not None
    child.stdout.readline()
    kill(child)
    kernels = [start(REPORTS, path) for _ in range(3)]
    assert sorted(kernel.communicate("go\n")[0].strip() for kernel in kernels) == ["0", "0", "1"]


def test_calls_of_this_process_are_never_orphans(ledger: Ledger, path: Path, clock: Any) -> None:
    ledger.enter(ASK)
    clock.now += timedelta(days=400)
    with closing(Ledger(path, clock=clock)) as second:
        assert second.orphans() == ledger.orphans() == []


def disowned(path: Path, **owner: object) -> None:
    """Make the rows another process's."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, value in owner.items():
            connection.execute(f"UPDATE entries SET {name} = ?", (value,))


@pytest.mark.skipif(
    ProcessOwner.here().started == "", reason="starts of processes are not known here"
)
def test_a_later_process_of_the_same_number_is_another(ledger: Ledger, path: Path) -> None:
    ledger.enter(ASK)
    disowned(path, started="an earlier boot/42")
    assert len(ledger.orphans()) == 1


def test_a_process_that_is_not_there_never_started() -> None:
    assert started(-5) is None


def test_a_call_of_another_host_is_given_up_after_a_day(
    ledger: Ledger, path: Path, clock: Any
) -> None:
    ledger.enter(ASK)
    disowned(path, host="elsewhere")
    clock.now += timedelta(hours=23)
    assert ledger.orphans() == []
    clock.now += timedelta(hours=2)
    assert [entry.host for entry in ledger.orphans()] == ["elsewhere"]


def test_an_answer_that_comes_after_all_is_settled(ledger: Ledger, path: Path, clock: Any) -> None:
    row = ledger.enter(ASK)
    disowned(path, host="elsewhere")
    clock.now += timedelta(days=2)
    ledger.orphans()
    ledger.settle(row, OK)
    [entry] = ledger.entries()
    assert (entry.status, entry.cost_nano_usd) == ("ok", 1000)
    assert ledger.totals()[0].live.unknown_cost_calls == 0


def test_a_simulated_call_that_is_lost_still_costs_nothing(
    ledger: Ledger, path: Path, clock: Any
) -> None:
    ledger.enter(replace(ASK, source="simulated"))
    disowned(path, host="elsewhere")
    clock.now += timedelta(days=2)
    assert [entry.cost_nano_usd for entry in ledger.orphans()] == [0]


def test_two_kernels_write_at_the_same_time(path: Path, start: Start) -> None:
    calls = 300
    kernels = [start(WRITES, path, calls) for _ in range(2)]
    for kernel in kernels:  # neither has opened the file yet: both make it
        assert kernel.stdout is not None
        assert kernel.stdout.readline() == "ready\n"
    for kernel in kernels:
        assert kernel.stdin is not None
        kernel.stdin.write("go\n")
        kernel.stdin.flush()
    assert [kernel.communicate()[1] for kernel in kernels] == ["", ""]
    with closing(Ledger(path)) as ledger:
        [total] = ledger.totals()
        assert total.live.calls == len([*ledger.entries()]) == 2 * calls
        assert total.live.unknown_cost_calls == 0
        assert total.live.cost_nano_usd == 2 * sum(range(calls))


@pytest.mark.parametrize("after_ms", [0, 20, 60])
def test_kill_9_loses_no_acknowledged_row(path: Path, start: Start, after_ms: int) -> None:
    child = start(ENDLESS, path)
    assert child.stdout is not None
    said = [child.stdout.readline()]
    time.sleep(after_ms / 1000)
    child.kill()
    said += child.stdout.readlines()
    child.wait()
    whole = [line.split() for line in said if line.endswith("\n")]
    with closing(Ledger(path)) as ledger:
        status = {entry.id: entry.status for entry in ledger.entries()}
        assert all(int(row) in status for _, row in whole)
        assert all(status[int(row)] == "ok" for what, row in whole if what == "settled")
        live = ledger.totals()[0].live
        assert live.calls == len(status)
        assert live.cost_nano_usd == 7 * sum(s == "ok" for s in status.values())
        assert len(ledger.orphans()) == sum(s == "pending" for s in status.values()) <= 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
