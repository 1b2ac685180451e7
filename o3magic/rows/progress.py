"""How far a job is: a value to show, and lines of it for files and pipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from o3magic.events import LABELS
from o3magic.money import show_usd

BAR = 24
LINE_S = 30.0  # between the lines in a file


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is.

    total      rows in all, None where nobody knows yet
    rows       that are over: answered, failed, or answered before
    before     of them, those that an earlier call had answered
    flying     calls on their way; width: how many may be
    unknown    calls of this run whose cost nobody knows
    made_up    rows that no model answered, by who did: simulated, hand
    taped      over, and on a cassette: the money is that of all its rows when they were recorded
    landed     the first rows that came, as (place, what is shown of it)
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
        """Rows a second, those that were there before left out."""
        return self.asked / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def projected_nano_usd(self) -> int | None:
        """What all rows of this run will have cost, or None where that cannot be told."""
        if not self.asked or self.total is None or self.unknown:
            return None
        left = max(0, self.total - self.rows)
        return self.spent_nano_usd + round(self.spent_nano_usd / self.asked * left)

    @property
    def remaining_s(self) -> float | None:
        """Seconds that the rest will take, or None."""
        if self.total is None or not self.per_s:
            return None
        return max(0, self.total - self.rows) / self.per_s

    def words(self) -> str:
        """One line: rows, errors, who made them up, rate, money.

        The last one has no rate, and on a cassette nothing but what its rows have: it is stored in
        the notebook, and a replay shows the same.
        """
        of = f" of {self.total:,}" if self.total is not None else ""
        said = [f"{self.rows:,}{of} rows"]
        if self.before and not self.taped:
            said.append(f"{self.before:,} from before")
        if self.errors:
            said.append(f"{self.errors:,} error{'s' * (self.errors != 1)}")
        said += self.labels()
        if self.asked and not self.over:
            said.append(f"{self.per_s:,.1f}/s")
        said.append(self.money())
        whole = self.projected_nano_usd
        if not self.over and whole is not None and self.rows != self.total:
            said.append(f"about {show_usd(whole)} in all")
        if not self.over and (left_s := self.remaining_s):
            said.append(f"{format_duration(left_s)} left")
        if self.limited and not self.over:
            said.append(f"{self.limited:,} times told to slow down, {self.flying} at once")
        return " · ".join(said)

    def labels(self) -> list[str]:
        """What is said of rows that no model answered."""
        said = []
        for made_by, label in LABELS.items():
            count = self.made_up.get(made_by, 0)
            if count and count == self.rows:
                said.append(label)
            elif count:
                said.append(f"{count:,} of {self.rows:,} rows {label.partition(',')[0]}")
        return said

    def money(self) -> str:
        """What is spent; of rows on a cassette, what they cost then and do now."""
        more = f" + {self.unknown:,} of unknown cost" if self.unknown else ""
        said = f"{show_usd(self.spent_nano_usd)}{more}"
        paid = self.spent_nano_usd or self.unknown
        return f"{said} when recorded, $0 on replay" if self.taped and paid else said

    def bar(self, width: int = BAR) -> str:
        """A bar drawn with lines; "" at the end, and where the number of rows is not known."""
        if not self.total or self.over:
            return ""
        halves = min(2 * width, 2 * self.rows * width // self.total)
        return ("━" * (halves // 2) + "╾" * (halves % 2)).ljust(width, "─")


def format_duration(seconds: float) -> str:
    """A time for people: `12 s`, `3 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


class ProgressDisplay(Protocol):
    """Where progress is shown. Called from the thread that runs the job's caller."""

    def update(self, progress: JobProgress) -> None:
        """Show it as it is now; called a few times a second, and at the end."""


class NoProgress:
    """Shows nothing."""

    def update(self, progress: JobProgress) -> None:
        """Nothing."""


class ProgressLines:
    """A line now and then, for a file or a pipe, and the last one."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._clock = stream or sys.stderr, clock
        self._next_s = clock() + LINE_S

    def update(self, progress: JobProgress) -> None:
        """Write one where it is time."""
        if not progress.over and self._clock() < self._next_s:
            return
        self._next_s = self._clock() + LINE_S
        lines = [progress.words(), *([progress.said] if progress.over and progress.said else [])]
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
