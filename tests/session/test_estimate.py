"""What a question may cost, said before it is asked."""

import sys
from types import SimpleNamespace

import pytest

from o3magic.cost import token_estimates
from o3magic.errors import NoConnection, RequestFailed
from o3magic.session.estimate import count, estimate_call, estimate_worst_case
from o3magic.simulator import Reply
from tests.sessions import COST_NANO_USD, USAGE, response, response_stream, session_at


@pytest.fixture
def session(sim):
    with session_at(sim.base_url) as opened:
        yield opened


def planned(session, prompt="four?", **options):
    return session.plan(prompt, session.layers.profile({"dry_run": True, **options}))


def foreseen(session, *prompt, **options):
    return dict(session.foreseen(planned(session, *prompt, **options)))


def test_a_forecast_says_tokens_window_and_the_worst_case_and_sends_nothing(sim, session):
    said = foreseen(session, max_output_tokens=1000)
    assert said["asked"] == "o3-mini at effort medium, by the responses API"
    assert said["input"].startswith("about ")
    assert said["input"].endswith("of its window of 200,000")
    assert said["worst case"].startswith("$0.0044")
    assert said["worst case"].endswith("for 1,000 output tokens")
    assert said["likely"] == "unknown: no call like it in the ledger yet"
    assert sim.requests == []


def test_what_is_likely_comes_from_calls_like_it(sim, session):
    sim.script(Reply(body=response()), Reply(body=response()))
    session.ask("four?", effort="high")
    session.ask("four?")
    said = foreseen(session)["likely"]
    assert said.endswith("for 87 output tokens, the call like it so far")
    likely = estimate_call(planned(session), history=session._count_similar_calls(planned(session)))
    assert abs(likely.likely_nano_usd - COST_NANO_USD) < 50 * 1100


def test_calls_that_failed_or_were_stopped_say_nothing_of_what_is_likely(sim, session):
    cut = response("four", status="incomplete", usage=USAGE | {"output_tokens": 9_000})
    cut |= {"incomplete_details": {"reason": "max_output_tokens"}}
    broken = Reply(body=response_stream("four"), cut_after_bytes=200)
    sim.script(Reply(body=response()), Reply(body=cut), broken, Reply(status=400, error={}))
    session.ask("four?")
    session.ask("four?")
    for _ in range(2):
        with pytest.raises(RequestFailed):
            session.ask("four?", retries=0)
    events = iter(session.stream("four?"))
    next(events)
    events.close()
    assert foreseen(session)["likely"].endswith("for 87 output tokens, the call like it so far")


def test_repairs_grow_the_worst_case_by_the_answers_they_quote(session):
    one = estimate_worst_case(planned(session, schema="int"))
    asked = session.plan("four?", session.layers.profile({"repairs": 2}), {}, None)
    assert one is None or one.all_nano_usd >= one.attempt_nano_usd
    assert (
        estimate_worst_case(asked).all_nano_usd == estimate_worst_case(asked).attempt_nano_usd
    )  # a text is never repaired


def test_what_may_be_long_context_is_reckoned_at_its_price(session):
    short = estimate_worst_case(
        planned(session, "x" * 100, model="gpt-5.4", max_output_tokens=1000)
    )
    long = estimate_worst_case(
        planned(session, "x" * 1_000_000, model="gpt-5.4", max_output_tokens=1000)
    )
    assert long.attempt_nano_usd > 1.5 * 2.5 * 272_000 * 1000 > short.attempt_nano_usd


def test_budgets_stand_below_it(session):
    assert foreseen(session, budget_day="1.5")["budget"] == "today (UTC): $0 of $1.50 spent"


def test_an_unknown_model_is_an_unknown_cost(session):
    said = foreseen(session, model="made-up")
    assert said["worst case"].startswith("unknown")


def test_exact_asks_the_provider_to_count(sim, session):
    said = foreseen(session, "how many is this?", exact=True)
    [request] = sim.requests
    assert request.path.endswith("/responses/input_tokens")
    assert "stream" not in request.body
    assert "counted by openai" in said["input"]


def test_exact_without_anybody_there_is_one_clear_error():
    with session_at("http://127.0.0.1:9/v1") as session, pytest.raises(NoConnection):
        foreseen(session, exact=True)


def test_with_tiktoken_at_hand_tokens_are_counted(session, tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    session.environment = {"TIKTOKEN_CACHE_DIR": str(tmp_path), "O3MAGIC_LEDGER": ":memory:"}
    assert "about" in foreseen(session)["input"]
    (tmp_path / token_estimates.VOCABULARY).touch()
    encoding = SimpleNamespace(encode_ordinary=lambda text: text.split())
    fake = SimpleNamespace(get_encoding=lambda name: encoding)
    monkeypatch.setitem(sys.modules, "tiktoken", fake)
    token_estimates.loaded.cache_clear()
    try:
        assert "counted by tiktoken" in foreseen(session, "one two <|endoftext|>")["input"]
    finally:
        token_estimates.loaded.cache_clear()


def test_the_bound_is_never_below_what_is_likely(session):
    for text in ("plain words", "Ωμέγα", "数え方" * 50, "🎈" * 30, "<|endoftext|>"):
        tokens = count(planned(session, text).call.request)
        assert 0 < tokens.likely <= tokens.most
