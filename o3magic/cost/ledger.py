"""The ledger: one row per call, entered before the request leaves, settled after it.

Money is integer nano-dollars, or None where nobody knows; None is counted, never taken for 0.
Only live calls cost: a simulated or replayed one is entered with a cost of 0. All methods may be
called from any thread and raise LedgerUnavailable, with a hint, where the file fails them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from o3magic.cost.budgets import Budget, BudgetStatus, check, standing
from o3magic.cost.database import MEMORY, Database
from o3magic.cost.entries import LOST, PENDING, Attempt, CallSums, CostTotal, Entry, Outcome
from o3magic.cost.process import ProcessOwner
from o3magic.cost.schema import GROUPS, MIGRATIONS, ROW, totals_query
from o3magic.errors import BadOption, LedgerUnavailable, OverBudget, did_you_mean

if TYPE_CHECKING:
    from sqlite3 import Connection

LONGEST_TEXT = 500  # names come from servers
# Above these a number is a server's mistake; sums of what is below stay within SQLite's 63 bits.
MOST_TOKENS = 10**12
MOST_NANO_USD = 10**15
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        credible(outcome.hosted_calls, MOST_TOKENS) or 0,
        credible(outcome.hosted_nano_usd, MOST_NANO_USD),
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


__all__ = ["Attempt", "CallSums", "CostTotal", "Entry", "Ledger", "Outcome"]

PAGE_ROWS = 1000
# No call takes longer. It decides only where nobody can ask whether the process still lives.
GIVEN_UP_AFTER = timedelta(days=1)

ENTER = """
INSERT INTO entries (at_ms, session, provider, model, effort, service_tier, schema_name, notebook,
                     cell_key, source, kind, conversation, worst_nano_usd, cost_nano_usd,
                     host, pid, started)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
