"""What an answer cost, as exact text and back."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from o3magic.errors import CassetteError
from o3magic.money import usd

MOST_USD = Decimal(10**6)


def shown(cost_nano_usd: int | None) -> str | None:
    """A cost as exact text, such as `0.000189`."""
    amount = usd(cost_nano_usd)
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def nano(amount: Decimal) -> int:
    """Dollars as whole nano-dollars."""
    return int(amount.scaleb(9).to_integral_value())


def cost_of(said: Any) -> int | None:
    """Nano-dollars of what an entry says. Raises CassetteError for what is no amount."""
    if said is None:
        return None
    try:
        amount = Decimal(str(said)[:40])
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(said, bool) or not amount.is_finite() or not 0 <= amount <= MOST_USD:
        raise CassetteError("cost_usd is no amount of dollars")
    return nano(amount)
