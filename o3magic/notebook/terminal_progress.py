"""How far a job is, outside a notebook: a bar in a terminal, lines in a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from o3magic.events import LABELS
from o3magic.jobs.progress import Lines, Progress, Show

if TYPE_CHECKING:
    from o3magic.render.terminal import TerminalBar

INTERVAL_S = 0.2
MARKS = tuple(label.partition(",")[0] for label in LABELS.values())


class Bar:
    """Draws progress in a terminal: the rows beside a bar, errors, rate and money below it."""

    def __init__(self, drawn: TerminalBar, clock: Callable[[], float] = time.monotonic) -> None:
        self._drawn, self._clock = drawn, clock
        self._next_s = 0.0

    def update(self, progress: Progress) -> None:
        """Draw it, at most five times a second."""
        if self._clock() < self._next_s and not progress.over:
            return
        self._next_s = self._clock() + INTERVAL_S
        first, *rest = progress.words().split(" · ")
        share = progress.rows / progress.total if progress.total else None
        percent = "" if share is None else f" · {min(share, 1.0):.0%}"
        self._drawn.draw(
            1.0 if progress.over and share is None else share,
            f"{first}{percent}",
            [(word, style_of(word)) for word in rest],
        )
        if progress.over:
            self._drawn.end(progress.said)


def style_of(word: str) -> str:
    """How one of the words below the bar is set off."""
    if any(mark in word for mark in MARKS):
        return "bold yellow"
    return "red" if word.endswith((" error", " errors")) else "dim"


def in_terminal() -> Show:
    """Where it is shown: beside what a program prints, not among it."""
    if not sys.stderr.isatty():
        return Lines()
    from o3magic.render.terminal import TerminalBar, bar_console

    console = bar_console(sys.stderr)
    return Lines() if console is None else Bar(TerminalBar(console))
