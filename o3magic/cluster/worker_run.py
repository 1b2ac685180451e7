"""Rows that a worker asks: one run of them, within a task, with the code that asks everywhere.

What differs is where the gate and the clerk are. A run that nobody wants any more lets nothing
leave, gives what is on its way a moment, and tells the caller how each of its rows ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from o3magic import errors
from o3magic.client.pool import RequestPool
from o3magic.cluster.messages import CloseRun, DaskTask, JobSpec, KnownRows, OpenRun, ReadRows
from o3magic.cluster.remote import RemoteRateLimiter, RemoteWriter
from o3magic.cluster.worker import WorkerJob
from o3magic.errors import LedgerUnavailable, O3Error
from o3magic.rows.context import (
    BudgetExhausted,
    JobFailed,
    PendingRow,
    RowTaken,
    RunContext,
    StopReason,
)
from o3magic.rows.rate_limiter import LimiterClosed
from o3magic.rows.records import RowOutcome
from o3magic.rows.row_template import RequestTemplate
from o3magic.rows.runner import GRACE_S, POLL_S
from o3magic.rows.worker import RowTask
from o3magic.session.spending import LedgerContext


class ChunkRun:
    """A run of rows. `endings` is what became of them, `elsewhere` who was answered for others.

    halt: why it stopped before its rows were over, if it did.
    """

    def __init__(
        self,
        branch: WorkerJob,
        task: DaskTask,
        opened: tuple[JobSpec, RequestTemplate, RequestPool],
    ) -> None:
        self._branch, self.id = branch, branch.number()
        self.spec, self.form, wide = opened
        self.endings: dict[str, RowOutcome] = {}
        self.elsewhere: set[str] = set()
        self.halt: StopReason | None = None
        self._gate = RemoteRateLimiter(branch, self.id, self.spec.width)
        self._clerk = RemoteWriter(branch, self.id, self._gate)
        gate: Any = self._gate
        clerk: Any = self._clerk
        self._desk = RunContext(self.form, wide, gate, clerk, LedgerContext(*self.spec.place))
        self._loop = asyncio.get_running_loop()
        self._queue: deque[PendingRow] = deque()
        self._theirs: list[PendingRow] = []
        self._workers: list[asyncio.Task[None]] = []
        branch.gates[self.id], branch.stops[self.id] = self._gate, self._stop
        branch.write(OpenRun(self.id))
        branch.tell(self.id, "open", task.key)

    async def close(self) -> None:
        """The run is over: its places and whatever it still has are free."""
        self._gate.close()
        try:
            await self._clerk.close()
        finally:
            del self._branch.gates[self.id], self._branch.stops[self.id]
            self._branch.write(CloseRun(self.id))
            self._branch.tell(self.id, "close")
            self._branch.flush()

    async def read(self, keys: Sequence[str], task: DaskTask | None = None) -> KnownRows:
        """Which of these rows are answered, and which of them are charged here."""
        number, said = self._branch.asked()
        self._branch.write(ReadRows(number, self.id, tuple(keys), task))
        known: KnownRows = await said
        return known

    async def ask(self, asks: Sequence[PendingRow]) -> None:
        """Ask these rows, as many at once as the gate lets out."""
        self._queue.extend(asks)
        wide = min(self.spec.width, len(asks))
        self._workers = [asyncio.create_task(self._work()) for _ in range(wide)]
        try:
            await asyncio.gather(*self._workers)
        except asyncio.CancelledError:
            if not self._gate.closed:
                raise  # the station ends
        finally:
            for each in self._workers:
                each.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)
        if self._gate.failed is not None:
            self.halt = self.halt or StopReason("failed", self._gate.failed)
        elif self._gate.closed and self.halt is None:
            self.halt = StopReason("interrupted")

    def _stop(self) -> None:
        """What is on its way has a moment left."""

        def cancel() -> None:
            for each in self._workers:
                each.cancel()

        self._loop.call_later(GRACE_S, cancel)

    async def _work(self) -> None:
        """Ask one row after the other."""
        slot = self._branch.slot()
        try:
            while not self._gate.closed:
                if self._queue:
                    await self._one(self._queue.popleft(), slot)
                elif self._theirs:
                    ask = self._theirs.pop()
                    await self._gate.pause(POLL_S)
                    await self._one(ask, slot)
                else:
                    return
        finally:
            self._branch.free(slot)

    async def _one(self, ask: PendingRow, slot: int) -> None:
        """One row, however it ends."""
        try:
            ending = await RowTask(self._desk, ask, slot).ending()
        except LimiterClosed:
            return
        except BudgetExhausted as short:
            self._halt(StopReason("budget", short.error))
        except RowTaken as other:
            if other.claim == "answered":
                self.elsewhere.add(ask.key)
            else:
                self._theirs.append(ask)
        except JobFailed as fatal:
            self._halt(StopReason("failed", fatal.error))
        except LedgerUnavailable as error:
            self._halt(StopReason("failed", error))
        else:
            self.endings[ask.key] = ending
            if ending.state != "done" and self.spec.stop_at_error:
                self._halt(StopReason("error", error_of(ending)))

    def _halt(self, halt: StopReason) -> None:
        """Let nothing leave any more; what is on its way may land."""
        self.halt = self.halt or halt
        self._gate.close()


def error_of(ending: RowOutcome) -> O3Error:
    """The error that a row ended with."""
    kind: type[O3Error] = getattr(errors, ending.error_kind, O3Error)
    return kind(ending.error)


async def ask_rows(
    branch: WorkerJob, task: DaskTask, asks: Sequence[PendingRow]
) -> StopReason | None:
    """Ask rows that the caller has rendered. Their endings go to its books, not through here."""
    try:
        opened = await branch.opened()
    except O3Error as error:
        return StopReason("failed", error)
    rows = ChunkRun(branch, task, opened)
    try:
        await rows.ask(asks)
        return rows.halt
    finally:
        await rows.close()
