"""Rows that are computed when somebody asks for them: their books are kept from a thread.

It lives as long as the client does, so that a partition may be computed at any time, and again.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from o3magic.cluster.caller import CallerService, LimiterState
from o3magic.cluster.plugin import Cluster
from o3magic.cluster.run import limits_of
from o3magic.errors import LedgerUnavailable, O3Error
from o3magic.rows.context import GroupCommitWriter
from o3magic.rows.map_job import PreparedJob, close_job_store, open_stores, settle_dead_calls
from o3magic.rows.records import RowOutcome
from o3magic.rows.store import JobStore
from o3magic.session.session import Session


class LazyCallerService:
    """The books of a lazy job. `start` them; they end with the client."""

    def __init__(
        self,
        session: Session,
        ready: PreparedJob,
        cluster: Cluster,
        spec: bytes,
        opened: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._session, self._ready, self._cluster = session, ready, cluster
        self._spec, self._opened = spec, opened
        self._run = secrets.token_hex(8)
        self._begun = threading.Event()
        self._failed: Exception | None = None
        self._books: CallerService | None = None
        self._running = False

    def start(self) -> None:
        """Begin, and wait until workers may ask. Raises O3Error."""
        settle_dead_calls(self._session, self._ready.store, self._ready.work.job)
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._main,), name="o3magic-books", daemon=True
        ).start()
        self._begun.wait()
        if self._failed is not None:
            raise self._failed

    def _main(self) -> None:
        try:
            with self._opened(), closing_of(self._ready.store):
                asyncio.run(self._kept())
        except Exception as error:
            self._failed = error
        finally:
            self._begun.set()

    async def _kept(self) -> None:
        """Keep the books until the client is closed."""
        job, chosen = self._ready.work.job, self._ready.work.chosen
        ledgers = open_stores(self._session, self._ready.store, chosen)
        clerk = GroupCommitWriter(ledgers, job.id, self._run, chosen)
        books = CallerService(clerk, ledgers.store, job.id, self._run, self._spec, self)
        self._books = books
        try:
            await self._cluster.begin(chosen.width, limits_of(chosen))
            self._begun.set()
            await books.serve(self._cluster.exchange)
        except O3Error:
            if not self._begun.is_set():
                raise
        finally:
            await self._cluster.end()  # where the books fail, nobody is to wait for them
            books.give_up()
            await clerk.close()
            if ledgers.hold is not None:
                ledgers.keeping.release(ledgers.hold)
            ledgers.store.release(job.id, self._run)

    def ended(self, place: int, ending: RowOutcome) -> None:
        """Nothing: the books have it."""

    def before(self, key: str) -> None:
        """Nothing: the books have it."""

    def stands(self, standing: LimiterState) -> None:
        """Nothing: there is no progress to show."""

    def runs(self, count: int) -> None:
        """The job is running while partitions are."""
        running = count > 0
        if running == self._running:
            return
        self._running = running
        lost = self._books.lost if self._books else 0
        said = f"{lost:,} calls of workers that died: their cost is unknown" if lost else ""
        try:
            state = "running" if running else "done"
            self._ready.store.change(self._ready.work.job.id, state=state, said=said)
        except LedgerUnavailable:
            pass  # it fails where the next answer is to be kept, and then that is said


@contextmanager
def closing_of(store: JobStore) -> Iterator[None]:
    """Work behind which a file of jobs is let go of."""
    try:
        yield
    finally:
        close_job_store(store)
