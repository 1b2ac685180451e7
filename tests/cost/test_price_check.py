"""Our prices beside those of genai-prices, the real package, offline."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from o3magic.cost.price_check import check
from o3magic.errors import BadOption
from o3magic.models import Card, Catalog, Price, Rates

ON = date(2026, 11, 20)


@pytest.fixture
def offline(monkeypatch):
    """No connection can be made."""

    def refuse(*_: object) -> None:
        raise AssertionError("prices are compared offline")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def o3_mini() -> Card:
    pytest.importorskip("genai_prices")
    return Catalog.built_in().card("o3-mini")


def with_input(card: Card, usd: str) -> Card:
    """The card with another price of input."""
    first, *others = card.prices
    rates = replace(first.rates, input=Decimal(usd))
    return replace(card, prices=(replace(first, rates=rates), *others))


@pytest.mark.usefixtures("offline")
def test_a_card_with_the_same_prices_gives_no_rows(o3_mini):
    found = check(Catalog([o3_mini]), ON)
    standard = [d for d in found.differences if "," not in d.rate]
    assert standard == []
    assert found.models == 1
    assert "genai-prices 0." in found.said


@pytest.mark.usefixtures("offline")
def test_a_rate_that_differs_is_one_row_with_both_and_their_date(o3_mini):
    before = check(Catalog([o3_mini]), ON).differences
    found = check(Catalog([with_input(o3_mini, "1.20")]), ON)
    [row] = [d for d in found.differences if d not in before]
    assert (row.model, row.rate, row.ours) == ("o3-mini", "input", Decimal("1.20"))
    assert row.theirs == Decimal("1.1")
    assert date.fromisoformat(row.their_date) > date(2024, 1, 1)
    assert found.rows[0][:4] == ("o3-mini", "input", "1.20", "1.10")
    assert "from genai-prices" in found.said


def test_a_price_of_long_requests_is_compared_too():
    pytest.importorskip("genai_prices")
    card = Catalog.built_in().card("gpt-5.4")
    first, *others = card.prices
    assert first.long is not None
    dear = replace(first, long=replace(first.long, output=Decimal(99)))
    found = check(Catalog([replace(card, prices=(dear, *others))]), ON)
    assert [d.ours for d in found.differences if d.rate == "output, long"] == [Decimal(99)]


def test_a_model_they_do_not_have_is_named():
    pytest.importorskip("genai_prices")
    own = Card("my-own", prices=(Price(Rates(Decimal(1), Decimal(2))),))
    found = check(Catalog([own]), ON)
    assert found.differences == ()
    assert found.said.endswith("it does not have my-own")


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    for name in ("genai_prices", "genai_prices.data_snapshot"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadOption, match="not installed") as caught:
        check(Catalog.built_in())
    assert caught.value.hint == "pip install 'genai-prices>=0.2'"


def test_a_package_that_lacks_another_is_not_called_missing(monkeypatch):
    def broken(_: str) -> None:
        raise ModuleNotFoundError("No module named 'typing_extensions'", name="typing_extensions")

    monkeypatch.setattr("o3magic.cost.price_check.import_module", broken)
    with pytest.raises(BadOption, match="cannot be loaded: No module named 'typing_extensions'"):
        check(Catalog.built_in())
