"""What the ledger counts, and how exactly."""

from __future__ import annotations

import random
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from o3magic.cost.entries import LOST, PENDING
from o3magic.cost.ledger import Attempt, CallSums, CostTotal, Entry, Ledger, Outcome
from o3magic.errors import BadOption, LedgerUnavailable
from o3magic.events import Usage
from o3magic.money import usd

ASK = Attempt("s1", "openai", "o3-mini", "high")
OK = Outcome("ok", Usage(1000, 200, 500, 320, 0, 1500), 3_190_000)


def sums_of(entry: Entry) -> CallSums:
    """What one row adds, said a second time and without SQL."""
    return CallSums(
        calls=1,
        unknown_cost_calls=int(entry.cost_nano_usd is None),
        unknown_tokens_calls=int(entry.input_tokens is None or entry.output_tokens is None),
        input_tokens=entry.input_tokens or 0,
        cached_tokens=entry.cached_tokens or 0,
        cache_write_tokens=entry.cache_write_tokens or 0,
        output_tokens=entry.output_tokens or 0,
        reasoning_tokens=entry.reasoning_tokens or 0,
        cost_nano_usd=entry.cost_nano_usd or 0,
        held_nano_usd=entry.worst_nano_usd if entry.cost_nano_usd is None else 0,
    )


def test_making_a_ledger_touches_no_file(path: Path) -> None:
    Ledger(path).close()
    assert not path.exists()


def test_a_call_counts_with_its_cost_unknown_before_it_is_settled(ledger: Ledger) -> None:
    ledger.enter(ASK)
    assert ledger.totals() == [
        CostTotal(
            model="o3-mini",
            effort="high",
            live=CallSums(calls=1, unknown_cost_calls=1, unknown_tokens_calls=1),
        )
    ]
    [entry] = ledger.entries()
    assert (entry.status, entry.cost_nano_usd) == (PENDING, None)


def test_an_entry_is_on_disk_before_enter_returns(ledger: Ledger, path: Path) -> None:
    row = ledger.enter(ASK)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT id, status FROM entries").fetchall() == [(row, PENDING)]


def test_settling_moves_the_call_to_its_cost(ledger: Ledger) -> None:
    ledger.settle(ledger.enter(ASK), OK)
    [total] = ledger.totals()
    assert total.live == CallSums(1, 0, 0, 1000, 200, 0, 500, 320, 3_190_000)


def test_an_entry_keeps_all_that_was_said_of_the_call(ledger: Ledger) -> None:
    attempt = Attempt(
        "s1", "azure", "o3", "low", "flex", "Invoice", "a.ipynb", "c0ffee", kind="repair"
    )
    outcome = Outcome(
        status="error",
        usage=Usage(1, 2, 3, 4, 5, 6),
        cost_nano_usd=7,
        model_served="o3-2025-04-16",
        service_tier="default",
        price_since="2025-06-10",
        price_source="the price page",
        request_id="req_1",
        response_id="resp_1",
        first_token_s=0.25,
        elapsed_s=1.5,
        error="BrokenAnswer",
        hosted_calls=2,
        hosted_nano_usd=5,
    )
    ledger.settle(ledger.enter(attempt), outcome)
    [entry] = ledger.entries()
    for name in Attempt.__slots__:
        assert getattr(entry, name) == getattr(attempt, name)
    for name in set(Outcome.__slots__) - {"usage", "service_tier", "source"}:
        assert getattr(entry, name) == getattr(outcome, name)
    assert entry.tier_served == "default"
    assert Usage(*(getattr(entry, name) for name in Usage.__slots__)) == outcome.usage
    assert entry.at == datetime(2026, 3, 4, 12, tzinfo=UTC)


def test_the_first_outcome_stands(ledger: Ledger) -> None:
    row = ledger.enter(ASK)
    ledger.settle(row, OK)
    ledger.settle(row, Outcome("interrupted"))
    [entry] = ledger.entries()
    assert (entry.status, entry.cost_nano_usd) == ("ok", 3_190_000)
    assert ledger.totals()[0].live.unknown_cost_calls == 0


