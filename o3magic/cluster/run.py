"""A run whose rows are read here and asked by the workers of a cluster, in tasks of some rows.

Rows are rendered, looked up and counted by `Run`; what differs is who asks. A task that dies with
its worker is Dask's to run again: rows it had answered are answered, and are not asked again.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from o3magic.client.pool import RequestPool
from o3magic.cluster.caller import CallerService, LimiterState
from o3magic.cluster.messages import JobSpec, pack, unpack
from o3magic.cluster.plugin import Cluster, KilledWorker, in_task, pickled
from o3magic.cluster.worker_run import ask_rows, error_of
from o3magic.errors import O3Error
from o3magic.rows.context import (
    GroupCommitWriter,
    PendingRow,
    RunContext,
    RunOptions,
    StopReason,
    Stores,
)
from o3magic.rows.rate_limiter import RateLimiter
from o3magic.rows.records import RowOutcome
from o3magic.rows.row_template import RequestTemplate
from o3magic.rows.runner import GRACE_S, RowRunner, RunInput
from o3magic.schemas.lookup import AnswerType
from o3magic.session.session import Session
from o3magic.session.spending import LedgerContext


def packed_spec(
    session: Session,
    form: RequestTemplate,
    chosen: RunOptions,
    *,
    prompt: str = "",
    folder: Path | None = None,
    flatten: bool = False,
) -> bytes:
    """A job's spec in bytes. Raises BadOption where the schema cannot be sent."""
    plan, wanted = form.plan, form.plan.answer_type
    if wanted is not None:  # without what pydantic has made of it: that is each process's own
        wanted = AnswerType(wanted.name, wanted.python_type)
    place = LedgerContext(session.id, session.notebook, session.cell_key)
    spec = JobSpec(
        plan=replace(plan, call=replace(plan.call, key=None), answer_type=wanted),
        width=chosen.width,
        prompt=prompt,
        folder=str(folder or ""),
        place=(place.session, place.notebook, place.cell_key),
        providers=dict(session.layers.providers),
        system_certificates=chosen.system_certificates,
        stop_at_error=chosen.stop_at_error,
        flatten=flatten,
    )
    return pickled(spec)


def limits_of(chosen: RunOptions) -> dict[str, Any]:
    """What holds the gate of a job back."""
    return {
        "requests_per_min": chosen.requests_per_min,
        "tokens_per_min": chosen.tokens_per_min,
        "most_down_s": chosen.most_down_s,
    }


LEAST_ROWS = 64  # of a task
MOST_BYTES = 1_000_000  # of the prompts of a task
GATHER_S = 0.1  # for a task's rows to be read
TASKS = 2  # for each thread of a worker: one that runs, one that waits
MOST_SHUTDOWN_S = GRACE_S + 3.0


