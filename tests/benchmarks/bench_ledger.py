"""What the ledger costs: time per call, and totals over many calls.

    python tests/benchmarks/bench_ledger.py [calls] [rows]

Every store keeps the same call twice, before the request leaves and after the answer came, as the
ledger does. Ratios are to the ledger's own line. Seconds depend on the disk; ratios less so.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

from o3magic.cost.budgets import Budget
from o3magic.cost.ledger import Attempt, Ledger, Outcome
from o3magic.cost.schema import ENTRIES, SUMS
from o3magic.events import Usage
from o3magic.reports.query import build_cost_report

EFFORTS = ("low", "medium", "high")
NAMES = ("session", "provider", "model", "effort", "service_tier", "schema_name", "notebook")
NAMES += ("cell_key", "source", "kind")
OK = Outcome("ok", Usage(1000, 200, 500, 320, 0, 1500), 3_190_000, "o3-mini-2025-01-31")

Line = tuple[str, float, float, float]


def attempt(effort: str, session: str = "s1") -> Attempt:
    return Attempt(session, "openai", "o3-mini", effort, notebook="a.ipynb", cell_key="c0ffee")


def timed(name: str, calls: int, call: Callable[[str], object]) -> Line:
    """Mean, median and 99th percentile of a call, in microseconds."""
    spent_us = []
    for effort, _ in zip(cycle(EFFORTS), range(calls), strict=False):
        began_s = time.perf_counter()
        call(effort)
        spent_us.append((time.perf_counter() - began_s) * 1e6)
    spent_us.sort()
    return (
        name,
        statistics.fmean(spent_us),
        statistics.median(spent_us),
        spent_us[calls * 99 // 100],
    )


def show(title: str, lines: Sequence[Line]) -> None:
    ours = lines[0]
    print(f"\n{title}\n| case | mean us | p50 us | p99 us | x ours (mean) | x ours (p50) |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, mean, median, late in lines:
        ratios = f"{mean / ours[1]:.2f} | {median / ours[2]:.2f}"
        print(f"| {name} | {mean:,.0f} | {median:,.0f} | {late:,.0f} | {ratios} |")


def ledger_line(name: str, path: Path | str, calls: int) -> Line:
    with closing(Ledger(path)) as ledger:
        ledger.totals()
        return timed(name, calls, lambda effort: ledger.settle(ledger.enter(attempt(effort)), OK))


def budget_line(name: str, path: Path | str, calls: int) -> Line:
    """The same call held to three budgets: what it may cost is held, drawn from, given back."""
    budgets = [Budget("session", 10**14), Budget("day", 10**14), Budget("month", 10**14)]
    with closing(Ledger(path)) as ledger:

        def call(effort: str) -> None:
            hold = ledger.hold(10_000_000, budgets, "s1", "a.ipynb")
            row = ledger.enter(attempt(effort), hold=hold, budgets=budgets)
            ledger.settle(row, OK, hold=hold)
            ledger.release(hold)

        return timed(name, calls, call)


def plain_sqlite_line(path: Path, calls: int, journal: str) -> Line:
    """The same table without triggers or indexes: insert, then update, each its own commit."""
    insert = f"""INSERT INTO entries (at_ms, {", ".join(NAMES)}, host, pid, started)
        VALUES (0, {", ".join("?" for _ in NAMES)}, '', 0, '')"""
    update = """UPDATE entries SET status = ?, input_tokens = ?, cached_tokens = ?,
        output_tokens = ?, reasoning_tokens = ?, cost_nano_usd = ? WHERE id = ?"""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute(ENTRIES)

        def call(effort: str) -> None:
            row = connection.execute(insert, [getattr(attempt(effort), n) for n in NAMES]).lastrowid
            connection.execute(update, ("ok", 1000, 200, 500, 320, 3_190_000, row))

        name = f"sqlite3 autocommit, {journal} journal, its default sync=FULL, no totals"
        return timed(name, calls, call)


def json_line(path: Path, calls: int, synced: bool) -> Line:
    with path.open("ab", buffering=0) as file:

        def call(effort: str) -> None:
            for record in (asdict(attempt(effort)), asdict(OK)):
                file.write(json.dumps(record).encode() + b"\n")
                if synced:
                    os.fsync(file.fileno())

        return timed(f"JSONL append{' + fsync' if synced else ', no fsync'}", calls, call)


def fill(ledger: Ledger, rows: int) -> None:
    """Many settled calls in 200 sessions, in one transaction: only reading is measured."""
    with ledger._store.write() as connection:
        connection.executemany(
            """INSERT INTO entries (at_ms, session, provider, model, effort, service_tier,
               schema_name, notebook, cell_key, source, kind, status, input_tokens, cached_tokens,
               output_tokens, reasoning_tokens, cost_nano_usd, host, pid, started)
               VALUES (?, ?, 'openai', 'o3-mini', ?, '', '', 'a.ipynb', 'c0ffee', 'live', 'ask',
               'ok', 1000, 200, 500, 320, 3190000, '', 0, '')""",
            (
                (1_767_225_600_000 + i * 1000, f"s{i * 200 // rows}", EFFORTS[i % 3])
                for i in range(rows)
            ),
        )


def reading(folder: Path, rows: int) -> list[Line]:
    shares = ", ".join(f"sum(ifnull({name}, 0))" for name in SUMS[3:9])
    over_rows = f"SELECT model, effort, count(*), {shares} FROM entries {{}} GROUP BY model, effort"
    with closing(Ledger(folder / "many.db")) as ledger:
        ledger.totals()
        fill(ledger, rows)
        assert sum(t.live.calls for t in ledger.totals()) == rows
        store, one = ledger._store, "WHERE session = 's7'"
        return [
            timed("totals(), all time", 50, lambda _: ledger.totals()),
            timed("totals(session=)", 50, lambda _: ledger.totals(session="s7")),
            timed(
                "costs(), as %o3_cost shows them",
                50,
                lambda _: build_cost_report(ledger, session="s7").text(),
            ),
            timed("SUM over rows, all time", 5, lambda _: store.read(over_rows.format(""))),
            timed("SUM over rows, one session", 50, lambda _: store.read(over_rows.format(one))),
        ]


def main(calls: int = 3000, rows: int = 1_000_000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [
            ledger_line("ledger: enter + settle", folder / "ledger.db", calls),
            budget_line("the same with three budgets", folder / "ledger.db", calls),
            ledger_line("ledger in memory", ":memory:", calls),
            plain_sqlite_line(folder / "delete.db", max(calls // 10, 100), "DELETE"),
            plain_sqlite_line(folder / "wal.db", max(calls // 10, 100), "WAL"),
            json_line(folder / "synced.jsonl", max(calls // 10, 100), synced=True),
            json_line(folder / "plain.jsonl", calls, synced=False),
        ]
        show(f"One call, entered and settled ({calls:,} calls)", lines)
        show(f"Totals by model and effort over {rows:,} calls", reading(folder, rows))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