def test_settling_what_is_not_there_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(LedgerUnavailable, match="has no entry 7"):
        ledger.settle(7, OK)


@pytest.mark.parametrize("status", [PENDING, LOST])
def test_no_outcome_is_called_like_the_ledgers_own_states(ledger: Ledger, status: str) -> None:
    with pytest.raises(ValueError, match="own word"):
        ledger.settle(ledger.enter(ASK), Outcome(status))


def test_simulated_and_replayed_calls_cost_nothing_and_stand_apart(ledger: Ledger) -> None:
    ledger.settle(ledger.enter(ASK), OK)
    ledger.settle(ledger.enter(replace(ASK, source="simulated")), OK)
    ledger.settle(ledger.enter(replace(ASK, source="replayed")), replace(OK, cost_nano_usd=None))
    ledger.enter(replace(ASK, source="simulated"))
    [total] = ledger.totals()
    assert (total.live.calls, total.live.cost_nano_usd) == (1, 3_190_000)
    assert (total.simulated.calls, total.simulated.cost_nano_usd) == (2, 0)
    assert (total.replayed.calls, total.replayed.cost_nano_usd) == (1, 0)
    assert total.simulated.unknown_cost_calls == total.replayed.unknown_cost_calls == 0


def test_a_call_may_turn_out_to_be_simulated(ledger: Ledger) -> None:
    ledger.settle(ledger.enter(ASK), replace(OK, source="simulated"))
    [entry] = ledger.entries()
    assert (entry.source, entry.cost_nano_usd) == ("simulated", 0)
    [total] = ledger.totals()
    assert total.live == CallSums()
    assert total.simulated == CallSums(1, 0, 0, 1000, 200, 0, 500, 320, 0)


def test_unknown_is_not_zero(ledger: Ledger) -> None:
    for outcome in (OK, Outcome("interrupted"), replace(OK, cost_nano_usd=0)):
        ledger.settle(ledger.enter(ASK), outcome)
    live = ledger.totals()[0].live
    assert (live.calls, live.unknown_cost_calls, live.cost_nano_usd) == (3, 1, 3_190_000)
    assert [e.cost_nano_usd for e in ledger.entries()] == [3_190_000, None, 0]


@pytest.mark.parametrize("absurd", [-1, 10**13, 10**30])
def test_a_number_no_call_can_have_is_unknown(ledger: Ledger, absurd: int) -> None:
    ledger.settle(ledger.enter(ASK), Outcome("ok", Usage(absurd, 0, 5), absurd * 1000))
    [entry] = ledger.entries()
    assert (entry.input_tokens, entry.output_tokens, entry.cost_nano_usd) == (None, 5, None)
    assert ledger.totals()[0].live == sums_of(entry)


def test_names_from_a_server_may_hold_anything(ledger: Ledger) -> None:
    name = "\ud800 '; DROP TABLE entries; -- \x00 " + "x" * 10_000
    ledger.settle(ledger.enter(replace(ASK, model=name, session=name)), OK)
    [total] = ledger.totals(session=name)
    assert total.model.startswith("? '; DROP TABLE")
    assert len(total.model) == 500


def test_the_ledger_has_no_place_for_words_of_the_conversation() -> None:
    said = {*Attempt.__slots__, *Outcome.__slots__, *Entry.__slots__}
    assert not said & {"prompt", "text", "answer", "message", "messages", "body"}


def test_totals_can_be_grouped_by_any_name(ledger: Ledger) -> None:
    ledger.settle(ledger.enter(ASK), OK)
    ledger.settle(ledger.enter(replace(ASK, effort="low", notebook="a.ipynb")), OK)
    assert [t.effort for t in ledger.totals()] == ["high", "low"]
    [total] = ledger.totals(by=("month", "day", "provider"))
    assert (total.month, total.day, total.provider) == ("2026-03", "2026-03-04", "openai")
    assert (total.live.calls, total.model) == (2, "")
    assert [t.live.calls for t in ledger.totals(by=())] == [2]
    assert [t.live.calls for t in ledger.totals(notebook="a.ipynb")] == [1]
    assert ledger.totals(session="another") == []


