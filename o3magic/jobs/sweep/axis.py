"""Scales of the plot of a sweep: round ticks, and a logarithm where values span a decade. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from o3magic.jobs.sweep.measures import Prices
from o3magic.jobs.sweep.published import Published
from o3magic.jobs.sweep.statistics import Interval

TITLES = {
    "cost": "cost per row, US dollars",
    "output tokens": "output tokens per row",
    "seconds": "seconds per row",
}
DECADE = 10.0


@dataclass(frozen=True)
class Axis:
    """A scale from `low` at `begin` to `high` at `end`. of: the values it was made for."""

    low: float
    high: float
    begin: float
    end: float
    ticks: Sequence[tuple[float, str]]
    title: str = ""
    log: bool = False
    of: Sequence[float] = ()

    def at(self, value: float) -> float:
        """Where a value stands."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + (self.end - self.begin) * share


def price_axis(prices: Prices, begin: float, end: float) -> Axis:
    """The scale of what a row takes; places in a row where that is not known."""
    values, unit = prices.values, prices.unit
    if not unit:
        count = len(values)
        title = "cost, tokens and time are unknown"
        return Axis(-0.5, count - 0.5, begin, end, (), title, of=range(count))
    least, most = min(values), max(values)
    if most / least >= DECADE:
        low, high = least / 1.5, most * 1.8
        ticks = [(v, said(v, unit)) for v in round_values(low, high)]
        title = f"{TITLES[unit]} (log scale)"
        return Axis(low, high, begin, end, ticks, title, True, values)
    step = round_step(most * 1.15 / 5)
    ticks = [(n * step, said(n * step, unit)) for n in range(int(most * 1.15 / step) + 1)]
    return Axis(0.0, most * 1.15, begin, end, ticks, TITLES[unit], of=values)


def accuracy_axis(intervals: Sequence[Interval], begin: float, end: float) -> Axis:
    """The scale of accuracies: from below the lowest interval to above the highest, in tenths."""
    low = math.floor(min(each.low for each in intervals) * 10 + 1e-9)
    high = max(math.ceil(max(each.high for each in intervals) * 10 - 1e-9), low + 2)
    if high > 10:
        low, high = 8, 10
    step = 2 if high - low > 6 else 1
    low, high = low - low % step, min(10, high + high % step)
    ticks = [(n / 10, f"{n / 10:.1f}") for n in range(low, high + 1, step)]
    return Axis(low / 10, high / 10, begin, end, ticks)


def figures_axis(published: Published, begin: float, end: float) -> Axis:
    """The scale of published figures, from a round value below them to one above."""
    figures = [figure for _, figure in published.figures]
    step = round_step((max(figures) - min(figures)) / 2)
    low, high = math.floor(min(figures) / step) - 1, math.ceil(max(figures) / step) + 1
    ticks = [(n * step, f"{n * step:g}") for n in range(low, high + 1)]
    return Axis(low * step, high * step, begin, end, ticks)


def round_step(least: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= least * (1 - 1e-9))


def round_values(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two values; only powers where there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 2.5 else (1, 2, 5)
    every = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return [value for value in every if low <= value <= high]


def said(value: float, unit: str) -> str:
    """A tick's name."""
    if unit != "cost":
        return f"{value:,.10g}"
    if not value:
        return "$0"
    digits = max(2, 1 - math.floor(math.log10(value) + 1e-9))
    shown = f"{value:.{digits}f}"
    whole, _, rest = shown.partition(".")
    return f"${int(whole):,}.{rest.rstrip('0').ljust(2, '0')}"
