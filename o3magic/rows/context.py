"""State shared by the rows of one run: options, counts, and the writer of both databases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from o3magic.client.pool import RequestPool
from o3magic.client.request import HttpRequest, with_base_url
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
from o3magic.rows.rate_limiter import MAX_OUTAGE_S, RateLimiter
from o3magic.rows.records import ClaimOutcome, ClaimRequest, RowOutcome, StoredRow
from o3magic.rows.row_template import FilledPrompt, RequestTemplate
from o3magic.rows.store import JobStore
from o3magic.session.spending import LedgerContext

# Errors that every row would get.
FATAL_ERRORS = (WrongKey, ModelNotFound, QuotaExhausted)
# After this many refused rows and no answer, the prompt is at fault, not the rows.
MAX_REFUSED_ROWS = 10


@dataclass(frozen=True)
class RunOptions:
    """Options of one run. budget_nano_usd: the budget of the job over all its runs."""

    width: int = 64
    budget_nano_usd: int | None = None
    budgets: tuple[Budget, ...] = ()
    stop_at_error: bool = False
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    most_down_s: float = MAX_OUTAGE_S
    system_certificates: bool = False


@dataclass
class StopReason:
    """Why a run stopped early. why: budget, interrupted, error or failed."""

    why: str
    error: Exception | None = None


@dataclass
class Stores:
    """The job store and the ledger of a run, and the labels of its ledger entries."""

    store: JobStore
    keeping: FallbackLedger
    place: LedgerContext
    hold: int | None = None


@dataclass
class RunStats:
    """Counts of a run so far. Written by the run's threads, readable from any thread.

    keys     the key of each row that was read; None where no prompt could be rendered
    local    errors of those rows, by index
    endings  outcomes that are not in the job store, by key
    landed   the first answered rows, as (index, outcome)
    waiting  rows that were read and are not finished
    """

    keys: list[str | None] = field(default_factory=list)
    local: dict[int, O3Error] = field(default_factory=dict)
    endings: dict[str, RowOutcome] = field(default_factory=dict)
    before: int = 0
    asked: int = 0
    errors: int = 0
    spent_nano_usd: int = 0
    unknown: int = 0
    made_up: dict[str, int] = field(default_factory=dict)
    landed: list[tuple[int, RowOutcome]] = field(default_factory=list)
    waiting: int = 0
    exhausted: bool = False


@dataclass
class RowSums:
    """Sums over the rows of a table, in whichever run they were answered.

    made_up  rows that no model answered, by source: simulated, hand
    unknown  rows of unknown cost
    """

    made_up: dict[str, int] = field(default_factory=dict)
    cost_nano_usd: int = 0
    unknown: int = 0

    def add(self, row: StoredRow | RowOutcome, *, charged: bool) -> None:
        """Add a row. charged: whether its cost counts here, not with an identical row."""
        made_up = row.made_by in LABELS
        if made_up:
            self.made_up[row.made_by] = self.made_up.get(row.made_by, 0) + 1
        if charged and not made_up:
            self.cost_nano_usd += row.cost_nano_usd or 0
            self.unknown += row.cost_nano_usd is None


# The open ledger entry of a call, or why the call may not be sent.
StartResult = OpenEntry | ClaimOutcome | OverBudget


class StartRequest(NamedTuple):
    """A queued request to start a call. again: the run has claimed the row before."""

    wanted: ClaimRequest
    attempt: Attempt
    again: bool
    said: asyncio.Future[StartResult]


@dataclass
class PendingWrites:
    """Writes collected for the next transaction."""

    starts: list[StartRequest] = field(default_factory=list)
    endings: list[RowOutcome] = field(default_factory=list)
    call_outcomes: list[tuple[OpenEntry, Outcome]] = field(default_factory=list)
    settled_keys: list[str] = field(
        default_factory=list
    )  # rows whose last call is settled in this group

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.starts or self.endings or self.call_outcomes)


class GroupCommitWriter:
    """Commits the writes of one run in groups, a transaction for each turn of the event loop.

    unsaved: outcomes that could not be written, by key; failed: the error of that write.
    """

    def __init__(self, ledgers: Stores, job: int, run: str, chosen: RunOptions) -> None:
        self._store, self._job, self._run = ledgers.store, job, run
        self._keeping, self._hold = ledgers.keeping, ledgers.hold
        self._budgets, self._budget_nano_usd = chosen.budgets, chosen.budget_nano_usd
        self.unsaved: dict[str, RowOutcome] = {}
        self.failed: LedgerUnavailable | None = None
        self._bug: Exception | None = None
        self._group = PendingWrites()
        self._settled: list[str] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._write_all())

    async def begin(
        self, wanted: ClaimRequest, attempt: Attempt, *, again: bool = False
    ) -> StartResult:
        """Claim a row and begin its call in the ledger. again: the row is claimed by this run.

        Raises LedgerUnavailable where a database cannot be written.
        """
        result: asyncio.Future[StartResult] = asyncio.get_running_loop().create_future()
        self._group.starts.append(StartRequest(wanted, attempt, again, result))
        self._notify()
        return await result

    def end(
        self, row_outcome: RowOutcome, entry: OpenEntry | None, outcome: Outcome | None
    ) -> None:
        """Save the outcome of a row and settle its last call."""
        self._group.endings.append(row_outcome)
        if entry is not None and outcome is not None:
            self._group.call_outcomes.append((entry, outcome))
            self._group.settled_keys.append(row_outcome.key)
        self._notify()

    def settle(self, entry: OpenEntry, outcome: Outcome) -> None:
        """Settle a call of a row that goes on."""
        self._group.call_outcomes.append((entry, outcome))
        self._notify()

    async def close(self) -> None:
        """Write what is pending, then stop."""
        await self._idle.wait()
        self._task.cancel()
        if self._settled and self.failed is None:
            self._write_group(PendingWrites())
        if self._bug is not None:
            raise self._bug

    def _notify(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _write_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(0)  # collect the requests of all tasks that are ready in this turn
            group, self._group = self._group, PendingWrites()
            self._write_group(group)
            # These calls are settled in the ledger; the job store is updated with the next group.
            self._settled = group.settled_keys
            if not self._group:
                self._idle.set()

    def _write_group(self, group: PendingWrites) -> None:
        """Write a group and set the results of its start requests."""
        try:
            results = self._write(group)
        except Exception as error:
            if isinstance(error, LedgerUnavailable):
                self.failed = self.failed or error
            else:
                self._bug = self._bug or error  # a bug: the waiting tasks must not hang
            for request in group.starts:
                if not request.said.done():
                    request.said.set_exception(error)
            return
        for request, result in zip(group.starts, results, strict=True):
            if not request.said.done():
                request.said.set_result(result)

    def _write(self, group: PendingWrites) -> list[StartResult]:
        """Write a group; return the results of its start requests. Raises LedgerUnavailable."""
        if group.endings or self._settled:
            try:
                self._store.end(self._job, self._run, group.endings, self._settled)
            except LedgerUnavailable as error:
                self.failed = self.failed or error
                self.unsaved |= {outcome.key: outcome for outcome in group.endings}
        if group.call_outcomes:
            self._keeping.settle_many(group.call_outcomes)
        if not group.starts:
            return []
        if self.failed is not None:
            raise self.failed
        return self._begin(group.starts)

    def _begin(self, requests: Sequence[StartRequest]) -> list[StartResult]:
        limit = self._budget_nano_usd
        fresh = [request for request in requests if not request.again]
        wanted = [request.wanted for request in fresh]
        claims = self._store.claim(self._job, self._run, wanted, limit) if fresh else []
        results: dict[int, StartResult] = {
            id(request): claim for request, claim in zip(fresh, claims, strict=True)
        }
        for request in requests:
            if request.again:
                key, worst = request.wanted.key, request.wanted.worst_nano_usd
                # Most calls need no more than what is reserved for the call before.
                reserved = not worst or self._store.hold(self._job, key, worst, limit)
                results[id(request)] = "mine" if reserved else "budget"
        mine = [request for request in requests if results[id(request)] == "mine"]
        entries = self._keeping.enter_many(
            [request.attempt for request in mine], hold=self._hold, budgets=self._budgets
        )
        results |= {id(request): entry for request, entry in zip(mine, entries, strict=True)}
        self._release([r for r in mine if isinstance(results[id(r)], OverBudget)])
        return [results[id(request)] for request in requests]

    def _release(self, rejected: Sequence[StartRequest]) -> None:
        """Release the job's reservations of calls that a budget of the ledger rejects."""
        for request in rejected:
            if request.again:
                self._store.hold(self._job, request.wanted.key, -request.wanted.worst_nano_usd)
        # The others were claimed in this group only.
        fresh = [request.wanted for request in rejected if not request.again]
        if fresh:
            outcomes = [
                RowOutcome(wanted.key, "open", settled_nano_usd=wanted.worst_nano_usd, attempts=0)
                for wanted in fresh
            ]
            self._store.end(self._job, self._run, outcomes)


