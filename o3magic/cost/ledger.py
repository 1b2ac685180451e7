"""The ledger: one row per call, entered before the request leaves, settled after it.

Money is integer nano-dollars, or None where nobody knows; None is counted, never taken for 0.
Only live calls cost: a simulated or replayed one is entered with a cost of 0. All methods may be
called from any thread and raise LedgerUnavailable, with a hint, where the file fails them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from o3magic.cost.entries import LOST, PENDING, Attempt, Entry, Outcome, Sums, Total
from o3magic.cost.process import Owner
from o3magic.cost.schema import GROUPS, MIGRATIONS, ROW, totals_query
from o3magic.cost.store import Store
from o3magic.errors import BadOption, LedgerUnavailable, did_you_mean

__all__ = ["Attempt", "Entry", "Ledger", "Outcome", "Sums", "Total"]

PAGE_ROWS = 1000
LONGEST_TEXT = 500  # names come from servers
# Above these a number is a server's mistake; sums of what is below stay within SQLite's 63 bits.
MOST_TOKENS = 10**12
MOST_NANO_USD = 10**15
# No call takes longer. It decides only where nobody can ask whether the process still lives.
GIVEN_UP_AFTER = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ENTER = """
INSERT INTO entries (at_ms, session, provider, model, effort, service_tier, schema_name, notebook,
                     cell_key, source, kind, cost_nano_usd, host, pid, started)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
SETTLE = """
UPDATE entries
SET status = ?, source = ifnull(?, source), input_tokens = ?, cached_tokens = ?,
    cache_write_tokens = ?, output_tokens = ?, reasoning_tokens = ?, total_tokens = ?,
    cost_nano_usd = CASE ifnull(?, source) WHEN 'live' THEN ? ELSE 0 END,
    model_served = ?, tier_served = ?, price_since = ?, price_source = ?, request_id = ?,
    response_id = ?, error = ?, first_token_s = ?, elapsed_s = ?
WHERE id = ? AND status IN ('pending', 'lost')
"""


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class Ledger:
    """What every call cost, in a SQLite file, or in memory for the path ":memory:".

    Making one touches no file; its first use does. `clock` says the milliseconds since 1970.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Callable[[], int] = now_ms,
        busy_timeout_s: float = 5.0,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
    ) -> None:
        self._store = Store(path, migrations, busy_timeout_s)
        self._clock = clock
        self._owner: Owner | None = None

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._store.path

    def enter(self, attempt: Attempt) -> int:
        """The id of a new row, committed: from now on the call counts, with its cost unknown."""
        names = (
            attempt.session,
            attempt.provider,
            attempt.model,
            attempt.effort,
            attempt.service_tier,
            attempt.schema_name,
            attempt.notebook,
            attempt.cell_key,
            attempt.source,
            attempt.kind,
        )
        cost = None if attempt.source == "live" else 0
        row = (self._clock(), *map(clean, names), cost, *self._here())
        with self._store.write() as connection:
            return connection.execute(ENTER, row).lastrowid or 0

    def settle(self, entry: int, outcome: Outcome) -> None:
        """Complete a row, once: where it is settled already, the first outcome stands.

        A Ctrl-C may fall just behind the commit, and what handles it settles again: that must
        neither fail nor turn a known cost into an unknown one. A row that was given up as lost
        can still be settled, since an answer that came after all is the truth.
        """
        if outcome.status in (PENDING, LOST):
            raise ValueError(f"{outcome.status!r} is the ledger's own word, no outcome")
        row = (*completed(outcome), entry)
        with self._store.write() as connection:
            if connection.execute(SETTLE, row).rowcount:
                return
            if not connection.execute("SELECT 1 FROM entries WHERE id = ?", (entry,)).fetchall():
                raise LedgerUnavailable(f"the ledger {self.path} has no entry {entry} any more")

    def totals(
        self,
        *,
        by: Sequence[str] = ("model", "effort"),
        session: str | None = None,
        notebook: str | None = None,
        since: datetime | None = None,
    ) -> list[Total]:
        """Exact sums per group, in the order of the groups' names; `by=()` is one for all.

        by: of month, day, session, notebook, provider, model, effort, schema_name and kind.
        Models are those asked for; days and months are UTC; a call belongs to the moment it
        was entered. since: any moment, with its time zone.
        """
        for name in by:
            if name not in GROUPS:
                raise BadOption(
                    f"costs cannot be shown by {name!r}",
                    hint=did_you_mean(name, [*GROUPS], f"by one of {', '.join(GROUPS)}"),
                )
        given = {"session": session, "notebook": notebook}
        where = {name: clean(value) for name, value in given.items() if value is not None}
        from_when = {} if since is None else moments(since)
        query = totals_query(by, [*where], since is not None)
        groups: dict[tuple[str, ...], Total] = {}
        for row in self._store.read(query, where | from_when):
            names, source, sums = row[: len(by)], row[len(by)], Sums(*row[len(by) + 1 :])
            known = groups.get(names) or Total(**dict(zip(by, names, strict=True)))
            changed: dict[str, Any] = {source: sums}
            groups[names] = replace(known, **changed)
        return list(groups.values())

    def entries(
        self, *, session: str | None = None, since: datetime | None = None
    ) -> Iterator[Entry]:
        """The rows in the order they were entered, read as they are asked for."""
        after, more = 0, True
        of_session = "" if session is None else "AND session = :session"
        from_then = "" if since is None else "AND at_ms >= :since_ms"
        query = f"""SELECT {ROW} FROM entries WHERE id > :after {of_session} {from_then}
                    ORDER BY id LIMIT {PAGE_ROWS}"""
        given: dict[str, Any] = {} if since is None else moments(since)
        given["session"] = clean(session or "")
        while more:
            rows = self._store.read(query, given | {"after": after})
            yield from map(entry_of, rows)
            more = len(rows) == PAGE_ROWS
            after = rows[-1][0] if rows else after

    def orphans(self) -> list[Entry]:
        """The pending rows of kernels that died, now marked "lost": each is reported once.

        Calls of live processes stay as they are. Of a process on another host, whose life
        nobody can ask about from here, only calls older than a day are given up. The cost of a
        live call among them is None; simulated and replayed ones cost nothing.
        """
        query = f"SELECT {ROW} FROM entries WHERE status = '{PENDING}' ORDER BY id"
        gone = [entry for entry in map(entry_of, self._store.read(query)) if self._gone(entry)]
        if not gone:
            return []
        lost = f"UPDATE entries SET status = '{LOST}' WHERE id = ? AND status = '{PENDING}'"
        with self._store.write() as connection:
            # Another kernel may have reported some of them, and a late answer settled others.
            mine = [entry for entry in gone if connection.execute(lost, (entry.id,)).rowcount]
        return [replace(entry, status=LOST) for entry in mine]

    def close(self) -> None:
        """Let go of the file; a later call opens it again. What was in memory is gone."""
        self._store.close()

    def _here(self) -> Owner:
        if self._owner is None or not self._owner.current():
            self._owner = Owner.here()  # again after a fork: that is another process
        return self._owner

    def _gone(self, entry: Entry) -> bool:
        alive = Owner(entry.host, entry.pid, entry.started).alive()
        return moment(self._clock()) - entry.at > GIVEN_UP_AFTER if alive is None else not alive


def clean(text: str) -> str:
    """What SQLite can keep of a text that may come from anywhere."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")


