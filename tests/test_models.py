"""Model cards: what is known of each model, and what a usage costs to the nano-dollar."""

import decimal
import json
import random
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from o3magic.errors import BadOption
from o3magic.events import Usage
from o3magic.models import Card, Catalog, Price, Rates

LATE = date(2026, 11, 20)
ENDPOINTS = {"/v1/chat/completions": "chat", "/v1/responses": "responses", "/v1/batches": "batch"}
O3_MINI = Rates(Decimal("1.10"), Decimal("4.40"), Decimal("0.55"))


@pytest.fixture(scope="module")
def catalog():
    return Catalog.built_in()


@pytest.fixture
def known(shared_api):
    return json.loads((shared_api / "models.json").read_text("utf-8"))["models"]


def usd(number):
    return None if number is None else Decimal(str(number))


def rates_of(row, cached):
    return (usd(row["input"]), usd(row[cached]), usd(row["output"]))


def test_every_known_model_has_its_card(catalog, known):
    assert {each["id"] for each in known} <= set(catalog.names)


def test_every_card_says_what_is_known_of_its_model(catalog, known):
    for model in known:
        card = catalog.card(model["id"])
        assert {
            "id": card.id,
            "snapshot": card.snapshot or None,
            "context_window": card.window_tokens,
            "max_output_tokens": card.max_output_tokens,
            "max_input_tokens": card.max_input_tokens,
            "efforts": None if card.efforts is None else list(card.efforts),
            "shutdown_date": card.shutdown and card.shutdown.isoformat(),
        }.items() <= model.items(), model["id"]
        endpoints = {ENDPOINTS[e] for e in model["endpoints"] if e in ENDPOINTS}
        assert set(card.endpoints) & set(ENDPOINTS.values()) == endpoints, model["id"]
        assert ("images" in card.abilities) == bool(model["vision"]), model["id"]


def test_every_price_is_the_published_one(catalog, known):
    for model in known:
        card, published = catalog.card(model["id"]), model["price_usd_per_1m"]
        price = card.price(LATE)
        assert (price.rates.input, price.rates.cached, price.rates.output) == rates_of(
            published, "cached_input"
        ), model["id"]
        assert price.rates.cache_write == usd(published["cache_write"]), model["id"]
        assert (price.since and price.since.isoformat()) == published["effective_since"]
        assert price.source


def test_every_tier_s_price_is_the_published_one(catalog, known):
    for model in known:
        card = catalog.card(model["id"])
        assert {p.tier for p in card.prices} >= {"default", *(model["tiers"] or {})}, model["id"]
        for tier, published in (model["tiers"] or {}).items():
            rates = card.price(LATE, tier).rates
            assert (rates.input, rates.cached, rates.output) == rates_of(published, "cached")


def test_every_long_context_price_is_the_published_one(catalog, known):
    for model in known:
        price, published = catalog.card(model["id"]).price(LATE), model["long_context"]
        if not published:
            assert price.long is None
            continue
        assert price.long_above_tokens == published["above_input_tokens"]
        assert (price.long.input, price.long.output) == (
            usd(published["input"]),
            usd(published["output"]),
        )
        assert price.long.cached == usd(published.get("cached")), model["id"]


def test_a_recorded_answer_costs_what_its_tokens_cost(catalog):
    usage = Usage(input_tokens=13, cached_tokens=0, output_tokens=1680, reasoning_tokens=1408)
    assert catalog.card("o3-mini").nano_usd(usage, LATE) == 13 * 1100 + 1680 * 4400 == 7_406_300


def test_cached_tokens_are_part_of_the_input_and_cost_less():
    usage = Usage(input_tokens=1000, cached_tokens=800, output_tokens=1, reasoning_tokens=1)
    assert Price(O3_MINI).nano_usd(usage) == 200 * 1100 + 800 * 550 + 4400


def test_cached_tokens_cost_the_full_rate_where_no_other_is_published():
    rates = Rates(Decimal("15"), Decimal("60"))
    usage = Usage(input_tokens=10, cached_tokens=10, output_tokens=0)
    assert Price(rates).nano_usd(usage) == 10 * 15_000


@pytest.mark.parametrize(("tokens", "nano"), [(1, 1), (3, 2), (5, 3), (2, 1), (0, 0)])
def test_half_a_nano_dollar_is_rounded_up(tokens, nano):
    rates = Rates(Decimal("0.0005"), Decimal(0))
    assert Price(rates).nano_usd(Usage(input_tokens=tokens, output_tokens=0)) == nano


