"""The summary of each variant (one model at one effort): accuracy, cost, time, reasoning; and which
variant to take. No I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from statistics import fmean

from o3magic.money import usd
from o3magic.reports.formatting import rank_effort
from o3magic.rows.sweep.rows import ScoredRow
from o3magic.rows.sweep.statistics import (
    Interval,
    PairedDifference,
    compare_paired,
    confidence_interval,
    quantile,
)

MADE_UP = {"simulated": "SIMULATED", "hand": "BY HAND"}
ALPHA = 0.05
TARGET_DIFFERENCE = 0.1  # in accuracy; where only a larger one is detectable the rows are too few


@dataclass(frozen=True)
class VariantResult:
    """One effort of one model, and its rows in the order of the task."""

    label: str
    model: str
    effort: str
    rows: Sequence[ScoredRow]

    @property
    def scores(self) -> list[float | None]:
        """The score of each row; None for rows that were not asked."""
        return [row.score for row in self.rows]

    @cached_property
    def known_scores(self) -> list[float]:
        """The scores of the rows that were asked."""
        return [row.score for row in self.rows if row.score is not None]

    @property
    def n(self) -> int:
        """The number of rows that were asked; one without an answer counts as wrong."""
        return len(self.known_scores)

    @property
    def accuracy(self) -> float | None:
        """The mean score; None where no row was asked."""
        return fmean(self.known_scores) if self.n else None

    @cached_property
    def interval(self) -> Interval:
        """The 95 % confidence interval of the accuracy."""
        return confidence_interval(self.known_scores)

    @property
    def correct(self) -> float:
        """The sum of all scores."""
        return math.fsum(self.known_scores)

    @property
    def without_answer(self) -> int:
        """Rows that have no answer, or whose prompt could not be built; they count as wrong."""
        return sum(row.asked and not row.answered for row in self.rows)

    @property
    def not_asked(self) -> int:
        """Rows that a budget or an interrupt left out; they do not count."""
        return sum(not row.asked for row in self.rows)

    @property
    def unscored(self) -> int:
        """Answers on which the scorer failed; they count as wrong."""
        return sum(row.unscored for row in self.rows)

    @property
    def trouble(self) -> str:
        """The first error of the scorer, or ""."""
        return next((row.trouble for row in self.rows if row.unscored), "")

    @cached_property
    def cost_nano_usd(self) -> int | None:
        """The cost of all rows; None where that of one is unknown, or no row was asked."""
        costs = [row.cost_nano_usd for row in self._charged]
        return None if not costs or None in costs else sum(filter(None, costs))

    @property
    def known_cost_nano_usd(self) -> int:
        """The part of the cost that is known."""
        return sum(row.cost_nano_usd or 0 for row in self._charged)

    @property
    def cost_per_row_usd(self) -> Decimal | None:
        """The mean cost of a row that was asked, to the nano-dollar; identical rows are one."""
        return divide_usd(self.cost_nano_usd, Fraction(len(self._charged)))

    @property
    def cost_per_correct_usd(self) -> Decimal | None:
        """The cost of all rows over the sum of scores; None where that is 0 or a cost unknown."""
        return divide_usd(self.cost_nano_usd, sum(map(Fraction, self.known_scores), Fraction(0)))

    @property
    def times_s(self) -> list[float]:
        """The known seconds of the answers, sorted."""
        return sorted(row.elapsed_s for row in self.rows if row.elapsed_s is not None)

    @property
    def mean_s(self) -> float | None:
        """The mean seconds of an answer."""
        return compute_known_mean(self.times_s)

    @property
    def p95_s(self) -> float | None:
        """The 95th percentile of the seconds of an answer."""
        times = self.times_s
        return quantile(times, 0.95) if times else None

    @property
    def output_tokens(self) -> float | None:
        """The mean output tokens of an answer, reasoning included; None where unknown."""
        return compute_known_mean(row.output_tokens for row in self._charged)

    @property
    def reasoning_tokens(self) -> float | None:
        """The mean reasoning tokens of an answer; None where unknown."""
        return compute_known_mean(row.reasoning_tokens for row in self._charged)

    @property
    def made_up(self) -> frozenset[str]:
        """The labels of answers that no model gave: SIMULATED, BY HAND."""
        return frozenset(MADE_UP[row.made_by] for row in self.rows if row.made_by in MADE_UP)

    @property
    def source(self) -> str:
        """Where the answers come from: live, simulated, hand, replayed, mixed; "" for none."""
        sources = {
            row.made_by if row.made_by in MADE_UP or not row.replayed else "replayed"
            for row in self.rows
            if row.made_by
        }
        return "mixed" if len(sources) > 1 else "".join(sources)

    @cached_property
    def _charged(self) -> list[ScoredRow]:
        return [row for row in self.rows if row.charged]


def compute_known_mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def divide_usd(nano: int | None, divisor: Fraction) -> Decimal | None:
    """A cost divided, rounded half up to the nano-dollar; None for a divisor of 0."""
    if nano is None or divisor <= 0:
        return None
    return usd(math.floor(Fraction(nano) / divisor + Fraction(1, 2)))


@dataclass(frozen=True)
class VariantPrices:
    """The price of a row for each variant, in a unit that is known for all.

    unit: cost, output tokens, seconds, or "" where none is known for all.
    """

    unit: str
    values: Sequence[float]


def choose_prices(choices: Sequence[VariantResult]) -> VariantPrices:
    """The cost per row; where one is unknown or 0, the output tokens, else the seconds."""
    for unit, values in (
        ("cost", [choice.cost_per_row_usd for choice in choices]),
        ("output tokens", [choice.output_tokens for choice in choices]),
        ("seconds", [choice.mean_s for choice in choices]),
    ):
        if all(values):
            return VariantPrices(unit, [float(value or 0) for value in values])
    return VariantPrices("", [0.0] * len(choices))


def build_recommendation(choices: Sequence[VariantResult]) -> str:
    """Which variant to take and why, in a sentence or two.

    It is the cheapest that is not distinguishably less accurate than the most accurate one.
    """
    measured = [choice for choice in choices if choice.n]
    made_up = sorted(frozenset().union(*(choice.made_up for choice in measured)))
    warning = f"{' and '.join(made_up)} answers, which say nothing of any model. " * bool(made_up)
    if not measured:
        return "Nothing was measured."
    if len(measured) == 1:
        only = measured[0]
        accuracy = f"{format_accuracy(only)} over {format_rows(only.n)}"
        return f"{warning}{only.label}: {accuracy}; there is nothing to compare with."
    prices = choose_prices(measured)
    priced = zip(prices.values, measured, strict=True)
    order = sorted(priced, key=lambda pair: (pair[0], rank_effort(pair[1].effort), pair[1].effort))
    by_price = [choice for _, choice in order]
    best = max(by_price, key=lambda choice: choice.accuracy or 0)  # of equals the cheapest
    if not best.correct:
        return (
            f"{warning}No choice answered any row right: look at the prompt, the schema or the "
            "scorer before the effort."
        )
    chosen = next(c for c in by_price if c is best or not is_worse(c, best))
    others = (choice for choice in by_price if choice is not best)
    rival = chosen if chosen is not best else max(others, key=lambda choice: choice.accuracy or 0)
    test = compare_variants(best, rival)
    price = dict(zip(map(id, measured), prices.values, strict=True))
    ratio = format_ratio(price[id(rival)], price[id(best)], prices.unit)
    p = f"p = {format_p(test.p)}"
    if chosen is not best:
        reason = (
            f"{chosen.label}: its accuracy ({format_accuracy(chosen)}) is not distinguishably "
            f"below {best.label}'s ({format_accuracy(best)}; {p}){ratio}."
        )
    elif best is not by_price[0]:
        reason = (
            f"{best.label}: its accuracy ({format_accuracy(best)}) is distinguishably above that "
            f"of every cheaper choice; next is {rival.label} ({format_accuracy(rival)}; "
            f"{p}){ratio}."
        )
    else:
        cheaper = " or takes less" if prices.unit else ""
        reason = (
            f"{best.label}: none is more accurate ({format_accuracy(best)}){cheaper}; next is "
            f"{rival.label} ({format_accuracy(rival)}; {p})."
        )
    return f"{warning}{reason}{format_caveat(test)}"


def is_worse(choice: VariantResult, best: VariantResult) -> bool:
    """Whether it is distinguishably below the best, or cannot be compared with it."""
    test = compare_variants(best, choice)
    return not test.n or (test.difference > 0 and test.p < ALPHA)


def compare_variants(first: VariantResult, second: VariantResult) -> PairedDifference:
    """Two variants on the rows that both were asked."""
    pairs = [
        (a, b)
        for a, b in zip(first.scores, second.scores, strict=True)
        if a is not None and b is not None
    ]
    return compare_paired([a for a, _ in pairs], [b for _, b in pairs])


def format_caveat(test: PairedDifference) -> str:
    """A warning where there are too few rows to detect a difference, or ""."""
    if test.p < ALPHA or test.detectable <= TARGET_DIFFERENCE:
        return ""
    needed = round(test.n * (test.detectable / TARGET_DIFFERENCE) ** 2, -1)
    return (
        f" {format_rows(test.n).capitalize()} are too few to tell: a difference below "
        f"{test.detectable:.2f} would mostly not show; about {needed:,.0f} rows would show one of "
        f"{TARGET_DIFFERENCE:.2f}."
    )


def format_accuracy(choice: VariantResult) -> str:
    """An accuracy with its interval."""
    low, high = choice.interval
    return f"{choice.accuracy or 0:.2f}, {low:.2f}-{high:.2f}"


def format_ratio(price: float, reference: float, unit: str) -> str:
    """How two prices of a row compare: " at 1/7 of the cost per row"; "" where one is unknown."""
    if not unit or reference <= 0 or price <= 0:
        return ""
    ratio = price / reference
    if ratio > 0.95:
        return f" at {ratio:.2g} times the {unit} per row"
    part = f"1/{1 / ratio:.0f}" if ratio <= 0.4 else f"{ratio:.0%}"
    return f" at {part} of the {unit} per row"


def format_p(p: float) -> str:
    if p < 0.001:
        return "less than 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def format_rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
