"""The jobs of a sweep, shown as one; those that fit into its width together go side by side."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, TypeVar

from o3magic.errors import Interrupted, O3Error, OverBudget
from o3magic.jobs.progress import Progress, Show

LOOK_S = 0.1
SUMS = ("rows", "errors", "before", "asked", "flying", "limited", "spent_nano_usd", "unknown")
T = TypeVar("T")


class Joined:
    """Shows the jobs of a sweep as one."""

    def __init__(self, show: Show, rows: int, labels: Sequence[str]) -> None:
        self._show, self._total = show, rows * len(labels)
        self._jobs: dict[str, Progress | None] = dict.fromkeys(labels)
        self._began_s = time.monotonic()
        self._over = False

    def put(self, label: str, progress: Progress) -> None:
        """Keep how far a job is."""
        self._jobs[label] = progress

    def show(self) -> None:
        """Show all of them, and their end where each has ended."""
        if not self._over:
            self._over = all(each is not None and each.over for each in self._jobs.values())
            self._show.update(self._sum())

    def end(self, said: str) -> None:
        """Nothing more comes."""
        if not self._over:
            self._over = True
            self._show.update(replace(self._sum(), said=said))

    def _sum(self) -> Progress:
        """All jobs together."""
        begun = [each for each in self._jobs.values() if each is not None] or [Progress()]
        more: dict[str, Any] = {name: sum(getattr(e, name) for e in begun) for name in SUMS}
        names = dict.fromkeys(name for each in begun for name in each.made_up)
        more["made_up"] = {n: sum(each.made_up.get(n, 0) for each in begun) for n in names}
        said = dict.fromkeys(each.said for each in begun if each.said and self._over)
        return replace(
            begun[-1],
            total=self._total,
            over=self._over,
            said="; ".join(said),
            taped=any(each.taped for each in begun),
            landed=begun[-1].landed,
            elapsed_s=time.monotonic() - self._began_s,
            **more,
        )


class Seat:
    """Where one job is shown. `leave` ends it as an interrupt would: it is read while it waits."""

    def __init__(self, joined: Joined, label: str, leave: threading.Event | None = None) -> None:
        self._joined, self._label, self._leave = joined, label, leave

    def update(self, progress: Progress) -> None:
        """Keep it; show it too, where this is the thread that does. Raises KeyboardInterrupt."""
        self._joined.put(self._label, progress)
        if self._leave is None:
            self._joined.show()
        elif self._leave.is_set() and not progress.over:
            raise KeyboardInterrupt


def side_by_side(
    labels: Sequence[str], ask: Callable[[str, Show], T], joined: Joined
) -> dict[str, T | Exception]:
    """What `ask` gives or raises for each. One that fails, or an interrupt, ends the others."""
    if len(labels) == 1:
        return {labels[0]: outcome(ask, labels[0], Seat(joined, labels[0]))}
    leave, interrupted = threading.Event(), False
    with ThreadPoolExecutor(len(labels), thread_name_prefix="o3magic-sweep") as threads:
        jobs = {
            label: threads.submit(
                contextvars.copy_context().run, outcome, ask, label, Seat(joined, label, leave)
            )
            for label in labels
        }
        try:
            while wait(jobs.values(), LOOK_S, FIRST_EXCEPTION).not_done:
                joined.show()
                over = [job.result() for job in jobs.values() if job.done()]
                if any(isinstance(each, Exception) and ends_all(each) for each in over):
                    leave.set()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            leave.set()
    joined.show()
    found = {label: job.result() for label, job in jobs.items()}
    if interrupted and not any(isinstance(each, Interrupted) for each in found.values()):
        raise KeyboardInterrupt  # they had ended by themselves
    return found


def outcome(ask: Callable[[str, Show], T], label: str, show: Show) -> T | Exception:
    """What comes of one."""
    try:
        return ask(label, show)
    except O3Error as error:
        return error


def ends_all(error: Exception) -> bool:
    """Whether it ends the whole sweep: a budget that lets not one row through does not."""
    return not isinstance(error, OverBudget)


def first_of(errors: Sequence[O3Error]) -> O3Error:
    """The one to tell of several: what failed by itself, before what was stopped because of it."""
    return next((each for each in errors if not isinstance(each, Interrupted)), errors[0])


def groups(labels: Sequence[str], rows: int, width: int) -> list[Sequence[str]]:
    """The jobs that go side by side: as many as have all their rows on their way at once."""
    size = max(1, width // max(1, rows))
    return [labels[start : start + size] for start in range(0, len(labels), size)]
