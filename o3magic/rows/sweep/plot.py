"""Accuracy against what a row takes, as SVG of our own: a mark for each effort, its interval as a
bar, the Pareto front as a line, published figures beside it on a scale of their own.

Drawn with the pens of the plot of costs. Every name in it is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.render.tables import TextTable, plain
from o3magic.reports.chart import FAINT, INK, LEFT, RIGHT, WIDTH, colour, framed, text
from o3magic.rows.sweep.statistics import Interval
from o3magic.rows.sweep.summary import VariantPrices, VariantResult, prices_of

SOURCE = "o3-mini launch documents (o3-mini-2025-01-31)"
READ_ON = "2026-11-20"


@dataclass(frozen=True)
class PublishedFigures:
    """The figures of one benchmark by effort. unit: "%" or "Elo"."""

    benchmark: str
    figures: tuple[tuple[str, float], ...]
    unit: str = "%"
    model: str = "o3-mini"
    source: str = SOURCE
    read_on: str = READ_ON

    def shown(self, figure: float) -> str:
        """A figure with its unit."""
        return f"{figure:g} {self.unit}"

    def words(self) -> str:
        """A line that says what they are, and what they are not."""
        figures = ", ".join(f"{effort} {self.shown(value)}" for effort, value in self.figures)
        return (
            f"{self.benchmark} as published for {self.model}, not measured here: {figures} "
            f"({self.source}, read {self.read_on})"
        )


PUBLISHED = (
    PublishedFigures("AIME 2024", (("medium", 76.2), ("high", 83.6))),
    PublishedFigures("GPQA Diamond", (("medium", 71.5), ("high", 77.0))),
    PublishedFigures("Codeforces", (("medium", 1950.0), ("high", 2073.0)), "Elo"),
    PublishedFigures("SWE-bench Verified", (("medium", 42.3), ("high", 48.9))),
)


def published_of(benchmark: str) -> PublishedFigures:
    """The figures of a benchmark, by its name or the beginning of it. Raises BadOption."""
    word = str(benchmark).strip().casefold()
    for each in PUBLISHED:
        if word and each.benchmark.casefold().startswith(word):
            return each
    names = [each.benchmark for each in PUBLISHED]
    hint = did_you_mean(str(benchmark), names, f"there are {', '.join(names)}")
    raise BadOption(f"published={benchmark!r}: no figures of that", hint=hint)


TITLES = {
    "cost": "cost per row, US dollars",
    "output tokens": "output tokens per row",
    "seconds": "seconds per row",
}
DECADE = 10.0


@dataclass(frozen=True)
class PlotAxis:
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


def price_axis(prices: VariantPrices, begin: float, end: float) -> PlotAxis:
    """The scale of what a row takes; places in a row where that is not known."""
    values, unit = prices.values, prices.unit
    if not unit:
        count = len(values)
        title = "cost, tokens and time are unknown"
        return PlotAxis(-0.5, count - 0.5, begin, end, (), title, of=range(count))
    least, most = min(values), max(values)
    if most / least >= DECADE:
        low, high = least / 1.5, most * 1.8
        ticks = [(v, said(v, unit)) for v in round_values(low, high)]
        title = f"{TITLES[unit]} (log scale)"
        return PlotAxis(low, high, begin, end, ticks, title, True, values)
    step = round_step(most * 1.15 / 5)
    ticks = [(n * step, said(n * step, unit)) for n in range(int(most * 1.15 / step) + 1)]
    return PlotAxis(0.0, most * 1.15, begin, end, ticks, TITLES[unit], of=values)


def accuracy_axis(intervals: Sequence[Interval], begin: float, end: float) -> PlotAxis:
    """The scale of accuracies: from below the lowest interval to above the highest, in tenths."""
    low = math.floor(min(each.low for each in intervals) * 10 + 1e-9)
    high = max(math.ceil(max(each.high for each in intervals) * 10 - 1e-9), low + 2)
    if high > 10:
        low, high = 8, 10
    step = 2 if high - low > 6 else 1
    low, high = low - low % step, min(10, high + high % step)
    ticks = [(n / 10, f"{n / 10:.1f}") for n in range(low, high + 1, step)]
    return PlotAxis(low / 10, high / 10, begin, end, ticks)


def figures_axis(published: PublishedFigures, begin: float, end: float) -> PlotAxis:
    """The scale of published figures, from a round value below them to one above."""
    figures = [figure for _, figure in published.figures]
    step = round_step((max(figures) - min(figures)) / 2)
    low, high = math.floor(min(figures) / step) - 1, math.ceil(max(figures) / step) + 1
    ticks = [(n * step, f"{n * step:g}") for n in range(low, high + 1)]
    return PlotAxis(low * step, high * step, begin, end, ticks)


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


TOP, BOTTOM, HEIGHT = 76, 52, 410
FLOOR = HEIGHT - BOTTOM
PANEL = 190  # the width of what is published
MARK = 5.5
LINE_HEIGHT, CHAR = 14, 7.4  # of a label
DOWN = (0, 12, -12, 22, -22, 32, -32, 44, -44)  # where a label may stand, the best first
SAMPLES = 60  # of a line of the front
PlotBox = tuple[float, float, float, float]


@dataclass(frozen=True)
class PlotPoint:
    """A choice on the page. front: no other is as accurate for less."""

    choice: VariantResult
    price: float
    x: float
    y: float
    front: bool


@dataclass(frozen=True)
class SweepPlot:
    """A picture of a sweep. `svg` is its text, `save(path)` writes it; a notebook shows it.

    published: figures of a benchmark, drawn hollow and beside, since they are not measured here.
    """

    choices: Sequence[VariantResult] = field(repr=False)
    published: PublishedFigures | None = None

    @cached_property
    def measured(self) -> list[VariantResult]:
        """The choices that have an accuracy."""
        return [choice for choice in self.choices if choice.n]

    @cached_property
    def prices(self) -> VariantPrices:
        """What a row takes at each."""
        return prices_of(self.measured)

    @property
    def title(self) -> str:
        """What it shows."""
        over = f"Accuracy against {self.prices.unit or 'effort'} per row"
        return f"{over} ({', '.join(self.made_up)})" if self.made_up else over

    @property
    def made_up(self) -> list[str]:
        """What to call the answers that no model gave."""
        return sorted(frozenset().union(*(choice.made_up for choice in self.measured)))

    @cached_property
    def svg(self) -> str:
        """The picture."""
        if not self.measured:
            return framed([text(WIDTH / 2, 60, "nothing was measured", anchor="middle")], 120, "")
        return drawn(self)

    def save(self, path: Any) -> None:
        """Write the picture. Raises BadOption where it cannot be written."""
        from o3magic.reports.formatting import write

        write(path, self.svg)

    def __str__(self) -> str:
        """The same as a table, for where there are no pictures."""
        if not self.measured:
            return "nothing was measured"
        front = front_of(self.measured, self.prices)
        unit = self.prices.unit
        rows = [
            (
                choice.label,
                f"{choice.accuracy or 0:.2f}",
                f"{choice.interval.low:.2f}-{choice.interval.high:.2f}",
                shown(price, unit) if unit else "unknown",
                "front" if choice in front else "",
            )
            for choice, price in zip(self.measured, self.prices.values, strict=True)
        ]
        head = ("", "accuracy", "95 % interval", f"{unit or 'cost'} per row", "Pareto")
        parts = [self.title, TextTable(head, rows).text()]
        return "\n".join([*parts, *([self.published.words()] if self.published else [])])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How a notebook shows it."""
        return {"image/svg+xml": self.svg, "text/plain": str(self)}


