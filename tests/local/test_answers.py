"""What a real model on this machine answers: text, objects, conversations, tools, rows."""

import json
from contextlib import closing
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Annotated, Literal

import pytest
from jsonschema import validate
from pydantic import BaseModel, Field

from o3magic.cassettes.cassette import Cassette
from o3magic.errors import BadOption, BrokenAnswer, LocalModelError
from o3magic.events import ModelStatus, TextDelta, ToolCallDelta
from o3magic.render.answer import plain_footer
from o3magic.rows.map_job import map_rows
from o3magic.rows.store import JobStore
from o3magic.session.plan import build_shown_request
from tests.local.conftest import get, process_of, wait_until
from tests.sessions import WEATHER

SMALL = "smollm2-135m"
STOPS_WITHIN_S = 1.0
LONG = "Tell me a very long story about every harbour of the world."


@dataclass
class Person:
    name: str
    age: int
    city: str
    state: Literal["single", "married"]


@dataclass
class Weather:
    degrees: int


class Five(BaseModel):
    fruits: Annotated[list[str], Field(min_length=5, max_length=5)]


def streamed(session, prompt, **options):
    """The events of a question and its answer."""
    asking = session.begin(session.plan(prompt, session.layers.profile(options)))
    return list(asking), asking.answer


def statuses(events):
    return [event.text for event in events if type(event) is ModelStatus]


def test_an_answer_streams_in_and_is_counted_and_costs_nothing(make):
    session = make()
    events, answer = streamed(session, "What is the capital of France?", max_output_tokens=30)
    pieces = [event.text for event in events if type(event) is TextDelta]
    assert len(pieces) > 3
    assert "".join(pieces) == answer.text
    assert answer.usage.input_tokens > 10
    assert len(pieces) <= answer.usage.output_tokens <= 30
    assert (answer.model, answer.provider, answer.source) == (SMALL, "local", "live")
    assert answer.cost_usd == 0
    first = plain_footer(answer).splitlines()[0]
    used = answer.usage
    assert first == (
        f"LOCAL · {SMALL} · {used.input_tokens} in ({used.cached_tokens} cached) · "
        f"{used.output_tokens} out · $0"
    )
    assert statuses(events) == ["is loading", "is thinking"]
    events, answer = streamed(session, "Say hello.", stream=False, max_output_tokens=30)
    assert statuses(events) == []  # it runs by now
    assert answer.text
    assert [(e.provider, e.model, e.cost_nano_usd) for e in session.ledger.entries()] == [
        ("local", SMALL, 0)
    ] * 2


def test_loading_is_no_part_of_the_seconds_of_an_answer(make):
    session = make()
    _, first = streamed(session, "Say hello.", max_output_tokens=5)
    _, second = streamed(session, "Say hello.", max_output_tokens=5)
    assert first.elapsed_s < second.elapsed_s + 1


def test_a_model_that_is_not_told_when_to_stop_has_a_limit(ours):
    plan = ours.plan("Say hello.", ours.layers.profile())
    assert plan.call.request.max_output_tokens == 512
    assert plan.question.canonical().get("max_output_tokens") is None
    answer = ours.ask("Tell me a long story about the sea.", max_output_tokens=3)
    assert (answer.finish_reason, answer.usage.output_tokens) == ("length", 3)
    assert plain_footer(answer).splitlines()[1:] == [
        "! cut off: the limit of 3 output tokens was reached; try --max-output-tokens 12"
    ]


@pytest.mark.parametrize("stream", [True, False])
def test_a_typed_answer_fits_whatever_the_model_makes_up(ours, stream):
    prompt = "Maria Silva, 31, is married and lives in Lisbon."
    person = ours.ask(prompt, schema=Person, stream=stream).parsed
    assert isinstance(person, Person)
    assert person.state in ("single", "married")
    assert len(ours.ask("List five fruits.", schema=Five, stream=stream).parsed.fruits) == 5


def test_a_conversation_remembers_its_turns(ours):
    first = ours.ask("My name is Ada.", conversation="talk", max_output_tokens=10)
    second = ours.ask("What is my name?", conversation="talk", max_output_tokens=10)
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    assert len(ours.conversations.get("talk").turns) == 2


def test_a_developer_message_is_read(ours):
    plain = ours.ask("hi", max_output_tokens=1).usage.input_tokens
    prompt = "You answer in rhymes about ships, trains and aeroplanes, and in nothing else at all."
    assert ours.ask("hi", developer=prompt, max_output_tokens=1).usage.input_tokens != plain


def test_input_tokens_are_counted_by_the_server(ours):
    profile = ours.layers.profile({"dry_run": True, "exact": True})
    planned = ours.plan("Write a haiku about the sea.", profile)
    assert "by local" in dict(ours.foreseen(planned))["input"]
    assert ours.ask("Write a haiku about the sea.", max_output_tokens=1).usage.input_tokens == 38


def test_a_dry_run_needs_no_server_and_shows_no_key(make):
    session = make()
    shown = build_shown_request(session.plan("hi", session.layers.profile({"dry_run": True})))
    assert shown["body"]["model"] == SMALL
    assert session.reach.model_server.key not in json.dumps(shown)
    assert session.reach.model_server._running is None


def test_what_the_small_model_cannot_do_is_said_before_it_is_asked(ours):
    with pytest.raises(BadOption, match="takes no tools"):
        ours.ask("What time is it?", tools="python")
    with pytest.raises(BadOption, match="no reasoning effort"):
        ours.ask("Think.", effort="high")
    with pytest.raises(BadOption, match="nothing to compare"):
        ours.compare("Think.")


# Tools


