"""What a run is told, and what it tells: its limits, its books, what happened so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from o3magic.cost.budgets import Budget
from o3magic.cost.keeping import Keeping
from o3magic.errors import O3Error
from o3magic.jobs.rate import MOST_DOWN_S
from o3magic.jobs.rows import Ending
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
    landed: list[tuple[int, Ending]] = field(default_factory=list)
    waiting: int = 0  # rows that are read and not over
    exhausted: bool = False
