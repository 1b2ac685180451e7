"""Tools at work: each call in a thread of its own, several at once, none of them for ever.

A thread cannot be ended from outside. One that is left behind is asked to end at its next line of
Python; a call into C that never returns stays until the process ends, and does not hold it up.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import io
import queue
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TextIO, cast

from o3magic.interrupts import interruptible

MOST_CHARS: Final = 100_000
_LOCK: Final = threading.Lock()


class PrintedOutput:
    """What one tool printed, up to a limit: a tool may print without end."""

    def __init__(self) -> None:
        self._made = io.StringIO()
        self._cut = False

    def write(self, text: str) -> None:
        """Take what is printed."""
        room = MOST_CHARS - self._made.tell()
        self._made.write(text[: max(room, 0)])
        self._cut = self._cut or len(text) > room

    def __str__(self) -> str:
        """All of it, and a word where it was cut."""
        return self._made.getvalue() + ("\n[... what followed is cut]" if self._cut else "")


_PRINTED: Final = contextvars.ContextVar[PrintedOutput | None]("o3magic_printed", default=None)


class StdoutRouter:
    """Stands in for `sys.stdout`: what a tool prints goes to the output of its job."""

    def __init__(self, beyond: TextIO) -> None:
        self.beyond = beyond
        self.users = 0

    def write(self, text: str) -> int:
        """Print, to the job's output inside a tool."""
        printed = _PRINTED.get()
        if printed is None:
            return self.beyond.write(text)
        printed.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the output beyond; that of a job needs none."""
        if _PRINTED.get() is None:
            self.beyond.flush()

    def __getattr__(self, name: str) -> Any:
        """Everything else is as it was: encoding, buffer, what a kernel adds."""
        return getattr(self.beyond, name)


@contextmanager
def kept_apart() -> Iterator[StdoutRouter]:
    """While inside, threads may print to places of their own; several may be inside at once."""
    with _LOCK:
        found = sys.stdout
        crossing = found if type(found) is StdoutRouter else StdoutRouter(found)
        crossing.users += 1
        sys.stdout = cast(TextIO, crossing)
    try:
        yield crossing
    finally:
        with _LOCK:
            crossing.users -= 1
            if not crossing.users and cast(Any, sys.stdout) is crossing:
                sys.stdout = crossing.beyond


LOOK_S: Final = 0.1  # how soon a stop from another thread is seen


class LoopThread:
    """An event loop in a thread of its own, started when it is first used.

    All async tools of a process share it: a client that one of them has opened, an
    `httpx.AsyncClient` say, works only in the loop in which it was used first.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine; where a job is left behind, it is cancelled."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        when_left(future.cancel)
        return future.result()

    def _running(self) -> asyncio.AbstractEventLoop:
        with _LOCK:
            # After a fork the thread is not there any more.
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="o3magic-async-tools", daemon=True
                )
                self._thread.start()
            return self._loop


ASYNC_TOOLS: Final = LoopThread()
_LEAVING: Final = contextvars.ContextVar[list[Callable[[], object]]]("o3magic_leaving")


def when_left(end: Callable[[], object]) -> None:
    """Inside a tool: how to end what it waits for, called when it is left behind."""
    _LEAVING.get([]).append(end)


@dataclass(eq=False)
class ToolJob:
    """One piece of work and what came of it; `late`: it did not end in time."""

    work: Callable[[], Any]
    in_thread: bool = True
    value: Any = None
    error: BaseException | None = None
    late: bool = False
    printed: PrintedOutput = field(default_factory=PrintedOutput)
    began_s: float = 0.0
    elapsed_s: float = 0.0
    thread: threading.Thread | None = None
    leaving: list[Callable[[], object]] = field(default_factory=list)


def run_jobs(
    jobs: Sequence[ToolJob],
    timeout_s: float,
    at_once: int,
    stopped: Callable[[], bool] | None = None,
) -> None:
    """Do all jobs, `at_once` of them at a time, each for `timeout_s` at the most.

    Raises KeyboardInterrupt where one of them raises it, where the caller is interrupted, and
    where `stopped` says so; what still runs is left behind.
    """
    waiting, running = [*jobs], list[ToolJob]()
    done: queue.SimpleQueue[ToolJob] = queue.SimpleQueue()
    waiting.reverse()
    with kept_apart():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(_started(waiting.pop(), done))
                _wait(running, done, timeout_s, looking=stopped is not None)
                if stopped is not None and stopped():
                    raise KeyboardInterrupt
        finally:
            for job in running:
                _leave(job)


def _do(job: ToolJob) -> None:
    """Do a job's work; what it prints and raises is kept in it."""
    _PRINTED.set(job.printed)
    _LEAVING.set(job.leaving)
    try:
        job.value = job.work()
    except BaseException as error:
        job.error = error


def run_here(job: ToolJob) -> None:
    """Do a job in this thread, however long it takes. Raises KeyboardInterrupt."""
    job.began_s = time.monotonic()
    with kept_apart(), interruptible():
        contextvars.copy_context().run(_do, job)
    job.elapsed_s = time.monotonic() - job.began_s
    if isinstance(job.error, KeyboardInterrupt):
        raise KeyboardInterrupt


def _started(job: ToolJob, done: queue.SimpleQueue[ToolJob]) -> ToolJob:
    """The job, at work in a daemon thread, in the context of who asked for it."""

    def whole() -> None:
        with suppress(SystemExit):  # from `_leave`
            context.run(_do, job)
            done.put(job)

    context = contextvars.copy_context()
    thread = threading.Thread(target=whole, name="o3magic-tool", daemon=True)
    job.began_s = time.monotonic()
    try:
        thread.start()
        job.thread = thread
    except RuntimeError:  # no threads in a browser: it runs here, however long that takes
        whole()
    return job


def _wait(
    running: list[ToolJob], done: queue.SimpleQueue[ToolJob], timeout_s: float, *, looking: bool
) -> None:
    """Wait until a job ends or is late, or for a moment; those are no longer running."""
    left_s = min(job.began_s for job in running) + timeout_s - time.monotonic()
    if looking:
        left_s = min(left_s, LOOK_S)
    try:
        job: ToolJob | None = done.get(timeout=max(left_s, 0))
    except queue.Empty:
        job = None
    now_s = time.monotonic()
    if job in running:
        job.elapsed_s = now_s - job.began_s
        running.remove(job)
        if isinstance(job.error, KeyboardInterrupt):
            raise KeyboardInterrupt
        return
    for late in [each for each in running if now_s - each.began_s >= timeout_s]:
        late.late, late.elapsed_s = True, now_s - late.began_s
        running.remove(late)
        _leave(late)


def _leave(job: ToolJob) -> None:
    """Ask a thread to end; it may be in C and not hear it."""
    for end in [*job.leaving]:
        with suppress(Exception):  # it may have ended by itself just now
            end()
    thread = job.thread
    if thread is not None and thread.is_alive() and thread.ident is not None:
        ident = ctypes.c_ulong(thread.ident)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))