def test_a_model_whose_template_has_tools_calls_them(make, tiny, fold):
    session = make({"model": str(tiny)})
    plan = session.plan("The weather?", session.layers.profile({"max_output_tokens": 1_500}))
    forced = replace(plan.call.request, tools=(WEATHER,), options={"tool_choice": "required"})
    with session.reach.serving(replace(plan.call, request=forced)) as call:
        for _ in range(30):  # random weights: now and then the limit cuts a call
            events = list(session.client.events(call))
            answer = fold(events)
            if answer.finish_reason == "tool_calls":
                break
    assert [event for event in events if type(event) is ToolCallDelta]
    for each in answer.tool_calls:
        assert each.name == "get_weather"
        validate(json.loads(each.arguments), WEATHER.parameters)


# Model files


def test_any_model_file_is_asked_by_its_path_and_called_by_its_name(make, tiny):
    session = make()
    session.ask("hi", max_output_tokens=1)
    before = process_of(session)
    answer = session.ask("hi", model=str(tiny), max_output_tokens=8)
    assert (answer.model, answer.effort) == ("tiny", None)
    assert plain_footer(answer).startswith("LOCAL · tiny · ")
    assert "/" not in plain_footer(answer).splitlines()[0]
    assert before.poll() is not None, "one server for a session"
    assert "smollm2" in session.ask("hi", max_output_tokens=1).model
    assert {e.model for e in session.ledger.entries()} == {SMALL, "tiny"}


def test_two_models_are_compared_one_after_the_other(make, tiny):
    found = make().compare("hi", models=[SMALL, str(tiny)], max_output_tokens=8)
    assert found.errors == ("", "")
    assert [answer.model for answer in found.answers] == [SMALL, "tiny"]


def test_a_model_that_still_answers_is_not_waited_for_by_itself(make, tiny):
    session = make()
    with closing(session.stream(LONG)) as events:
        next(event for event in events if type(event) is TextDelta)
        with pytest.raises(LocalModelError, match="one runs at a time"):
            session.ask("hi", model=str(tiny), max_output_tokens=1)
    assert session.ask("hi", model=str(tiny), max_output_tokens=1).model == "tiny"


# Rows


def test_rows_are_asked_side_by_side_and_cost_nothing(make):
    session = make()
    rows = [{"city": city} for city in ("Lisbon", "Oslo", "Cairo", "London")]
    prompt, options = "It is 21 degrees in {{ city }}.", {"schema": Weather, "names": {}}
    table = map_rows(session, JobStore(":memory:"), rows, prompt, **options)
    assert list(table["error"]) == [None] * 4
    assert all(isinstance(degrees, Integral) for degrees in table["degrees"])
    assert [str(cost) for cost in table["cost_usd"]] == ["0"] * 4
    entries = list(session.ledger.entries())
    assert [(e.provider, e.cost_nano_usd, e.status) for e in entries] == [("local", 0, "ok")] * 4
    assert session.reach.model_server._users == []


def test_rows_that_cannot_be_asked_say_why_once(make, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + bytes(1_000))
    session = make({"model": str(damaged)})
    with pytest.raises(LocalModelError, match="damaged could not be loaded"):
        map_rows(session, JobStore(":memory:"), [{"n": 1}, {"n": 2}], "{{ n }}", names={})
    assert list(session.ledger.entries()) == []


# Interruption


def test_an_answer_that_is_interrupted_stops_within_a_second(make):
    session = make({"max_output_tokens": 4_000})

    def busy():
        return [slot for slot in get(session, "/slots").json() if slot["is_processing"]]

    with closing(session.stream(LONG)) as events:
        next(event for event in events if type(event) is TextDelta)
        assert busy()
    assert wait_until(lambda: not busy(), STOPS_WITHIN_S)
    (entry,) = session.ledger.entries()
    assert (entry.status, entry.cost_nano_usd) == ("interrupted", 0)


def test_a_server_that_dies_is_a_broken_answer_and_the_next_question_starts_another(make):
    session = make({"max_output_tokens": 4_000})
    events = session.stream(LONG)
    next(event for event in events if type(event) is TextDelta)
    process_of(session).kill()
    with pytest.raises(BrokenAnswer):
        list(events)
    assert session.ask("hi", max_output_tokens=3).text
    process_of(session).kill()
    process_of(session).wait()
    assert session.ask("hi", max_output_tokens=3).notes[1:] == ()


# Cassettes


@pytest.mark.parametrize("own", [False, True])
def test_a_recorded_answer_replays_the_same_without_any_model(make, tiny, tmp_path, own):
    notebook = str(tmp_path / "lesson.ipynb")
    model = {"model": str(tiny)} if own else {}
    recording = make({"notebook": notebook, "mode": "record", "max_output_tokens": 20, **model})
    recorded = recording.ask("Say hello.")
    text = (tmp_path / "lesson.o3.json").read_text()
    assert str(tiny.parent) not in text
    assert recording.reach.model_server.key not in text
    (take,) = Cassette(tmp_path / "lesson.o3.json").entries
    assert (take.provider, take.source, take.cost_nano_usd) == ("local", "live", 0)

    elsewhere = {"O3MAGIC_MODELS": str(tmp_path / "nothing")}
    if own:
        model = {"model": "/somewhere/else/tiny.gguf"}
    replaying = make({"notebook": notebook, "max_output_tokens": 20, **model}, **elsewhere)
    replayed = replaying.ask("Say hello.")
    assert replayed.replayed
    assert replaying.reach.model_server._running is None
    assert plain_footer(replayed) == plain_footer(recorded)
    assert plain_footer(replayed).startswith(f"LOCAL · {'tiny' if own else SMALL} · ")
    assert f"$0 · recorded on {take.recorded[:10]}" in plain_footer(replayed)
