"""What the rows of one run share, and how a row may end without an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from o3magic.client.pool import RequestPool
from o3magic.client.request import HttpRequest, located
from o3magic.cost.budgets import Budget
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import FallbackLedger, OpenEntry
from o3magic.errors import (
    LedgerUnavailable,
    ModelNotFound,
    NoAccess,
    O3Error,
    OverBudget,
    QuotaExhausted,
    RequestFailed,
    RequestRefused,
    WrongKey,
)
from o3magic.events import LABELS
from o3magic.rows.rate_limiter import MOST_DOWN_S, RateLimiter
from o3magic.rows.records import ClaimOutcome, ClaimRequest, RowOutcome, StoredRow
from o3magic.rows.row_template import FilledPrompt, RequestTemplate
from o3magic.rows.store import JobStore
from o3magic.session.spending import LedgerContext


@dataclass(frozen=True)
class RunOptions:
    """How a run goes about it. budget_nano_usd: of the job, in all its runs."""

    width: int = 64
    budget_nano_usd: int | None = None
    budgets: tuple[Budget, ...] = ()
    stop_at_error: bool = False
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    most_down_s: float = MOST_DOWN_S
    system_certificates: bool = False


@dataclass
class StopReason:
    """Why a run ended before its rows did: budget, interrupted, error, failed."""

    why: str
    error: Exception | None = None


@dataclass
class Stores:
    """Where a run keeps its books, and under which names."""

    store: JobStore
    keeping: FallbackLedger
    place: LedgerContext
    hold: int | None = None


@dataclass
class RunStats:
    """What happened so far. Written by the run's threads, read by anyone."""

    keys: list[str | None] = field(default_factory=list)
    local: dict[int, O3Error] = field(default_factory=dict)
    endings: dict[str, RowOutcome] = field(default_factory=dict)  # that no file has
    before: int = 0
    asked: int = 0
    errors: int = 0
    spent_nano_usd: int = 0
    unknown: int = 0
    made_up: dict[str, int] = field(default_factory=dict)
    landed: list[tuple[int, RowOutcome]] = field(default_factory=list)
    waiting: int = 0  # rows that are read and not over
    exhausted: bool = False


@dataclass
class RowSums:
    """What the rows of a table are together, whenever they were answered.

    made_up  rows that no model answered, by who did: simulated, hand
    """

    made_up: dict[str, int] = field(default_factory=dict)
    cost_nano_usd: int = 0
    unknown: int = 0

    def add(self, row: StoredRow | RowOutcome, *, charged: bool) -> None:
        """One more row. charged: its cost is counted here, and not with one like it."""
        made_up = row.made_by in LABELS
        if made_up:
            self.made_up[row.made_by] = self.made_up.get(row.made_by, 0) + 1
        if charged and not made_up:
            self.cost_nano_usd += row.cost_nano_usd or 0
            self.unknown += row.cost_nano_usd is None


# A ticket, or why there is none.
StartResult = OpenEntry | ClaimOutcome | OverBudget


class StartRequest(NamedTuple):
    """A row that wants to be asked; `again`: it is claimed already."""

    wanted: ClaimRequest
    attempt: Attempt
    again: bool
    said: asyncio.Future[StartResult]


@dataclass
class PendingWrites:
    """What is to be written."""

    beginnings: list[StartRequest] = field(default_factory=list)
    endings: list[RowOutcome] = field(default_factory=list)
    outcomes: list[tuple[OpenEntry, Outcome]] = field(default_factory=list)
    settling: list[str] = field(default_factory=list)  # keys whose last call the ledger gets now

    def __bool__(self) -> bool:
        """Whether there is something that somebody waits for."""
        return bool(self.beginnings or self.endings or self.outcomes)


class GroupCommitWriter:
    """Writes for one run of one job. Used in one event loop.

    unsaved: the endings that the file did not take, by key; failed: why.
    """

    def __init__(self, ledgers: Stores, job: int, run: str, chosen: RunOptions) -> None:
        self._store, self._job, self._run = ledgers.store, job, run
        self._keeping, self._hold = ledgers.keeping, ledgers.hold
        self._budgets, self._budget_nano_usd = chosen.budgets, chosen.budget_nano_usd
        self.unsaved: dict[str, RowOutcome] = {}
        self.failed: LedgerUnavailable | None = None
        self._fault: Exception | None = None
        self._group = PendingWrites()
        self._settled: list[str] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._write_all())

    async def begin(
        self, wanted: ClaimRequest, attempt: Attempt, *, again: bool = False
    ) -> StartResult:
        """Claim a row and enter its call. again: one more call of a row that is ours.

        Raises LedgerUnavailable where a file fails.
        """
        said: asyncio.Future[StartResult] = asyncio.get_running_loop().create_future()
        self._group.beginnings.append(StartRequest(wanted, attempt, again, said))
        self._told()
        return await said

    def end(self, ending: RowOutcome, ticket: OpenEntry | None, outcome: Outcome | None) -> None:
        """A row is over, and so is its last call."""
        self._group.endings.append(ending)
        if ticket is not None and outcome is not None:
            self._group.outcomes.append((ticket, outcome))
            self._group.settling.append(ending.key)
        self._told()

    def settle(self, ticket: OpenEntry, outcome: Outcome) -> None:
        """A call is over, its row is not."""
        self._group.outcomes.append((ticket, outcome))
        self._told()

    async def close(self) -> None:
        """Write what is left, and stop."""
        await self._idle.wait()
        self._task.cancel()
        if self._settled and self.failed is None:
            self._do(PendingWrites())
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
            group, self._group = self._group, PendingWrites()
            self._do(group)
            # The ledger has them by now; the file of jobs hears of it with the next group.
            self._settled = group.settling
            if not self._group:
                self._idle.set()

    def _do(self, group: PendingWrites) -> None:
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

    def _write(self, group: PendingWrites) -> list[StartResult]:
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

    def _begin(self, beginnings: Sequence[StartRequest]) -> list[StartResult]:
        limit = self._budget_nano_usd
        fresh = [each for each in beginnings if not each.again]
        wanted = [each.wanted for each in fresh]
        claims = self._store.claim(self._job, self._run, wanted, limit) if fresh else []
        said: dict[int, StartResult] = {
            id(e): claim for e, claim in zip(fresh, claims, strict=True)
        }
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

    def _unhold(self, over: Sequence[StartRequest]) -> None:
        """Give back what the job held for calls that the ledger does not allow: nothing left."""
        for each in over:
            if each.again:
                self._store.hold(self._job, each.wanted.key, -each.wanted.worst_nano_usd)
        # The others were ours only for this moment.
        fresh = [each.wanted for each in over if not each.again]
        if fresh:
            gone = [
                RowOutcome(wanted.key, "open", settled_nano_usd=wanted.worst_nano_usd, attempts=0)
                for wanted in fresh
            ]
            self._store.end(self._job, self._run, gone)


