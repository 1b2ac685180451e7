"""Models without a card, priced by genai-prices: the real package, offline."""

from __future__ import annotations

import sys
from datetime import date
from decimal import Decimal
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from o3magic.cost import pricing
from o3magic.cost.pricing import priced_card
from o3magic.errors import OverBudget
from o3magic.events import Finished, Usage
from o3magic.models import Catalog
from o3magic.providers import Providers
from o3magic.render.answer import plain_footer
from o3magic.rows.batch.download import LineReader
from o3magic.simulator import Reply
from tests.sessions import entries, response, session_at

ON = date(2026, 12, 1)
OLD = "gpt-4-turbo"  # no card here, 10 and 30 dollars a million tokens there
COST_NANO_USD = 7 * 10_000 + 87 * 30_000


@pytest.fixture
def session(sim):
    pytest.importorskip("genai_prices")
    with session_at(sim.base_url) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _asked_anew():
    """The package is read anew in each test."""
    priced_card.cache_clear()
    yield
    priced_card.cache_clear()


def money(**usd):
    """A price as the package says it."""
    return SimpleNamespace(**{name: Decimal(rate) for name, rate in usd.items()})


def steps(base, *above):
    """A rate that is another one for longer requests."""
    tiers = [SimpleNamespace(start=start, price=Decimal(usd)) for start, usd in above]
    return SimpleNamespace(base=Decimal(base), tiers=tiers)


def test_a_model_without_a_card_costs_what_the_package_says_to_the_nano_dollar():
    pytest.importorskip("genai_prices")
    card = priced_card("openai", OLD, ON)
    assert card.nano_usd(Usage(7, 0, 87), ON) == COST_NANO_USD
    assert card.nano_usd(Usage(7, 0, 87), ON, "batch") == COST_NANO_USD // 2
    assert card.nano_usd(Usage(7, 0, 87), ON, "flex") is None
    assert (card.window_tokens, card.efforts, card.reasons) == (128_000, None, True)


def test_the_price_says_the_package_its_version_and_the_day_it_was_looked_at():
    pytest.importorskip("genai_prices")
    said = priced_card("openai", OLD, ON).price(ON).source
    name, number, day = said.replace("(", "").replace(")", "").split()
    assert (name, number) == ("genai-prices", version("genai-prices"))
    assert date(2025, 1, 1) < date.fromisoformat(day)


@pytest.mark.parametrize("provider", ["azure", "azure-entra", "azure-legacy"])
def test_each_way_to_azure_has_azure_s_prices(provider):
    pytest.importorskip("genai_prices")
    assert priced_card(provider, "o1-preview", ON).price(ON).rates.input > 0


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "my-own-model"), ("nobody", OLD), ("openai", ""), ("openai", "whisper-1")],
)
def test_what_the_package_does_not_price_by_tokens_has_no_price(provider, model):
    pytest.importorskip("genai_prices")
    assert priced_card(provider, model, ON) is None


def test_a_price_by_length_keeps_its_limit_and_each_of_its_rates():
    theirs = SimpleNamespace(
        input_mtok=steps("2", (200_000, "4")),
        output_mtok=steps("10", (200_000, "15")),
        cache_read_mtok=Decimal("0.2"),
        web_searches_kcount=Decimal(10),
    )
    price = pricing.price_of("default", theirs, "there")
    assert price.long_above_tokens == 200_000
    assert (price.long.input, price.long.output, price.long.cached) == (4, 15, Decimal("0.2"))
    assert price.nano_usd(Usage(200_000, 0, 1)) == 200_000 * 2_000 + 10_000
    assert price.nano_usd(Usage(200_001, 1, 1)) == 200_000 * 4_000 + 200 + 15_000


