"""What one effort of one model came to over all rows: accuracy, cost, time, reasoning. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from statistics import fmean

from o3magic.cost.wording import rank
from o3magic.jobs.sweep.rows import Scored
from o3magic.jobs.sweep.statistics import Interval, interval, quantile
from o3magic.money import usd

MADE_UP = {"simulated": "SIMULATED", "hand": "BY HAND"}


@dataclass(frozen=True)
class Choice:
    """One way to ask, and its rows in the order of the task."""

    label: str
    model: str
    effort: str
    rows: Sequence[Scored]

    @property
    def scores(self) -> list[float | None]:
        """The score of each row; None for those that were not asked."""
        return [row.score for row in self.rows]

    @cached_property
    def known_scores(self) -> list[float]:
        """The scores of the rows that were asked."""
        return [row.score for row in self.rows if row.score is not None]

    @property
    def n(self) -> int:
        """Rows that count: those without an answer are among them, as wrong."""
        return len(self.known_scores)

    @property
    def accuracy(self) -> float | None:
        """The mean score; None where nothing was asked."""
        return fmean(self.known_scores) if self.n else None

    @cached_property
    def interval(self) -> Interval:
        """Where the accuracy may well be, at 95 %."""
        return interval(self.known_scores)

    @property
    def correct(self) -> float:
        """The sum of all scores."""
        return math.fsum(self.known_scores)

    @property
    def without_answer(self) -> int:
        """Rows that were asked and have no answer, or could not be asked; they count as wrong."""
        return sum(row.asked and not row.answered for row in self.rows)

    @property
    def not_asked(self) -> int:
        """Rows a budget or an interrupt left out; they do not count."""
        return sum(not row.asked for row in self.rows)

    @property
    def unscored(self) -> int:
        """Answers on which the scorer failed; they count as wrong."""
        return sum(row.unscored for row in self.rows)

    @property
    def trouble(self) -> str:
        """What the scorer said first, or ""."""
        return next((row.trouble for row in self.rows if row.unscored), "")

    @cached_property
    def cost_nano_usd(self) -> int | None:
        """What all rows cost together; None where that of one is unknown, or nothing was asked."""
        costs = [row.cost_nano_usd for row in self._charged]
        return None if not costs or None in costs else sum(filter(None, costs))

    @property
    def known_cost_nano_usd(self) -> int:
        """The part of the cost that is known."""
        return sum(row.cost_nano_usd or 0 for row in self._charged)

    @property
    def cost_per_row_usd(self) -> Decimal | None:
        """The mean cost of a row that was asked, to the nano-dollar; identical rows are one."""
        return shared_usd(self.cost_nano_usd, Fraction(len(self._charged)))

    @property
    def cost_per_correct_usd(self) -> Decimal | None:
        """The cost of all rows for each that is right; None where none is, or it is unknown."""
        return shared_usd(self.cost_nano_usd, sum(map(Fraction, self.known_scores), Fraction(0)))

    @property
    def times_s(self) -> list[float]:
        """The seconds of the answers, as far as they are known."""
        return sorted(row.elapsed_s for row in self.rows if row.elapsed_s is not None)

    @property
    def mean_s(self) -> float | None:
        """Seconds an answer took."""
        return mean(self.times_s)

    @property
    def p95_s(self) -> float | None:
        """Seconds that one answer in twenty took, or longer."""
        times = self.times_s
        return quantile(times, 0.95) if times else None

    @property
    def output_tokens(self) -> float | None:
        """Output tokens of an answer, reasoning among them; None where nobody counted."""
        return mean(row.output_tokens for row in self._charged)

    @property
    def reasoning_tokens(self) -> float | None:
        """Reasoning tokens of an answer."""
        return mean(row.reasoning_tokens for row in self._charged)

    @property
    def made_up(self) -> frozenset[str]:
        """What to call answers that no model gave: SIMULATED, BY HAND."""
        return frozenset(MADE_UP[row.made_by] for row in self.rows if row.made_by in MADE_UP)

    @property
    def source(self) -> str:
        """Who answered: live, simulated, hand, replayed, mixed, or "" where nobody did."""
        found = {
            row.made_by if row.made_by in MADE_UP or not row.replayed else "replayed"
            for row in self.rows
            if row.made_by
        }
        return "mixed" if len(found) > 1 else "".join(found)

    @property
    def order(self) -> tuple[int, str]:
        """Where its effort stands among others."""
        return rank(self.effort), self.effort

    @cached_property
    def _charged(self) -> list[Scored]:
        return [row for row in self.rows if row.charged]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def shared_usd(nano: int | None, among: Fraction) -> Decimal | None:
    """A cost among so many, rounded half up to the nano-dollar; None where there is nobody."""
    if nano is None or among <= 0:
        return None
    return usd(math.floor(Fraction(nano) / among + Fraction(1, 2)))


@dataclass(frozen=True)
class Prices:
    """What a row takes at each choice, in the unit that is known for all: what a plot is over.

    unit: cost, output tokens, seconds, or "" where nothing is known of all.
    """

    unit: str
    values: Sequence[float]


def prices_of(choices: Sequence[Choice]) -> Prices:
    """The cost per row; where one is unknown or nothing was paid, tokens, else seconds."""
    costs = [choice.cost_per_row_usd for choice in choices]
    if all(costs):
        return Prices("cost", [float(cost or 0) for cost in costs])
    for unit, found in (
        ("output tokens", [choice.output_tokens for choice in choices]),
        ("seconds", [choice.mean_s for choice in choices]),
    ):
        if all(found):
            return Prices(unit, [float(value or 0) for value in found])
    return Prices("", [0.0] * len(choices))
