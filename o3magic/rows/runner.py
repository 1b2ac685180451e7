"""Run a job: read rows on demand, send them concurrently, and save each outcome at once.

A run has its own thread with an event loop. The caller's thread waits and shows the progress, so
that an interrupt reaches it.
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
GRACE_S = 2.0  # for calls in flight after an interrupt: they are billed anyway
MAX_SAMPLES = 8


class RunInput(NamedTuple):
    """Input of a run: the rows of a job, and how each is sent."""

    job: Job
    form: RequestTemplate
    source: RowSource
    prompt_template: PromptTemplate
    chosen: RunOptions
    replaying: RowReplay | None = None
    reach: ProviderSelector | None = None


class RowRunner:
    """One run of a job: `start` it, wait for `done`, then read `tally`, `halt` and `failed`."""

    mortal = "kernel"  # the process whose end loses calls in flight, for messages

    def __init__(self, work: RunInput, ledgers: Stores) -> None:
        self.job, self.form, self.source, self._filling, self._chosen, self._replaying, _ = work
        self._reach = work.reach
        self._ledgers = ledgers
        self.id = secrets.token_hex(8)
        self.tally = RunStats()
        self.done = threading.Event()
        self.halt: StopReason | None = None
        self._budget_stop: StopReason | None = None  # no budget for a further call of a row
        self.failed: BaseException | None = None
        self._rows: Iterator[SourceRow] = self.source.rows
        self._seen: set[str] = set()
        self._answered: set[str] = set()
        self._theirs: list[PendingRow] = []
        self._read_error: Exception | None = None
        self._started_s = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.desk: RunContext | None = None

    def start(self) -> None:
        """Run in a new thread."""
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._run,), name="o3magic-job", daemon=True
        ).start()

    def replay(self) -> None:
        """Look up all rows on the cassette, in this thread."""
        try:
            while not self.tally.exhausted and self.halt is None:
                self._pull()
            if self._read_error is not None:
                self.halt = StopReason("failed", self._read_error)
        finally:
            self.done.set()

    def stop(self, why: str = "interrupted") -> None:
        """Stop from another thread. Calls in flight have GRACE_S seconds to end."""
        self.halt = self.halt or StopReason(why)
        if self._loop is not None and not self.done.is_set():
            with suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self._stop, StopReason(why))

    @property
    def progress(self) -> JobProgress:
        """The progress so far."""
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
            elapsed_s=time.monotonic() - self._started_s,
            over=self.done.is_set(),
            landed=tuple((index, outcome.answer) for index, outcome in tally.landed),
        )

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.failed = error
        finally:
            self.halt = self.halt or self._budget_stop
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
            desk.lease = LocalLease(self._reach.serving, lambda: self.halt is not None)
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
                desk.lease.close()
            self.tally.endings |= clerk.unsaved
            if clerk.failed is not None:
                self.halt = StopReason("failed", clerk.failed)

    async def _all(self) -> None:
        """Send all rows, with one task for each slot."""
        workers = [asyncio.create_task(self._work(n)) for n in range(self._chosen.width)]
        feeding = asyncio.create_task(self._feed())
        interrupted = asyncio.create_task(self._hurry.wait())
        everything = asyncio.gather(feeding, *workers)
        try:
            waited: list[asyncio.Future[Any]] = [everything, interrupted]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not everything.done():
                await asyncio.wait([everything], timeout=GRACE_S)
            if everything.done():
                await everything
        finally:
            everything.cancel()
            interrupted.cancel()
            await asyncio.gather(feeding, *workers, interrupted, return_exceptions=True)
            await asyncio.wait([everything])
            if not everything.cancelled():
                everything.exception()

    async def _feed(self) -> None:
        """Read rows slightly ahead of the workers, then wait for those claimed elsewhere."""
        pull: Callable[[], Awaitable[list[PendingRow]]] = self._pull_here
        with ThreadPoolExecutor(1, thread_name_prefix="o3magic-rows") as thread:
            if self.source.total is None:  # the user's iterator may block
                loop = asyncio.get_running_loop()
                pull = partial(loop.run_in_executor, thread, self._pull)
            while not self.tally.exhausted and self.halt is None:
                for row in await pull():
                    await self._put(row)
        await self._queue.join()
        while self._theirs and self.halt is None:
            await asyncio.sleep(POLL_S)
            theirs, self._theirs = self._theirs, []
            for row in theirs:
                await self._put(row)
            await self._queue.join()
        if self._read_error is not None:
            self._stop(StopReason("failed", self._read_error))
        for _ in range(self._chosen.width):
            self._queue.put_nowait(None)

    async def _put(self, row: PendingRow) -> None:
        await self._room.acquire()
        self._queue.put_nowait(row)

    async def _pull_here(self) -> list[PendingRow]:
        await asyncio.sleep(0)
        return self._pull()

    def _pull(self) -> list[PendingRow]:
        """Read the next rows to send: at most CHUNK, within about CHUNK_S seconds."""
        rows: list[PendingRow] = []
        until_s = time.monotonic() + CHUNK_S
        while len(rows) < CHUNK and self.halt is None:
            try:
                row = self._prepare_row(next(self._rows))
            except StopIteration:
                self.tally.exhausted = True
                break
            except Exception as error:  # raised by the user's iterator, or a damaged cassette
                self.tally.exhausted, self._read_error = True, error
                break
            if row is not None:
                rows.append(row)
            if time.monotonic() > until_s:
                break
        return rows

    def _prepare_row(self, row: SourceRow) -> PendingRow | None:
        """Return the row to send, or None where it is answered or has no valid prompt."""
        tally, index = self.tally, len(self.tally.keys)
        try:
            prompt = self._filling.fill(row)
            self.form.check(prompt)
            key = self.form.key(prompt)
            if key in self._seen:
                tally.keys.append(key)
                return None
            if self._replaying is not None:
                recorded = self._replaying.find(self.form.question(prompt), key)
                if recorded is not None:
                    tally.endings[key] = recorded
                    self._over(index, recorded, asked=False)
                    tally.keys.append(key)
                    self._seen.add(key)
                    return None
        except (CassetteError, BadOption):  # concerns all rows
            raise
        except O3Error as error:
            self._count_invalid_row(index, error)
            return None
        self._seen.add(key)
        tally.keys.append(key)
        if key in self._answered:
            tally.before += 1
            return None
        tally.waiting += 1
        return PendingRow(key, index, prompt)

    def _count_invalid_row(self, index: int, error: O3Error) -> None:
        """Count a row without a valid prompt."""
        self.tally.local[index] = error
        self.tally.keys.append(None)
        self.tally.errors += 1
        if self._chosen.stop_at_error:
            self.halt = self.halt or StopReason("error", error)

    async def _work(self, slot: int) -> None:
        """Send one row of the queue after the other."""
        while (row := await self._queue.get()) is not None:
            try:
                if self.halt is None:
                    await self._send_row(row, slot)
            finally:
                self._queue.task_done()
                self._room.release()

    async def _send_row(self, row: PendingRow, slot: int) -> None:
        """Send one row, and count its outcome or stop the run."""
        assert self.desk is not None
        try:
            outcome = await RowTask(self.desk, row, slot).ending()
        except LimiterClosed:
            return
        except BudgetExhausted as exhausted:
            self._stop(StopReason("budget", exhausted.error))
            return
        except RowTaken as taken:
            if taken.claim == "answered":
                self.tally.before += 1
                self.tally.waiting -= 1
            else:
                self._theirs.append(row)
            return
        except JobFailed as failed:
            self._stop(StopReason("failed", failed.error))
            return
        except LedgerUnavailable as error:
            self._stop(StopReason("failed", error))
            return
        self._over(row.place, outcome)
        self.tally.waiting -= 1
        if outcome.state != "done" and self._chosen.stop_at_error:
            kind = getattr(errors, outcome.error_kind, O3Error)
            self._stop(StopReason("error", kind(outcome.error)))

    def _over(self, index: int, outcome: RowOutcome, *, asked: bool = True) -> None:
        """Count a finished row."""
        tally = self.tally
        tally.asked += asked
        tally.errors += outcome.state != "done"
        if outcome.state == "open":
            self._budget_stop = StopReason("budget")
        if outcome.made_by in LABELS:
            tally.made_up[outcome.made_by] = tally.made_up.get(outcome.made_by, 0) + 1
        if asked:
            tally.spent_nano_usd += outcome.cost_nano_usd or 0
            tally.unknown += outcome.cost_nano_usd is None
        if outcome.state == "done" and len(tally.landed) < MAX_SAMPLES:
            tally.landed.append((index, outcome))

    def _stop(self, halt: StopReason) -> None:
        """Send no further request; those in flight may end."""
        self.halt = self.halt or halt
        if self.desk is not None:
            self.desk.gate.close()
        if self.halt.why == "interrupted":
            self._hurry.set()

    def drain(self) -> None:
        """Read the remaining rows without sending them, so that the table has all rows."""
        for row in self._rows:
            try:
                self._prepare_row(row)
            except O3Error as error:
                self._count_invalid_row(len(self.tally.keys), error)
        self.tally.exhausted = True
