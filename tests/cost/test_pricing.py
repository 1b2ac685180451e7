"""Which prices hold at a provider."""

from datetime import date
from decimal import Decimal, getcontext

import pytest

from o3magic.cost.pricing import card_at, raised
from o3magic.errors import BadOption
from o3magic.events import Usage
from o3magic.models import Catalog, Price, Rates
from o3magic.providers import Providers

TODAY = date(2026, 12, 1)
MILLION = Usage(1_000_000, 0, 1_000_000)
SHORT = Usage(100_000, 0, 1_000_000)  # a longer one has other rates


@pytest.fixture(scope="module")
def catalog():
    return Catalog.built_in()


def usd(providers, catalog, model, name="openai", tier="default"):
    card = card_at(providers.get(name), catalog, model, date.today())
    nano = card.nano_usd(MILLION, TODAY, tier) if card else None
    return None if nano is None else Decimal(nano) / 10**9


def test_list_prices_hold_where_the_table_says_so_and_nowhere_else(catalog):
    providers = Providers({}, {})
    assert usd(providers, catalog, "o3-mini") == Decimal("5.50")
    assert usd(providers, catalog, "o3-mini-2025-01-31") == Decimal("5.50")
    assert usd(providers, catalog, "o3-mini", "aimlapi") is None
    assert card_at(providers.get("openai"), catalog, "made-up", date.today()) is None


def test_own_prices_win_over_the_list_at_their_provider(catalog):
    own = {
        "aimlapi": {"prices": {"o3-mini": {"input": "1.16", "output": "4.62"}}},
        "openai": {
            "prices": {
                "o3-mini": [
                    {"input": "1", "output": "2", "source": "my contract"},
                    {"tier": "batch", "input": "0.5", "output": "1"},
                    {"since": date(2027, 1, 1), "input": "9", "output": "9"},
                ]
            }
        },
    }
    providers = Providers(own, {})
    assert usd(providers, catalog, "o3-mini", "aimlapi") == Decimal("5.78")
    assert usd(providers, catalog, "o3-mini-2025-01-31", "aimlapi") == Decimal("5.78")
    assert usd(providers, catalog, "o3", "aimlapi") is None
    assert usd(providers, catalog, "o3-mini") == 3
    assert usd(providers, catalog, "o3-mini", tier="batch") == Decimal("1.5")
    assert usd(providers, catalog, "o3-mini", tier="priority") is None
    card = card_at(providers.get("openai"), catalog, "o3-mini", date.today())
    assert card.price(TODAY).source == "my contract"
    assert card.efforts == ("low", "medium", "high")


def test_own_prices_may_be_those_of_a_model_nobody_knows_by_any_of_its_names(catalog):
    own = {
        "openrouter": {
            "prices": {"qwen/qwen-9": {"input": "1", "output": "1"}},
            "cards": {"openai/o3-mini": "o3-mini"},
        }
    }
    providers = Providers(own, {})
    assert usd(providers, catalog, "qwen/qwen-9", "openrouter") == 2
    assert usd(providers, catalog, "qwen/qwen-9-2026-11-01", "openrouter") == 2
    assert usd(providers, catalog, "openai/o3-mini", "openrouter") is None


@pytest.mark.parametrize(
    ("address", "model", "more"),
    [
        ("https://api.openai.com/v1", "gpt-5.4", "1"),
        ("https://eu.api.openai.com/v1", "gpt-5.4", "1.1"),
        ("https://us.api.openai.com/v1", "gpt-5.4-2026-03-05", "1.1"),
        ("https://EU.API.openai.com/v1", "gpt-5.6-sol", "1.1"),
        ("https://jp.api.openai.com/v1", "gpt-5.4-mini", "1.1"),
        ("https://eu.api.openai.com/v1", "o3-mini", "1"),
        ("https://eu.api.openai.com/v1", "o4-mini", "1"),
        ("https://eu.api.openai.com/v1", "gpt-5", "1"),
        ("https://eu.api.openai.com/v1", "gpt-5-mini", "1"),
        ("https://eu.api.openai.com/v1", "gpt-5.2", "1"),
        ("https://other.api.openai.com/v1", "gpt-5.4", "1"),
        ("http://127.0.0.1:9/v1", "gpt-5.4", "1"),
        ("http://[::1]:9/v1", "gpt-5.4", "1"),
        ("http://localhost:9/v1", "gpt-5.4", "1"),
    ],
)
def test_openai_s_regions_cost_a_tenth_more_for_the_models_of_since_then(
    catalog, address, model, more
):
    here = card_at(
        Providers({}, {"OPENAI_BASE_URL": address}).get("openai"), catalog, model, date.today()
    )
    usual = card_at(Providers({}, {}).get("openai"), catalog, model, date.today())
    for tier in ("default", "batch"):
        cost = usual.nano_usd(SHORT, TODAY, tier)
        assert here.nano_usd(SHORT, TODAY, tier) == cost * Decimal(more), tier
        assert ("+10 %" in here.price(TODAY, tier).source) == (more == "1.1")


