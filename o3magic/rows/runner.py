"""A run of a job: rows are read as they are needed, asked side by side, and kept as they come.

It has a thread of its own with an event loop: the caller's thread only waits, so that an interrupt
reaches it, and shows how far it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from o3magic import errors
from o3magic.client.pool import RequestPool
from o3magic.errors import BadOption, CassetteError, LedgerUnavailable, O3Error
from o3magic.events import LABELS
from o3magic.rows.context import (
    BudgetExhausted,
    GroupCommitWriter,
    JobFailed,
    LocalLease,
    PendingRow,
    RowTaken,
    RunContext,
    RunOptions,
    RunStats,
    StopReason,
    Stores,
)
from o3magic.rows.progress import JobProgress
from o3magic.rows.rate_limiter import LimiterClosed, RateLimiter
from o3magic.rows.records import Job, RowOutcome
from o3magic.rows.replay import RowReplay
from o3magic.rows.row_template import PromptTemplate, RequestTemplate
from o3magic.rows.sources import RowSource, SourceRow
from o3magic.rows.worker import RowTask
from o3magic.session.provider_selection import ProviderSelector

CHUNK = 64
CHUNK_S = 0.02
POLL_S = 0.25
GRACE_S = 2.0  # for what is on its way when somebody stops: it is paid for already
MOST_LANDED = 8


class RunInput(NamedTuple):
    """What a run has to do: the rows of a job, and how each of them is asked."""

    job: Job
    form: RequestTemplate
    source: RowSource
    filling: PromptTemplate
    chosen: RunOptions
    replaying: RowReplay | None = None
    reach: ProviderSelector | None = None


class RowRunner:
    """One run. `start` it, wait for `done`, then see `tally`, `halt` and `failed`."""

    mortal = "kernel"  # whose death loses calls

    def __init__(self, work: RunInput, ledgers: Stores) -> None:
        self.job, self.form, self.source, self._filling, self._chosen, self._replaying, _ = work
        self._reach = work.reach
        self._ledgers = ledgers
        self.id = secrets.token_hex(8)
        self.tally = RunStats()
        self.done = threading.Event()
        self.halt: StopReason | None = None
        self._short: StopReason | None = None  # a row could not be asked again; the others went on
        self.failed: BaseException | None = None
        self._rows: Iterator[SourceRow] = self.source.rows
        self._seen: set[str] = set()
        self._answered: set[str] = set()
        self._theirs: list[PendingRow] = []
        self._broken: Exception | None = None
        self._began_s = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.desk: RunContext | None = None

    def start(self) -> None:
        """Begin, in a thread."""
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._run,), name="o3magic-job", daemon=True
        ).start()

    def replay(self) -> None:
        """Look up all rows here and now, where each has its answer on a cassette: no thread."""
        try:
            while not self.tally.exhausted and self.halt is None:
                self._pull()
            if self._broken is not None:
                self.halt = StopReason("failed", self._broken)
        finally:
            self.done.set()

    def stop(self, why: str = "interrupted") -> None:
        """End it from another thread: what is on its way may still land for a moment."""
        self.halt = self.halt or StopReason(why)
        if self._loop is not None and not self.done.is_set():
            with suppress(RuntimeError):  # it has ended this moment
                self._loop.call_soon_threadsafe(self._stop, StopReason(why))

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        tally, desk = self.tally, self.desk
        read = len(tally.keys)
        return JobProgress(
            name=self.job.name,
            total=self.source.total if not tally.exhausted else read,
            rows=max(0, read - tally.waiting),
            errors=tally.errors,
            before=tally.before,
            asked=tally.asked,
            flying=desk.flying if desk else 0,
            width=int(desk.gate.width) if desk else 0,
            limited=desk.gate.limited_calls if desk else 0,
            spent_nano_usd=tally.spent_nano_usd,
            unknown=tally.unknown,
            made_up=dict(tally.made_up),
            elapsed_s=time.monotonic() - self._began_s,
            over=self.done.is_set(),
            landed=tuple((place, each.answer) for place, each in tally.landed),
        )

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.failed = error
        finally:
            self.halt = self.halt or self._short
            self.done.set()

    async def _main(self) -> None:
        self._loop, self._hurry = asyncio.get_running_loop(), asyncio.Event()
        chosen, ledgers = self._chosen, self._ledgers
        self._answered = await asyncio.to_thread(ledgers.store.answered, self.job.id)
        clerk = GroupCommitWriter(ledgers, self.job.id, self.id, chosen)
        gate = RateLimiter(
            chosen.width,
            requests_per_min=chosen.requests_per_min,
            tokens_per_min=chosen.tokens_per_min,
            most_down_s=chosen.most_down_s,
        )
        wide = RequestPool(system_certificates=chosen.system_certificates)
        desk = self.desk = RunContext(self.form, wide, gate, clerk, ledgers.place)
        if self._reach is not None:
            desk.leased = LocalLease(self._reach.serving, lambda: self.halt is not None)
        if chosen.budget_nano_usd is not None:
            desk.others = lambda: ledgers.store.running(self.job.id, self.id)
        if self.halt:
            self._stop(self.halt)
        self._queue: asyncio.Queue[PendingRow | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(2 * chosen.width + CHUNK)
        try:
            await self._all()
        finally:
            try:
                await clerk.close()
            finally:
                await wide.close()
                desk.leased.close()
            self.tally.endings |= clerk.unsaved
            if clerk.failed is not None:
                self.halt = StopReason("failed", clerk.failed)

    async def _all(self) -> None:
        """All rows, by as many workers as may be on their way."""
        workers = [asyncio.create_task(self._work(n)) for n in range(self._chosen.width)]
        feeding = asyncio.create_task(self._feed())
        hurry = asyncio.create_task(self._hurry.wait())
        everything = asyncio.gather(feeding, *workers)
        try:
            both: list[asyncio.Future[Any]] = [everything, hurry]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not everything.done():
                await asyncio.wait([everything], timeout=GRACE_S)
            if everything.done():
                await everything
        finally:
            everything.cancel()
            hurry.cancel()
            await asyncio.gather(feeding, *workers, hurry, return_exceptions=True)
            await asyncio.wait([everything])
            if not everything.cancelled():
                everything.exception()

    async def _feed(self) -> None:
        """Read rows a little ahead of those that ask, then wait for those of other kernels."""
        pull: Callable[[], Awaitable[list[PendingRow]]] = self._pull_here
        with ThreadPoolExecutor(1, thread_name_prefix="o3magic-rows") as thread:
            if self.source.total is None:  # the user's iterator may take its time
                loop = asyncio.get_running_loop()
                pull = partial(loop.run_in_executor, thread, self._pull)
            while not self.tally.exhausted and self.halt is None:
                for ask in await pull():
                    await self._put(ask)
        await self._queue.join()
        while self._theirs and self.halt is None:
            await asyncio.sleep(POLL_S)
            theirs, self._theirs = self._theirs, []
            for ask in theirs:
                await self._put(ask)
            await self._queue.join()
        if self._broken is not None:
            self._stop(StopReason("failed", self._broken))
        for _ in range(self._chosen.width):
            self._queue.put_nowait(None)

    async def _put(self, ask: PendingRow) -> None:
        await self._room.acquire()
        self._queue.put_nowait(ask)

    async def _pull_here(self) -> list[PendingRow]:
        await asyncio.sleep(0)
        return self._pull()

    def _pull(self) -> list[PendingRow]:
        """The next rows to be asked, as many as there are within a moment."""
        asks: list[PendingRow] = []
        until_s = time.monotonic() + CHUNK_S
        while len(asks) < CHUNK and self.halt is None:
            try:
                ask = self._ask_of(next(self._rows))
            except StopIteration:
                self.tally.exhausted = True
                break
            except Exception as error:  # the code of the user's own iterator, or a broken cassette
                self.tally.exhausted, self._broken = True, error
                break
            if ask is not None:
                asks.append(ask)
            if time.monotonic() > until_s:
                break
        return asks

    def _ask_of(self, row: SourceRow) -> PendingRow | None:
        """What to ask for a row; None where it has its answer, or can have none."""
        tally, place = self.tally, len(self.tally.keys)
        try:
            prompt = self._filling.fill(row)
            self.form.check(prompt)
            key = self.form.key(prompt)
            if key in self._seen:
                tally.keys.append(key)
                return None
            if self._replaying is not None:
                taped = self._replaying.find(self.form.question(prompt), key)
                if taped is not None:
                    tally.endings[key] = taped
                    self._over(place, taped, asked=False)
                    tally.keys.append(key)
                    self._seen.add(key)
                    return None
        except (CassetteError, BadOption):  # not this row alone
            raise
        except O3Error as error:
            self._cannot(place, error)
            return None
        self._seen.add(key)
        tally.keys.append(key)
        if key in self._answered:
            tally.before += 1
            return None
        tally.waiting += 1
        return PendingRow(key, place, prompt)

    def _cannot(self, place: int, error: O3Error) -> None:
        """A row that cannot be asked at all."""
        self.tally.local[place] = error
        self.tally.keys.append(None)
        self.tally.errors += 1
        if self._chosen.stop_at_error:
            self.halt = self.halt or StopReason("error", error)

    async def _work(self, slot: int) -> None:
        """Ask one row after the other."""
        while (ask := await self._queue.get()) is not None:
            try:
                if self.halt is None:
                    await self._one(ask, slot)
            finally:
                self._queue.task_done()
                self._room.release()

    async def _one(self, ask: PendingRow, slot: int) -> None:
        """One row, however it ends."""
        assert self.desk is not None
        try:
            ending = await RowTask(self.desk, ask, slot).ending()
        except LimiterClosed:
            return
        except BudgetExhausted as short:
            self._stop(StopReason("budget", short.error))
            return
        except RowTaken as other:
            if other.claim == "answered":
                self.tally.before += 1
                self.tally.waiting -= 1
            else:
                self._theirs.append(ask)
            return
        except JobFailed as fatal:
            self._stop(StopReason("failed", fatal.error))
            return
        except LedgerUnavailable as error:
            self._stop(StopReason("failed", error))
            return
        self._over(ask.place, ending)
        self.tally.waiting -= 1
        if ending.state != "done" and self._chosen.stop_at_error:
            kind = getattr(errors, ending.error_kind, O3Error)
            self._stop(StopReason("error", kind(ending.error)))

    def _over(self, place: int, ending: RowOutcome, *, asked: bool = True) -> None:
        """Count a row that is over."""
        tally = self.tally
        tally.asked += asked
        tally.errors += ending.state != "done"
        if ending.state == "open":
            self._short = StopReason("budget")
        if ending.made_by in LABELS:
            tally.made_up[ending.made_by] = tally.made_up.get(ending.made_by, 0) + 1
        if asked:
            tally.spent_nano_usd += ending.cost_nano_usd or 0
            tally.unknown += ending.cost_nano_usd is None
        if ending.state == "done" and len(tally.landed) < MOST_LANDED:
            tally.landed.append((place, ending))

    def _stop(self, halt: StopReason) -> None:
        """Let nothing leave any more; what is on its way may land."""
        self.halt = self.halt or halt
        if self.desk is not None:
            self.desk.gate.close()
        if self.halt.why == "interrupted":
            self._hurry.set()

    def drain(self) -> None:
        """Look at the rows that were not read, so that each of them is accounted for."""
        for row in self._rows:
            try:
                self._ask_of(row)
            except O3Error as error:
                self._cannot(len(self.tally.keys), error)
        self.tally.exhausted = True
