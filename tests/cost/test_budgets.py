"""Budgets hold: what may be spent is held back before it is, whoever shares the ledger."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3magic.cost.budgets import Budget, BudgetStatus
from o3magic.cost.ledger import Attempt, Ledger, Outcome
from o3magic.errors import OverBudget
from o3magic.events import Usage

Start = Callable[..., subprocess.Popen[str]]
ASK = Attempt("s1", "openai", "o3-mini", "high", notebook="a.ipynb", worst_nano_usd=100)
DAY = Budget("day", 1000)


def spend(ledger: Ledger, cost: int | None, attempt: Attempt = ASK) -> None:
    ledger.settle(ledger.enter(attempt), Outcome("ok", Usage(1, 0, 1), cost))


def left(ledger: Ledger, *budgets: Budget, session: str = "s1") -> list[int]:
    return [each.left_nano_usd for each in ledger.standing(budgets, session, "a.ipynb")]


def test_each_scope_counts_its_own_calls(ledger: Ledger, clock: Any) -> None:
    spend(ledger, 10)
    spend(ledger, 20, replace(ASK, session="s2"))
    spend(ledger, 40, replace(ASK, notebook="b.ipynb"))
    clock.now = datetime(2026, 3, 5, 12, tzinfo=UTC)
    spend(ledger, 80)
    clock.now = datetime(2026, 4, 1, tzinfo=UTC)
    spend(ledger, 160, replace(ASK, session="s2", notebook="b.ipynb"))
    scopes = ("session", "notebook", "day", "month", "call")
    assert left(ledger, *(Budget(scope, 1000) for scope in scopes)) == [870, 890, 840, 840, 1000]


def test_simulated_and_replayed_calls_spend_nothing(ledger: Ledger) -> None:
    for source in ("simulated", "replayed"):
        ledger.enter(replace(ASK, source=source))
    assert left(ledger, DAY) == [1000]


def test_a_call_of_unknown_cost_counts_as_the_most_it_can_have_cost(ledger: Ledger) -> None:
    pending = ledger.enter(ASK)
    assert left(ledger, DAY) == [900]
    ledger.settle(pending, Outcome("interrupted"))
    assert left(ledger, DAY) == [900]
    [total] = ledger.totals(by=())
    assert (total.live.cost_nano_usd, total.live.unknown_cost_calls) == (0, 1)


def test_what_is_held_is_not_there_for_others_and_comes_back(ledger: Ledger) -> None:
    hold = ledger.hold(700, [DAY], "s1")
    with pytest.raises(OverBudget) as refused:
        ledger.hold(400, [DAY], "s2")
    assert refused.value.left_nano_usd == 300
    assert "$0.0000004" in str(refused.value)
    assert refused.value.scope == "day"
    ledger.release(hold)
    ledger.release(ledger.hold(1000, [DAY], "s2"))
    assert left(ledger, DAY) == [1000]


def test_the_tightest_of_several_budgets_decides(ledger: Ledger) -> None:
    budgets = [Budget("month", 5000), Budget("session", 50), DAY, Budget("call", 60)]
    with pytest.raises(OverBudget) as refused:
        ledger.hold(70, budgets, "s1")
    assert refused.value.scope == "session"
    with pytest.raises(OverBudget, match="the budget of one question"):
        ledger.hold(55, [Budget("call", 50)], "s1")


def test_an_attempt_is_taken_out_of_its_hold_and_what_it_did_not_cost_goes_back(
    ledger: Ledger,
) -> None:
    hold = ledger.hold(200, [DAY], "s1")
    row = ledger.enter(ASK, hold=hold, budgets=[DAY])
    assert left(ledger, DAY) == [800]
    ledger.settle(row, Outcome("ok", Usage(1, 0, 1), 30), hold=hold)
    assert left(ledger, DAY) == [800]
    ledger.settle(row, Outcome("ok", Usage(1, 0, 1), 90), hold=hold)  # counts once
    assert left(ledger, DAY) == [800]
    ledger.release(hold)
    assert left(ledger, DAY) == [970]


def test_more_attempts_than_were_held_for_are_checked_again(ledger: Ledger) -> None:
    tight = Budget("day", 150)
    hold = ledger.hold(100, [tight], "s1")
    ledger.settle(ledger.enter(ASK, hold=hold, budgets=[tight]), Outcome("error"), hold=hold)
    with pytest.raises(OverBudget):
        ledger.enter(ASK, hold=hold, budgets=[tight])
    assert len([*ledger.entries()]) == 1
    assert left(ledger, tight) == [50]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 500) | st.none()), max_size=25))
def test_known_costs_within_their_worst_case_never_pass_the_budget(
    calls: list[tuple[int, int | None]],
) -> None:
    with closing(Ledger(":memory:")) as ledger:
        for worst, cost in calls:
            if left(ledger, DAY)[0] < worst:
                with pytest.raises(OverBudget):
                    ledger.hold(worst, [DAY], "s1")
                continue
            hold = ledger.hold(worst, [DAY], "s1")
            known = None if cost is None else min(cost, worst)
            row = ledger.enter(replace(ASK, worst_nano_usd=worst), hold=hold, budgets=[DAY])
            ledger.settle(row, Outcome("ok", Usage(1, 0, 1), known), hold=hold)
            ledger.release(hold)
        [now] = ledger.standing([DAY], "s1")
        assert now.spent_nano_usd + now.held_nano_usd <= 1000


def test_a_thousand_threads_share_a_budget(ledger: Ledger) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> int:
        together.wait()
        sent = 0
        for _ in range(10):
            try:
                hold = ledger.hold(100, [DAY], "s1")
            except OverBudget:
                continue
            row = ledger.enter(ASK, hold=hold, budgets=[DAY])
            ledger.settle(row, Outcome("ok", Usage(1, 0, 1), 60), hold=hold)
            ledger.release(hold)
            sent += 1
        return sent

    with ThreadPoolExecutor(8) as pool:
        sent = sum(pool.map(ask, range(8)))
    [now] = ledger.standing([DAY], "s1")
    assert now.spent_nano_usd == 60 * sent <= 1000
    assert now.held_nano_usd == 0
    assert sent == 16  # 15 * 60 + 100 fits, 16 * 60 + 100 does not


HOLDS_AND_DIES = """
import os, sys
from o3magic.cost.ledger import Ledger
from o3magic.cost.budgets import Budget
Ledger(sys.argv[1]).hold(900, [Budget("day", 1000)], "s9")
print("held", flush=True)
sys.stdin.read()
"""


def test_what_a_dead_kernel_held_is_free_again(path: Path, ledger: Ledger, start: Start) -> None:
    child = start(HOLDS_AND_DIES, path)
    assert child.stdout.readline() == "held\n"
    with pytest.raises(OverBudget):
        ledger.hold(500, [DAY], "s1")
    child.kill()
    child.wait()
    ledger.hold(500, [DAY], "s1")
    assert left(ledger, DAY) == [500]


def test_a_standing_says_how_much_is_gone() -> None:
    stands = BudgetStatus(DAY, 310, 440)
    assert (stands.left_nano_usd, stands.share) == (250, 0.75)
    assert str(stands).startswith("today (UTC): $0.00000031 of $0.000001 spent, up to $0.00000044")
    assert BudgetStatus(Budget("day", 0), 0).share == 1.0
    assert BudgetStatus(Budget("day", 100), 300).left_nano_usd == 0
