"""llama.cpp's llama-server, with random weights: what it says means nothing, and has a form."""

import json
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated

import pytest
from jsonschema import validate
from pydantic import Field

from o3magic.client.request import HttpRequest
from o3magic.errors import RequestRefused, TooLarge, WrongKey
from o3magic.events import Accepted, Finished, TextDelta, ToolCallDelta
from o3magic.messages import AnswerSchema, Message, Request, Tool
from o3magic.providers import Provider
from o3magic.tools.toolbox import ToolRun, following
from tests.real_servers.running import made
from tests.sessions import WEATHER

pytestmark = pytest.mark.real_servers

KEY = "sk-llama-0123456789"
SLOTS = 2
CONTEXT_TOKENS = 4096  # of each slot; a character is a token here
STOPS_WITHIN_S = 2.0
HI = (Message.of("user", "hi"),)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Shape:
    """Whatever a grammar can get wrong: a pattern, an enum, a list, a date, nothing, a nesting."""

    name: str
    code: Annotated[str, Field(pattern="^[A-Z]{2}[0-9]{3}$")]
    colour: Colour
    corners: list[Point]
    open: bool
    drawn: date
    filled_with: Colour | None = None
    inside: "Shape | None" = None


@pytest.fixture(scope="module")
def llama(start, tmp_path_factory):
    """Starts a llama-server with these options."""
    script = made("llamacpp.sh")
    model = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write = [script, "python", script.parent / "tiny_gguf.py", model]
    subprocess.run(write, check=True, capture_output=True)

    def run(context_tokens=CONTEXT_TOKENS, *options):
        size = ("--parallel", SLOTS, "--ctx-size", SLOTS * context_tokens)
        usual = ("--threads", 2, "--seed", 7, "--slots", "--jinja", "--no-webui")
        return start(script, model, *size, *usual, *options, ready="/health")

    return run


@pytest.fixture(scope="module")
def server(llama):
    """The server most tests ask."""
    return llama()


@pytest.fixture
def ours(server, session):
    """A session that asks it."""
    return session({"provider": "llamacpp", "base_url": server.base_url, "model": "tiny"})


@pytest.fixture
def ask(server, client):
    """Asks by the client, for what no session can ask, and gives the events."""

    def send(api="chat", messages=HI, **said):
        provider = Provider("llamacpp", base_url=server.base_url, auth="none", local=True)
        request = Request("tiny", messages, **said)
        return list(client.events(HttpRequest(provider, api, request)))

    return send


def streamed(session, prompt, **options):
    """The events of a question and its answer."""
    asking = session.begin(session.plan(prompt, session.layers.profile(options)))
    return list(asking), asking.answer


# Text


def test_a_text_comes_token_by_token_and_is_counted(ours):
    events, answer = streamed(ours, "hi", max_output_tokens=200)
    pieces = [event.text for event in events if type(event) is TextDelta]
    assert type(events[0]) is Accepted
    assert len(pieces) > 3
    assert "".join(pieces) == answer.text
    assert answer.finish_reason in ("stop", "length")
    assert answer.usage.input_tokens > len("hi")
    assert len(pieces) <= answer.usage.output_tokens <= 200
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert (answer.provider, answer.notes) == ("llamacpp", ())


def test_a_text_that_is_not_streamed_is_counted_too(ours):
    answer = ours.ask("hi", stream=False, max_output_tokens=200)
    assert answer.text
    assert 0 < answer.usage.output_tokens <= 200


def test_a_limit_is_kept_and_told(ours):
    answer = ours.ask("hi", max_output_tokens=2)
    assert (answer.finish_reason, answer.usage.output_tokens) == ("length", 2)


def test_what_was_read_before_is_counted_as_cached(ours):
    prompt = "the same words twice"
    ours.ask(prompt, max_output_tokens=1)
    assert ours.ask(prompt, max_output_tokens=1).usage.cached_tokens >= len(prompt)


def test_a_developer_message_is_read(ours):
    plain = ours.ask("hi", max_output_tokens=1).usage.input_tokens
    told = ours.ask("hi", developer="Be brief.", max_output_tokens=1).usage.input_tokens
    assert told >= plain + len("Be brief.")


def test_an_effort_is_no_mistake(ours):
    assert ours.ask("hi", effort="low", max_output_tokens=8).finish_reason in ("stop", "length")


def test_it_lists_its_model_and_is_found(ours, server):
    (name,) = ours.served_models(ours.layers.profile())
    assert name.endswith("tiny.gguf")
    assert ours.client.is_there(Provider("llamacpp", base_url=server.base_url, auth="none"))


def test_questions_right_behind_one_another_are_answered_at_the_first_try(ours):
    """Behind a stream it says keep-alive and closes, so that the next may meet a closing line."""
    for number in range(200):
        streamed(ours, f"hi {number}", max_output_tokens=5)
        _, answer = streamed(ours, f"hi {number}", max_output_tokens=5, stream=False)
        assert answer.notes == ()
    assert {entry.kind for entry in ours.ledger.entries()} == {"ask"}


# Schemas


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("schema", [Shape, list[Point], Point | Colour, Colour, int])
def test_random_weights_answer_in_any_schema(ours, schema, stream):
    for number in range(5):
        answer = ours.ask(f"draw {number}", schema=schema, stream=stream, repairs=0)
        assert answer.finish_reason == "stop"
    if isinstance(schema, type):
        assert isinstance(answer.parsed, schema)


# Tools

