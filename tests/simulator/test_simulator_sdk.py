"""The official client can talk to the simulator, as a second opinion on the protocol."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from o3magic.simulator import Reply, Simulator

openai: Any = pytest.importorskip("openai", reason="the official client is not installed")


@pytest.fixture
def client(sim: Simulator) -> Iterator[Any]:
    with openai.OpenAI(base_url=sim.base_url, api_key="none", max_retries=0) as made:
        yield made


def test_it_reads_an_answer(client):
    answer = client.responses.create(model="o3-mini", input="hello")
    assert answer.output_text.startswith("*SIMULATED")
    chat = client.chat.completions.create(
        model="o3-mini", messages=[{"role": "user", "content": "hello"}]
    )
    assert chat.choices[0].message.content.startswith("*SIMULATED")


def test_its_stream_helper_folds_a_stream_to_the_same_answer(client):
    asked = {"model": "o3-mini", "input": "hello", "reasoning": {"summary": "auto"}}
    with client.responses.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.reasoning_summary_text.delta" in kinds
    assert final.output_text == client.responses.create(**asked).output_text


def test_its_chat_stream_helper_folds_tool_calls(client):
    parameters = {"type": "object", "properties": {"q": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "look_up", "parameters": parameters}}
    with client.chat.completions.stream(
        model="o3-mini",
        messages=[{"role": "user", "content": "look_up something"}],
        tools=[tool],
    ) as stream:
        list(stream)
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    arguments = json.loads(choice.message.tool_calls[0].function.arguments)
    assert arguments["q"].startswith("simulated q")


def test_its_parser_fills_a_model(client):
    pydantic = pytest.importorskip("pydantic")
    city = pydantic.create_model("City", name=(str, ...), people=(int, ...))
    answer = client.responses.parse(model="o3-mini", input="a city", text_format=city)
    assert "simulated" in answer.output_parsed.name


def test_it_raises_the_errors_it_raises_for_the_real_api(sim, client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(
            model="gpt-2", messages=[{"role": "user", "content": "hello"}]
        )
    with pytest.raises(openai.BadRequestError, match="Unsupported parameter"):
        client.responses.create(model="o3-mini", input="hello", temperature=1)
    sim.script(Reply(status=429), Reply(status=500))
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="o3-mini", input="hello")
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="o3-mini", input="hello")


def test_it_lists_models(client):
    assert "o3-mini" in {model.id for model in client.models.list()}
    assert client.models.retrieve("o3-mini").owned_by == "o3magic-simulator"
