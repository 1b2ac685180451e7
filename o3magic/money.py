"""Nano-dollars as dollars: exact to compute with, short to look at."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

NANO_DIGITS = 9
# The process's own context may round anything to 28 digits, or trap.
EXACT = Context(prec=200, rounding=ROUND_HALF_UP)
MICRO = Decimal("0.000001")
NANO = Decimal("0.000000001")


def usd(nano: int | None) -> Decimal | None:
    """The same money in US dollars, exact, with nine digits behind the point; nothing is just 0."""
    if not nano:  # with nine digits it would be shown as 0E-9
        return None if nano is None else Decimal(0)
    return Decimal(nano).scaleb(-NANO_DIGITS, EXACT)


def show_usd(amount: int | Decimal | None) -> str:
    """Money for people: nano-dollars where it is an int, US dollars where it is a Decimal.

    "$0.007406": two to six digits behind the point, rounded half up; all nine for less than a
    millionth, so that what costs something never looks free; "$0" for nothing; "unknown" for None.
    """
    exact = usd(amount) if isinstance(amount, int) else amount
    if exact is None or not exact.is_finite():
        return "unknown"
    if not exact:
        return "$0"
    sign, size = "-" if exact < 0 else "", exact.copy_abs()
    if size < NANO:
        return f"{sign}<$0.000000001"
    shown = size.quantize(NANO if size < MICRO else MICRO, context=EXACT)
    whole, _, digits = f"{shown:,f}".partition(".")
    return f"{sign}${whole}.{digits.rstrip('0').ljust(2, '0')}"
