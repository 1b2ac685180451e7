"""Tools at work: each call in a thread of its own, several at once, none of them for ever.

A thread cannot be ended from outside. One that is left behind is asked to end at its next line of
Python; a call into C that never returns stays until the process ends, and does not hold it up.
"""

from __future__ import annotations

import contextvars
import ctypes
import io
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TextIO, cast

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


class StdoutRouter:
    """Stands in for `sys.stdout`: threads that have a place of their own print there."""

    def __init__(self, beyond: TextIO) -> None:
        self.beyond = beyond
        self.users = 0
        self.places: dict[int, PrintedOutput] = {}

    def write(self, text: str) -> int:
        """Print, here or there."""
        place = self.places.get(threading.get_ident())
        if place is None:
            return self.beyond.write(text)
        place.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what is flushed."""
        if threading.get_ident() not in self.places:
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


_LEAVING: Final = contextvars.ContextVar[list[Callable[[], object]]]("o3magic_leaving")


def when_left(end: Callable[[], object]) -> None:
    """Inside a tool: how to end what it waits for, called when it is left behind."""
    _LEAVING.get([]).append(end)


@dataclass(eq=False)
class ToolJob:
    """One piece of work and what came of it; `late`: it did not end in time."""

    work: Callable[[], Any]
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
    with kept_apart() as crossing:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(_started(waiting.pop(), crossing, done))
                _wait(running, done, timeout_s, looking=stopped is not None)
                if stopped is not None and stopped():
                    raise KeyboardInterrupt
        finally:
            for job in running:
                _leave(job)


def _started(job: ToolJob, crossing: StdoutRouter, done: queue.SimpleQueue[ToolJob]) -> ToolJob:
    """The job, at work in a daemon thread, in the context of who asked for it."""

    def work() -> None:
        me = threading.get_ident()
        crossing.places[me] = job.printed
        _LEAVING.set(job.leaving)
        try:
            job.value = job.work()
        except BaseException as error:
            job.error = error
        finally:
            crossing.places.pop(me, None)
        done.put(job)

    def whole() -> None:
        with suppress(SystemExit):  # from `_leave`
            context.run(work)

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
