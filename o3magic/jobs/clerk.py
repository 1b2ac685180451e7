"""What is written of rows, in groups: claims and entries before they leave, answers as they come.

What is ready in one round of the event loop is one group, in one transaction a file: a row is
claimed and entered before its request leaves, and its answer is kept before the ledger is told what
it cost, so that no answer is paid for twice. It is written in the thread of the event loop: SQLite
gives up Python's lock at each statement, and a thread of its own would wait for it at each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.keeping import Ticket
from o3magic.errors import LedgerUnavailable, OverBudget
from o3magic.jobs.rows import Claim, Ending, Wanted
from o3magic.jobs.tally import Chosen, Ledgers

# A ticket, or why there is none.
Begun = Ticket | Claim | OverBudget


class Beginning(NamedTuple):
    """A row that wants to be asked; `again`: it is claimed already."""

    wanted: Wanted
    attempt: Attempt
    again: bool
    said: asyncio.Future[Begun]


@dataclass
class Group:
    """What is to be written."""

    beginnings: list[Beginning] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    outcomes: list[tuple[Ticket, Outcome]] = field(default_factory=list)
    settling: list[str] = field(default_factory=list)  # keys whose last call the ledger gets now

    def __bool__(self) -> bool:
        """Whether there is something that somebody waits for."""
        return bool(self.beginnings or self.endings or self.outcomes)


class Clerk:
    """Writes for one run of one job. Used in one event loop.

    unsaved: the endings that the file did not take, by key; failed: why.
    """

    def __init__(self, ledgers: Ledgers, job: int, run: str, chosen: Chosen) -> None:
        self._store, self._job, self._run = ledgers.store, job, run
        self._keeping, self._hold = ledgers.keeping, ledgers.hold
        self._budgets, self._budget_nano_usd = chosen.budgets, chosen.budget_nano_usd
        self.unsaved: dict[str, Ending] = {}
        self.failed: LedgerUnavailable | None = None
        self._fault: Exception | None = None
        self._group = Group()
        self._settled: list[str] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._write_all())

    async def begin(self, wanted: Wanted, attempt: Attempt, *, again: bool = False) -> Begun:
        """Claim a row and enter its call. again: one more call of a row that is ours.

        Raises LedgerUnavailable where a file fails.
        """
        said: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()
        self._group.beginnings.append(Beginning(wanted, attempt, again, said))
        self._told()
        return await said

    def end(self, ending: Ending, ticket: Ticket | None, outcome: Outcome | None) -> None:
        """A row is over, and so is its last call."""
        self._group.endings.append(ending)
        if ticket is not None and outcome is not None:
            self._group.outcomes.append((ticket, outcome))
            self._group.settling.append(ending.key)
        self._told()

    def settle(self, ticket: Ticket, outcome: Outcome) -> None:
        """A call is over, its row is not."""
        self._group.outcomes.append((ticket, outcome))
        self._told()

    async def close(self) -> None:
        """Write what is left, and stop."""
        await self._idle.wait()
        self._task.cancel()
        if self._settled and self.failed is None:
            self._do(Group())
        if self._fault is not None:
            raise self._fault

    def _told(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _write_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(0)  # whoever is ready in this round of the loop comes along
            group, self._group = self._group, Group()
            self._do(group)
            # The ledger has them by now; the file of jobs hears of it with the next group.
            self._settled = group.settling
            if not self._group:
                self._idle.set()

    def _do(self, group: Group) -> None:
        """Write a group, and tell those who wait what came of it."""
        try:
            begun = self._write(group)
        except Exception as error:
            if isinstance(error, LedgerUnavailable):
                self.failed = self.failed or error
            else:
                self._fault = self._fault or error  # ours: nobody may wait for ever for it
            for each in group.beginnings:
                if not each.said.done():
                    each.said.set_exception(error)
            return
        for each, what in zip(group.beginnings, begun, strict=True):
            if not each.said.done():
                each.said.set_result(what)

    def _write(self, group: Group) -> list[Begun]:
        """What came of the beginnings of a group. Raises LedgerUnavailable."""
        if group.endings or self._settled:
            try:
                self._store.end(self._job, self._run, group.endings, self._settled)
            except LedgerUnavailable as error:
                self.failed = self.failed or error
                self.unsaved |= {each.key: each for each in group.endings}
        if group.outcomes:
            self._keeping.settle_many(group.outcomes)
        if not group.beginnings:
            return []
        if self.failed is not None:
            raise self.failed
        return self._begin(group.beginnings)

    def _begin(self, beginnings: Sequence[Beginning]) -> list[Begun]:
        limit = self._budget_nano_usd
        fresh = [each for each in beginnings if not each.again]
        wanted = [each.wanted for each in fresh]
        claims = self._store.claim(self._job, self._run, wanted, limit) if fresh else []
        said: dict[int, Begun] = {id(e): claim for e, claim in zip(fresh, claims, strict=True)}
        for each in beginnings:
            if each.again:
                key, worst = each.wanted.key, each.wanted.worst_nano_usd
                # Most need nothing more: what their last call held does.
                held = not worst or self._store.hold(self._job, key, worst, limit)
                said[id(each)] = "mine" if held else "budget"
        mine = [each for each in beginnings if said[id(each)] == "mine"]
        entered = self._keeping.enter_many(
            [each.attempt for each in mine], hold=self._hold, budgets=self._budgets
        )
        said |= {id(each): ticket for each, ticket in zip(mine, entered, strict=True)}
        self._unhold([each for each in mine if isinstance(said[id(each)], OverBudget)])
        return [said[id(each)] for each in beginnings]

    def _unhold(self, over: Sequence[Beginning]) -> None:
        """Give back what the job held for calls that the ledger does not allow: nothing left."""
        for each in over:
            if each.again:
                self._store.hold(self._job, each.wanted.key, -each.wanted.worst_nano_usd)
        # The others were ours only for this moment.
        fresh = [each.wanted for each in over if not each.again]
        if fresh:
            gone = [
                Ending(wanted.key, "open", settled_nano_usd=wanted.worst_nano_usd, attempts=0)
                for wanted in fresh
            ]
            self._store.end(self._job, self._run, gone)
