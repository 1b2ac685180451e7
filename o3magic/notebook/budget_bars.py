"""How the budgets stand, as bars: what is spent, what may be besides, and what is left."""

from __future__ import annotations

from collections.abc import Sequence

from o3magic.cost.budgets import OF, Standing
from o3magic.money import show_usd
from o3magic.notebook.panel_words import MUTED, escape

WIDTH = "120px"
TRACK = "overflow:hidden;background:rgba(128,128,128,0.25)"
FINE, NEAR, GONE = "#2e7d32", "#ef6c00", "#c62828"


def bars_html(stands: Sequence[Standing], warn: float) -> str:
    """A bar for each budget; "" where none is set."""
    bars = "".join(bar(each, warn) for each in stands)
    return f'<div style="{MUTED};display:flex;flex-wrap:wrap;gap:2px 18px">{bars}</div>' * bool(
        bars
    )


def bar(stands: Standing, warn: float) -> str:
    """One budget: full colour for what is spent, pale for what is on its way or unknown."""
    scope, limit = stands.budget
    if scope == "call":
        return f"<span>{escape(f'each question up to {show_usd(limit)}')}</span>"
    colour = GONE if stands.share >= 1 else NEAR if stands.share >= warn else FINE
    spent = percent(stands.spent_nano_usd, limit)
    held = min(percent(stands.held_nano_usd, limit), 100 - spent)
    seen = f"{OF[scope]} {show_usd(stands.spent_nano_usd)} of {show_usd(limit)}"
    said = f"{OF[scope]}: {show_usd(stands.spent_nano_usd)} of {show_usd(limit)}"
    if stands.held_nano_usd:
        more = f", up to {show_usd(stands.held_nano_usd)} more"
        seen, said = seen + more, f"{said}{more} on its way or unknown"
    track = f"display:inline-flex;width:{WIDTH};height:8px;border-radius:4px;margin-left:4px"
    parts = (
        f'<span style="width:{spent}%;background:{colour}"></span>'
        f'<span style="width:{held}%;background:{colour};opacity:0.4"></span>'
    )
    return (
        f'<span title="{escape(said)}">'
        f"{escape(seen)} "
        f'<span role="meter" aria-label="{escape(said)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{spent + held}" style="{track};{TRACK}">'
        f"{parts}</span></span>"
    )


def percent(part: int, whole: int) -> int:
    """A share in whole percent, 0 to 100; what is there at all is seen."""
    if not part:
        return 0
    return 100 if not whole else max(1, min(100, 100 * part // whole))