TIME = Tool(
    "get_time",
    "The time in a zone.",
    {
        "type": "object",
        "properties": {"zone": {"type": "string"}},
        "required": ["zone"],
        "additionalProperties": False,
    },
)


def assert_whole(calls):
    """Each call has an id of its own and arguments its tool takes."""
    parameters = {tool.name: tool.parameters for tool in (WEATHER, TIME)}
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        validate(json.loads(call.arguments), parameters[call.name])


@pytest.fixture
def called(ask, fold):
    """Asks until more than one call came and the last was not cut: by chance, mostly at once."""

    def send(api="chat", **said):
        options = {"tool_choice": "required", "parallel_tool_calls": True}
        for _ in range(30):
            events = ask(
                api, tools=(WEATHER, TIME), options=options, max_output_tokens=2_000, **said
            )
            answer = fold(events)
            ids = {event.id for event in events if type(event) is ToolCallDelta and event.id}
            if len(ids) > 1 and answer.finish_reason == "tool_calls":
                return events, answer
        return pytest.skip("by chance, no two calls came")

    return send


def test_parallel_calls_in_tiny_fragments_are_whole(called):
    events, answer = called()
    fragments = [event for event in events if type(event) is ToolCallDelta]
    assert len(fragments) > 4 * len(answer.tool_calls)
    assert len(answer.tool_calls) > 1
    assert_whole(answer.tool_calls)


def test_parallel_calls_that_are_not_streamed_are_whole(called):
    _, answer = called(stream=False)
    assert len(answer.tool_calls) > 1
    assert_whole(answer.tool_calls)


# Interruption


def test_an_interrupted_answer_stops_within_two_seconds(llama, session):
    endless = llama(65_536, "--ignore-eos")
    ours = session({"provider": "llamacpp", "base_url": endless.base_url, "model": "tiny"})

    def busy():
        return [slot for slot in endless.get("/slots").json() if slot["is_processing"]]

    with closing(ours.stream("hi")) as events:
        for event in events:
            if type(event) is TextDelta:
                break
        assert busy()
    until = time.monotonic() + STOPS_WITHIN_S
    while busy() and time.monotonic() < until:
        time.sleep(0.02)
    assert not busy()
    (entry,) = ours.ledger.entries()
    assert (entry.status, entry.output_tokens) == ("interrupted", None)


# Errors


def test_a_wrong_key_is_a_wrong_key_and_is_not_shown(llama, session):
    guarded = llama(CONTEXT_TOKENS, "--api-key", KEY)
    own = {"llamacpp": {"auth": "bearer", "key_env": "LLAMA_KEY", "base_url": guarded.base_url}}
    settings = {"provider": "llamacpp", "model": "tiny", "max_output_tokens": 4}
    assert session(settings, own, {"LLAMA_KEY": KEY}).ask("hi").usage.output_tokens
    for keys in ({"LLAMA_KEY": KEY[:-1]}, {}):
        with pytest.raises(WrongKey) as caught:
            session(settings, own, keys).ask("hi")
        assert (caught.value.status, caught.value.code) == (401, "401")
        assert KEY[:-1] not in "".join(caught.value.lines())


def test_a_prompt_over_the_window_is_too_large_and_not_asked_again(ours):
    for options in ({}, {"stream": False}, {"api": "responses"}):
        with pytest.raises(TooLarge, match=f"{CONTEXT_TOKENS} tokens") as caught:
            ours.ask("x" * CONTEXT_TOKENS, **options)
        assert caught.value.status == 400
    assert [entry.status for entry in ours.ledger.entries()] == ["error"] * 3


def test_a_schema_it_does_not_understand_is_refused(ask):
    with pytest.raises(RequestRefused, match="nonsense") as caught:
        ask(answer_schema=AnswerSchema("x", {"type": "nonsense"}))
    assert caught.value.status == 400


# Responses: its events have no `sequence_number`, `output_index` or `content_index`


@pytest.mark.parametrize("stream", [True, False])
def test_responses_without_their_numbers_are_read(ours, stream):
    events, answer = streamed(
        ours, "hi", api="responses", stream=stream, max_output_tokens=200, developer="Be brief."
    )
    assert "".join(event.text for event in events if type(event) is TextDelta) == answer.text
    assert answer.text
    assert answer.finish_reason in ("stop", "length")
    assert 0 < answer.usage.output_tokens <= 200
    assert answer.id.startswith("resp_")


@pytest.mark.parametrize("stream", [True, False])
def test_parallel_calls_by_responses_are_whole_and_apart(called, stream):
    _, answer = called("responses", stream=stream)
    assert len(answer.tool_calls) > 1
    assert_whole(answer.tool_calls)


# Conversations and tools


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_five_turns_are_taken(ours, api, stream):
    before = 0
    for number in range(5):
        answer = ours.ask(
            f"question {number}",
            api=api,
            stream=stream,
            conversation="plan",
            max_output_tokens=20,
            store=False,
        )
        assert answer.usage.input_tokens > before
        before = answer.usage.input_tokens
    assert len(ours.conversations.get("plan").turns) == 5


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_what_tools_gave_is_taken(called, ask, api):
    """Three turns of tools: random weights call what they like, and read what came of it."""
    _, answer = called(api=api)
    messages = (Message.of("user", "hi"),)
    for _ in range(3):
        runs = [ToolRun(call, '"warm"') for call in answer.tool_calls]
        messages = following(messages, answer, runs)
        events = ask(api, messages=messages, tools=(WEATHER, TIME), max_output_tokens=20)
        assert any(type(event) is Finished for event in events)