def test_costs_are_exact_for_any_usage_and_in_any_decimal_context(catalog):
    draw = random.Random(3)
    prices = [p for card in catalog.cards for p in card.prices]
    for _ in range(500):
        price = draw.choice(prices)
        cached, written = draw.randrange(10**6), draw.randrange(10**6)
        fresh, out = draw.randrange(10**7), draw.randrange(10**6)
        usage = Usage(
            input_tokens=fresh + cached + written,
            cached_tokens=cached,
            output_tokens=out,
            cache_write_tokens=written,
        )
        is_long = price.long_above_tokens and usage.input_tokens > price.long_above_tokens
        rates = price.long if is_long else price.rates
        exact = 1000 * (
            fresh * Fraction(rates.input)
            + cached * Fraction(rates.input if rates.cached is None else rates.cached)
            + written * Fraction(rates.input if rates.cache_write is None else rates.cache_write)
            + out * Fraction(rates.output)
        )
        expected = int(exact + Fraction(1, 2))
        assert price.nano_usd(usage) == expected
        with decimal.localcontext(decimal.Context(prec=2, rounding=decimal.ROUND_DOWN)):
            assert price.nano_usd(usage) == expected


def test_a_usage_without_its_counts_has_no_cost(catalog):
    card = catalog.card("o3-mini")
    assert card.nano_usd(Usage(), LATE) is None
    assert card.nano_usd(Usage(input_tokens=1), LATE) is None
    assert card.nano_usd(Usage(output_tokens=1), LATE) is None


@pytest.mark.parametrize(
    ("cached", "written", "nano"),
    [(10, 0, 5_500), (11, 0, 5_500), (10**9, 0, 5_500), (4, 10**9, 4 * 550 + 6 * 1_375)],
)
def test_more_cached_than_sent_costs_no_more_than_what_was_sent(cached, written, nano):
    rates = Rates(Decimal("1.10"), Decimal("4.40"), Decimal("0.55"), Decimal("1.375"))
    usage = Usage(10, cached, 0, cache_write_tokens=written)
    assert Price(rates).nano_usd(usage) == nano


def test_no_odd_count_makes_cached_tokens_dearer_than_fresh_ones(catalog):
    draw = random.Random(5)
    for card in catalog.cards:
        for price in card.prices:
            sent, cached = draw.randrange(10**6), draw.randrange(10**7)
            fresh = price.nano_usd(Usage(sent, 0, 7))
            assert 0 <= price.nano_usd(Usage(sent, cached, 7)) <= fresh, card.id


def test_a_price_holds_from_its_day_on_and_before_it_the_one_before(catalog):
    cut = date(2026, 8, 21)
    card, usage = catalog.card("gpt-5.6-sol"), Usage(input_tokens=1000, output_tokens=1000)
    before, after = card.price(cut - timedelta(days=1)), card.price(cut)
    assert (before.rates.input, before.rates.output) == (Decimal(5), Decimal(30))
    assert (after.rates.input, after.rates.output) == (Decimal(4), Decimal(20))
    assert card.nano_usd(usage, cut - timedelta(days=1)) == 35_000_000
    assert card.nano_usd(usage, cut) == 24_000_000


def test_before_the_first_known_price_there_is_none():
    card = Card("m", prices=(Price(O3_MINI, since=date(2026, 1, 1)),))
    assert card.price(date(2025, 12, 31)) is None
    assert card.nano_usd(Usage(input_tokens=1, output_tokens=1), date(2025, 12, 31)) is None


def test_the_latest_price_counts_in_whatever_order_they_stand():
    dear, cheap = Rates(Decimal(9), Decimal(9)), Rates(Decimal(1), Decimal(1))
    prices = (
        Price(cheap, since=date(2026, 3, 1)),
        Price(dear),
        Price(dear, since=date(2026, 1, 1)),
    )
    assert Card("m", prices=prices).price(LATE).rates is cheap


def test_a_long_request_costs_the_long_rates_for_all_of_its_tokens(catalog):
    card = catalog.card("gpt-5.5")
    at, over = Usage(input_tokens=272_000, output_tokens=1), Usage(272_001, output_tokens=1)
    assert card.nano_usd(at, LATE) == 272_000 * 5_000 + 30_000
    assert card.nano_usd(over, LATE) == 272_001 * 10_000 + 45_000


def test_a_long_request_in_a_tier_without_long_rates_has_an_unknown_cost(catalog):
    card = catalog.card("gpt-5.4")
    assert card.price(LATE, "priority").long is None
    assert card.nano_usd(Usage(272_000, output_tokens=0), LATE, "priority") == 272_000 * 5_000
    assert card.nano_usd(Usage(272_001, output_tokens=0), LATE, "priority") is None