HOLD = "INSERT INTO holds (session, notebook, nano_usd, host, pid, started) VALUES (?,?,?,?,?,?)"
SETTLE = """
UPDATE entries
SET status = ?, source = ifnull(?, source), input_tokens = ?, cached_tokens = ?,
    cache_write_tokens = ?, output_tokens = ?, reasoning_tokens = ?, total_tokens = ?,
    cost_nano_usd = CASE ifnull(?, source) WHEN 'live' THEN ? ELSE 0 END,
    model_served = ?, tier_served = ?, price_since = ?, price_source = ?, request_id = ?,
    response_id = ?, error = ?, first_token_s = ?, elapsed_s = ?, hosted_calls = ?,
    hosted_nano_usd = ?
WHERE id = ? AND status IN ('pending', 'lost')
"""
GIVE_BACK = """
UPDATE holds
SET nano_usd = nano_usd + (
    SELECT iif(cost_nano_usd IS NULL, 0, max(0, worst_nano_usd - cost_nano_usd))
    FROM entries WHERE entries.id = ?
)
WHERE id = ?
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
        self._store = Database(path, migrations, busy_timeout_s)
        self._clock = clock
        self._owner: ProcessOwner | None = None

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._store.path

    def hold(
        self, nano_usd: int, budgets: Sequence[Budget], session: str, notebook: str = ""
    ) -> int:
        """Keep back the most that a question can cost; gives the id of the hold.

        Raises OverBudget where one of the budgets has less left. `release` it in the end.
        """
        nano_usd = min(nano_usd, MOST_NANO_USD)
        names = self._names(session, notebook)
        row = (names["session"], names["notebook"], nano_usd, *self._here())
        with self._store.write() as connection:
            check(connection, nano_usd, budgets, names)
            return connection.execute(HOLD, row).lastrowid or 0

    def release(self, hold: int) -> None:
        """Give back what is left of a hold; what was spent is in the rows."""
        with self._store.write() as connection:
            connection.execute("DELETE FROM holds WHERE id = ?", (hold,))

    def standing(
        self, budgets: Sequence[Budget], session: str, notebook: str = ""
    ) -> list[BudgetStatus]:
        """How budgets stand now, in their order."""
        names = self._names(session, notebook)
        with self._store.look() as connection:
            return [standing(connection, budget, names) for budget in budgets]

    def _names(self, session: str, notebook: str) -> dict[str, str]:
        """What budgets are looked up by."""
        day = moment(self._clock()).date().isoformat()
        names = {"session": clean(session), "notebook": clean(notebook)}
        return {**names, "day": day, "month": day[:7]}

    def enter(
        self, attempt: Attempt, *, hold: int | None = None, budgets: Sequence[Budget] = ()
    ) -> int:
        """The id of a new row, committed: from now on the call counts, with its cost unknown.

        What it can cost is taken out of its hold; for what the hold lacks the budgets are looked
        at again. Raises OverBudget where they have not as much left: then there is no row.
        """
        [entered] = self.enter_many([attempt], hold=hold, budgets=budgets)
        if isinstance(entered, OverBudget):
            raise entered
        return entered

    def enter_many(
        self,
        attempts: Sequence[Attempt],
        *,
        hold: int | None = None,
        budgets: Sequence[Budget] = (),
    ) -> list[int | OverBudget]:
        """The same for several calls in one transaction; an error stands in for a missing row."""
        entered: list[int | OverBudget] = []
        with self._store.write() as connection:
            for attempt in attempts:
                row = self._row(attempt)
                try:
                    if hold is not None and attempt.source == "live":
                        worst = min(attempt.worst_nano_usd, MOST_NANO_USD)
                        self._draw(connection, hold, worst, attempt, budgets)
                except OverBudget as error:
                    entered.append(error)
                else:
                    entered.append(connection.execute(ENTER, row).lastrowid or 0)
        return entered

    def _row(self, attempt: Attempt) -> tuple[Any, ...]:
        """The parameters of `ENTER`."""
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
            attempt.conversation,
        )
        cost = None if attempt.source == "live" else 0
        worst = min(attempt.worst_nano_usd, MOST_NANO_USD)
        return (self._clock(), *map(clean, names), worst, cost, *self._here())

    def _draw(
        self,
        connection: Connection,
        hold: int,
        nano_usd: int,
        attempt: Attempt,
        budgets: Sequence[Budget],
    ) -> None:
        """Take what an attempt can cost out of its hold."""
        found = connection.execute("SELECT nano_usd FROM holds WHERE id = ?", (hold,)).fetchone()
        held = found[0] if found else 0
        if held < nano_usd:
            check(
                connection, nano_usd - held, budgets, self._names(attempt.session, attempt.notebook)
            )
        connection.execute(
            "UPDATE holds SET nano_usd = ? WHERE id = ?", (max(0, held - nano_usd), hold)
        )

    def settle(self, entry: int, outcome: Outcome, *, hold: int | None = None) -> None:
        """Complete a row, once: where it is settled already, the first outcome stands.

        What it could have cost and did not goes back to its hold, for the attempts that follow.

        A Ctrl-C may fall just behind the commit, and what handles it settles again: that must
        neither fail nor turn a known cost into an unknown one. A row that was given up as lost
        can still be settled, since an answer that came after all is the truth.
        """
        self.settle_many([(entry, outcome)], hold=hold)

    def settle_many(
        self, settled: Sequence[tuple[int, Outcome]], *, hold: int | None = None
    ) -> None:
        """The same for several calls in one transaction."""
        for _, outcome in settled:
            if outcome.status in (PENDING, LOST):
                raise ValueError(f"{outcome.status!r} is the ledger's own word, no outcome")
        there = "SELECT 1 FROM entries WHERE id = ?"
        with self._store.write() as connection:
            for entry, outcome in settled:
                if connection.execute(SETTLE, (*completed(outcome), entry)).rowcount:
                    if hold is not None:
                        connection.execute(GIVE_BACK, (entry, hold))
                elif not connection.execute(there, (entry,)).fetchall():
                    raise LedgerUnavailable(f"the ledger {self.path} has no entry {entry} any more")

    def settle_for(self, owner: ProcessOwner, settled: Sequence[tuple[int, Outcome]]) -> int:
        """Settle calls of a process that died before it could; gives how many were open still.

        An entry of somebody else, as in a ledger that was changed for another, is left alone.
        """
        query = f"{SETTLE} AND host = ? AND pid = ? AND started = ?"
        with self._store.write() as connection:
            rows = [(*completed(outcome), entry, *owner) for entry, outcome in settled]
            return sum(connection.execute(query, row).rowcount for row in rows)

    def totals(
        self,
        *,
        by: Sequence[str] = ("model", "effort"),
        session: str | None = None,
        notebook: str | None = None,
        since: datetime | None = None,
    ) -> list[CostTotal]:
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
        groups: dict[tuple[str, ...], CostTotal] = {}
        for row in self._store.read(query, where | from_when):
            names, source, sums = row[: len(by)], row[len(by)], CallSums(*row[len(by) + 1 :])
            known = groups.get(names) or CostTotal(**dict(zip(by, names, strict=True)))
            changed: dict[str, Any] = {source: sums}
            groups[names] = replace(known, **changed)
        return list(groups.values())

    def answered(self, model: str, effort: str, most: int = 1000) -> tuple[int, int]:
        """The last live calls like these that were answered: how many, and their output tokens.

        Those whose tokens are not known are left out, and batches, which are a row for many.
        """
        # The first two conditions word for word as in the index, which is used for nothing else.
        query = """SELECT count(*), ifnull(sum(output_tokens), 0) FROM (
                       SELECT output_tokens FROM entries
                       WHERE status = 'ok' AND source = 'live' AND model = ? AND effort = ?
                           AND kind <> 'batch' AND output_tokens IS NOT NULL
                       ORDER BY id DESC LIMIT ?)"""
        [(calls, tokens)] = self._store.read(query, (clean(model), clean(effort), most))
        return calls, tokens

    def entries(
        self,
        *,
        session: str | None = None,
        conversation: str | None = None,
        since: datetime | None = None,
    ) -> Iterator[Entry]:
        """The rows in the order they were entered, read as they are asked for."""
        after, more = 0, True
        of_session = "" if session is None else "AND session = :session"
        if conversation is not None:  # by its index, which leaves "" out
            of_session += " AND conversation = :conversation AND conversation <> ''"
        from_then = "" if since is None else "AND at_ms >= :since_ms"
        query = f"""SELECT {ROW} FROM entries WHERE id > :after {of_session} {from_then}
                    ORDER BY id LIMIT {PAGE_ROWS}"""
        given: dict[str, Any] = {} if since is None else moments(since)
        given |= {"session": clean(session or ""), "conversation": clean(conversation or "")}
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

    def _here(self) -> ProcessOwner:
        if self._owner is None or not self._owner.current():
            self._owner = ProcessOwner.here()  # again after a fork: that is another process
        return self._owner

    def _gone(self, entry: Entry) -> bool:
        alive = ProcessOwner(entry.host, entry.pid, entry.started).alive()
        return moment(self._clock()) - entry.at > GIVEN_UP_AFTER if alive is None else not alive


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An entry that is not settled yet: which ledger has it, and what it says."""

    ledger: Ledger
    entry: int
    attempt: Attempt
    hold: int | None = None


