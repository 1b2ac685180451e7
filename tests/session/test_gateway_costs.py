"""What a gateway says itself that an answer cost: taken where no price of ours holds."""

import json
from contextlib import contextmanager
from decimal import Decimal

import pytest

from o3magic.render.answer import bundles
from o3magic.simulator import Reply
from tests.sessions import (
    COST_NANO_USD,
    COUNTS,
    KEY,
    USAGE,
    chat_stream,
    chunk,
    entries,
    frames,
    response,
    response_stream,
    session_at,
)

HEADER = "x-litellm-response-cost"
NOTE = "cost as the provider says"


@contextmanager
def at_gateway(sim, *, mode="", **table):
    """A session that asks a gateway that is the simulator's server."""
    own = {"gateway": {"base_url": sim.base_url, "key_env": "GATEWAY_KEY", **table}}
    more = {"O3MAGIC_MODE": mode} if mode else {}
    with session_at(sim.base_url, providers=own, GATEWAY_KEY=KEY, **more) as session:
        session.configure({"provider": "gateway"})
        yield session


def whole(cost, **usage):
    message = {"content": "four"}
    said = {"id": "c", "model": "openai/o3-mini", "usage": COUNTS | {"cost": cost} | usage}
    return said | {"choices": [{"message": message, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("chat", chat_stream("four", usage=COUNTS | {"cost": 0.00014275})),
        ("chat", whole(0.00014275)),
        ("responses", response(usage=USAGE | {"cost": 0.00014275})),
        ("responses", response_stream("four", usage=USAGE | {"cost": 0.00014275})),
    ],
)
def test_a_cost_in_the_usage_is_taken_and_marked(sim, api, body):
    with at_gateway(sim) as session:
        sim.script(Reply(body=body))
        answer = session.ask("four?", api=api)
        assert answer.cost_usd == Decimal("0.00014275")
        assert answer.notes == (NOTE,)
        [row] = entries(session)
        assert (row.cost_nano_usd, row.price_source) == (142_750, "as the provider says")


def test_a_cost_in_litellm_s_header_is_taken_and_marked(sim):
    with at_gateway(sim) as session:
        sim.script(
            Reply(body=response(), headers={HEADER: "3.45e-05"}),
            Reply(body=response(), headers={HEADER: "0.0"}),
            Reply(body=response(usage=USAGE | {"cost": 0.5}), headers={HEADER: "3.45e-05"}),
        )
        first = session.ask("four?", stream=False)
        assert (first.cost_usd, first.notes) == (Decimal("0.0000345"), (NOTE,))
        assert session.ask("four?", stream=False).cost_usd is None  # it has no price for it
        assert session.ask("four?", stream=False).cost_usd == Decimal("0.5")


def test_less_than_a_nano_dollar_is_rounded_and_a_free_model_is_free(sim):
    with at_gateway(sim) as session:
        sim.script(Reply(body=whole(2.5e-09)), Reply(body=whole(0)))
        assert session.ask("four?", api="chat").cost_usd == Decimal("0.000000003")
        free = session.ask("four?", api="chat")
        assert (free.cost_usd, free.notes) == (0, (NOTE,))


@pytest.mark.parametrize("cost", ["-1", "NaN", "Infinity", "1e300", '"0.5"', "true", "[1]", "null"])
def test_a_hostile_cost_is_unknown(sim, cost):
    body = json.dumps(whole(0.5)).replace("0.5", cost).encode()
    with at_gateway(sim) as session:
        sim.script(Reply(body=body, headers={"content-type": "application/json", HEADER: cost}))
        answer = session.ask("four?", api="chat", stream=False)
        assert answer.text == "four"
        assert answer.cost_usd is None
        assert entries(session)[0].cost_nano_usd is None


def test_our_own_price_wins_where_it_holds(sim, session):
    sim.script(Reply(body=response(usage=USAGE | {"cost": 9.0}), headers={HEADER: "9"}))
    answer = session.ask("four?")
    assert (answer.cost_usd, answer.notes) == (Decimal(COST_NANO_USD) / 10**9, ())
    prices = {"o3-mini": {"input": "1", "output": "1"}}
    with at_gateway(sim, prices=prices) as own:
        sim.script(Reply(body=response(usage=USAGE | {"cost": 9.0})))
        assert own.ask("four?").cost_usd == Decimal("0.000094")


def test_what_we_have_no_price_for_costs_what_is_said(sim, session):
    sim.script(Reply(body=response(model="made-up", usage=USAGE | {"cost": 0.25})))
    assert session.ask("four?", model="made-up").cost_usd == Decimal("0.25")
    tool = {"type": "code_interpreter_call"}
    said = response(usage=USAGE | {"cost": 0.25})
    said["output"] = [tool, *said["output"]]
    sim.script(Reply(body=said))
    answer = session.ask("four?")
    assert (answer.cost_usd, answer.notes) == (Decimal("0.25"), (NOTE,))


def test_a_stream_whose_usage_says_nothing_after_one_that_did(sim):
    counted = chunk() | {"choices": [], "usage": COUNTS | {"cost": 0.25}}
    with at_gateway(sim) as session:
        said = frames(chunk({"content": "four"}), chunk({}, finish="stop"), counted, "[DONE]")
        sim.script(Reply(body=said))
        assert session.ask("four?", api="chat").cost_usd == Decimal("0.25")


def test_they_survive_a_cassette(sim, tmp_path):
    with at_gateway(sim, mode="record") as session:
        session.notebook = str(tmp_path / "lesson.ipynb")
        sim.script(Reply(body=whole(0.00014275)))
        first = session.ask("four?", api="chat")
        assert first.notes == (NOTE,)
    with at_gateway(sim, mode="replay") as session:
        session.notebook = str(tmp_path / "lesson.ipynb")
        again = session.ask("four?", api="chat")
    assert (again.cost_usd, again.notes) == (first.cost_usd, (NOTE,))
    assert bundles(again) == bundles(first)
