"""What a question costs at a provider with prices of its own, in a region, at a foreign address."""

import socket
from decimal import Decimal

import pytest

from o3magic.errors import OverBudget
from o3magic.simulator import Reply
from tests.sessions import COST_NANO_USD, KEY, entries, response, response_stream, session_at

EU = "eu.api.openai.com"


@pytest.fixture
def named(monkeypatch):
    """Makes names of hosts lead to this machine."""
    real = socket.getaddrinfo

    def name(*hosts):
        def found(host, *more, **options):
            known = host.decode() if isinstance(host, bytes) else host
            return real("127.0.0.1" if known in hosts else host, *more, **options)

        monkeypatch.setattr(socket, "getaddrinfo", found)

    return name


def at(sim, host, **openai):
    """A session whose OPENAI_BASE_URL names another host, which is the simulator's."""
    address = sim.base_url.replace("127.0.0.1", host)
    return session_at(address, providers={"openai": {"insecure": True, **openai}})


def test_own_prices_of_a_gateway_are_what_its_answers_cost(sim):
    own = {"aimlapi": {"base_url": sim.base_url}}
    own["aimlapi"]["prices"] = {"o3-mini": {"input": "1.16", "output": "4.62", "source": "mine"}}
    with session_at(sim.base_url, providers=own, AIMLAPI_API_KEY=KEY) as session:
        sim.script(Reply(body=response_stream("four")))
        answer = session.ask("four?", provider="aimlapi", budget_day=1)
        cost = 7 * 1160 + 87 * 4620
        assert answer.cost_usd == Decimal(cost) / 10**9
        assert answer.notes == ()
        [row] = entries(session)
        assert (row.cost_nano_usd, row.price_source) == (cost, "mine")


def test_without_them_the_cost_is_unknown_and_it_is_said_once_how_to_know_it(sim):
    own = {"aimlapi": {"base_url": sim.base_url}}
    with session_at(sim.base_url, providers=own, AIMLAPI_API_KEY=KEY) as session:
        sim.script(*[Reply(body=response_stream("four"))] * 3)
        first = session.ask("four?", provider="aimlapi")
        assert first.cost_usd is None
        [note] = first.notes
        assert note.startswith("cost unknown: `list_prices = true` in [providers.aimlapi]")
        assert note.endswith("[providers.aimlapi.prices.o3-mini]")
        assert session.ask("four?", provider="aimlapi").notes == ()
        [other] = session.ask("four?", provider="aimlapi", model="openai/o3-mini").notes
        assert other.endswith('[providers.aimlapi.prices."openai/o3-mini"]')


def test_what_the_note_says_makes_it_known(sim):
    own = {"aimlapi": {"base_url": sim.base_url, "list_prices": True}}
    with session_at(sim.base_url, providers=own, AIMLAPI_API_KEY=KEY) as session:
        sim.script(Reply(body=response_stream("four")))
        assert session.ask("four?", provider="aimlapi").cost_usd == Decimal(COST_NANO_USD) / 10**9


def test_a_model_without_a_card_says_where_its_price_is_written(sim, session):
    sim.script(Reply(body=response(model="made-up")))
    answer = session.ask("four?", model="made-up")
    assert answer.cost_usd is None
    assert answer.notes == (
        "cost unknown: add the price of made-up under [models.made-up] in your settings",
    )


def test_an_answer_without_its_tokens_says_nothing_of_prices(sim, session):
    sim.script(Reply(body=response_stream("four", usage=None)))
    answer = session.ask("four?")
    assert (answer.cost_usd, answer.notes) == (None, ())


def test_an_address_on_the_line_has_no_prices(sim):
    with session_at(sim.base_url, O3MAGIC_API_KEY=KEY) as session:
        sim.script(Reply(body=response_stream("four")))
        # Another origin than the provider's, so a provider of its own, and one on this machine.
        address = sim.base_url.replace("127.0.0.1", "localhost")
        answer = session.ask("four?", base_url=address)
        assert (answer.cost_usd, answer.notes) == (None, ())


def test_openai_s_eu_region_costs_a_tenth_more(sim, named):
    named(EU)
    with at(sim, EU) as session:
        sim.script(
            Reply(body=response(model="gpt-5.4-2026-03-05")),
            Reply(body=response(model="o3-mini-2025-01-31")),
        )
        answer = session.ask("four?", model="gpt-5.4", max_output_tokens=100, budget_day=1)
        cost = 7 * 2750 + 87 * 16500
        assert answer.cost_usd == Decimal(cost) / 10**9
        assert entries(session)[0].price_source.endswith("+10 %")
        assert session.ask("four?").cost_usd == Decimal(COST_NANO_USD) / 10**9
        with pytest.raises(OverBudget):  # 100 tokens of output are $0.00165 here, not $0.0015
            session.ask("four?", model="gpt-5.4", max_output_tokens=100, budget_call="0.0016")


def test_a_foreign_openai_base_url_is_not_billed_at_openai_s_price(sim, named):
    named("gateway.example")
    with at(sim, "gateway.example") as session:
        sim.script(Reply(body=response()))
        answer = session.ask("four?")
        assert answer.cost_usd is None
        [note] = answer.notes
        assert "`list_prices = true` in [providers.openai]" in note
        assert entries(session)[0].cost_nano_usd is None
        with pytest.raises(OverBudget) as refused:
            session.ask("four?", budget_day=1)
        assert "[providers.openai]" in refused.value.hint


def test_unless_the_user_says_that_it_bills_so(sim, named):
    named("gateway.example")
    with at(sim, "gateway.example", list_prices=True) as session:
        sim.script(Reply(body=response()))
        assert session.ask("four?", budget_day=1).cost_usd == Decimal(COST_NANO_USD) / 10**9
