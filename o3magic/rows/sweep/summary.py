"""What one effort of one model came to over all rows: accuracy, cost, time, reasoning. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from statistics import fmean

from o3magic.money import usd
from o3magic.reports.formatting import rank
from o3magic.rows.sweep.rows import ScoredRow
from o3magic.rows.sweep.statistics import Interval, PairedDifference, interval, paired, quantile

MADE_UP = {"simulated": "SIMULATED", "hand": "BY HAND"}


@dataclass(frozen=True)
class VariantResult:
    """One way to ask, and its rows in the order of the task."""

    label: str
    model: str
    effort: str
    rows: Sequence[ScoredRow]

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
    def _charged(self) -> list[ScoredRow]:
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
class VariantPrices:
    """What a row takes at each choice, in the unit that is known for all: what a plot is over.

    unit: cost, output tokens, seconds, or "" where nothing is known of all.
    """

    unit: str
    values: Sequence[float]


def prices_of(choices: Sequence[VariantResult]) -> VariantPrices:
    """The cost per row; where one is unknown or nothing was paid, tokens, else seconds."""
    costs = [choice.cost_per_row_usd for choice in choices]
    if all(costs):
        return VariantPrices("cost", [float(cost or 0) for cost in costs])
    for unit, found in (
        ("output tokens", [choice.output_tokens for choice in choices]),
        ("seconds", [choice.mean_s for choice in choices]),
    ):
        if all(found):
            return VariantPrices(unit, [float(value or 0) for value in found])
    return VariantPrices("", [0.0] * len(choices))


ALPHA = 0.05
MOST_DETECTABLE = 0.1  # a larger one: too few rows to tell


def recommendation(choices: Sequence[VariantResult]) -> str:
    """The sentences."""
    measured = [choice for choice in choices if choice.n]
    said = advice(measured)
    made_up = sorted(frozenset().union(*(choice.made_up for choice in measured)))
    if made_up:
        return f"{' and '.join(made_up)} answers, which say nothing of any model. {said}"
    return said


def advice(choices: Sequence[VariantResult]) -> str:
    """The same, of choices that were measured."""
    if not choices:
        return "Nothing was measured."
    if len(choices) == 1:
        only = choices[0]
        return f"{only.label}: {shown(only)} over {rows(only.n)}; there is nothing to compare with."
    prices = prices_of(choices)
    cheap = cheapest_first(choices, prices)
    best = max(cheap, key=lambda choice: choice.accuracy or 0)  # of equals the cheapest
    if not best.correct:
        return (
            "No choice answered any row right: look at the prompt, the schema or the scorer before "
            "the effort."
        )
    taken = next(c for c in cheap if c is best or not worse(c, best))
    rival = best if taken is not best else runner_up(cheap, best)
    test = compared(best if taken is not best else taken, taken if taken is not best else rival)
    return f"{reason(taken, best, rival, cheap, test, prices, choices)}{caveat(test)}"


def cheapest_first(choices: Sequence[VariantResult], prices: VariantPrices) -> list[VariantResult]:
    """The choices in the order of what a row takes, then of effort."""
    priced = zip(prices.values, choices, strict=True)
    return [c for _, c in sorted(priced, key=lambda each: (each[0], each[1].order))]


def worse(choice: VariantResult, best: VariantResult) -> bool:
    """Whether it is distinguishably below the best, or cannot be compared with it."""
    test = compared(best, choice)
    return not test.n or (test.difference > 0 and test.p < ALPHA)


def compared(first: VariantResult, second: VariantResult) -> PairedDifference:
    """Two choices on the rows that both were asked."""
    pairs = [
        (a, b)
        for a, b in zip(first.scores, second.scores, strict=True)
        if a is not None and b is not None
    ]
    return paired([a for a, _ in pairs], [b for _, b in pairs])


def runner_up(cheap: Sequence[VariantResult], best: VariantResult) -> VariantResult:
    """The most accurate of the others."""
    return max((c for c in cheap if c is not best), key=lambda choice: choice.accuracy or 0)


def reason(
    taken: VariantResult,
    best: VariantResult,
    rival: VariantResult,
    cheap: Sequence[VariantResult],
    test: PairedDifference,
    prices: VariantPrices,
    choices: Sequence[VariantResult],
) -> str:
    """Why this one."""
    p = f"p = {p_shown(test.p)}"
    price = dict(zip((id(c) for c in choices), prices.values, strict=True))
    if taken is not best:
        at = portion(price[id(taken)], price[id(best)], prices.unit)
        return (
            f"{taken.label}: its accuracy ({shown(taken)}) is not distinguishably below "
            f"{best.label}'s ({shown(best)}; {p}){at}."
        )
    if best is not cheap[0]:
        at = portion(price[id(rival)], price[id(best)], prices.unit)
        return (
            f"{best.label}: its accuracy ({shown(best)}) is distinguishably above that of every "
            f"cheaper choice; next is {rival.label} ({shown(rival)}; {p}){at}."
        )
    cheaper = " or takes less" if prices.unit else ""
    return (
        f"{best.label}: none is more accurate ({shown(best)}){cheaper}; next is {rival.label} "
        f"({shown(rival)}; {p})."
    )


def caveat(test: PairedDifference) -> str:
    """What so few rows cannot tell, or ""."""
    if test.p < ALPHA or test.detectable <= MOST_DETECTABLE:
        return ""
    needed = round(test.n * (test.detectable / MOST_DETECTABLE) ** 2, -1)
    return (
        f" {rows(test.n).capitalize()} are too few to tell: a difference below "
        f"{test.detectable:.2f} would mostly not show; about {needed:,.0f} rows would show one of "
        f"{MOST_DETECTABLE:.2f}."
    )


def shown(choice: VariantResult) -> str:
    """An accuracy with its interval."""
    low, high = choice.interval
    return f"{choice.accuracy or 0:.2f}, {low:.2f}-{high:.2f}"


def portion(small: float, large: float, unit: str) -> str:
    """How much less a row takes: " at 1/7 of the cost per row"."""
    if not unit or large <= 0 or small <= 0:
        return ""
    share = small / large
    if share > 0.95:
        return f" at {share:.2g} times the {unit} per row"
    part = f"1/{1 / share:.0f}" if share <= 0.4 else f"{share:.0%}"
    return f" at {part} of the {unit} per row"


def p_shown(p: float) -> str:
    """A p for people."""
    if p < 0.001:
        return "less than 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def rows(count: int) -> str:
    """A number of rows in words."""
    return "1 row" if count == 1 else f"{count:,} rows"
