"""Real recorded answers, byte for byte over a socket, in a real kernel."""

import json
from pathlib import Path

import pytest

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import Kernel

FIXTURES = Path(__file__).parents[3] / "shared" / "api" / "fixtures"

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the recordings are not here")


def recorded(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def test_a_recorded_stream_of_o3_mini_is_shown_whole_and_costs_what_it_cost(kernel, simulator):
    body = recorded("o3mini_responses_stream.sse")
    last = json.loads(body.decode().rstrip().rpartition("data: ")[2])["response"]
    text = last["output"][-1]["content"][0]["text"]
    simulator.script(Reply(body=body, piece_bytes=317))
    ran = kernel.run("%%o3 -e high --summary detailed -o a\nHow do I cross the street?")
    assert ran.status == "ok", ran.error
    assert ran.texts() == [text]
    markdown = ran.texts("text/markdown")[0]
    assert "13 in (0 cached)" in markdown
    assert "1,680 out (1,408 reasoning)" in markdown
    assert "&#36;</span>0.007406" in markdown
    # 13 x 1.10 + 1,680 x 4.40 US dollars per million
    assert kernel.value("str(a.cost_usd)") == "0.007406300"
    assert kernel.value("a.id") == last["id"]
    summary = kernel.value("a.reasoning_summary")
    assert summary == "\n\n".join(part["text"] for part in last["output"][0]["summary"])


def test_a_recorded_chat_answer_costs_what_it_cost(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(body=recorded("o3mini_chat.json"), content_type="application/json"))
    ran = kernel.run("%%o3 --api chat --no-stream -o a\nhello")
    assert ran.texts() == ["Hello there! How can I help you today?"]
    assert "7 in (0 cached) · 87 out (64 reasoning)" in ran.texts("text/markdown")[0]
    # 7 x 1.10 + 87 x 4.40 US dollars per million
    assert kernel.value("str(a.cost_usd)") == "0.000390500"


@pytest.mark.parametrize(
    ("api", "usage", "cost"),
    [
        ("chat", "16 in (0 cached) · 2,559 out (256 reasoning)", "0.011277200"),
        ("responses", "294 in (0 cached) · 2,520 out (0 reasoning)", "0.011411400"),
    ],
)
def test_odd_usage_is_shown_with_a_warning(kernel, simulator, api, usage, cost):
    body = recorded(f"launch_aimlapi_{api}.json")
    simulator.script(Reply(body=body, content_type="application/json"))
    ran = kernel.run(f"%%o3 --api {api} --no-stream --max-output-tokens 512 -o a\nHello")
    markdown = ran.texts("text/markdown")[0]
    assert usage in markdown
    assert "odd usage from the provider" in markdown
    assert "over the limit of 512" in markdown
    assert kernel.value("str(a.cost_usd)") == cost
