"""The plot of a sweep as SVG: accuracy against cost, a mark with its interval for each variant, the
Pareto front as a line, and beside it the published figures of a benchmark on a scale of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.render.svg import (
    FAINT,
    INK,
    LEFT,
    RIGHT,
    WIDTH,
    build_circle,
    build_image,
    build_path,
    build_text,
    choose_effort_colour,
)
from o3magic.render.tables import TextTable, plain
from o3magic.reports.formatting import write_text
from o3magic.rows.sweep.statistics import Interval
from o3magic.rows.sweep.summary import VariantPrices, VariantResult, choose_prices

SOURCE = "o3-mini launch documents (o3-mini-2025-01-31)"
READ_ON = "2026-11-20"
TITLES = {
    "cost": "cost per row, US dollars",
    "output tokens": "output tokens per row",
    "seconds": "seconds per row",
}
LOG_SCALE_RATIO = 10.0  # of the highest to the lowest price, from which the scale is logarithmic
TOP, BOTTOM, HEIGHT = 76, 52, 410
BASE = HEIGHT - BOTTOM
PUBLISHED_WIDTH = 190
MARK_RADIUS = 5.5
LINE_HEIGHT, CHAR_WIDTH = 14, 7.4  # of a label
LABEL_OFFSETS = (0, 12, -12, 22, -22, 32, -32, 44, -44)  # vertical, the preferred ones first
FRONT_SAMPLES = 60  # points of a line of the front that a label should not cover
LabelBox = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class PublishedFigures:
    """The figures of one benchmark by effort. unit: "%" or "Elo"."""

    benchmark: str
    figures: tuple[tuple[str, float], ...]
    unit: str = "%"
    model: str = "o3-mini"
    source: str = SOURCE
    read_on: str = READ_ON

    def describe(self) -> str:
        """The figures with their source, in one line."""
        figures = ", ".join(f"{effort} {value:g} {self.unit}" for effort, value in self.figures)
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


def find_published(benchmark: str) -> PublishedFigures:
    """The figures of a benchmark, by its name or the beginning of it. Raises BadOption."""
    prefix = str(benchmark).strip().casefold()
    for published in PUBLISHED:
        if prefix and published.benchmark.casefold().startswith(prefix):
            return published
    names = [published.benchmark for published in PUBLISHED]
    hint = did_you_mean(str(benchmark), names, f"there are {', '.join(names)}")
    raise BadOption(f"published={benchmark!r}: no figures of that", hint=hint)


@dataclass(frozen=True)
class SweepPlot:
    """The plot of a sweep. `svg` is its text, `save(path)` writes it; a notebook displays it.

    published: figures of a benchmark. Their marks are hollow: they are not measured here.
    """

    choices: Sequence[VariantResult] = field(repr=False)
    published: PublishedFigures | None = None

    @cached_property
    def measured(self) -> list[VariantResult]:
        """The variants that have an accuracy."""
        return [choice for choice in self.choices if choice.n]

    @cached_property
    def prices(self) -> VariantPrices:
        """The price of a row for each measured variant."""
        return choose_prices(self.measured)

    @property
    def title(self) -> str:
        axes = f"Accuracy against {self.prices.unit or 'effort'} per row"
        return f"{axes} ({', '.join(self.made_up)})" if self.made_up else axes

    @property
    def made_up(self) -> list[str]:
        """The labels of answers that no model gave: SIMULATED, BY HAND."""
        return sorted(frozenset().union(*(choice.made_up for choice in self.measured)))

    @cached_property
    def svg(self) -> str:
        """The plot as an SVG document."""
        if self.measured:
            return draw_plot(self)
        text = build_text(WIDTH / 2, 60, "nothing was measured", anchor="middle")
        return build_image([text], 120, "")

    def save(self, path: Any) -> None:
        """Write the SVG to a file. Raises BadOption where it cannot be written."""
        write_text(path, self.svg)

    def __str__(self) -> str:
        """The plot as a text table, for front ends without images."""
        if not self.measured:
            return "nothing was measured"
        front = find_front(self.measured, self.prices)
        unit = self.prices.unit
        rows = [
            (
                choice.label,
                f"{choice.accuracy or 0:.2f}",
                f"{choice.interval.low:.2f}-{choice.interval.high:.2f}",
                format_price(price, unit) if unit else "unknown",
                "front" if choice in front else "",
            )
            for choice, price in zip(self.measured, self.prices.values, strict=True)
        ]
        head = ("", "accuracy", "95 % interval", f"{unit or 'cost'} per row", "Pareto")
        parts = [self.title, TextTable(head, rows).text()]
        return "\n".join([*parts, *([self.published.describe()] if self.published else [])])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": str(self)}


def format_price(price: float, unit: str) -> str:
    if unit == "cost":
        return f"${price:.3g}"
    return f"{price:,.0f}" if unit == "output tokens" else f"{price:.3g}"


def find_front(choices: Sequence[VariantResult], prices: VariantPrices) -> list[VariantResult]:
    """The Pareto front: no other variant is at least as accurate for no more.

    Empty where the prices are unknown.
    """
    if not prices.unit:
        return []
    by_price = sorted(
        zip(choices, prices.values, strict=True),
        key=lambda pair: (pair[1], -(pair[0].accuracy or 0)),
    )
    front: list[VariantResult] = []
    for choice, _ in by_price:
        if not front or (choice.accuracy or 0) > (front[-1].accuracy or 0):
            front.append(choice)
    return front


@dataclass(frozen=True)
class PlotAxis:
    """A scale from `low` at pixel `begin` to `high` at pixel `end`. values: what is drawn on it."""

    low: float
    high: float
    begin: float
    end: float
    ticks: Sequence[tuple[float, str]]
    title: str = ""
    is_log: bool = False
    values: Sequence[float] = ()

    def position(self, value: float) -> float:
        """The pixel of a value."""
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + (self.end - self.begin) * share


def build_price_axis(prices: VariantPrices, begin: float, end: float) -> PlotAxis:
    """The axis of prices; the variants at equal distances where prices are unknown."""
    values, unit = prices.values, prices.unit
    if not unit:
        count = len(values)
        title = "cost, tokens and time are unknown"
        return PlotAxis(-0.5, count - 0.5, begin, end, (), title, values=range(count))
    lowest, highest = min(values), max(values)
    if highest / lowest >= LOG_SCALE_RATIO:
        low, high = lowest / 1.5, highest * 1.8
        ticks = [(value, format_tick(value, unit)) for value in list_round_values(low, high)]
        return PlotAxis(low, high, begin, end, ticks, f"{TITLES[unit]} (log scale)", True, values)
    high = highest * 1.15
    step = round_step(high / 5)
    ticks = [(n * step, format_tick(n * step, unit)) for n in range(int(high / step) + 1)]
    return PlotAxis(0.0, high, begin, end, ticks, TITLES[unit], values=values)


def build_accuracy_axis(intervals: Sequence[Interval], begin: float, end: float) -> PlotAxis:
    """The axis of accuracies, in tenths, wide enough for all intervals."""
    low = math.floor(min(interval.low for interval in intervals) * 10 + 1e-9)
    high = max(math.ceil(max(interval.high for interval in intervals) * 10 - 1e-9), low + 2)
    if high > 10:
        low, high = 8, 10
    step = 2 if high - low > 6 else 1
    low, high = low - low % step, min(10, high + high % step)
    ticks = [(n / 10, f"{n / 10:.1f}") for n in range(low, high + 1, step)]
    return PlotAxis(low / 10, high / 10, begin, end, ticks)


def build_published_axis(published: PublishedFigures, begin: float, end: float) -> PlotAxis:
    """The axis of published figures, from a round value below them to one above."""
    figures = [figure for _, figure in published.figures]
    step = round_step((max(figures) - min(figures)) / 2)
    low, high = math.floor(min(figures) / step) - 1, math.ceil(max(figures) / step) + 1
    ticks = [(n * step, f"{n * step:g}") for n in range(low, high + 1)]
    return PlotAxis(low * step, high * step, begin, end, ticks)


def round_step(minimum: float) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten that is not below the minimum."""
    power: float = 10.0 ** math.floor(math.log10(minimum))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= minimum * (1 - 1e-9))


