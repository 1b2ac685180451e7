"""The door of `distributed`: o3magic as a plugin of scheduler and workers, and the caller's client.

The plugins only pass on: see `coordinator` and `station`.
"""

from __future__ import annotations

import asyncio
import pydoc
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import distributed
from distributed.protocol import pickle

from o3magic.cluster.coordinator import OP, Coordinator
from o3magic.cluster.messages import DaskTask
from o3magic.cluster.worker import WorkerJob, WorkerService
from o3magic.errors import BadOption, O3Error
from o3magic.version import __version__

KilledWorker = distributed.KilledWorker  # a task that was on too many workers when they died
CALLS, CALL_S = 3, 0.2
VERSION = "o3magic.version.__version__"
WorkerCall = Callable[[WorkerJob], Coroutine[Any, Any, Any]]


class SchedulerExtension(distributed.SchedulerPlugin):
    """The coordinator on a scheduler."""

    name = "o3magic-scheduler"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Answer callers and workers from here on."""

        def send(worker: str, message: dict[str, Any]) -> None:
            if worker in scheduler.stream_comms:
                scheduler.send_all({}, {worker: [message]})

        self.coordinator = here = Coordinator(send)
        scheduler.handlers |= {
            "o3magic_begin": here.begin,
            "o3magic_exchange": here.exchange,
            "o3magic_halt": here.halt,
            "o3magic_end": here.end,
        }
        scheduler.stream_handlers[OP] = here.heard

    def remove_worker(self, scheduler: Any, worker: str, **more: Any) -> None:
        """A worker is gone."""
        self.coordinator.worker_gone(worker)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A client is gone."""
        self.coordinator.client_gone(client)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **more: Any) -> None:
        """A task that was being worked on is not wanted any more."""
        if start == "processing" and finish in ("released", "forgotten"):
            self.coordinator.task_gone(str(key))