@pytest.mark.parametrize(
    ("tier", "nano"),
    [("default", 4_000), ("batch", 2_000), ("flex", 2_000), ("priority", 8_000)],
)
def test_long_requests_and_cache_writes_have_their_rates_in_every_tier(catalog, tier, nano):
    card = catalog.card("gpt-6.1-sol")
    usage = Usage(300_000, cached_tokens=100_000, output_tokens=1, cache_write_tokens=50_000)
    into = 150_000 * nano + 100_000 * nano // 20 + 50_000 * nano * 5 // 4
    assert card.nano_usd(usage, LATE, tier) == into + nano * 15 // 4


@pytest.mark.parametrize(
    ("said", "tier"),
    [
        ("", "default"),
        ("auto", "default"),
        ("default", "default"),
        ("standard", "default"),
        ("fast", "priority"),
        ("priority", "priority"),
        ("flex", "flex"),
    ],
)
def test_a_tier_goes_by_several_names(catalog, said, tier):
    assert catalog.card("o3").price(LATE, said).tier == tier


def test_a_tier_nobody_knows_has_no_price(catalog):
    usage = Usage(input_tokens=1, output_tokens=1)
    assert catalog.card("o3").nano_usd(usage, LATE, "ultrafast") is None
    assert catalog.card("o3-mini").nano_usd(usage, LATE, "flex") is None


def test_writing_the_cache_costs_its_rate_and_is_unknown_in_a_tier_without_one(catalog):
    card = catalog.card("gpt-5.6-sol")
    usage = Usage(input_tokens=1000, cached_tokens=0, output_tokens=0, cache_write_tokens=400)
    assert card.nano_usd(usage, LATE) == 600 * 4_000 + 400 * 5_000
    assert card.nano_usd(usage, LATE, "flex") == 600 * 2_000 + 400 * 2_500
    bare = replace(card.price(LATE, "flex").rates, cache_write=None)
    card = replace(card, prices=(card.price(LATE), Price(bare, "flex")))
    assert card.nano_usd(usage, LATE, "flex") is None


def test_writing_the_cache_is_input_for_a_model_that_does_not_charge_for_it():
    card = Card("m", prices=(Price(O3_MINI),))
    usage = Usage(input_tokens=1000, output_tokens=0, cache_write_tokens=400)
    assert card.nano_usd(usage, LATE) == 1000 * 1100


def test_a_model_is_found_by_its_id_its_snapshot_and_any_other_dated_one(catalog):
    card = catalog.find("o3-mini")
    assert catalog.find("o3-mini-2025-01-31") is card
    assert catalog.find("o3-mini-2027-12-24") is card
    assert catalog.find("o3-minor") is None
    assert catalog.find("") is None


def test_a_model_without_a_card_is_refused_nothing(catalog):
    card = catalog.card("my-deployment")
    assert (card.id, card.efforts, card.window_tokens, card.prices) == (
        "my-deployment",
        None,
        None,
        (),
    )
    assert card.nano_usd(Usage(input_tokens=1, output_tokens=1), LATE) is None


def test_a_model_is_retired_from_its_day_on_and_names_its_replacements(catalog):
    card = catalog.card("o3-mini")
    assert not card.retired(date(2026, 10, 22))
    assert card.retired(date(2026, 10, 23))
    assert card.replacements == ("gpt-5.6-sol", "gpt-6.1-terra")
    assert not Card("m").retired(date.max)


def test_every_named_replacement_and_default_effort_exists(catalog):
    for card in catalog.cards:
        assert all(catalog.find(name) for name in card.replacements), card.id
        assert card.default_effort is None or card.default_effort in card.efforts, card.id


def test_a_model_that_goes_names_one_that_stays(catalog):
    for card in catalog.cards:
        goes = card.shutdown is not None and card.id != "gpt-5.5-cyber-preview"
        assert bool(card.replacement) is goes, card.id
        assert all(catalog.card(name).shutdown is None for name in card.replacements), card.id


# OpenAI's deprecations page: of 2026-11-22 for 2026-12-11, of 2026-10-15 for what went before.
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("o1", "gpt-5.6-sol"),
        ("o1-pro", "gpt-5.6-sol with reasoning.mode: pro"),
        ("o3-mini", "gpt-5.6-sol"),
        ("o4-mini", "gpt-5.6-terra"),
        ("o3", "gpt-6.1-sol"),
        ("o3-pro", "gpt-6.1-sol with reasoning.mode: pro"),
        ("gpt-5", "gpt-6.1-sol"),
        ("gpt-5-mini", "gpt-6.1-terra"),
        ("gpt-5-nano", "gpt-6-luna"),
        ("gpt-5-pro", "gpt-6.1-sol with reasoning.mode: pro"),
        ("gpt-4o", "gpt-6-luna"),
        ("gpt-4.1-mini", "gpt-6-luna"),
        ("gpt-6.1-terra", ""),
    ],
)
def test_a_replacement_is_said_in_openai_s_own_words(catalog, model, said):
    assert catalog.card(model).replacement_said == said