def list_round_values(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two values; the powers alone over wide ranges."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 2.5 else (1, 2, 5)
    values = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return [value for value in values if low <= value <= high]


def format_tick(value: float, unit: str) -> str:
    if unit != "cost":
        return f"{value:,.10g}"
    if not value:
        return "$0"
    digits = max(2, 1 - math.floor(math.log10(value) + 1e-9))
    whole, _, fraction = f"{value:.{digits}f}".partition(".")
    return f"${int(whole):,}.{fraction.rstrip('0').ljust(2, '0')}"


@dataclass(frozen=True)
class PlotPoint:
    """A variant at its pixel."""

    choice: VariantResult
    x: float
    y: float
    is_on_front: bool


def draw_plot(plot: SweepPlot) -> str:
    """The SVG of one measured variant or more."""
    right = WIDTH - RIGHT - (PUBLISHED_WIDTH if plot.published else 0)
    x_axis = build_price_axis(plot.prices, LEFT + 12, right - 12)
    y_axis = build_accuracy_axis([choice.interval for choice in plot.measured], BASE, TOP)
    front = find_front(plot.measured, plot.prices)
    points = [
        PlotPoint(
            choice, x_axis.position(value), y_axis.position(choice.accuracy or 0), choice in front
        )
        for choice, value in zip(plot.measured, x_axis.values, strict=True)
    ]
    counts = sorted({choice.n for choice in plot.measured})
    rows = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    legend = f"{rows} rows; bars: 95 % intervals{'; line: Pareto front' if len(front) > 1 else ''}"
    parts = [
        build_text(LEFT, 22, plot.title, size=15, weight=600),
        build_text(LEFT, 42, legend, size=12),
    ]
    if plot.made_up:
        warning = f"{' and '.join(plot.made_up)} answers say nothing of any model"
        parts.append(build_text(LEFT, 60, warning, size=12))
    parts += draw_grid(y_axis, LEFT, right)
    for value, label in x_axis.ticks:
        x = x_axis.position(value)
        parts.append(build_path(f"M{x:.2f} {BASE}v5", INK))
        parts.append(build_text(x, BASE + 18, label, size=11, anchor="middle"))
    middle = (LEFT + right) / 2
    parts.append(build_text(middle, HEIGHT - 10, x_axis.title, size=12, anchor="middle"))
    line = sorted((point for point in points if point.is_on_front), key=lambda point: point.x)
    if len(line) > 1:
        path = "L".join(f"{point.x:.2f} {point.y:.2f}" for point in line)
        parts.append(build_path(f"M{path}", INK, ' stroke-dasharray="5 4" fill="none"'))
    for point in points:
        parts += draw_mark(point, y_axis)
    parts += draw_labels(points, line, y_axis, right)
    if plot.published:
        parts += draw_published(plot.published, right)
    return build_image(parts, HEIGHT, plot.title)


def draw_grid(axis: PlotAxis, left: float, right: float) -> list[str]:
    """Horizontal lines at the ticks, with their labels to the left."""
    parts = []
    for value, label in axis.ticks:
        y = axis.position(value)
        parts.append(build_path(f"M{left:.2f} {y:.2f}H{right:.2f}", INK if y == BASE else FAINT))
        parts.append(build_text(left - 8, y + 4, label, size=11, anchor="end"))
    return parts


def draw_mark(point: PlotPoint, axis: PlotAxis) -> list[str]:
    """A dot with its interval."""
    x, interval = point.x, point.choice.interval
    low, high = axis.position(interval.low), axis.position(interval.high)
    colour = choose_effort_colour(point.choice.effort)
    bar = f"M{x:.2f} {low:.2f}V{high:.2f}M{x - 4:.2f} {low:.2f}h8M{x - 4:.2f} {high:.2f}h8"
    return [
        build_path(bar, colour, ' stroke-width="1.5" fill="none"'),
        build_circle(x, point.y, MARK_RADIUS, colour),
    ]


def draw_labels(
    points: Sequence[PlotPoint], front: Sequence[PlotPoint], axis: PlotAxis, right: float
) -> list[str]:
    """The name of each variant beside its mark, where it covers least of what is drawn."""
    obstacles = list_obstacles(points, front, axis)
    parts = []
    for point in points:
        name = plain(point.choice.label)
        boxes = [
            build_label_box(point, CHAR_WIDTH * len(name), side, offset)
            for offset in LABEL_OFFSETS
            for side in (1, -1)
        ]
        inside = [b for b in boxes if b[0] >= LEFT and b[2] <= right and b[1] >= TOP - 8] or boxes
        box = min(
            inside, key=lambda b: sum(w for w, other in obstacles if is_overlapping(b, other))
        )
        obstacles.append((20, box))
        x, anchor = (box[2], "end") if box[0] < point.x else (box[0], "start")
        weight = 600 if point.is_on_front else 400
        parts.append(build_text(x, box[3] - 3, name, size=12, weight=weight, anchor=anchor))
    return parts


def list_obstacles(
    points: Sequence[PlotPoint], front: Sequence[PlotPoint], axis: PlotAxis
) -> list[tuple[int, LabelBox]]:
    """What a label should not cover, each with its weight."""
    obstacles: list[tuple[int, LabelBox]] = []
    for point in points:
        x, y, radius = point.x, point.y, MARK_RADIUS
        obstacles.append((20, (x - radius, y - radius, x + radius, y + radius)))
        low, high = map(axis.position, point.choice.interval)
        obstacles.append((10, (x - 2, high, x + 2, low)))
    for first, second in pairwise(front):
        for sample in range(FRONT_SAMPLES + 1):
            x = first.x + (second.x - first.x) * sample / FRONT_SAMPLES
            y = first.y + (second.y - first.y) * sample / FRONT_SAMPLES
            obstacles.append((4, (x - 1, y - 1, x + 1, y + 1)))
    levels = (axis.position(value) for value, _ in axis.ticks)
    return obstacles + [(3, (0, y - 1, WIDTH, y + 1)) for y in levels]


def build_label_box(point: PlotPoint, width: float, side: int, offset: float) -> LabelBox:
    """The box of a label to the right (side 1) or left (-1) of its mark, moved down by offset."""
    x = point.x + 10 if side > 0 else point.x - 10 - width
    y = point.y + offset
    return x, y - LINE_HEIGHT / 2, x + width, y + LINE_HEIGHT / 2


def is_overlapping(one: LabelBox, other: LabelBox) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def draw_published(published: PublishedFigures, left: float) -> list[str]:
    """The published figures as hollow marks on a scale of their own."""
    axis = build_published_axis(published, BASE, TOP + 18)
    begin, end = left + 66, WIDTH - RIGHT
    step = (end - begin) / len(published.figures)
    heading = f"{published.benchmark}, {published.unit}"
    parts = [
        build_text(left + 28, 42, heading, size=12, weight=600),
        build_text(left + 28, 58, "published, not measured here", size=11),
        *draw_grid(axis, begin, end),
    ]
    for index, (effort, figure) in enumerate(published.figures):
        x, y = begin + step * (index + 0.5), axis.position(figure)
        parts += [
            build_circle(x, y, MARK_RADIUS, choose_effort_colour(effort), is_hollow=True),
            build_text(x, y - 11, f"{figure:g}", size=11, anchor="middle"),
            build_text(x, BASE + 18, effort, size=11, anchor="middle"),
        ]
    source, _, snapshot = published.source.partition(" (")
    read_on = f"{snapshot.rstrip(')')}, read {published.read_on}"
    parts.append(build_text(end, HEIGHT - 20, source, size=9, anchor="end"))
    parts.append(build_text(end, HEIGHT - 8, read_on, size=9, anchor="end"))
    return parts