class WorkerExtension(distributed.WorkerPlugin):
    """The station on a worker."""

    name = "o3magic-worker"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Answer tasks and the scheduler from here on."""

        def send(message: dict[str, Any]) -> None:
            with suppress(RuntimeError):  # the worker has ended this moment
                worker.loop.add_callback(worker.batched_send, message)

        self.station = WorkerService(send)
        worker.stream_handlers[OP] = self.station.heard

    def teardown(self, worker: Any) -> None:
        """Stop asking."""
        self.station.close()


def in_task(job: str) -> tuple[Callable[[WorkerCall], Any], DaskTask]:
    """What does a piece of work for the task that runs here, and the task.

    Raises O3Error outside the cluster of its client.
    """
    try:
        worker = distributed.get_worker()
        part: Any = worker.plugins[WorkerExtension.name]
    except (ValueError, KeyError):
        raise O3Error(
            "rows are asked by the workers of the cluster they were given to o3.map with",
            hint="compute them with that client: client.compute(rows).result()",
        ) from None
    return partial(part.station.run, job), DaskTask.of(worker.get_current_task())


def pickled(value: Any) -> bytes:
    """A value in bytes, classes of the notebook in it. Raises BadOption where that fails."""
    try:
        packed: bytes = pickle.dumps(value)  # type: ignore[no-untyped-call]
        return packed
    except Exception as error:
        raise BadOption(
            f"what workers need cannot be sent to them: {type(error).__name__}: {error}",
            hint="define the schema in a module of the workers, or at the notebook's top level",
        ) from None


class Cluster:
    """A client's cluster, made ready for the rows of one job."""

    def __init__(self, client: Any, job: str) -> None:
        self._client, self.job = client, job
        self._sent = 0

    @property
    def threads(self) -> int:
        """How many tasks can run at once."""
        threads: Iterable[int] = self._client.nthreads().values()
        return max(1, sum(threads))

    async def begin(self, width: int, limits: dict[str, Any]) -> None:
        """Make the job known to the scheduler."""
        said = {"client": self._client.id, "width": width, "limits": limits}
        await self._call("begin", **said)

    async def exchange(
        self, after: int, replies: Sequence[tuple[str, bytes]], wait_s: float
    ) -> dict[str, Any] | None:
        """See `Coordinator.exchange`. Raises O3Error where the cluster is gone."""
        said = {"after": after, "replies": [*replies], "wait_s": wait_s}
        found: dict[str, Any] | None = await self._call("exchange", **said)
        return found

    async def halt(self, *, hurry: bool) -> None:
        """Let nothing of the job leave any more."""
        await self._call("halt", hurry=hurry)

    async def end(self) -> None:
        """The job is over; a cluster that is gone needs not be told."""
        with suppress(O3Error):
            await self._call("end")

    async def _call(self, what: str, **said: Any) -> Any:
        """Ask the scheduler something, in the client's own event loop. Raises O3Error."""

        async def call() -> Any:
            return await getattr(self._client.scheduler, f"o3magic_{what}")(job=self.job, **said)

        for _ in range(CALLS):
            if self._client.status != "running":
                break
            try:
                asked = asyncio.run_coroutine_threadsafe(call(), self._client.loop.asyncio_loop)
                return await asyncio.wrap_future(asked)
            except (OSError, RuntimeError):  # a connection broke: the same once more does no harm
                await asyncio.sleep(CALL_S)
        raise gone()

    def submit(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a function on some worker."""
        self._sent += 1
        key = f"o3magic-map-{self.job}-{self._sent}"
        return self._client.submit(work, *args, key=key, pure=False)

    async def result(self, future: Any) -> Any:
        """What a task gave. Raises what it raised."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def done(_: Any) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(over.set)

        future.add_done_callback(done)
        try:
            await over.wait()
            return await asyncio.to_thread(future.result)
        finally:
            future.release()


def gone() -> O3Error:
    """What to say where nobody answers."""
    return O3Error(
        "the cluster is gone: its client or its scheduler was closed",
        hint="what is done is kept; the same call with a new client goes on from there",
    )


def ready(client: Any, job: str) -> Cluster:
    """The cluster of a client, o3magic on it. Raises BadOption, saying what is missing."""
    check(client)
    check_versions(client)
    try:
        client.register_plugin(SchedulerExtension())
        client.register_plugin(WorkerExtension())
    except Exception as error:
        raise BadOption(
            f"the cluster does not take o3magic: {type(error).__name__}: {error}",
            hint="its scheduler must allow pickled plugins (distributed.scheduler.pickle)",
        ) from None
    return Cluster(client, job)


def check(client: Any) -> None:
    """Raise BadOption for what is no client that can be waited with."""
    if not isinstance(client, distributed.Client):
        raise BadOption(
            f"client= is a {type(client).__name__}, not a dask.distributed.Client",
            hint="from dask.distributed import Client; o3.map(..., client=Client())",
        )
    if client.asynchronous:
        raise BadOption(
            "client= is an asynchronous client, which nobody here can wait with",
            hint="o3.map(..., client=Client(address)) without asynchronous=True",
        )
    if client.status != "running":
        raise BadOption(f"client= is {client.status}", hint="give a client that is connected")


def check_versions(client: Any) -> None:
    """Raise BadOption where scheduler or workers have no o3magic, or another version."""
    # A function of the standard library: one of ours could not be sent to those who lack us.
    found = {"the scheduler": client.run_on_scheduler(pydoc.locate, VERSION)}
    found |= client.run(pydoc.locate, VERSION, on_error="return")
    for who, version in found.items():
        if version == __version__:
            continue
        where = who if who == "the scheduler" else f"the worker {who}"
        what = f"o3magic {version}" if isinstance(version, str) else "no o3magic"
        raise BadOption(
            f"{where} has {what}; here it is {__version__}",
            hint=f"install o3magic=={__version__} on the scheduler and on every worker",
        )
