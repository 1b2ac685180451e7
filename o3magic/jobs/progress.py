"""How far a job is: a value to show, and a line of it for terminals."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from o3magic.events import LABELS
from o3magic.money import show_usd

BAR = 24


@dataclass(frozen=True, slots=True)
class Progress:
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
    def left_s(self) -> float | None:
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
        if not self.over and (left_s := self.left_s):
            said.append(f"{span(left_s)} left")
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
        """A bar of blocks, or "" where the number of rows is not known."""
        if not self.total:
            return ""
        full = min(width, self.rows * width // self.total)
        return "█" * full + "░" * (width - full)


def span(seconds: float) -> str:
    """A time for people: `12 s`, `3 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


class Show(Protocol):
    """Where progress is shown. Called from the thread that runs the job's caller."""

    def update(self, progress: Progress) -> None:
        """Show it as it is now; called a few times a second, and at the end."""


class Silent:
    """Shows nothing."""

    def update(self, progress: Progress) -> None:
        """Nothing."""


class Line:
    """One line in a terminal, written over; in a file or a pipe only the last."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._last_s = 0.0
        self._chars = 0

    def update(self, progress: Progress) -> None:
        """Write it, at most five times a second."""
        now, terminal = time.monotonic(), self._stream.isatty()
        if not progress.over and (not terminal or now - self._last_s < 0.2):
            return
        self._last_s = now
        bar = progress.bar()
        text = f"{bar} {progress.words()}".strip()
        if progress.over and progress.said:
            text += f"\n{progress.said}"
        start = "\r" if terminal else ""
        self._stream.write(f"{start}{text.ljust(self._chars)}{chr(10) * progress.over}")
        self._stream.flush()
        self._chars = len(text)