def shown(price: float, unit: str) -> str:
    """What a row takes, in a cell."""
    if unit == "cost":
        return f"${price:.3g}"
    return f"{price:,.0f}" if unit == "output tokens" else f"{price:.3g}"


def front_of(choices: Sequence[VariantResult], prices: VariantPrices) -> list[VariantResult]:
    """The choices for which no other is at least as accurate and takes no more; none if unknown."""
    if not prices.unit:
        return []
    ordered = sorted(
        zip(choices, prices.values, strict=True), key=lambda e: (e[1], -(e[0].accuracy or 0))
    )
    found: list[VariantResult] = []
    for choice, _ in ordered:
        if not found or (choice.accuracy or 0) > (found[-1].accuracy or 0):
            found.append(choice)
    return found


def drawn(plot: SweepPlot) -> str:
    """The whole picture of at least one choice."""
    right = WIDTH - RIGHT - (PANEL if plot.published else 0)
    across = price_axis(plot.prices, LEFT + 12, right - 12)
    up = accuracy_axis([choice.interval for choice in plot.measured], FLOOR, TOP)
    front = front_of(plot.measured, plot.prices)
    points = [
        PlotPoint(choice, price, across.at(price), up.at(choice.accuracy or 0), choice in front)
        for choice, price in zip(plot.measured, across.of, strict=True)
    ]
    counts = sorted({choice.n for choice in plot.measured})
    rows = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    said = f"{rows} rows; bars: 95 % intervals{'; line: Pareto front' if len(front) > 1 else ''}"
    made_up = " and ".join(plot.made_up)
    parts = [
        text(LEFT, 22, plot.title, size=15, weight=600),
        text(LEFT, 42, said, size=12),
        text(LEFT, 60, f"{made_up} answers say nothing of any model", size=12) if made_up else "",
        *level_lines(up, LEFT, right),
        *ticks_below(across),
        text((LEFT + right) / 2, HEIGHT - 10, across.title, size=12, anchor="middle"),
        front_line([point for point in points if point.front]),
        *(part for point in points for part in mark(point, up)),
        *labels(points, up, right),
        *(beside(plot.published, right) if plot.published else ()),
    ]
    return framed([part for part in parts if part], HEIGHT, plot.title)


def level_lines(up: PlotAxis, left: float, right: float) -> list[str]:
    """Lines across at round values, with the values to the left."""
    parts = []
    for value, name in up.ticks:
        y = up.at(value)
        stroke = INK if y == FLOOR else FAINT
        parts.append(f'<path d="M{left:.2f} {y:.2f}H{right:.2f}" stroke="{stroke}"/>')
        parts.append(text(left - 8, y + 4, name, size=11, anchor="end"))
    return parts


