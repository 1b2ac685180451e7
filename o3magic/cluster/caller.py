"""The caller's side: claims, entries and answers of the rows that workers ask, kept as ever.

One clerk writes for all workers, so that a row is claimed once, whoever wants it. What a worker
had when it died is lost, as with a kernel: its cost is unknown, its rows may be asked again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from o3magic.cluster.coordinator import GONE
from o3magic.cluster.messages import (
    PARKED,
    BeginRow,
    CancelClaim,
    CloseRun,
    DaskTask,
    EndRow,
    GetSpec,
    KnownRows,
    Message,
    OpenRun,
    ReadRows,
    RowGranted,
    SettleRow,
    pack,
    unpack,
)
from o3magic.cost.entries import Outcome
from o3magic.cost.ledger import OpenEntry
from o3magic.errors import O3Error, OverBudget
from o3magic.rows.context import GroupCommitWriter, StartResult
from o3magic.rows.records import ClaimRequest, RowOutcome
from o3magic.rows.store import JobStore
from o3magic.rows.worker import POLL_S, is_over_budget

WAIT_S = 5.0  # how long the scheduler waits for news before it says that there are none
UNSENT = Outcome("interrupted", cost_nano_usd=0)
MOST_COLLECTIONS = 8  # of which it is remembered where a row is charged
MOST_AGAIN = 32  # rows without money that are looked at once more at a time
LimiterState = dict[str, Any]
SendMessages = Callable[[int, Sequence[tuple[str, bytes]], float], Awaitable[dict[str, Any] | None]]


class RowListener(Protocol):
    """Who wants to know what becomes of the rows."""

    def ended(self, place: int, ending: RowOutcome) -> None:
        """A row is over, or open again."""

    def before(self, key: str) -> None:
        """A row turned out to be answered already."""

    def stands(self, standing: LimiterState) -> None:
        """How the gate stands."""

    def runs(self, count: int) -> None:
        """So many runs of rows are under way."""


@dataclass
class HeldRow:
    """A row that a worker has. flying: its last call is not told to be over.

    poor: it waits for money to be asked once more.
    """

    worker: str
    run: int
    wanted: ClaimRequest
    ticket: OpenEntry
    flying: bool = True
    poor: bool = False


class WaitingRow(NamedTuple):
    """A row that waits for money. why: what lacks it; waiting: it was told to."""

    worker: str
    begin: BeginRow
    why: OverBudget | str = "budget"
    waiting: bool = True


class CallerService:
    """The books of one job. `lost` counts the calls of workers that died."""

    def __init__(
        self,
        clerk: GroupCommitWriter,
        store: JobStore,
        job: int,
        run: str,
        spec: bytes,
        hears: RowListener,
    ) -> None:
        self._clerk, self._store, self._job, self._run = clerk, store, job, run
        self._spec, self._hears = spec, hears
        self._held: dict[str, HeldRow] = {}
        self._runs: set[tuple[str, int]] = set()
        self._parked: list[WaitingRow] = []
        self._owners: dict[str, dict[str, int]] = {}
        self._replies: defaultdict[str, list[tuple[int, Any]]] = defaultdict(list)
        self.quiet = asyncio.Event()  # no run is under way
        self.quiet.set()
        self.lost = 0

    async def serve(self, exchange: SendMessages) -> None:
        """Keep the books until the job is over on the scheduler."""
        after, replies = 0, list[tuple[str, bytes]]()
        wait_s = WAIT_S
        while (said := await exchange(after, replies, wait_s)) is not None:
            letters = [each for each in said["letters"] if each[0] > after]
            replies = await self.answer([(worker, packed) for _, worker, packed in letters])
            after = letters[-1][0] if letters else after
            wait_s = POLL_S if self._parked else WAIT_S  # another kernel may free some money
            self._hears.stands(said["standing"])

    async def answer(self, posted: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Write what workers say into the books, all in one; gives what they are told."""
        begins: list[WaitingRow] = []
        late: list[tuple[str, Message]] = []
        posted = [*posted]
        gone = {worker for worker, packed in posted if packed == GONE}
        for worker, packed in posted:
            for letter in unpack(packed) if packed != GONE else ():
                if isinstance(letter, EndRow | SettleRow | OpenRun):
                    self._note(worker, letter)
                elif isinstance(letter, BeginRow):
                    begins.append(WaitingRow(worker, letter, waiting=False))
                else:
                    late.append((worker, letter))
        # What a dead worker wanted was never granted, so that nothing of it was sent.
        self._parked = [each for each in self._parked if each.worker not in gone]
        await self._begin([each for each in begins if each.worker not in gone])
        for worker, letter in late:
            self._reply(worker, letter)
        for worker in gone:
            self._lose([held for held in self._held.values() if held.worker == worker])
            self._runs -= {run for run in self._runs if run[0] == worker}
        self._deny()
        self._count_runs()
        replies, self._replies = self._replies, defaultdict(list)
        return [(worker, pack(said)) for worker, said in replies.items() if worker not in gone]

    def _note(self, worker: str, letter: OpenRun | EndRow | SettleRow) -> None:
        """What needs no reply."""
        if isinstance(letter, OpenRun):
            self._runs.add((worker, letter.run))
            return
        key = letter.ending.key if isinstance(letter, EndRow) else letter.key
        held = self._of(worker, letter.run, key)
        if held is None:
            return
        if isinstance(letter, SettleRow):
            held.flying = False
            self._clerk.settle(held.ticket, letter.outcome)
            return
        ending, outcome = letter.ending, letter.outcome
        if outcome is None and held.flying:  # granted to somebody who had left: nothing was sent
            settled = ending.settled_nano_usd + held.wanted.worst_nano_usd
            ending, outcome = replace(ending, settled_nano_usd=settled), UNSENT
        del self._held[key]
        self._clerk.end(ending, held.ticket if outcome is not None else None, outcome)
        self._hears.ended(held.wanted.place, ending)

    def _of(self, worker: str, run: int, key: str) -> HeldRow | None:
        """The row of a run, if it still has it."""
        held = self._held.get(key)
        return held if held is not None and (held.worker, held.run) == (worker, run) else None

    async def _begin(self, begins: Sequence[WaitingRow]) -> None:
        """Claim and enter rows, all in one group; those that waited for money first."""
        parked, self._parked = self._parked[:MOST_AGAIN], self._parked[MOST_AGAIN:]
        wanted = [*parked, *begins]
        known = [each for each in wanted if not each.begin.again or self._row(each)]
        for each in wanted:
            if each not in known:  # it ended in the meantime
                self._tell(each, "budget")
        asked = [self._begun(each.begin) for each in known]
        said = await asyncio.gather(*asked, return_exceptions=True)
        for each, what in zip(known, said, strict=True):
            self._note_begun(each, what)

    def _begun(self, begin: BeginRow) -> Awaitable[StartResult]:
        return self._clerk.begin(begin.wanted, begin.attempt, again=begin.again)

    def _row(self, each: WaitingRow) -> HeldRow | None:
        return self._of(each.worker, each.begin.run, each.begin.wanted.key)

    def _tell(self, each: WaitingRow, what: Any) -> None:
        number = each.begin.later if each.waiting else each.begin.id
        self._replies[each.worker].append((number, what))

    def _note_begun(self, each: WaitingRow, what: Any) -> None:
        """What came of a beginning."""
        worker, begin, wanted = each.worker, each.begin, each.begin.wanted
        if isinstance(what, OpenEntry):
            self._held[wanted.key] = HeldRow(worker, begin.run, wanted, what)
            self._tell(each, RowGranted(what.entry))
        elif is_over_budget(what) and getattr(what, "scope", "") != "call":
            if begin.again and (held := self._row(each)):
                held.poor = True
            self._parked.append(WaitingRow(worker, begin, what))
            if not each.waiting:
                self._tell(each, PARKED)
        elif isinstance(what, BaseException) and not isinstance(what, O3Error):
            raise what
        else:
            if what == "answered":
                self._hears.before(wanted.key)
            self._tell(each, what)

    def _deny(self) -> None:
        """Nobody has money that may come back: those who wait for some hear that there is none.

        Of rows that are to be asked once more only one: what comes back of it may do for others.
        """
        held = [each for each in self._held.values() if not each.poor]
        if not self._parked or held or self._store.running(self._job, self._run):
            return
        poor = [each for each in self._parked if each.begin.again][:1]
        for each in poor or [*self._parked]:
            self._parked.remove(each)
            if poor and (row := self._row(each)):
                row.poor = False  # it ends now
            self._tell(each, each.why)

    def _reply(self, worker: str, letter: Message) -> None:
        """What is looked at when all else is written."""
        if isinstance(letter, CloseRun):
            ours = [h for h in self._held.values() if (h.worker, h.run) == (worker, letter.run)]
            self._lose(ours)
            self._runs.discard((worker, letter.run))
            self._unpark(worker, letter.run)
        elif isinstance(letter, CancelClaim):
            self._undo(worker, letter)
        elif isinstance(letter, GetSpec):
            self._replies[worker].append((letter.id, self._spec))
        elif isinstance(letter, ReadRows):
            rows = [row for row in self._store.read(self._job, letter.keys) if row.paid]
            charged = self._charged(letter.keys, letter.task) if letter.task else set()
            self._replies[worker].append((letter.id, KnownRows(rows, charged)))

    def _charged(self, keys: Iterable[str], task: DaskTask) -> set[str]:
        """Which of these rows are charged in a partition: the first that had them, always."""
        owners = self._owners.setdefault(task.collection, {})
        if len(self._owners) > MOST_COLLECTIONS:
            del self._owners[next(iter(self._owners))]
        return {key for key in keys if owners.setdefault(key, task.number) == task.number}

    def _unpark(self, worker: str, run: int, key: str | None = None) -> bool:
        """Take rows of a run, or one of them, out of the line; whether any was in it."""
        gone = [
            each
            for each in self._parked
            if (each.worker, each.begin.run) == (worker, run)
            and key in (None, each.begin.wanted.key)
        ]
        self._parked = [each for each in self._parked if each not in gone]
        return bool(gone)

    def _undo(self, worker: str, letter: CancelClaim) -> None:
        """Whoever wanted a row has left."""
        held = self._of(worker, letter.run, letter.key)
        if self._unpark(worker, letter.run, letter.key) or held is None or letter.again:
            return  # a row that was asked before ends by itself
        del self._held[letter.key]
        worst = held.wanted.worst_nano_usd
        undone = RowOutcome(letter.key, "open", settled_nano_usd=worst, attempts=0)
        self._clerk.end(undone, held.ticket, UNSENT)

    def _lose(self, held: Iterable[HeldRow]) -> None:
        """Give up rows whose worker is gone: nobody knows what their last calls cost."""
        lost = [*held]
        for each in lost:
            del self._held[each.wanted.key]
            live = each.ticket.attempt.source == "live"
            outcome = Outcome("error", cost_nano_usd=None if live else 0, error="WorkerLost")
            self._clerk.settle(each.ticket, outcome)
        if lost:
            self._store.lose(self._job, self._run, [each.wanted.key for each in lost])
            self.lost += len(lost)

    def give_up(self) -> None:
        """Lose all that is still held: nobody is there to say how it ended."""
        self._lose(self._held.values())

    def _count_runs(self) -> None:
        self._hears.runs(len(self._runs))
        if self._runs:
            self.quiet.clear()
        else:
            self.quiet.set()
