"""What a check finds: values, and the exit codes they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from o3magic.render.literal import plain_text

SAME, DIFFERENT, FAILED, UNREADABLE = 0, 1, 2, 3
WIDEST = 60

Verdict = Literal["same", "different", "failed", "ignored", "skipped", "not run"]


@dataclass(frozen=True)
class Cell:
    """What became of a code cell, and what there is to tell: a diff, or an error."""

    number: int
    id: str
    heading: str
    verdict: Verdict
    told: tuple[str, ...] = ()
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Checked:
    """What became of a notebook.

    problem: why it could not be checked, or "". findings: what is wrong with its cassette.
    """

    path: Path
    cells: tuple[Cell, ...] = ()
    problem: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    updated: bool = False

    @property
    def code(self) -> int:
        """The exit code."""
        if self.problem:
            return UNREADABLE
        if self.of("failed", "not run"):
            return FAILED
        if (self.of("different") and not self.updated) or self.findings:
            return DIFFERENT
        return SAME

    @property
    def elapsed_s(self) -> float:
        """Seconds of all cells."""
        return sum(cell.elapsed_s for cell in self.cells)

    def of(self, *verdicts: Verdict) -> list[Cell]:
        """The cells with one of these verdicts."""
        return [cell for cell in self.cells if cell.verdict in verdicts]


def worst(found: Sequence[Checked]) -> int:
    """The exit code of several notebooks."""
    return max((checked.code for checked in found), default=SAME)


def heading(cell: Any) -> str:
    """The first line of a cell, as a terminal may show it."""
    line = plain_text(cell.source.strip().partition("\n")[0])
    return line if len(line) <= WIDEST else f"{line[:WIDEST]}..."