def test_a_model_that_stands_in_for_a_pro_model_has_the_pro_mode(catalog):
    told = [card for card in catalog.cards if card.replacement_mode]
    assert {card.replacement_mode for card in told} == {"pro"}
    assert all("pro" in catalog.card(card.replacement).abilities for card in told)


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        ("o3-mini", "medium"),
        ("gpt-5-pro", "high"),
        ("gpt-5.1", "none"),
        ("gpt-5.4", "none"),
        ("gpt-5.5", "medium"),
        ("gpt-5.6-terra", "medium"),
        ("gpt-6-luna", "medium"),
        ("gpt-6-sol", "medium"),
        ("gpt-6.1-terra", "medium"),
        ("gpt-6.1-sol", "medium"),
        ("gpt-oss-20b", "medium"),
        ("gpt-6-astra", None),  # OpenAI's pages state none
        ("gpt-4.1", None),
    ],
)
def test_a_model_thinks_as_its_page_says_where_nothing_is_said(catalog, model, effort):
    assert catalog.card(model).default_effort == effort


def test_a_model_without_efforts_does_not_reason_and_an_unknown_one_may(catalog):
    plain = {card.id for card in catalog.cards if not card.reasons}
    assert plain == {
        *("o1-mini", "gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-mini"),
        *("gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-5-chat-latest"),
    }
    assert catalog.card("my-deployment").reasons
    assert catalog.card("gpt-6-cyber").reasons  # nobody says which efforts it has


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("openai/o3-mini", "o3-mini"),
        ("openai/o3-mini-2025-01-31", "o3-mini"),
        ("~openai/gpt-terra-latest", "gpt-6.1-terra"),
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("gpt-oss:20b", "gpt-oss-20b"),
        ("gpt-oss:120b-cloud", "gpt-oss-120b"),
        ("gpt-oss:latest", "gpt-oss-20b"),
        ("gpt-oss-120b", "gpt-oss-120b"),
        ("/models/gpt-oss-20b-mxfp4.gguf", "gpt-oss-20b"),
        ("ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b"),
        ("gpt-sol-latest", "gpt-6.1-sol"),
        ("gpt-4o-2024-11-20", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
    ],
)
def test_a_model_is_found_as_gateways_and_local_servers_call_it(catalog, name, model):
    assert catalog.find(name).id == model


@pytest.mark.parametrize(
    "name",
    ["openai/my-own", "openai/", "anthropic/o3-mini", "gpt-oss-safeguard-20b", "my-gpt-oss-20b"],
)
def test_a_name_that_only_looks_like_one_of_ours_has_no_card(catalog, name):
    assert catalog.find(name) is None


def test_a_gateway_does_not_have_the_limits_and_rules_of_openai_s_own_api(catalog):
    assert catalog.card("gpt-6.1-sol").chat_tools_effort == ""
    assert catalog.card("openai/gpt-6.1-sol").chat_tools_effort is None
    assert catalog.card("openai/gpt-6.1-sol").prices == catalog.card("gpt-6.1-sol").prices
    assert catalog.card("o3-mini").plain_by_default
    assert not catalog.card("openai/o3-mini").plain_by_default
    assert catalog.card("openai/o3-mini").window_tokens is None
    assert catalog.card("openai/o3-mini").efforts == ("low", "medium", "high")


def test_open_weights_have_no_price_of_openai(catalog):
    card = catalog.card("gpt-oss-20b")
    assert (card.efforts, card.window_tokens) == (("low", "medium", "high"), 131_072)
    assert card.nano_usd(Usage(1, 0, 1), LATE) is None


# The user's own cards


def test_an_own_card_like_another_differs_only_in_what_it_says():
    own = {"my-o3": {"like": "o3-mini", "price": [{"input": "1", "output": "2"}]}}
    catalog = Catalog.built_in(own)
    card, model = catalog.card("my-o3"), catalog.card("o3-mini")
    assert (card.efforts, card.window_tokens) == (model.efforts, model.window_tokens)
    assert card.price(LATE).rates == Rates(Decimal(1), Decimal(2))


