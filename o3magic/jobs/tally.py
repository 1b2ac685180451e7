"""What a run is told, and what it tells: its limits, its books, what happened so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from o3magic.cost.budgets import Budget
from o3magic.cost.keeping import Keeping
from o3magic.errors import O3Error
from o3magic.events import LABELS
from o3magic.jobs.rate import MOST_DOWN_S
from o3magic.jobs.rows import Answered, Ending
from o3magic.jobs.store import JobStore
from o3magic.talk.books import Place


@dataclass(frozen=True)
class Chosen:
    """How a run goes about it. budget_nano_usd: of the job, in all its runs."""

    width: int = 64
    budget_nano_usd: int | None = None
    budgets: tuple[Budget, ...] = ()
    stop_at_error: bool = False
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    most_down_s: float = MOST_DOWN_S
    system_certificates: bool = False


@dataclass
class Halt:
    """Why a run ended before its rows did: budget, interrupted, error, failed."""

    why: str
    error: Exception | None = None


@dataclass
class Ledgers:
    """Where a run keeps its books, and under which names."""

    store: JobStore
    keeping: Keeping
    place: Place
    hold: int | None = None


@dataclass
class Tally:
    """What happened so far. Written by the run's threads, read by anyone."""

    keys: list[str | None] = field(default_factory=list)
    local: dict[int, O3Error] = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)  # that no file has
    before: int = 0
    asked: int = 0
    errors: int = 0
    spent_nano_usd: int = 0
    unknown: int = 0
    made_up: dict[str, int] = field(default_factory=dict)
    landed: list[tuple[int, Ending]] = field(default_factory=list)
    waiting: int = 0  # rows that are read and not over
    exhausted: bool = False


@dataclass
class Sums:
    """What the rows of a table are together, whenever they were answered.

    made_up  rows that no model answered, by who did: simulated, hand
    """

    made_up: dict[str, int] = field(default_factory=dict)
    cost_nano_usd: int = 0
    unknown: int = 0

    def add(self, row: Answered | Ending, *, charged: bool) -> None:
        """One more row. charged: its cost is counted here, and not with one like it."""
        made_up = row.made_by in LABELS
        if made_up:
            self.made_up[row.made_by] = self.made_up.get(row.made_by, 0) + 1
        if charged and not made_up:
            self.cost_nano_usd += row.cost_nano_usd or 0
            self.unknown += row.cost_nano_usd is None