def test_every_model_of_before_the_uplift_is_named_and_no_later_one(catalog):
    region = {"OPENAI_BASE_URL": "https://eu.api.openai.com/v1"}
    provider = Providers({}, region).get("openai")
    for card in catalog.cards:
        day = card.snapshot[-10:]
        if day and card.prices:
            raised_here = card_at(provider, catalog, card.id, date.today()).prices != card.prices
            assert raised_here == (day >= "2026-03-05"), card.id


def test_what_a_region_costs_on_top_can_be_said_as_in_a_data_zone_of_azure(catalog):
    own = {"azure": {"uplift_percent": "12.5"}, "openai": {"uplift_percent": "-5"}}
    address = {"AZURE_OPENAI_ENDPOINT": "https://r.example"}
    assert usd(Providers(own, address), catalog, "o3-mini", "azure") == Decimal("6.1875")
    eu = Providers(own, {"OPENAI_BASE_URL": "https://eu.api.openai.com/v1"})
    assert usd(eu, catalog, "o3-mini") == Decimal("5.225")  # what is said holds for all models


def test_what_is_raised_is_exact_whatever_the_user_s_own_context_rounds_to():
    price = Price(Rates(Decimal("0.123456789"), Decimal("1"), Decimal("0.01"), None))
    saved = getcontext().prec
    getcontext().prec = 3
    try:
        raised.cache_clear()
        [made] = raised((price,), Decimal("10"))
        assert made.rates.input == Decimal("0.1358024679")
    finally:
        getcontext().prec = saved
        raised.cache_clear()
    assert made.rates.cache_write is None


@pytest.mark.parametrize(
    "address",
    [
        "https://gateway.example/v1",
        "https://api.openai.com.gateway.example/v1",
        "https://notapi.openai.com/v1",
        "https://openai.com/v1",
        "http://10.0.0.7:4000/v1",
        "http://127.gateway.example/v1",
        "http://0.0.0.0:4000/v1",
    ],
)
def test_a_foreign_address_is_not_billed_at_the_prices_of_openai(catalog, address):
    for providers in (
        Providers({}, {"OPENAI_BASE_URL": address}),
        Providers({"openai": {"base_url": address}}, {}),
    ):
        assert usd(providers, catalog, "o3-mini") is None
        assert providers.get("openai").hosted_tools == {}
        assert not providers.get("openai").list_prices
    says = Providers(
        {"openai": {"list_prices": True, "hosted_tools": {"web_search": "0.02"}}},
        {"OPENAI_BASE_URL": address},
    )
    assert usd(says, catalog, "o3-mini") == Decimal("5.50")
    assert says.get("openai").hosted_tools["web_search"] == Decimal("0.02")


def test_azure_has_no_host_of_its_own_and_so_no_foreign_one(catalog):
    providers = Providers({}, {"AZURE_OPENAI_ENDPOINT": "https://r.example"})
    assert usd(providers, catalog, "o3-mini", "azure") == Decimal("5.50")
    assert providers.get("azure").hosted_tools == {"web_search": Decimal("0.014")}
    assert providers.get("azure-entra").hosted_tools == {"web_search": Decimal("0.014")}


def test_own_prices_of_tools_are_laid_over_those_of_the_table():
    providers = Providers({"openai": {"hosted_tools": {"code_interpreter": "0.03"}}}, {})
    assert providers.get("openai").hosted_tools == {
        "web_search": Decimal("0.01"),
        "file_search": Decimal("0.0025"),
        "code_interpreter": Decimal("0.03"),
    }


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"prices": 3}, "prices: a table for each model"),
        ({"prices": {"o3": 3}}, "holds no price"),
        ({"prices": {"o3": {"input": "1"}}}, "holds no price"),
        ({"prices": {"o3": {"input": "-1", "output": "1"}}}, "holds no price"),
        ({"prices": {"o3": {"input": "nan", "output": "1"}}}, "holds no price"),
        ({"prices": {"o3": {"inputs": "1", "output": "1"}}}, "no field 'inputs'"),
        ({"hosted_tools": {"web_search": "x"}}, "hosted_tools"),
        ({"hosted_tools": {"web_search": "-1"}}, "cannot cost less than nothing"),
        ({"hosted_tools": {"web_search": True}}, "hosted_tools"),
        ({"uplift_percent": "ten"}, "uplift_percent"),
        ({"uplift_percent": "-101"}, "from -100 to 1,000"),
        ({"uplift_percent": "inf"}, "uplift_percent"),
        ({"regions": {}}, "no field 'regions'"),
    ],
)
def test_a_price_that_is_none_is_one_clear_error(table, words):
    with pytest.raises(BadOption, match=r"providers\.mine") as caught:
        Providers({"mine": table}, {})
    assert words in str(caught.value)