def test_an_own_card_s_window_is_the_one_it_says():
    card = Catalog.built_in({"small": {"like": "o3-mini", "window_tokens": 128_000}}).card("small")
    assert (card.window_tokens, card.max_input_tokens) == (128_000, None)
    assert card.max_output_tokens == 100_000


def test_an_own_card_gives_no_more_than_its_window():
    own = {"tiny": {"like": "o3-mini", "window_tokens": 8_192}}
    assert Catalog.built_in(own).card("tiny").max_output_tokens is None
    own["tiny"] |= {"max_input_tokens": 6_000, "max_output_tokens": 2_000}
    card = Catalog.built_in(own).card("tiny")
    assert (card.max_input_tokens, card.max_output_tokens) == (6_000, 2_000)


def test_an_own_card_may_have_a_table_of_rates():
    text = """
        default         1.00  0.10  -     2.00
        default>200000  2.00  0.20  -     3.00
        flex            0.50  -     -     1.00
    """
    own = {"m": {"rates": text, "since": date(2026, 5, 1), "source": "our contract"}}
    card = Catalog.built_in(own).card("m")
    assert card.price(date(2026, 4, 30)) is None
    price = card.price(LATE)
    assert (price.rates.cached, price.long.output) == (Decimal("0.10"), Decimal("3.00"))
    assert (price.long_above_tokens, price.source) == (200_000, "our contract")
    assert card.nano_usd(Usage(10, 10, 0), LATE, "flex") == 5_000


def test_an_own_card_like_another_does_not_take_its_dated_names():
    own = {"cheap": {"like": "o3-mini", "price": [{"input": "0", "output": "0"}]}}
    assert Catalog.built_in(own).find("o3-mini-2025-01-31").id == "o3-mini"


def test_an_own_card_may_correct_a_built_in_one():
    catalog = Catalog.built_in({"o3-mini": {"shutdown": date(2027, 1, 1)}})
    assert catalog.find("o3-mini-2025-01-31").shutdown == date(2027, 1, 1)
    assert catalog.card("o3-mini").efforts == ("low", "medium", "high")
    assert catalog.names.count("o3-mini") == 1


def test_an_own_card_may_be_like_an_own_card():
    own = {"a": {"window_tokens": 5}, "b": {"like": "a", "aliases": ["bee"]}}
    assert Catalog.built_in(own).find("bee").window_tokens == 5


def test_an_own_card_s_lists_are_those_of_a_card():
    own = {"m": {"efforts": ["low"], "abilities": ["stream"], "endpoints": ["chat"]}}
    card = Catalog.built_in(own).card("m")
    assert card == Card("m", efforts=("low",), abilities=frozenset({"stream"}), endpoints=("chat",))


@pytest.mark.parametrize(
    ("row", "words", "hint"),
    [
        ({"window_token": 1}, "no field 'window_token'", "window_tokens"),
        ({"id": "x"}, "no field 'id'", "the fields are"),
        ({"like": "o3-min"}, "no such model", "o3-mini"),
        ({"window_tokens": "many"}, "window_tokens", "models.toml"),
        ({"efforts": "low"}, "efforts", "models.toml"),
        ({"price": [{"input": "1", "output": "1", "cahced": "1"}]}, "'cahced'", "cached"),
        ({"price": [{"input": "1"}]}, "no price", "models.toml"),
        ({"price": [{"input": "dear", "output": "1"}]}, "no price", "models.toml"),
        ({"price": [{"input": "-1", "output": "1"}]}, "no price", "models.toml"),
        ({"price": [{"input": "nan", "output": "1"}]}, "no price", "models.toml"),
        ({"price": [{"input": "1", "output": "1", "since": "soon"}]}, "no price", "models.toml"),
        ({"price": 3}, "no price", "models.toml"),
        ({"rates": "default 1.00 2.00"}, "no price", "models.toml"),
        ({"rates": "default 1.00 - - dear"}, "no price", "models.toml"),
        ({"rates": "default - - - 1.00"}, "no price", "models.toml"),
        ({"rates": "default>9 1 - - 1"}, "no price", "models.toml"),
        ({"rates": "default 1 - - 1\ndefault>many 1 - - 1"}, "no price", "models.toml"),
        ({"rates": 3}, "no price", "models.toml"),
        ({"source": "nobody"}, "no field 'source'", "rates"),
    ],
)
def test_an_own_card_that_says_what_no_card_has_is_refused(row, words, hint):
    with pytest.raises(BadOption, match="my-model") as caught:
        Catalog.built_in({"my-model": row})
    assert words in str(caught.value)
    assert hint in caught.value.hint
