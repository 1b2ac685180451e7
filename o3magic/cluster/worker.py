"""What a worker has of o3magic: one thread that asks, shared by all tasks and jobs of the worker.

A task's own thread waits here. Each job has a branch: its plan with this worker's own key, its
connections, and the way out, through which its runs speak to the scheduler and to the caller.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any, TypeVar

from o3magic.client.pool import RequestPool
from o3magic.cluster.coordinator import OP, error_of
from o3magic.cluster.messages import GetSpec, JobSpec, Message, pack, unpack
from o3magic.cluster.remote import RemoteRateLimiter
from o3magic.config import models_folder
from o3magic.errors import NoKey, O3Error
from o3magic.providers import Providers
from o3magic.rows.row_template import RequestTemplate
from o3magic.session.plan import Plan
from o3magic.session.provider_selection import ProviderSelector


def with_own_key(spec: JobSpec) -> tuple[Plan, ProviderSelector]:
    """The plan of a job with this worker's key, and what was opened for it. Raises NoKey.

    The built-in simulator is each worker's own: an address of it would be one of the caller's
    machine.
    """
    plan, provider = spec.plan, spec.plan.call.provider
    providers = Providers(spec.providers, os.environ)
    reach = ProviderSelector(providers, lambda _: True, models_folder(os.environ))
    provider = providers.with_variables(provider)
    if provider.embedded:
        named = replace(plan.profile, provider=provider.name, base_url="")
        provider = reach.provider(named)
    try:
        key = reach.key(provider)
    except NoKey:
        raise NoKey(
            f"{provider.name} needs a key, and {provider.key_env} is not set on the worker "
            f"{socket.gethostname()}, process {os.getpid()}",
            hint=f"set {provider.key_env} in the environment of every worker before it starts: "
            "keys are never sent to workers",
        ) from None
    return replace(plan, call=replace(plan.call, provider=provider, key=key)), reach


GROUP_S = 0.003  # what is said within this time leaves together
T = TypeVar("T")


class WorkerJob:
    """One job on this worker. gates: those of its runs, by number; stops: what cuts a run short."""

    def __init__(self, job: str, send: Callable[[dict[str, Any]], None]) -> None:
        self.job, self._send = job, send
        self.gates: dict[int, RemoteRateLimiter] = {}
        self.stops: dict[int, Callable[[], None]] = {}
        self._said: list[Any] = []
        self._letters: list[Message] = []
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._last = 0
        self._flushing: asyncio.TimerHandle | None = None
        self._opening = asyncio.Lock()
        self._opened: tuple[JobSpec, RequestTemplate, RequestPool] | None = None
        self._reach: ProviderSelector | None = None
        self._slots: list[int] = []
        self._most_slots = 0
        self.closing: asyncio.Future[None] | None = None

    async def opened(self) -> tuple[JobSpec, RequestTemplate, RequestPool]:
        """What the job is, asked of the caller once. Raises NoKey."""
        async with self._opening:
            if self._opened is None:
                number, said = self.asked()
                self.write(GetSpec(number))
                spec: JobSpec = unpack(await said)
                plan, self._reach = with_own_key(spec)
                wide = RequestPool(system_certificates=spec.system_certificates)
                self._opened = (spec, RequestTemplate(plan), wide)
            return self._opened

    def number(self) -> int:
        """A number that nothing else here has."""
        self._last += 1
        return self._last

    def slot(self) -> int:
        """A connection that is free: give it back by `free`."""
        if self._slots:
            return heapq.heappop(self._slots)
        self._most_slots += 1
        return self._most_slots - 1

    def free(self, slot: int) -> None:
        """A connection is not used any more."""
        heapq.heappush(self._slots, slot)

    def asked(self) -> tuple[int, asyncio.Future[Any]]:
        """A number to be answered, and what will be said."""
        number, said = self.number(), asyncio.get_running_loop().create_future()
        self._asked[number] = said
        return number, said

    def forget(self, number: int) -> None:
        """Nobody waits for that answer any more."""
        self._asked.pop(number, None)

    def tell(self, run: int, word: str, *more: Any) -> None:
        """Say something to the gate."""
        self._said.append([run, word, *more])
        self._flush_soon()

    def write(self, letter: Message) -> None:
        """Say something to the caller."""
        self._letters.append(letter)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(GROUP_S, self.flush)

    def flush(self) -> None:
        """Let it leave now."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        said, self._said = self._said, []
        letters, self._letters = self._letters, []
        if said or letters:
            packed = pack(letters) if letters else b""
            self._send({"op": OP, "job": self.job, "said": said, "letters": packed})

    def heard(self, run: int, word: str, more: list[Any]) -> None:
        """What the scheduler says, or the caller through it."""
        if word == "turn":
            self._answer(more[0], more[1])
        elif word == "letters":
            for number, value in unpack(more[0]):
                self._answer(number, value)
        elif word == "hopeless" and run in self.gates:
            self.gates[run].close(error_of(*more))
        elif word == "stop" and run in self.gates:
            self.gates[run].close()
            if more[0]:
                self.stops[run]()

    def _answer(self, number: int, value: Any) -> None:
        said = self._asked.pop(number, None)
        if said is not None and not said.done():
            said.set_result(value)

    async def close(self) -> None:
        """Nothing is asked here any more."""
        for run, gate in self.gates.items():
            gate.close()
            self.stops[run]()
        for said in self._asked.values():
            said.cancel()
        if self._opened is not None:
            await self._opened[2].close()
        if self._reach is not None:
            self._reach.close()


class WorkerService:
    """The thread of a worker. send: gives a message to the scheduler, from any thread."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._branches: dict[str, WorkerJob] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._lock = threading.Lock()

    def run(self, job: str, work: Callable[[WorkerJob], Coroutine[Any, Any, T]]) -> T:
        """Do the work of a task with the branch of its job, and wait for it. Raises O3Error."""
        loop, working = self._running(), self._work(job, work)
        try:
            return asyncio.run_coroutine_threadsafe(working, loop).result()
        except (CancelledError, RuntimeError) as error:
            working.close()
            if isinstance(error, RuntimeError) and not loop.is_closed():
                raise
            raise O3Error(
                "the worker stopped asking: whoever keeps the books of these rows is gone",
                hint="call o3.map again, and compute what it gives while its client is open",
            ) from None

    async def _work(self, job: str, work: Callable[[WorkerJob], Coroutine[Any, Any, T]]) -> T:
        branch = self._branches.get(job)
        if branch is None:
            branch = self._branches[job] = WorkerJob(job, self._send)
        return await work(branch)

    def heard(self, job: str, run: int, said: list[Any]) -> None:
        """A message of the scheduler, from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._heard, job, run, said)

    def _heard(self, job: str, run: int, said: list[Any]) -> None:
        word, *more = said
        branch = self._branches.get(job)
        if branch is None:
            return
        if word == "end":
            del self._branches[job]
            branch.closing = asyncio.ensure_future(branch.close())
            return
        branch.heard(run, word, more)

    def close(self) -> None:
        """Stop asking; what is on its way is lost."""
        with self._lock:
            if self._loop is not None and self._over is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._over.set)

    def _running(self) -> asyncio.AbstractEventLoop:
        """The event loop, in a thread of its own from its first use on."""
        with self._lock:
            if self._loop is None:
                ready = threading.Event()
                threading.Thread(
                    target=lambda: asyncio.run(self._main(ready)), name="o3magic", daemon=True
                ).start()
                ready.wait()
            assert self._loop is not None
            return self._loop

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._over.wait()
        for branch in self._branches.values():
            await branch.close()