class PendingRow(NamedTuple):
    """A row that waits to be sent."""

    key: str
    place: int
    prompt: FilledPrompt


class RowTaken(Exception):
    """Another process works on the row (claim "theirs") or has answered it ("answered")."""

    def __init__(self, claim: str) -> None:
        super().__init__(claim)
        self.claim = claim


class BudgetExhausted(Exception):
    """A budget does not cover the call. error: None for the budget of the job."""

    def __init__(self, error: OverBudget | None) -> None:
        super().__init__(str(error or ""))
        self.error = error


class JobFailed(Exception):
    """No row can be answered, so the job stops."""

    def __init__(self, error: O3Error) -> None:
        super().__init__(str(error))
        self.error = error


class LocalLease:
    """Lease of a model server on this machine: from the first call to the end of the run.

    serving: context manager that yields the call with its address; stopped: whether the run stops.
    """

    def __init__(
        self,
        serving: Callable[[HttpRequest, Callable[[], bool]], AbstractContextManager[HttpRequest]]
        | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._serving, self._stopped = serving, stopped
        self._lock = asyncio.Lock()
        self._exit_stack = ExitStack()
        self._address = ""
        self._failed: O3Error | None = None
        self._closed = False

    async def locate(self, call: HttpRequest) -> HttpRequest:
        """Return the call with its address. Raises LocalModelError and Interrupted."""
        if self._serving is None or not call.provider.managed:
            return call
        async with self._lock:
            if self._failed is not None:
                raise self._failed
            if not self._address:
                try:
                    await asyncio.to_thread(self._lease, call)
                except O3Error as error:
                    self._failed = error
                    raise
        return with_base_url(call, self._address)

    def _lease(self, call: HttpRequest) -> None:
        assert self._serving is not None
        leased = self._exit_stack.enter_context(self._serving(call, self._stopped))
        self._address = leased.provider.base_url
        if self._closed:  # the run has ended meanwhile
            self._exit_stack.close()

    def close(self) -> None:
        self._closed = True
        self._exit_stack.close()


@dataclass
class RunContext:
    """State shared by the rows of one run.

    others     counts the rows that other processes work on
    landed     set when a row finishes, as its reservation may be released
    poor_rows  begun rows that wait for a budget
    """

    form: RequestTemplate
    pool: RequestPool
    gate: RateLimiter
    clerk: GroupCommitWriter
    place: LedgerContext
    clock: Callable[[], float] = time.monotonic
    lacks: set[str] = field(default_factory=set)
    lease: LocalLease = field(default_factory=LocalLease)
    others: Callable[[], int] = lambda: 0
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    budget_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    budget_tight: bool = False  # the last call did not fit into a budget
    flying: int = 0
    begun_rows: int = 0
    rows_waiting_for_budget: int = 0  # of them, those that wait for money
    sent_calls: int = 0
    answered_rows: int = 0
    refused_rows: int = 0

    def attempt(self, call: HttpRequest, kind: str, worst: int) -> Attempt:
        """Build the ledger entry of a call. worst: its highest possible cost in nano-dollars."""
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
        """Count a refused row, and return whether the error stops the job."""
        if isinstance(error, RequestRefused | NoAccess):
            self.refused_rows += 1
            return not self.answered_rows and self.refused_rows >= MAX_REFUSED_ROWS
        return isinstance(error, FATAL_ERRORS)
