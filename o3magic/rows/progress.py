"""Progress of a job: the value to display, and a display of lines for files and pipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from o3magic.events import LABELS
from o3magic.money import show_usd

BAR = 24
LINE_S = 30.0  # seconds between two lines in a file


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The progress of a job.

    total      number of rows, None while it is unknown
    rows       finished rows: answered, failed, or answered by an earlier run
    before     of these, the rows answered by an earlier run
    asked      rows sent by this run
    flying     calls in flight; width: the limit of these
    limited    answers with status 429
    unknown    calls of this run of unknown cost
    made_up    rows that no model answered, by source: simulated, hand
    taped      finished with a cassette: the cost is that of all its rows when recorded
    said       message about the end
    landed     the first answered rows, as (index, answer)
    """

    name: str = ""
    total: int | None = None
    rows: int = 0
    errors: int = 0
    before: int = 0
    asked: int = 0
    flying: int = 0
    width: int = 0
    limited: int = 0
    spent_nano_usd: int = 0
    unknown: int = 0
    made_up: Mapping[str, int] = field(default_factory=dict)
    taped: bool = False
    elapsed_s: float = 0.0
    over: bool = False
    said: str = ""
    landed: Sequence[tuple[int, Any]] = ()

    @property
    def per_s(self) -> float:
        """Rows of this run a second."""
        return self.asked / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def projected_nano_usd(self) -> int | None:
        """The projected cost of all rows of this run, or None where it is unknown."""
        if not self.asked or self.total is None or self.unknown:
            return None
        left = max(0, self.total - self.rows)
        return self.spent_nano_usd + round(self.spent_nano_usd / self.asked * left)

    @property
    def remaining_s(self) -> float | None:
        """Projected seconds for the remaining rows, or None."""
        if self.total is None or not self.per_s:
            return None
        return max(0, self.total - self.rows) / self.per_s

    def words(self) -> str:
        """Format one line: rows, errors, sources, rate, cost.

        The line of a finished job has no rate; with a cassette it depends on the answers only. It
        is stored in the notebook, and a replay must show the same.
        """
        of = f" of {self.total:,}" if self.total is not None else ""
        parts = [f"{self.rows:,}{of} rows"]
        if self.before and not self.taped:
            parts.append(f"{self.before:,} from before")
        if self.errors:
            parts.append(f"{self.errors:,} error{'s' * (self.errors != 1)}")
        parts += self.labels()
        if self.asked and not self.over:
            parts.append(f"{self.per_s:,.1f}/s")
        parts.append(self.money())
        projected = self.projected_nano_usd
        if not self.over and projected is not None and self.rows != self.total:
            parts.append(f"about {show_usd(projected)} in all")
        if not self.over and (left_s := self.remaining_s):
            parts.append(f"{format_duration(left_s)} left")
        if self.limited and not self.over:
            parts.append(f"{self.limited:,} times told to slow down, {self.flying} at once")
        return " · ".join(parts)

    def labels(self) -> list[str]:
        """Format the labels of rows that no model answered."""
        parts = []
        for made_by, label in LABELS.items():
            count = self.made_up.get(made_by, 0)
            if count and count == self.rows:
                parts.append(label)
            elif count:
                parts.append(f"{count:,} of {self.rows:,} rows {label.partition(',')[0]}")
        return parts

    def money(self) -> str:
        """Format the cost; with a cassette, that of the recording and of the replay."""
        more = f" + {self.unknown:,} of unknown cost" if self.unknown else ""
        text = f"{show_usd(self.spent_nano_usd)}{more}"
        has_cost = self.spent_nano_usd or self.unknown
        return f"{text} when recorded, $0 on replay" if self.taped and has_cost else text

    def bar(self, width: int = BAR) -> str:
        """Format a progress bar; "" for a finished job, and while the number of rows is unknown."""
        if not self.total or self.over:
            return ""
        halves = min(2 * width, 2 * self.rows * width // self.total)
        return ("━" * (halves // 2) + "╾" * (halves % 2)).ljust(width, "─")


def format_duration(seconds: float) -> str:
    """Format a duration: `12 s`, `3 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


class ProgressDisplay(Protocol):
    """Display of a job's progress. Called in the thread that called `o3.map`."""

    def update(self, progress: JobProgress) -> None:
        """Display the progress; called a few times a second, and at the end."""


class NoProgress:
    """A display that shows nothing."""

    def update(self, progress: JobProgress) -> None:
        """Do nothing."""


class ProgressLines:
    """Writes a line every LINE_S seconds, and the last one, to a file or a pipe."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._clock = stream or sys.stderr, clock
        self._next_s = clock() + LINE_S

    def update(self, progress: JobProgress) -> None:
        """Write a line if it is due."""
        if not progress.over and self._clock() < self._next_s:
            return
        self._next_s = self._clock() + LINE_S
        lines = [progress.words(), *([progress.said] if progress.over and progress.said else [])]
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
