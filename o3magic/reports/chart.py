"""Costs over time as SVG of our own: a bar for each day, stacked by effort; below, how much of
the output was reasoning.

Colours and greys are of middle tone on nothing, so that it can be read on a light page and on a
dark one: shown as a picture it cannot see which it is on. Every name in it is escaped.
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
from xml.sax.saxutils import escape

from o3magic.cost.entries import CallSums, CostTotal
from o3magic.money import NANO_DIGITS
from o3magic.render.tables import TextTable, plain
from o3magic.reports.formatting import cost_cell, counted, rank

COLOURS = {
    "": "#8a8f98",
    "none": "#7d9a8a",
    "minimal": "#3fa7a0",
    "low": "#3b9fd1",
    "medium": "#4a7fe0",
    "high": "#8566d9",
    "xhigh": "#b857b4",
    "max": "#d65380",
}
OTHER = "#b58436"  # an effort we have no word for
INK, FAINT, SHARE = "#7b7f87", "#8b8f9766", "#9298a3"
MOST_BARS = (100, 120)  # of days, then of months; beyond them years
WIDTH, LEFT, RIGHT = 720, 70, 14
TOP, COST_HEIGHT, GAP, SHARE_HEIGHT, BOTTOM = 62, 190, 44, 56, 30
HEIGHT = TOP + COST_HEIGHT + GAP + SHARE_HEIGHT + BOTTOM
PLOT_WIDTH = WIDTH - LEFT - RIGHT
WIDEST_BAR = 46.0
LABELS = 7  # of times below the bars
FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif\""
EMPTY_HEIGHT = 120
NOTHING_NANO = 10_000_000  # the height of a picture in which no cost is known


@dataclass(frozen=True, slots=True)
class CostBar:
    """One day, month or year: its live calls by effort."""

    name: str
    efforts: dict[str, CallSums]

    @property
    def total(self) -> CallSums:
        """All efforts together."""
        return reduce(CallSums.plus, self.efforts.values(), CallSums())

    @property
    def share(self) -> float | None:
        """How much of the output was reasoning; None where there was no output."""
        total = self.total
        return total.reasoning_tokens / total.output_tokens if total.output_tokens else None


@dataclass(frozen=True)
class CostPlot:
    """A picture of costs. `svg` is its text, `save(path)` writes it; in a notebook it shows itself.

    days: totals by UTC day and effort. Only live calls are drawn.
    """

    days: Sequence[CostTotal] = field(repr=False)
    title: str = "costs"

    @cached_property
    def bars(self) -> list[CostBar]:
        """A bar for each day, month or year from the first to the last."""
        return bars_of(self.days)

    @cached_property
    def svg(self) -> str:
        """The picture."""
        return drawn(self.bars, self.title) if self.bars else empty(self.title, self._free())

    def save(self, path: Any) -> None:
        """Write the picture. Raises BadOption where it cannot be written."""
        from o3magic.reports.formatting import write

        write(path, self.svg)

    def __str__(self) -> str:
        """The same as a table, for where there are no pictures."""
        if not self.bars:
            return f"{plain(self.title)}: {nothing(self._free())}"
        most = max(bar.total.cost_nano_usd for bar in self.bars) or 1
        rows = []
        for bar in self.bars:
            total = bar.total
            if not total.calls:
                continue
            share = "–" if bar.share is None else f"{bar.share:.0%}"
            length = round(24 * total.cost_nano_usd / most)
            rows.append((bar.name, "▇" * length, f"{total.calls:,}", share, cost_cell(total)))
        head = (period(self.bars), "", "calls", "reasoning", "cost")
        return f"{plain(self.title)}\n{TextTable(head, rows, 2).text()}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How a notebook shows it."""
        return {"image/svg+xml": self.svg, "text/plain": str(self)}

    def _free(self) -> int:
        return sum(each.simulated.calls + each.replayed.calls for each in self.days)


def bars_of(days: Iterable[CostTotal]) -> list[CostBar]:
    """Bars without a gap from the first live call to the last: of days if they are few."""
    live = [each for each in days if each.live.calls]
    if not live:
        return []
    first, last = min(each.day for each in live), max(each.day for each in live)
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    months = (end.year - begin.year) * 12 + end.month - begin.month + 1
    if (end - begin).days < MOST_BARS[0]:
        between = range(begin.toordinal(), end.toordinal() + 1)
        length, names = 10, [date.fromordinal(n).isoformat() for n in between]
    elif months <= MOST_BARS[1]:
        counts = (begin.year * 12 + begin.month - 1 + n for n in range(months))
        length, names = 7, [f"{n // 12:04}-{n % 12 + 1:02}" for n in counts]
    else:
        length, names = 4, [f"{year:04}" for year in range(begin.year, end.year + 1)]
    bars = {name: CostBar(name, {}) for name in names}
    for each in sorted(live, key=lambda t: (rank(t.effort), t.effort)):
        efforts = bars[each.day[:length]].efforts
        efforts[each.effort] = efforts.get(each.effort, CallSums()).plus(each.live)
    return list(bars.values())