class ClusterRun(RowRunner):
    """One run on a cluster."""

    mortal = "worker"

    def __init__(self, cluster: Cluster, session: Session, work: RunInput, ledgers: Stores) -> None:
        super().__init__(work, ledgers)
        self._cluster, self._spec = cluster, packed_spec(session, self.form, self._chosen)
        self._gate_width = self._chosen.width
        threads = cluster.threads
        rows = max(LEAST_ROWS, 2 * self._gate_width // threads)
        if self.source.total:
            rows = min(rows, -(-self.source.total // threads))
        self._rows_of_a_task = rows
        # So many senders take rows out of the queue, each with one task at a time.
        self._chosen = replace(self._chosen, width=TASKS * threads)
        self._flying = 0
        self._halting: asyncio.Task[None] | None = None
        self._over_keys: set[str] = set()

    async def _main(self) -> None:
        self._loop, self._hurry = asyncio.get_running_loop(), asyncio.Event()
        self._answered = await asyncio.to_thread(self._ledgers.store.answered, self.job.id)
        clerk = GroupCommitWriter(self._ledgers, self.job.id, self.id, self._chosen)
        gate = RateLimiter(self._gate_width)  # stands for the one on the scheduler, to be shown
        self.desk = RunContext(self.form, RequestPool(), gate, clerk, self._ledgers.place)
        self._queue = asyncio.Queue()
        self._room = asyncio.Semaphore(self._chosen.width * self._rows_of_a_task)
        store = self._ledgers.store
        books = CallerService(clerk, store, self.job.id, self.id, self._spec, self)
        serving: asyncio.Task[None] | None = None
        try:
            await self._cluster.begin(self._gate_width, limits_of(self._chosen))
            serving = asyncio.create_task(self._served(books))
            if self.halt:
                self._stop(self.halt)
            await self._all()
        except O3Error as error:
            self.halt = self.halt or StopReason("failed", error)
        finally:
            await self._closed(books, serving)
            await clerk.close()
            self.tally.endings |= clerk.unsaved
            if clerk.failed is not None:
                self.halt = StopReason("failed", clerk.failed)

    async def _served(self, books: CallerService) -> None:
        """Keep the books; where that fails nothing goes on."""
        try:
            await books.serve(self._cluster.exchange)
        except O3Error as error:
            self._stop(StopReason("failed", error))
            self._hurry.set()

    async def _closed(self, books: CallerService, serving: asyncio.Task[None] | None) -> None:
        """Wait for what workers still have to say, but not long, and end it on the scheduler."""
        if serving is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(MOST_SHUTDOWN_S):
                    quiet = asyncio.ensure_future(books.quiet.wait())
                    await asyncio.wait([quiet, serving], return_when=asyncio.FIRST_COMPLETED)
            quiet.cancel()
            await self._cluster.end()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        books.give_up()

    async def _work(self, slot: int) -> None:
        """Send some rows after the other to the cluster."""
        last = False
        while not last:
            asks, last = await self._some()
            try:
                if asks and self.halt is None:
                    await self._send(asks)
            finally:
                for _ in asks:
                    self._queue.task_done()
                    self._room.release()

    async def _some(self) -> tuple[list[PendingRow], bool]:
        """Rows for a task, as many as there are now; and whether there will be no more."""
        asks: list[PendingRow] = []
        size_bytes, until_s = 0, 0.0
        while (ask := await self._queue.get()) is not None:
            asks.append(ask)
            until_s = until_s or time.monotonic() + GATHER_S
            size_bytes += len(ask.prompt) if isinstance(ask.prompt, str) else MOST_BYTES
            if len(asks) >= self._rows_of_a_task or size_bytes >= MOST_BYTES:
                return asks, False
            while self._queue.empty():
                if self.tally.exhausted or time.monotonic() > until_s:
                    return asks, False
                await asyncio.sleep(GATHER_S / 20)
        return asks, True

    async def _send(self, asks: list[PendingRow]) -> None:
        """Have some rows asked by a worker, and wait until they are over."""
        halt: StopReason | None = None
        try:
            while asks:
                before = len(self._over_keys)
                try:
                    halt = await self._asked(asks)
                    break
                except KilledWorker:
                    # Dask gives up a task that several workers died with. As long as the job gets
                    # on, its rows are sent again.
                    if len(self._over_keys) == before:
                        raise
                    asks = [each for each in asks if each.key not in self._over_keys]
        except O3Error as error:
            halt = StopReason("failed", error)
        except Exception as error:
            halt = StopReason("failed", failed(error))
        if halt is not None:
            self._stop(halt)

    async def _asked(self, asks: list[PendingRow]) -> StopReason | None:
        """One task. Raises Unlucky where too many workers died with it."""
        future = self._cluster.submit(task_of_rows, self._cluster.job, pack(asks))
        halt: StopReason | None = await self._cluster.result(future)
        return halt

    def _stop(self, halt: StopReason) -> None:
        """Let nothing leave any more, on any worker."""
        first = self.desk is None or not self.desk.gate.closed
        super()._stop(halt)
        if first or halt.why == "interrupted":
            hurry = halt.why == "interrupted"
            self._halting = asyncio.ensure_future(self._tell(hurry=hurry))

    async def _tell(self, *, hurry: bool) -> None:
        with suppress(O3Error):  # the cluster is gone: nothing leaves there any more
            await self._cluster.halt(hurry=hurry)

    def ended(self, place: int, ending: RowOutcome) -> None:
        """A row is over, or open again."""
        interrupted = ending.state == "open" and ending.error_kind != "OverBudget"
        if interrupted or ending.key in self._over_keys:
            return
        self._over_keys.add(ending.key)
        self._over(place, ending)
        self.tally.waiting -= 1
        if ending.state != "done" and self._chosen.stop_at_error:
            self._stop(StopReason("error", error_of(ending)))

    def before(self, key: str) -> None:
        """A row turned out to be answered already, by another kernel or before a worker died."""
        if key not in self._over_keys:
            self._over_keys.add(key)
            self.tally.before += 1
            self.tally.waiting -= 1

    def stands(self, standing: LimiterState) -> None:
        """How the gate of the scheduler stands."""
        if self.desk is not None:
            self.desk.flying = standing["flying"]
            self.desk.gate.width = standing["width"]
            self.desk.gate.limited_calls = standing["limited"]

    def runs(self, count: int) -> None:
        """Nothing: the tasks say it."""


def failed(error: Exception) -> O3Error:
    """What to say of a task that Dask could not do."""
    return O3Error(
        f"the cluster could not ask some rows: {type(error).__name__}: {error}",
        hint="what is done is kept: the same call goes on from there",
    )


def task_of_rows(job: str, asks: bytes) -> StopReason | None:
    """The task: rows to be asked where it runs."""
    run, task = in_task(job)
    rows: list[PendingRow] = unpack(asks)
    halt: StopReason | None = run(lambda branch: ask_rows(branch, task, rows))
    return halt
