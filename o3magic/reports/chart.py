"""The daily cost chart: a bar for each day, stacked by effort; below it the reasoning share of the
output tokens. Drawn as SVG, or as a matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property, reduce
from importlib import import_module
from io import BytesIO
from typing import Any

from o3magic.cost.entries import CallSums, CostTotal
from o3magic.money import NANO_DIGITS
from o3magic.render.svg import (
    FAINT,
    INK,
    LEFT,
    RIGHT,
    WIDTH,
    build_image,
    build_path,
    build_rect,
    build_text,
    choose_effort_colour,
)
from o3magic.render.tables import TextTable, plain
from o3magic.reports.formatting import format_calls, format_cost, rank_effort, write_text

SHARE_COLOUR = "#9298a3"
MAX_DAYS, MAX_MONTHS = 100, 120  # above MAX_DAYS a bar is a month, above MAX_MONTHS a year
TOP, COST_HEIGHT, GAP, SHARE_HEIGHT, BOTTOM = 62, 190, 44, 56, 30
HEIGHT = TOP + COST_HEIGHT + GAP + SHARE_HEIGHT + BOTTOM
COST_BASE, SHARE_BASE = TOP + COST_HEIGHT, HEIGHT - BOTTOM
MAX_BAR_WIDTH = 46.0
MAX_TIME_LABELS = 7
EMPTY_HEIGHT = 120
MIN_SCALE_NANO = 10_000_000  # the top of the scale where no cost is known
FIGURE_INCHES = (7.2, 4.2)
PIXEL_RATIO = 2  # of a PNG, for displays with two pixels to a point


@dataclass(frozen=True, slots=True)
class CostBar:
    """The live calls of one day, month or year, by effort."""

    name: str
    efforts: dict[str, CallSums]

    @property
    def total(self) -> CallSums:
        return reduce(CallSums.plus, self.efforts.values(), CallSums())

    @property
    def share(self) -> float | None:
        """The reasoning share of the output tokens; None where there was no output."""
        total = self.total
        return total.reasoning_tokens / total.output_tokens if total.output_tokens else None


@dataclass(frozen=True)
class CostPlot:
    """A chart of costs. `svg` is its text, `save(path)` writes it; a notebook displays it.

    days: totals by UTC day and effort. Only live calls are drawn.
    """

    days: Sequence[CostTotal] = field(repr=False)
    title: str = "costs"

    @cached_property
    def bars(self) -> list[CostBar]:
        """One bar for each day, month or year, from the first live call to the last."""
        return build_bars(self.days)

    @cached_property
    def svg(self) -> str:
        """The chart as an SVG document."""
        if self.bars:
            return draw_chart(self.bars, self.title)
        title, reason = plain(self.title), explain_empty(self.days)
        parts = [
            build_text(WIDTH / 2, 52, title, size=15, weight=600, anchor="middle"),
            build_text(WIDTH / 2, 78, reason, anchor="middle"),
        ]
        return build_image(parts, EMPTY_HEIGHT, f"{title}: {reason}")

    def save(self, path: Any) -> None:
        """Write the SVG to a file. Raises BadOption where it cannot be written."""
        write_text(path, self.svg)

    def __str__(self) -> str:
        """The chart as a text table, for front ends without images."""
        if not self.bars:
            return f"{plain(self.title)}: {explain_empty(self.days)}"
        highest = max(bar.total.cost_nano_usd for bar in self.bars) or 1
        rows = []
        for bar in self.bars:
            total = bar.total
            if not total.calls:
                continue
            share = "–" if bar.share is None else f"{bar.share:.0%}"
            length = round(24 * total.cost_nano_usd / highest)
            rows.append((bar.name, "▇" * length, f"{total.calls:,}", share, format_cost(total)))
        head = (name_period(self.bars), "", "calls", "reasoning", "cost")
        return f"{plain(self.title)}\n{TextTable(head, rows, 2).text()}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": str(self)}


def build_bars(days: Iterable[CostTotal]) -> list[CostBar]:
    """Bars without a gap from the first live call to the last: of days, months or years."""
    live = [total for total in days if total.live.calls]
    if not live:
        return []
    first = date.fromisoformat(min(total.day for total in live))
    last = date.fromisoformat(max(total.day for total in live))
    months = (last.year - first.year) * 12 + last.month - first.month + 1
    if (last - first).days < MAX_DAYS:
        ordinals = range(first.toordinal(), last.toordinal() + 1)
        length, names = 10, [date.fromordinal(n).isoformat() for n in ordinals]
    elif months <= MAX_MONTHS:
        numbers = (first.year * 12 + first.month - 1 + n for n in range(months))
        length, names = 7, [f"{n // 12:04}-{n % 12 + 1:02}" for n in numbers]
    else:
        length, names = 4, [f"{year:04}" for year in range(first.year, last.year + 1)]
    bars = {name: CostBar(name, {}) for name in names}
    for total in sorted(live, key=lambda t: (rank_effort(t.effort), t.effort)):
        efforts = bars[total.day[:length]].efforts
        efforts[total.effort] = efforts.get(total.effort, CallSums()).plus(total.live)
    return list(bars.values())


def explain_empty(days: Iterable[CostTotal]) -> str:
    """Why there is nothing to draw."""
    calls = sum(total.simulated.calls + total.replayed.calls for total in days)
    if not calls:
        return "no calls yet"
    noun = (
        "1 simulated or replayed call" if calls == 1 else f"{calls:,} simulated or replayed calls"
    )
    return f"no live calls yet; {noun} cost $0"


def name_period(bars: Sequence[CostBar]) -> str:
    """What one bar covers: day, month or year."""
    return {10: "day", 7: "month"}.get(len(bars[0].name), "year")


def list_efforts(bars: Iterable[CostBar]) -> list[str]:
    return sorted({e for bar in bars for e in bar.efforts}, key=lambda e: (rank_effort(e), e))


def format_effort(effort: str) -> str:
    return plain(effort) or "default"


def draw_chart(bars: Sequence[CostBar], title: str) -> str:
    """The SVG of one bar or more."""
    total = reduce(CallSums.plus, (bar.total for bar in bars), CallSums())
    scale = compute_ticks(max(bar.total.cost_nano_usd for bar in bars))
    summary = f"{format_cost(total)} · {format_calls(total.calls)}"
    parts = [
        build_text(LEFT, 22, plain(title), size=15, weight=600),
        build_text(WIDTH - RIGHT, 22, summary, anchor="end"),
        *draw_legend(list_efforts(bars)),
        build_text(WIDTH - RIGHT, 45, f"per {name_period(bars)}, UTC", size=11, anchor="end"),
    ]
    for amount, label in zip(scale, format_ticks(scale), strict=True):
        y = TOP + COST_HEIGHT * (1 - amount / scale[-1])
        parts += draw_level(y, label, is_base=not amount)
    for index, bar in enumerate(bars):
        parts += draw_cost_bar(bar, *locate_bar(index, len(bars)), scale[-1])
    heading = "reasoning, share of output tokens"
    parts.append(build_text(LEFT, SHARE_BASE - SHARE_HEIGHT - 10, heading, size=12))
    parts += draw_level(SHARE_BASE, "0%", is_base=True)
    parts += draw_level(SHARE_BASE - SHARE_HEIGHT, "100%", is_base=False)
    for index, bar in enumerate(bars):
        if bar.share is not None:
            x, width = locate_bar(index, len(bars))
            height = SHARE_HEIGHT * min(bar.share, 1.0)
            tooltip = f"{bar.name}: {bar.share:.0%} of the output was reasoning"
            parts.append(build_rect(x, SHARE_BASE - height, width, height, SHARE_COLOUR, tooltip))
    for index in range(0, len(bars), -(-len(bars) // MAX_TIME_LABELS)):
        x, width = locate_bar(index, len(bars))
        middle = x + width / 2
        parts.append(build_text(middle, HEIGHT - 11, bars[index].name, size=11, anchor="middle"))
    return build_image(parts, HEIGHT, f"{plain(title)}: cost of each {name_period(bars)} by effort")


def compute_ticks(highest_nano: int) -> list[int]:
    """Amounts from 0 to the highest bar or above, in steps of 1, 2 or 5 times a power of ten."""
    highest_nano = highest_nano or MIN_SCALE_NANO
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if step * 5 >= highest_nano:
                return [n * step for n in range(-(-highest_nano // step) + 1)]
        power *= 10


def format_ticks(amounts: Sequence[int]) -> list[str]:
    """Nano-dollars as dollars, all with as many digits as their step needs."""
    exact = [Decimal(amount).scaleb(-NANO_DIGITS) for amount in amounts]
    digits = max(-int(amount.normalize().as_tuple().exponent) for amount in exact)
    digits = 0 if digits <= 0 else max(digits, 2)
    return [f"${amount:,.{digits}f}" if amount else "$0" for amount in exact]


def draw_legend(efforts: Sequence[str]) -> list[str]:
    parts, x = [], float(LEFT)
    for effort in efforts[:8]:
        name = format_effort(effort)
        parts.append(build_rect(x, 36, 10, 10, choose_effort_colour(effort)))
        parts.append(build_text(x + 15, 45, name, size=12))
        x += 15 + 7.2 * len(name) + 18
    return parts


def draw_level(y: float, label: str, *, is_base: bool) -> list[str]:
    """A horizontal line with its label to the left."""
    stroke = INK if is_base else FAINT
    return [
        build_path(f"M{LEFT} {y:.2f}H{WIDTH - RIGHT}", stroke, ' stroke-width="1"'),
        build_text(LEFT - 8, y + 4, label, size=11, anchor="end"),
    ]


def draw_cost_bar(bar: CostBar, x: float, width: float, highest_nano: int) -> list[str]:
    """One bar with a tooltip for each effort; ≥ above it where a cost is unknown."""
    y = float(COST_BASE)
    parts = []
    for effort, sums in bar.efforts.items():
        height = COST_HEIGHT * sums.cost_nano_usd / highest_nano
        y -= height
        if height > 0:
            # A gap between the parts, narrow enough that a small part stays visible.
            gap = min(1.0, height / 4) if y + height < COST_BASE else 0.0
            calls = format_calls(sums.calls)
            tooltip = f"{bar.name} · {format_effort(effort)}: {format_cost(sums)} · {calls}"
            parts.append(
                build_rect(x, y, width, height - gap, choose_effort_colour(effort), tooltip)
            )
    if unknown := bar.total.unknown_cost_calls:
        tooltip = f"{bar.name}: the cost of {format_calls(unknown)} is unknown"
        middle = x + width / 2
        parts.append(build_text(middle, y - 5, "≥", size=12, anchor="middle", tooltip=tooltip))
    return parts


def locate_bar(index: int, count: int) -> tuple[float, float]:
    """The left edge and the width of a bar."""
    step = (WIDTH - LEFT - RIGHT) / count
    width = min(step * 0.72, MAX_BAR_WIDTH)
    return LEFT + step * index + (step - width) / 2, width


def draw_figure(days: Iterable[CostTotal], title: str) -> Any:
    """The same chart as a matplotlib Figure that is not managed by pyplot.

    Raises ImportError, with the command that installs it, where matplotlib is missing.
    """
    try:
        base = import_module("matplotlib.figure").Figure
    except ImportError:
        raise ImportError("this plot needs matplotlib: %pip install matplotlib") from None
    bars = build_bars(days)
    # A Figure that pyplot did not make has no representation in a notebook of its own.
    figure = type("CostFigure", (base,), {"_repr_png_": render_png})(
        figsize=FIGURE_INCHES, layout="constrained"
    )
    cost, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    names, tops = [bar.name for bar in bars], [0.0] * len(bars)
    for effort in list_efforts(bars):
        usd = [bar.efforts.get(effort, CallSums()).cost_nano_usd / 1e9 for bar in bars]
        label = escape_dollars(format_effort(effort))
        cost.bar(names, usd, bottom=tops, color=choose_effort_colour(effort), label=label)
        tops = [top + amount for top, amount in zip(tops, usd, strict=True)]
    for index, bar in enumerate(bars):
        if bar.total.unknown_cost_calls:
            cost.text(index, tops[index], "≥", ha="center", va="bottom")
    share.bar(names, [100 * (bar.share or 0) for bar in bars], color=SHARE_COLOUR)
    cost.set_title(escape_dollars(plain(title)), loc="left")
    cost.set_ylabel("US dollars")
    step = -(-len(bars) // MAX_TIME_LABELS) or 1
    share.set(ylabel="reasoning,\n% of output", ylim=(0, 100), xticks=range(0, len(bars), step))
    for axes in (cost, share):
        axes.spines[["top", "right"]].set_visible(False)
    if bars:
        cost.legend(frameon=False, ncols=8, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def render_png(figure: Any) -> tuple[bytes, dict[str, float]]:
    """A figure's PNG and the size in pixels at which a notebook displays it."""
    png = BytesIO()
    figure.savefig(png, format="png", dpi=PIXEL_RATIO * figure.dpi)
    width, height = figure.get_size_inches() * figure.dpi
    return png.getvalue(), {"width": float(width), "height": float(height)}


def escape_dollars(text: str) -> str:
    """A text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
