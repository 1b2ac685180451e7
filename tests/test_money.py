"""Money as people read it, and as programs compute with it."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest

from o3magic.money import show_usd, usd


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "unknown"),
        (0, "$0"),
        (1, "$0.000000001"),
        (400, "$0.0000004"),
        (999, "$0.000000999"),
        (1_000, "$0.000001"),
        (1_499, "$0.000001"),
        (1_500, "$0.000002"),
        (2_500, "$0.000003"),
        (7_406_000, "$0.007406"),
        (7_400_000, "$0.0074"),
        (10_000_000, "$0.01"),
        (500_000_000, "$0.50"),
        (999_999_500, "$1.00"),
        (999_999_499, "$0.999999"),
        (1_234_567_890_000_000, "$1,234,567.89"),
        (10**40, "$10,000,000,000,000,000,000,000,000,000,000.00"),
        (-7_406_000, "-$0.007406"),
        (Decimal("0.007406"), "$0.007406"),
        (Decimal("12"), "$12.00"),
        (Decimal("1E+3"), "$1,000.00"),
        (Decimal("4E-7"), "$0.0000004"),
        (Decimal("1E-12"), "<$0.000000001"),
        (Decimal("-1E-12"), "-<$0.000000001"),
        (Decimal("-0"), "$0"),
        (Decimal("NaN"), "unknown"),
    ],
)
def test_money_is_short_and_never_looks_free_when_it_is_not(
    amount: int | Decimal | None, shown: str
) -> None:
    assert show_usd(amount) == shown


def test_dollars_are_exact_to_the_last_nano() -> None:
    assert usd(None) is None
    assert str(usd(7_406_000)) == "0.007406000"
    assert str(usd(0)) == "0"
    assert usd(10**60 + 1) == Decimal(f"{10**51}.000000001")


def test_a_coarse_decimal_context_of_the_user_changes_nothing() -> None:
    with localcontext() as coarse:
        coarse.prec = 3
        assert str(usd(123_456_789_123)) == "123.456789123"
        assert show_usd(123_456_789_123) == "$123.456789"
