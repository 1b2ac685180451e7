"""Costs over time as a matplotlib Figure. The door of matplotlib, an optional package."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from io import BytesIO
from typing import Any

from o3magic.cost.columns import plain
from o3magic.cost.entries import Sums, Total
from o3magic.cost.plot import LABELS, SHARE, bars_of, colour, effort_name
from o3magic.cost.wording import rank

SIZE_INCHES = (7.2, 4.2)
SHARP = 2  # pixels for each one on the page


def figure(days: Iterable[Total], title: str) -> Any:
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
        spent = [bar.efforts.get(effort, Sums()).cost_nano_usd / 1e9 for bar in bars]
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