# What is wrong with one row is wrong with all.
FATAL = (WrongKey, ModelNotFound, QuotaExhausted)
# So many rows refused without one answer: the prompt is wrong, not the rows.
MOST_REFUSED = 10


class PendingRow(NamedTuple):
    """A row to be asked."""

    key: str
    place: int
    prompt: FilledPrompt


class RowTaken(Exception):
    """Another process is at the row, or has answered it; `claim` says which."""

    def __init__(self, claim: str) -> None:
        super().__init__(claim)
        self.claim = claim


class BudgetExhausted(Exception):
    """A budget has not as much left; `error` says which, None for that of the job."""

    def __init__(self, error: OverBudget | None) -> None:
        super().__init__(str(error or ""))
        self.error = error


class JobFailed(Exception):
    """No row can be answered: the job stops."""

    def __init__(self, error: O3Error) -> None:
        super().__init__(str(error))
        self.error = error


class LocalLease:
    """The address of the rows' calls. A model on this machine is started for the first of them, and
    is used until the run is over.

    serving: gives a call with an address for as long as it is used; stopped: the run was stopped.
    """

    def __init__(
        self,
        serving: Callable[[HttpRequest, Callable[[], bool]], AbstractContextManager[HttpRequest]]
        | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._serving, self._stopped = serving, stopped
        self._one = asyncio.Lock()
        self._held = ExitStack()
        self._address = ""
        self._failed: O3Error | None = None
        self._closed = False

    async def located(self, call: HttpRequest) -> HttpRequest:
        """The call with its address. Raises LocalModelError and Interrupted."""
        if self._serving is None or not call.provider.managed:
            return call
        async with self._one:
            if self._failed is not None:
                raise self._failed
            if not self._address:
                try:
                    await asyncio.to_thread(self._lease, call)
                except O3Error as error:
                    self._failed = error
                    raise
        return located(call, self._address)

    def _lease(self, call: HttpRequest) -> None:
        assert self._serving is not None
        leased = self._held.enter_context(self._serving(call, self._stopped))
        self._address = leased.provider.base_url
        if self._closed:  # the run did not wait for it
            self._held.close()

    def close(self) -> None:
        """The run is over."""
        self._closed = True
        self._held.close()


@dataclass
class RunContext:
    """What the rows of one run share."""

    form: RequestTemplate
    wide: RequestPool
    gate: RateLimiter
    clerk: GroupCommitWriter
    place: LedgerContext
    clock: Callable[[], float] = time.monotonic
    lacks: set[str] = field(default_factory=set)
    leased: LocalLease = field(default_factory=LocalLease)
    others: Callable[[], int] = lambda: 0  # rows that other processes are at now
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    purse: asyncio.Lock = field(default_factory=asyncio.Lock)
    tight: bool = False  # a budget is nearly spent
    flying: int = 0
    begun_rows: int = 0
    poor_rows: int = 0  # of them, those that wait for money
    sent_calls: int = 0
    answered_rows: int = 0
    refused_rows: int = 0

    def attempt(self, call: HttpRequest, kind: str, worst: int) -> Attempt:
        """What the ledger is told before a call leaves."""
        plan, request = self.form.plan, call.request
        return self.place.attempt(
            call.provider.name,
            request.model,
            effort=request.effort or plan.effort or "",
            tier=request.tier or "",
            schema=plan.profile.schema,
            source="simulated" if call.provider.embedded else "live",
            kind=kind,
            worst_nano_usd=worst,
        )

    def is_fatal(self, error: RequestFailed) -> bool:
        """Whether no row can be answered. Counts those that were refused."""
        if isinstance(error, RequestRefused | NoAccess):
            self.refused_rows += 1
            return not self.answered_rows and self.refused_rows >= MOST_REFUSED
        return isinstance(error, FATAL)