def ticks_below(across: PlotAxis) -> list[str]:
    """Short lines below the plot, with their values."""
    parts = []
    for value, name in across.ticks:
        x = across.at(value)
        parts.append(f'<path d="M{x:.2f} {FLOOR}v5" stroke="{INK}"/>')
        parts.append(text(x, FLOOR + 18, name, size=11, anchor="middle"))
    return parts


def front_line(points: Sequence[PlotPoint]) -> str:
    """A dashed line through the front."""
    if len(points) < 2:
        return ""
    ordered = sorted(points, key=lambda point: point.x)
    path = "L".join(f"{point.x:.2f} {point.y:.2f}" for point in ordered)
    return f'<path d="M{path}" stroke="{INK}" stroke-dasharray="5 4" fill="none"/>'


def mark(point: PlotPoint, up: PlotAxis) -> list[str]:
    """A dot with its interval."""
    choice, x = point.choice, point.x
    low, high = up.at(choice.interval.low), up.at(choice.interval.high)
    tint = colour(choice.effort)
    caps = f"M{x:.2f} {low:.2f}V{high:.2f}M{x - 4:.2f} {low:.2f}h8M{x - 4:.2f} {high:.2f}h8"
    return [
        f'<path d="{caps}" stroke="{tint}" stroke-width="1.5" fill="none"/>',
        f'<circle cx="{x:.2f}" cy="{point.y:.2f}" r="{MARK}" fill="{tint}"/>',
    ]


def labels(points: Sequence[PlotPoint], up: PlotAxis, right: float) -> list[str]:
    """The name of each choice beside its mark, where it covers least of what else is drawn."""
    taken = obstacles(points, up)
    parts = []
    for point in points:
        name = plain(point.choice.label)
        boxes = [box(point, CHAR * len(name), side, down) for down in DOWN for side in (1, -1)]
        inside = [b for b in boxes if b[0] >= LEFT and b[2] <= right and b[1] >= TOP - 8] or boxes
        chosen = min(inside, key=lambda b: sum(w for w, other in taken if covers(b, other)))
        taken.append((20, chosen))
        weight = 600 if point.front else 400
        left = chosen[0] < point.x
        x, anchor = (chosen[2], "end") if left else (chosen[0], "start")
        parts.append(text(x, chosen[3] - 3, name, size=12, weight=weight, anchor=anchor))
    return parts


def obstacles(points: Sequence[PlotPoint], up: PlotAxis) -> list[tuple[int, PlotBox]]:
    """What a name should not cover, and how little."""
    found: list[tuple[int, PlotBox]] = []
    for point in points:
        x, y = point.x, point.y
        found.append((20, (x - MARK, y - MARK, x + MARK, y + MARK)))
        interval = point.choice.interval
        found.append((10, (x - 2, up.at(interval.high), x + 2, up.at(interval.low))))
    front = sorted((point for point in points if point.front), key=lambda point: point.x)
    for first, second in pairwise(front):
        for share in range(SAMPLES + 1):
            x = first.x + (second.x - first.x) * share / SAMPLES
            y = first.y + (second.y - first.y) * share / SAMPLES
            found.append((4, (x - 1, y - 1, x + 1, y + 1)))
    levels = (up.at(value) for value, _ in up.ticks)
    return found + [(3, (0, y - 1, WIDTH, y + 1)) for y in levels]


def box(point: PlotPoint, width: float, side: int, down: float) -> PlotBox:
    """Where a name would stand: left or right of its mark, moved down by so much."""
    x = point.x + 10 if side > 0 else point.x - 10 - width
    y = point.y + down
    return x, y - LINE_HEIGHT / 2, x + width, y + LINE_HEIGHT / 2


def covers(one: PlotBox, other: PlotBox) -> bool:
    """Whether two boxes share a place."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def beside(published: PublishedFigures, left: float) -> list[str]:
    """What is published, as hollow marks on a scale of its own."""
    up = figures_axis(published, FLOOR, TOP + 18)
    begin, end = left + 66, WIDTH - RIGHT
    step = (end - begin) / len(published.figures)
    parts = [
        text(left + 28, 42, f"{published.benchmark}, {published.unit}", size=12, weight=600),
        text(left + 28, 58, "published, not measured here", size=11),
        *level_lines(up, begin, end),
    ]
    for place, (effort, figure) in enumerate(published.figures):
        x, y = begin + step * (place + 0.5), up.at(figure)
        parts += [
            f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{MARK}" fill="none" '
            f'stroke="{colour(effort)}" stroke-width="2"/>',
            text(x, y - 11, f"{figure:g}", size=11, anchor="middle"),
            text(x, FLOOR + 18, effort, size=11, anchor="middle"),
        ]
    source, _, snapshot = published.source.partition(" (")
    parts.append(text(end, HEIGHT - 20, source, size=9, anchor="end"))
    said = f"{snapshot.rstrip(')')}, read {published.read_on}"
    parts.append(text(end, HEIGHT - 8, said, size=9, anchor="end"))
    return parts