class FallbackLedger:
    """Keeps the books of a session. `trouble` says why they are in memory, "" if they are not."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.trouble = ""
        self._told = False
        self._looked = False
        self._said: set[str] = set()

    def hold(
        self, nano_usd: int, budgets: Sequence[Budget], session: str, notebook: str = ""
    ) -> int:
        """Keep back what a question can cost. Raises OverBudget, and LedgerUnavailable where the
        file fails: without it nobody knows what is left.
        """
        return self.ledger.hold(nano_usd, budgets, session, notebook)

    def enter(
        self, attempt: Attempt, *, hold: int | None = None, budgets: Sequence[Budget] = ()
    ) -> OpenEntry:
        """A row, before the request leaves. Raises OverBudget; with budgets LedgerUnavailable."""
        try:
            entry = self.ledger.enter(attempt, hold=hold, budgets=budgets)
        except LedgerUnavailable as error:
            if budgets:
                raise
            entry = self._in_memory(error).enter(attempt)
        return OpenEntry(self.ledger, entry, attempt, hold)

    def settle(self, ticket: OpenEntry, outcome: Outcome) -> None:
        """What became of it; in memory where the file does not take it any more."""
        try:
            ticket.ledger.settle(ticket.entry, outcome, hold=ticket.hold)
        except LedgerUnavailable as error:
            memory = self._in_memory(error)
            memory.settle(memory.enter(ticket.attempt), outcome)

    def enter_many(
        self,
        attempts: Sequence[Attempt],
        *,
        hold: int | None = None,
        budgets: Sequence[Budget] = (),
    ) -> list[OpenEntry | OverBudget]:
        """The same for several calls at once; an error stands in for a row that does not fit."""
        try:
            entered = self.ledger.enter_many(attempts, hold=hold, budgets=budgets)
        except LedgerUnavailable as error:
            if budgets:
                raise
            entered = self._in_memory(error).enter_many(attempts)
        ledger = self.ledger
        return [
            each if isinstance(each, OverBudget) else OpenEntry(ledger, each, attempt, None)
            for each, attempt in zip(entered, attempts, strict=True)
        ]

    def settle_many(self, settled: Sequence[tuple[OpenEntry, Outcome]]) -> None:
        """What became of several; all of these tickets are without a hold of their own."""
        mine = [(ticket.entry, outcome) for ticket, outcome in settled]
        try:
            for ledger in {id(ticket.ledger): ticket.ledger for ticket, _ in settled}.values():
                pairs = zip(mine, settled, strict=True)
                same = [each for each, (ticket, _) in pairs if ticket.ledger is ledger]
                ledger.settle_many(same)
        except LedgerUnavailable:
            for ticket, outcome in settled:
                self.settle(ticket, outcome)

    def release(self, hold: int) -> None:
        """Give back what was not spent. A file that fails is no reason to lose an answer."""
        try:
            self.ledger.release(hold)
        except LedgerUnavailable as error:
            self._in_memory(error)

    def standing(
        self, budgets: Sequence[Budget], session: str, notebook: str = ""
    ) -> list[BudgetStatus]:
        """How budgets stand now. Raises LedgerUnavailable."""
        return self.ledger.standing(budgets, session, notebook)

    def news(self) -> str:
        """What the user should know of the books and was not told yet, or ""."""
        if self.trouble:
            told, self._told = self._told, True
            return "" if told else f"{self.trouble}: %o3_cost --csv FILE keeps them"
        if self._looked:
            return ""
        self._looked = True
        try:
            lost = sum(entry.source == "live" for entry in self.ledger.orphans())
        except LedgerUnavailable:
            return ""  # it fails when the next call is entered, and then that is news
        calls = "1 call" if lost == 1 else f"{lost} calls"
        return f"{calls} of kernels that died are in the ledger with a cost unknown" if lost else ""

    def is_new(self, said: str) -> bool:
        """Whether this was not said yet in this session; from now on it was."""
        new = said not in self._said
        self._said.add(said)
        return new

    def close(self) -> None:
        """Let go of the file."""
        self.ledger.close()

    def _in_memory(self, error: LedgerUnavailable) -> Ledger:
        """The ledger that takes over, the file's trouble told once."""
        if not self.trouble:
            self.trouble = f"{error}; from here on the books of this session are in memory only"
            self.ledger.close()
            self.ledger = Ledger(MEMORY)
        return self.ledger
