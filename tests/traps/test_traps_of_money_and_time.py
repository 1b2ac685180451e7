"""The traps of a home-made client, 11 to 16: what is billed, what is refused, what is retried."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from o3magic import errors
from o3magic.client.retry import parse_retry_after_s
from o3magic.errors import BrokenAnswer
from o3magic.events import Usage
from o3magic.models import Catalog
from o3magic.simulator import Reply
from tests.sessions import COST_NANO_USD, USAGE, chat_stream, entries, response, response_stream


def refusal(status, code, message="No.", **headers):
    error = {"message": message, "code": code, "type": None, "param": None}
    return Reply(status=status, error=error, headers=headers)


def test_trap_11_reasoning_is_part_of_the_output_and_the_cache_part_of_the_input(say, session):
    counts = {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 60}}
    counts |= {"completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}}
    say(Reply(body=chat_stream("four", usage=counts)), "chat")
    assert entries(session)[-1].cost_nano_usd == 40 * 1100 + 60 * 550 + 50 * 4400


def test_trap_12_the_price_is_that_of_the_served_tier(say, session):
    card = session.catalog.card("o3")
    usage = Usage(7, 0, 87, 64, None, 94)
    costs = {tier: card.nano_usd(usage, date.today(), tier) for tier in ("default", "priority")}
    assert costs["priority"] > costs["default"]
    for served, tier in (("fast", "priority"), ("priority", "priority"), ("default", "default")):
        body = response(model="o3-2025-04-16", service_tier=served)
        answer = say(Reply(body=body), model="o3")
        assert answer.cost_usd == Decimal(costs[tier]) / 10**9, served
    assert say(Reply(body=response(service_tier="no-such-tier"))).cost_usd is None


def test_trap_12_the_price_is_that_of_the_day():
    card = Catalog.built_in().card("gpt-5.6-luna")
    days = sorted({price.since for price in card.prices if price.since and price.tier == "default"})
    assert days, "its price was changed"
    before = card.price(date(2026, 7, 29))
    assert card.price(date.today()) != before


@pytest.mark.parametrize(
    ("api", "status", "code"),
    [
        ("chat", 404, "model_not_found"),
        ("responses", 400, "model_not_found"),
        ("responses", 404, "DeploymentNotFound"),
    ],
)
def test_trap_13_a_model_that_is_not_there_goes_by_its_code(say, api, status, code):
    with pytest.raises(errors.ModelNotFound) as caught:
        say(refusal(status, code), api, model="gpt-5.5")
    assert type(caught.value) is errors.ModelNotFound


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_trap_13_a_model_that_was_shut_down_is_another_error(say, api):
    gone = refusal(404, "model_not_found", "The model `o3-mini` has been deprecated, learn more")
    with pytest.raises(errors.ModelRetired, match="2026-10-23") as caught:
        say(gone, api)
    assert "-m gpt-5.6-sol" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("insufficient_quota", "You exceeded your current quota."),
        ("credit_balance_exhausted", "No."),
        ("rate_limit_exceeded", "Request too large for o3-mini on tokens per min: Limit 30000"),
    ],
)
def test_trap_14_a_hopeless_429_is_not_sent_again(say, sim, session, code, message):
    with pytest.raises((errors.QuotaExhausted, errors.TooLarge)):
        say(refusal(429, code, message), retries=5)
    assert len(sim.requests) == len(entries(session)) == 1


def test_trap_14_a_rate_limit_is_sent_again(say, sim):
    limited = refusal(429, "rate_limit_exceeded", **{"retry-after-ms": "1"})
    assert "SIMULATED" in say(limited, retries=1).text
    assert len(sim.requests) == 2


def test_trap_15_the_wait_is_read_in_all_its_forms_and_not_for_ever(say, sim):
    now = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
    for headers, wait_s in (
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-reset-requests": "60"}, None),
        ({"retry-after": "6m0s"}, None),
    ):
        assert parse_retry_after_s(headers, now) == wait_s
    with pytest.raises(errors.RateLimited) as caught:
        say(refusal(429, "rate_limit_exceeded", **{"retry-after": "121"}), retries=5)
    assert "121 s" in caught.value.hint
    assert len(sim.requests) == 1


def test_trap_16_what_may_have_been_billed_is_counted_and_has_no_known_cost(sim, session):
    sim.script(refusal(500, "server_error", **{"retry-after-ms": "1"}), Reply(body=response()))
    answer = session.ask("four?")
    assert (answer.text, answer.cost_usd) == ("four", None)
    assert [row.cost_nano_usd for row in entries(session)] == [None, COST_NANO_USD]
    assert [row.kind for row in entries(session)] == ["ask", "retry"]


def test_trap_16_a_silence_is_not_asked_again_for_it_may_be_thinking(say, sim):
    with pytest.raises(BrokenAnswer, match="nothing came"):
        say(
            Reply(body=response(), wait_s=5),
            retries=5,
            first_token_timeout_s=0.2,
            chunk_timeout_s=0.2,
        )
    assert len(sim.requests) == 1


def test_trap_16_nothing_is_sent_again_after_the_first_word(say, sim):
    with pytest.raises(errors.ProviderDown) as caught:
        say(Reply(text="one two three", error_after=8), retries=5)
    assert caught.value.answer.text
    with pytest.raises(BrokenAnswer):
        say(Reply(body=response_stream("one", usage=USAGE), cut_after_bytes=200), retries=5)
    assert len(sim.requests) == 2
