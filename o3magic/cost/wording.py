"""Costs and counts in words, and the order of efforts."""

from __future__ import annotations

from o3magic.cost.entries import Sums
from o3magic.money import show_usd

EFFORTS = ("", "none", "minimal", "low", "medium", "high", "xhigh", "max")


def rank(effort: str) -> int:
    """Where an effort stands among the others; unknown ones come last."""
    return EFFORTS.index(effort) if effort in EFFORTS else len(EFFORTS)


def known_nano_usd(sums: Sums) -> int | None:
    """The known part of a cost, or None where no call's cost is known."""
    nothing_known = sums.calls and sums.unknown_cost_calls == sums.calls
    return None if nothing_known else sums.cost_nano_usd


def cost_cell(sums: Sums) -> str:
    """A cost to look at; at least, where some of it is unknown."""
    shown = show_usd(known_nano_usd(sums))
    return f"at least {shown}" if sums.unknown_cost_calls and shown != "unknown" else shown


def counted(calls: int) -> str:
    """A number of calls in words."""
    return "1 call" if calls == 1 else f"{calls:,} calls"