def period(bars: Sequence[CostBar]) -> str:
    """What a bar stands for."""
    return {10: "day", 7: "month"}.get(len(bars[0].name), "year")


def ticks(most_nano: int) -> list[int]:
    """Round amounts from 0 to above the highest bar: steps of 1, 2 or 5 times a power of ten."""
    most_nano = most_nano or NOTHING_NANO
    step = 1
    while True:
        for factor in (1, 2, 5):
            if step * factor * 5 >= most_nano:
                step *= factor
                return [n * step for n in range(-(-most_nano // step) + 1)]
        step *= 10


def tick_labels(amounts: Sequence[int]) -> list[str]:
    """The amounts in dollars, all with as many digits as their step needs."""
    exact = [Decimal(amount).scaleb(-NANO_DIGITS) for amount in amounts]
    digits = max(-int(each.normalize().as_tuple().exponent) for each in exact)
    digits = 0 if digits <= 0 else max(digits, 2)
    return [f"${each:,.{digits}f}" if each else "$0" for each in exact]


def drawn(bars: Sequence[CostBar], title: str) -> str:
    """The whole picture of at least one bar."""
    whole = reduce(CallSums.plus, (bar.total for bar in bars), CallSums())
    efforts = sorted({e for bar in bars for e in bar.efforts}, key=lambda e: (rank(e), e))
    scale = ticks(max(bar.total.cost_nano_usd for bar in bars))
    parts = [
        text(LEFT, 22, plain(title), size=15, weight=600),
        text(WIDTH - RIGHT, 22, f"{cost_cell(whole)} · {counted(whole.calls)}", anchor="end"),
        *legend(efforts),
        text(WIDTH - RIGHT, 45, f"per {period(bars)}, UTC", size=11, anchor="end"),
        *cost_axis(scale),
        *(part for at, bar in enumerate(bars) for part in stack(at, len(bars), bar, scale[-1])),
        *share_axis(),
        *share_marks(bars),
        *time_labels(bars),
    ]
    return framed(parts, HEIGHT, f"{plain(title)}: cost of each {period(bars)} by effort")


def legend(efforts: Sequence[str]) -> list[str]:
    """A patch of colour and a name for each effort."""
    parts, x = [], float(LEFT)
    for effort in efforts[:8]:
        name = effort_name(effort)
        parts.append(rect(x, 36, 10, 10, colour(effort)))
        parts.append(text(x + 15, 45, name, size=12))
        x += 15 + 7.2 * len(name) + 18
    return parts


def cost_axis(scale: Sequence[int]) -> list[str]:
    """Lines across at round amounts, with the amounts to the left."""
    parts = []
    for amount, label in zip(scale, tick_labels(scale), strict=True):
        y = TOP + COST_HEIGHT * (1 - amount / scale[-1])
        parts.append(across(y, INK if amount == 0 else FAINT))
        parts.append(text(LEFT - 8, y + 4, label, size=11, anchor="end"))
    return parts


def stack(at: int, count: int, bar: CostBar, highest: int) -> list[str]:
    """One bar: its efforts on one another, each with its words for the mouse."""
    x, width = place(at, count)
    y = float(TOP + COST_HEIGHT)
    parts = []
    for effort, sums in bar.efforts.items():
        height = COST_HEIGHT * sums.cost_nano_usd / highest
        y -= height
        said = f"{bar.name} · {effort_name(effort)}: {cost_cell(sums)} · {counted(sums.calls)}"
        if height > 0:
            # A little air between the parts, but none that would hide a small one.
            gap = min(1.0, height / 4) if y + height < TOP + COST_HEIGHT else 0.0
            parts.append(rect(x, y, width, height - gap, colour(effort), said))
    if bar.total.unknown_cost_calls:
        said = f"{bar.name}: the cost of {counted(bar.total.unknown_cost_calls)} is unknown"
        parts.append(text(x + width / 2, y - 5, "≥", size=12, anchor="middle", title=said))
    return parts


def share_axis() -> list[str]:
    """The lower picture's frame: none, half and all of the output."""
    top = TOP + COST_HEIGHT + GAP
    parts = [text(LEFT, top - 10, "reasoning, share of output tokens", size=12)]
    for share in (0, 1):
        y = top + SHARE_HEIGHT * (1 - share)
        parts.append(across(y, INK if share == 0 else FAINT))
        parts.append(text(LEFT - 8, y + 4, f"{share:.0%}", size=11, anchor="end"))
    return parts


def share_marks(bars: Sequence[CostBar]) -> list[str]:
    """A short bar in one colour for each share."""
    bottom = TOP + COST_HEIGHT + GAP + SHARE_HEIGHT
    parts = []
    for at, bar in enumerate(bars):
        if bar.share is not None:
            x, width = place(at, len(bars))
            height = SHARE_HEIGHT * min(bar.share, 1.0)
            said = f"{bar.name}: {bar.share:.0%} of the output was reasoning"
            parts.append(rect(x, bottom - height, width, height, SHARE, said))
    return parts


def time_labels(bars: Sequence[CostBar]) -> list[str]:
    """Some of the days, months or years below the bars, evenly apart."""
    every = -(-len(bars) // LABELS)
    parts = []
    for at in range(0, len(bars), every):
        x, width = place(at, len(bars))
        parts.append(text(x + width / 2, HEIGHT - 11, bars[at].name, size=11, anchor="middle"))
    return parts


def empty(title: str, free: int) -> str:
    """The picture of nothing."""
    middle = WIDTH / 2
    parts = [
        text(middle, 52, plain(title), size=15, weight=600, anchor="middle"),
        text(middle, 78, nothing(free), anchor="middle"),
    ]
    return framed(parts, EMPTY_HEIGHT, f"{plain(title)}: {nothing(free)}")


def nothing(free: int) -> str:
    """Why there is nothing to draw."""
    if not free:
        return "no calls yet"
    calls = "1 simulated or replayed call" if free == 1 else f"{free:,} simulated or replayed calls"
    return f"no live calls yet; {calls} cost $0"


def framed(parts: Sequence[str], height: int, label: str) -> str:
    """Parts as one picture."""
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" {FONT}>\n'
        f"<title>{escape(label)}</title>\n{inside}\n</svg>\n"
    )


def place(at: int, count: int) -> tuple[float, float]:
    """Where a bar stands, and how wide it is."""
    step = PLOT_WIDTH / count
    width = min(step * 0.72, WIDEST_BAR)
    return LEFT + step * at + (step - width) / 2, width


def effort_name(effort: str) -> str:
    """An effort for people; "" is the model's own."""
    return plain(effort) or "default"


def colour(effort: str) -> str:
    """An effort's colour, wherever it is shown."""
    return COLOURS.get(effort, OTHER)


def rect(x: float, y: float, width: float, height: float, fill: str, title: str = "") -> str:
    """A filled rectangle, with words for the mouse."""
    shape = f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    said = f"><title>{escape(title)}</title></rect>" if title else "/>"
    return f'{shape} fill="{fill}"{said}'


def across(y: float, stroke: str) -> str:
    """A thin line from side to side."""
    return f'<path d="M{LEFT} {y:.2f}H{WIDTH - RIGHT}" stroke="{stroke}" stroke-width="1"/>'


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 13,
    weight: int = 400,
    anchor: str = "start",
    title: str = "",
) -> str:
    """Words, escaped, with more words for the mouse."""
    more = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{INK}">{escape(words)}{more}</text>'
    )


SIZE_INCHES = (7.2, 4.2)
SHARP = 2  # pixels for each one on the page


def figure(days: Iterable[CostTotal], title: str) -> Any:
    """Bars stacked by effort, and the share of reasoning below. Belongs to no pyplot window.

    Raises ImportError, with the way to get it, where matplotlib is not installed.
    """
    try:
        kind = import_module("matplotlib.figure").Figure
    except ImportError:
        raise ImportError("this plot needs matplotlib: %pip install matplotlib") from None
    bars = bars_of(days)
    # A Figure that no pyplot made does not show itself in a notebook.
    shown = type("CostFigure", (kind,), {"_repr_png_": as_png})
    made = shown(figsize=SIZE_INCHES, layout="constrained")
    cost, share = made.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    names = [bar.name for bar in bars]
    below = [0.0] * len(bars)
    for effort in sorted({e for bar in bars for e in bar.efforts}, key=lambda e: (rank(e), e)):
        spent = [bar.efforts.get(effort, CallSums()).cost_nano_usd / 1e9 for bar in bars]
        cost.bar(
            names, spent, bottom=below, color=colour(effort), label=plot_text(effort_name(effort))
        )
        below = [a + b for a, b in zip(below, spent, strict=True)]
    share.bar(names, [100 * (bar.share or 0) for bar in bars], color=SHARE)
    cost.set_title(plot_text(plain(title)), loc="left")
    cost.set_ylabel("US dollars")
    share.set_ylabel("reasoning,\n% of output")
    share.set_ylim(0, 100)
    share.set_xticks(range(0, len(bars), -(-len(bars) // LABELS) or 1))
    for axes in (cost, share):
        axes.spines[["top", "right"]].set_visible(False)
    if bars:
        cost.legend(frameon=False, ncols=8, loc="lower right", bbox_to_anchor=(1, 1))
    for at, bar in enumerate(bars):
        if bar.total.unknown_cost_calls:
            cost.text(at, below[at], "≥", ha="center", va="bottom")
    return made


def as_png(made: Any) -> tuple[bytes, dict[str, float]]:
    """How a notebook shows it: the picture, and how large that is on the page."""
    picture = BytesIO()
    made.savefig(picture, format="png", dpi=SHARP * made.dpi)
    width, height = made.get_size_inches() * made.dpi
    return picture.getvalue(), {"width": float(width), "height": float(height)}


def plot_text(words: str) -> str:
    """Words in which no dollar begins a formula."""
    return words.replace("$", r"\$")