@pytest.mark.parametrize(
    "theirs",
    [
        money(input_mtok=1, output_mtok=2, requests_kcount=5),
        money(input_mtok=1, output_mtok=2, output_reasoning_mtok=3),
        SimpleNamespace(input_mtok=steps("1", (9, "2"), (99, "3")), output_mtok=Decimal(1)),
    ],
)
def test_a_price_that_four_rates_cannot_say_is_none(theirs):
    with pytest.raises(ValueError, match="it "):
        pricing.price_of("default", theirs, "there")


@pytest.mark.parametrize(
    "trouble",
    [ImportError, LookupError, AttributeError, TypeError, ValueError, ArithmeticError],
)
def test_trouble_in_the_package_leaves_the_cost_unknown(monkeypatch, trouble):
    def broken():
        raise trouble("its business")

    monkeypatch.setattr(pricing, "snapshot", broken)
    assert priced_card("openai", OLD, ON) is None


def test_a_batch_of_such_a_model_costs_its_batch_price():
    pytest.importorskip("genai_prices")
    providers = Providers({}, {})
    catalog, wanted = Catalog.built_in(), None
    reading = LineReader("chat", OLD, providers.get("openai"), catalog, wanted, ON)
    end = Finished("stop", Usage(7, 0, 87))
    assert reading.charge(end, OLD, "live").nano_usd == COST_NANO_USD // 2
    assert reading.charge(end, "my-own-model", "live").nano_usd is None
    elsewhere = LineReader("chat", OLD, providers.get("aimlapi"), catalog, wanted, ON)
    assert elsewhere.charge(end, OLD, "live").nano_usd is None


# On the way of a question


def test_an_answer_of_a_model_without_a_card_has_its_cost_and_says_whose_price(sim, session):
    sim.script(Reply(body=response(model=OLD)))
    answer = session.ask("four?", model=OLD)
    assert answer.cost_usd == Decimal(COST_NANO_USD) / 10**9
    [row] = entries(session)
    assert row.cost_nano_usd == COST_NANO_USD
    assert row.price_source.startswith(f"genai-prices {version('genai-prices')} (20")
    assert f"{OLD} has no card: priced by {row.price_source}" in answer.notes


def test_the_note_is_in_the_footer(sim, session):
    sim.script(Reply(body=response(model=OLD)))
    assert "priced by genai-prices" in plain_footer(session.ask("four?", model=OLD))


def test_a_model_with_a_card_never_loads_the_package(sim, monkeypatch):
    def never():
        raise AssertionError("the package was loaded")

    monkeypatch.setattr(pricing, "snapshot", never)
    with session_at(sim.base_url) as session:
        sim.script(Reply(body=response()))
        assert session.ask("four?").notes == ()


def test_without_the_package_the_cost_is_unknown_and_nothing_else_changes(sim, monkeypatch):
    for name in ("genai_prices", "genai_prices.data_snapshot"):
        monkeypatch.setitem(sys.modules, name, None)
    with session_at(sim.base_url) as session:
        sim.script(Reply(body=response(model=OLD)))
        answer = session.ask("four?", model=OLD)
        assert (answer.text, answer.cost_usd) == ("four", None)
        assert answer.notes == (
            f"cost unknown: add the price of {OLD} under [models.{OLD}] in your settings",
        )
        assert entries(session)[0].cost_nano_usd is None


def test_a_provider_that_does_not_bill_by_list_prices_is_not_priced_so(sim, session):
    providers = {"openrouter": {"base_url": sim.base_url, "endpoints": ["responses"]}}
    with session_at(sim.base_url, providers=providers, OPENROUTER_API_KEY="sk-or-1") as other:
        sim.script(Reply(body=response(model=OLD)))
        assert other.ask("four?", provider="openrouter", model=OLD).cost_usd is None


def test_a_budget_counts_with_the_package_s_price(sim, session):
    with pytest.raises(OverBudget, match="it may cost up to"):
        session.ask("four?", model=OLD, max_output_tokens=1000, budget_call="0.02")
    assert sim.requests == []
    sim.script(Reply(body=response(model=OLD)))
    assert session.ask("four?", model=OLD, max_output_tokens=1000, budget_call="0.05").cost_usd