def test_an_unknown_group_is_named_with_what_was_meant(ledger: Ledger) -> None:
    with pytest.raises(BadOption) as caught:
        ledger.totals(by=("efort",))
    assert caught.value.hint == "did you mean effort?"


SINCE = datetime(2026, 3, 4, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "calls"),
    [
        (SINCE - timedelta(days=9), 6),
        (datetime(2026, 3, 4, tzinfo=UTC), 5),
        (datetime(2026, 3, 4, 0, 0, 0, 1, tzinfo=UTC), 4),
        (SINCE, 3),
        (SINCE + timedelta(microseconds=1), 2),
        # Midnight in Berlin is no UTC midnight.
        (datetime(2026, 3, 5, tzinfo=timezone(timedelta(hours=1))), 2),
        (datetime(2026, 3, 5, tzinfo=UTC), 2),
        (datetime(2026, 3, 7, tzinfo=UTC), 0),
    ],
)
def test_totals_since_any_moment_are_exact(
    ledger: Ledger, clock: Any, since: datetime, calls: int
) -> None:
    for at in (
        datetime(2026, 3, 3, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2026, 3, 4, tzinfo=UTC),
        datetime(2026, 3, 4, 12, tzinfo=UTC),
        SINCE,
        datetime(2026, 3, 5, tzinfo=UTC),
        datetime(2026, 3, 6, 8, tzinfo=UTC),
    ):
        clock.now = at
        ledger.settle(ledger.enter(ASK), OK)
    assert sum(t.live.calls for t in ledger.totals(since=since)) == calls
    assert sum(t.live.cost_nano_usd for t in ledger.totals(since=since)) == calls * 3_190_000
    assert len([*ledger.entries(since=since)]) == calls


def test_a_moment_without_a_time_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        ledger.totals(since=datetime(2026, 3, 4))


@pytest.mark.parametrize("seed", range(5))
def test_totals_are_the_sums_of_the_entries_whatever_happened(
    ledger: Ledger, clock: Any, seed: int
) -> None:
    luck = random.Random(seed)
    rows: list[int] = []
    for _ in range(150):
        clock.now += timedelta(minutes=luck.randrange(300))
        if rows and luck.random() < 0.6:
            usage = Usage(*(luck.choice([None, luck.randrange(10**6)]) for _ in range(6)))
            cost = luck.choice([None, luck.randrange(10**12)])
            turned = luck.choice([None, None, "simulated"])
            ledger.settle(luck.choice(rows), Outcome("ok", usage, cost, source=turned))
        else:
            rows.append(
                ledger.enter(
                    Attempt(
                        session=luck.choice("ab"),
                        provider=luck.choice("pq"),
                        model=luck.choice("xyz"),
                        effort=luck.choice(["", "low"]),
                        source=luck.choice(["live", "live", "simulated", "replayed"]),
                    )
                )
            )
    since = clock.now - timedelta(days=luck.random() * 10)
    for session, from_when in ((None, None), ("a", None), (None, since), ("b", since)):
        entries = [*ledger.entries(session=session, since=from_when)]
        totals = ledger.totals(by=("provider", "effort"), session=session, since=from_when)
        for source in ("live", "simulated", "replayed"):
            for total in totals:
                there = (
                    sums_of(e)
                    for e in entries
                    if (e.provider, e.effort, e.source) == (total.provider, total.effort, source)
                )
                assert getattr(total, source) == reduce(CallSums.plus, there, CallSums())
        counted = sum(t.live.calls + t.simulated.calls + t.replayed.calls for t in totals)
        assert counted == len(entries)