def credible(count: int | None, most: int) -> int | None:
    """The number, or None for one that no call can have: then nobody knows it."""
    return count if count is not None and 0 <= count <= most else None


def completed(outcome: Outcome) -> tuple[Any, ...]:
    """An outcome as the parameters of `SETTLE`."""
    usage = outcome.usage
    tokens = (
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
    )
    names = (
        outcome.model_served,
        outcome.service_tier,
        outcome.price_since,
        outcome.price_source,
        outcome.request_id,
        outcome.response_id,
        outcome.error,
    )
    return (
        clean(outcome.status),
        outcome.source,
        *(credible(count, MOST_TOKENS) for count in tokens),
        outcome.source,
        credible(outcome.cost_nano_usd, MOST_NANO_USD),
        *map(clean, names),
        outcome.first_token_s,
        outcome.elapsed_s,
    )


def moment(at_ms: int) -> datetime:
    """Milliseconds since 1970 as a UTC time."""
    return EPOCH + timedelta(milliseconds=at_ms)


def moments(since: datetime) -> dict[str, Any]:
    """A moment as the ledger's queries want it: in milliseconds, and the next whole day."""
    if since.tzinfo is None:
        raise ValueError(f"{since} has no time zone")
    # Rows are dated in whole milliseconds: the first that is not before this moment.
    since_ms = -((EPOCH - since) // timedelta(milliseconds=1))
    next_day = moment(since_ms - 1).date() + timedelta(days=1)
    next_day_ms = (next_day - EPOCH.date()) // timedelta(milliseconds=1)
    return {"since_ms": since_ms, "next_day": next_day.isoformat(), "next_day_ms": next_day_ms}


def entry_of(row: Sequence[Any]) -> Entry:
    """A row as a value."""
    return Entry(row[0], moment(row[1]), *row[2:])