@pytest.mark.parametrize("seed", range(3))
def test_money_sums_exactly_in_any_order(seed: int) -> None:
    luck = random.Random(seed)
    costs = [luck.randrange(10 ** luck.randrange(1, 15)) for _ in range(300)]
    exact = sum((Decimal(cost) / 10**9 for cost in costs), Decimal())
    with closing(Ledger(":memory:")) as ledger:
        rows = [ledger.enter(ASK) for _ in costs]
        pairs = list(zip(rows, costs, strict=True))
        luck.shuffle(pairs)
        for row, cost in pairs:
            ledger.settle(row, replace(OK, cost_nano_usd=cost))
        assert usd(ledger.totals()[0].live.cost_nano_usd) == exact


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            rows = [*pool.map(lambda _: ledger.enter(ASK), range(400))]
            [*pool.map(lambda row: ledger.settle(row, OK), rows)]
    finally:
        sys.setswitchinterval(switching)
    assert len(set(rows)) == 400
    live = ledger.totals()[0].live
    assert (live.calls, live.unknown_cost_calls) == (400, 0)
    assert live.cost_nano_usd == 400 * 3_190_000


def test_a_ledger_in_memory_is_one_for_all_threads_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(Ledger(":memory:")) as ledger:
        with ThreadPoolExecutor(4) as pool:
            [*pool.map(lambda _: ledger.settle(ledger.enter(ASK), OK), range(100))]
        assert ledger.totals()[0].live.calls == 100
    assert [*tmp_path.iterdir()] == []


def test_many_entries_are_read_in_order(ledger: Ledger) -> None:
    rows = [ledger.enter(replace(ASK, session="ab"[i % 2])) for i in range(2300)]
    assert [e.id for e in ledger.entries()] == rows
    assert [e.id for e in ledger.entries(session="b")] == rows[1::2]


def test_a_closed_ledger_opens_again(ledger: Ledger) -> None:
    row = ledger.enter(ASK)
    ledger.close()
    ledger.close()
    ledger.settle(row, OK)
    assert ledger.totals()[0].live.cost_nano_usd == 3_190_000


def test_what_is_likely_goes_by_the_last_calls_that_were_answered(ledger: Ledger) -> None:
    def settled(status: str, output: int | None, **changed: str) -> None:
        row = ledger.enter(replace(ASK, **changed))  # type: ignore[arg-type]
        ledger.settle(row, Outcome(status, Usage(10, 0, output), 7))

    assert ledger.answered(ASK.model, ASK.effort) == (0, 0)
    for output in (100, 200, 300):
        settled("ok", output)
    for status in ("length", "error", "interrupted", "refusal", "content_filter"):
        settled(status, 9_000)
    settled("ok", None)
    settled("ok", 9_000, kind="batch")  # one row for many answers
    settled("ok", 9_000, source="simulated")
    settled("ok", 9_000, source="replayed")
    settled("ok", 9_000, model="o3")
    settled("ok", 9_000, effort="low")
    ledger.enter(ASK)  # on its way
    assert ledger.answered(ASK.model, ASK.effort) == (3, 600)
    assert ledger.answered(ASK.model, ASK.effort, most=2) == (2, 500)


def test_it_is_found_by_an_index_however_many_calls_there_are(ledger: Ledger, path: Path) -> None:
    ledger.settle(ledger.enter(ASK), OK)
    with closing(sqlite3.connect(path)) as other:
        plan = " ".join(
            row[3]
            for row in other.execute(
                """EXPLAIN QUERY PLAN SELECT output_tokens FROM entries
                   WHERE status = 'ok' AND source = 'live' AND model = ? AND effort = ?
                       AND kind <> 'batch' AND output_tokens IS NOT NULL
                   ORDER BY id DESC LIMIT 1000""",
                ("o3-mini", "high"),
            )
        )
    assert "entries_answered" in plan
    assert "TEMP B-TREE" not in plan
