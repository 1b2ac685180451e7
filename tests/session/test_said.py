"""Tier, verbosity and parameters: sent, counted, kept in the key, and told where they are not."""

import json

import pytest
from pydantic import BaseModel

from o3magic.errors import (
    BadOption,
    BrokenAnswer,
    CassetteMiss,
    OverBudget,
    RateLimited,
    RequestRefused,
)
from o3magic.session.plan import build_shown_request
from o3magic.simulator import Reply
from tests.session.test_recorder import offline, online, record
from tests.sessions import chat_stream, entries, response, response_stream, session_at

# Of 7 tokens in and 87 out of o3, by its card.
COST = {"default": 7 * 2000 + 87 * 8000, "flex": 7 * 1000 + 87 * 4000}
COST["priority"] = 7 * 3500 + 87 * 14000
LIMIT = {"max_output_tokens": 1000}
APIS = pytest.mark.parametrize("api", ["responses", "chat"])


class Point(BaseModel):
    """A place."""

    x: int


def served(tier, **more):
    """A whole answer of o3 that says its tier; "" for none."""
    said = {"service_tier": tier} if tier else {}
    return Reply(body=response(model="o3-2025-04-16", **said, **more))


def worst(session, **options):
    """The worst case of a question in nano-dollars, as a budget of nothing tells it."""
    with pytest.raises(OverBudget) as refused:
        session.ask("four?", model="o3", **LIMIT, budget_call=0, **options)
    return str(refused.value).partition("cost up to ")[2].split()[0].rstrip(",;")


# Tier


@APIS
@pytest.mark.parametrize("tier", ["auto", "default", "flex", "priority"])
def test_a_tier_is_sent_and_entered_as_it_was_asked_for(sim, session, api, tier):
    session.ask("four?", api=api, tier=tier)
    assert sim.requests[-1].body["service_tier"] == tier
    [row] = entries(session)
    assert row.service_tier == tier
    assert row.tier_served == ("default" if tier == "auto" else tier)


def test_where_no_tier_is_said_none_is_sent(sim, session):
    session.ask("four?")
    assert "service_tier" not in sim.requests[-1].body
    assert entries(session)[0].service_tier == ""


@pytest.mark.parametrize(
    ("asked", "said", "cost", "note"),
    [
        ("flex", "flex", "flex", ()),
        ("flex", "default", "default", "asked for the flex tier, but served at default"),
        ("priority", "default", "default", "asked for the priority tier, but served at default"),
        ("priority", "priority", "priority", ()),
        (
            "default",
            "priority",
            "priority",
            "asked for the default tier, but served at priority",
        ),
        ("auto", "priority", "priority", ()),
        (None, "flex", "flex", ()),
        ("flex", "", "flex", ()),
        ("auto", "", "default", ()),
    ],
)
def test_the_tier_that_served_it_is_the_one_that_is_paid(sim, session, asked, said, cost, note):
    sim.script(served(said))
    answer = session.ask("four?", model="o3", tier=asked)
    [row] = entries(session)
    assert row.cost_nano_usd == COST[cost]
    assert (row.service_tier, row.tier_served) == (asked or "", said)
    assert answer.notes == ((note,) if note else ())


def test_the_worst_case_is_that_of_the_tier(session):
    usual, flex, dear = (worst(session, tier=t) for t in ("default", "flex", "priority"))
    assert (usual, flex, dear) == ("$0.008072", "$0.004036", "$0.014126")
    assert worst(session) == usual
    # A project may be set to priority: then auto is that.
    assert worst(session, tier="auto") == dear


def test_a_budget_is_held_by_the_tier(sim, session):
    sim.script(served("flex"))
    held = {"model": "o3", "budget_call": "0.005", **LIMIT}
    with pytest.raises(OverBudget):
        session.ask("four?", **held)
    assert session.ask("four?", tier="flex", **held).text == "four"
    assert entries(session)[0].worst_nano_usd < 5_000_000


def test_a_tier_without_a_price_is_unknown_and_keeps_no_budget(sim, session):
    with pytest.raises(OverBudget) as refused:
        session.ask("four?", tier="flex", budget_day=1)
    assert "what o3-mini costs at openai in the flex tier is not known" in str(refused.value)
    assert "another --tier" in refused.value.hint
    assert sim.requests == []
    sim.script(Reply(body=response(service_tier="flex")))
    assert session.ask("four?", tier="flex").cost_usd is None
    # Nobody sells it at priority, so auto is the standard tier there.
    sim.script(Reply(body=response(service_tier="default")))
    assert session.ask("four?", tier="auto", budget_day=1).text == "four"


def test_a_tier_whose_long_rates_nobody_says_is_unknown_for_a_long_prompt():
    price = {"input": "1", "output": "1"}
    long = {"long_context": {"above_tokens": 200, "input": "2", "output": "2"}}
    own = {"price": [price | long, price | {"tier": "flex"}], "window_tokens": 9_000}
    with session_at("http://127.0.0.1:9", models={"own": own}) as session:
        options = {"model": "own", "tier": "flex", "max_output_tokens": 20, "budget_call": 0}
        with pytest.raises(OverBudget, match="it may cost up to"):
            session.ask("four?", **options)
        with pytest.raises(OverBudget, match="in the flex tier is not known"):
            session.ask("four? " * 100, **options)


def test_a_dry_run_tells_the_tier_and_its_price(session):
    said = {"model": "o3", "dry_run": True, **LIMIT}
    for tier, price in (("flex", "$0.004036"), ("priority", "$0.014126")):
        planned = session.plan("four?", session.layers.profile(said | {"tier": tier}))
        assert build_shown_request(planned)["body"]["service_tier"] == tier
        told = dict(session.foreseen(planned))
        assert told["asked"].endswith(f"API, tier {tier}")
        assert told["worst case"].startswith(price)


def test_flex_waits_longer_unless_something_else_was_chosen(sim, session):
    def waits(**said):
        return session.plan("four?", session.layers.profile(said)).call.first_token_timeout_s

    assert waits() == waits(tier="priority") == 600
    assert waits(tier="flex") == 900
    assert waits(tier="flex", first_token_timeout_s=30) == 30
    sim.script(Reply(text="late", wait_s=2))
    with pytest.raises(BrokenAnswer, match=r"nothing came for 0\.2 s") as silent:
        session.ask("four?", tier="flex", first_token_timeout_s=0.2, chunk_timeout_s=0.2)
    assert "the flex tier is slower" in silent.value.hint


def test_a_tier_that_has_no_room_or_is_not_served_says_what_to_try(sim, session):
    sim.script(Reply(status=429))
    with pytest.raises(RateLimited) as full:
        session.ask("four?", tier="flex", retries=0)
    assert "the flex tier is full now" in full.value.hint
    error = {"message": "Invalid service_tier argument", "param": "service_tier"}
    sim.script(Reply(status=400, error=error))
    with pytest.raises(RequestRefused) as refused:
        session.ask("four?", tier="flex")
    assert "leave --tier out" in refused.value.hint
    assert refused.value.param == "service_tier"


# Verbosity


@APIS
@pytest.mark.parametrize("said", ["low", "medium", "high"])
def test_verbosity_is_sent_where_each_api_has_it(sim, session, api, said):
    sim.script(Reply(json={"x": 1}))
    session.ask("four?", model="gpt-5.5", api=api, verbosity=said, schema=Point)
    body = sim.requests[-1].body
    assert (body["text"]["verbosity"] if api == "responses" else body["verbosity"]) == said
    formats = body["text"]["format"] if api == "responses" else body["response_format"]
    assert formats["type"] == "json_schema"


@APIS
def test_a_model_without_verbosity_says_so_and_the_hint_names_the_option(sim, session, api):
    with pytest.raises(RequestRefused, match="does not support 'low' with this model") as refused:
        session.ask("four?", model="o3", api=api, verbosity="low", schema=Point)
    assert "leave --verbosity out" in refused.value.hint
    # It is no lack of schemas.
    assert len(sim.requests) == 1
    assert session.ask("four?", model="o3", api=api, verbosity="medium").text


# Parameters


@APIS
def test_parameters_are_sent_beside_the_others(sim, session, api):
    said = {"top_p": 0.5, "metadata": {"team": "a"}, "user": "u"}
    if api == "responses":
        said |= {"reasoning.mode": "pro"}
    session.ask("four?", model="gpt-5.2", api=api, effort="none", param=said)
    body = sim.requests[-1].body
    assert (body["top_p"], body["metadata"], body["user"]) == (0.5, {"team": "a"}, "u")
    if api == "responses":
        assert body["reasoning"] == {"effort": "none", "mode": "pro"}


def test_a_parameter_that_is_refused_is_named(sim, session):
    with pytest.raises(RequestRefused, match="'temperature' is not supported") as refused:
        session.ask("four?", model="o3", param="temperature=0.2")
    assert refused.value.param == "temperature"
    with pytest.raises(RequestRefused, match="Unknown parameter: 'temprature'"):
        session.ask("four?", param="temprature=0.2")


def test_parameters_survive_the_way_to_the_chat_api_and_what_does_not_is_told(sim, session):
    sim.script(Reply(status=404, body={"detail": "Not Found"}))
    said = {"param": 'truncation="auto"\nuser="u"', "verbosity": "low", "tier": "flex"}
    for _ in range(2):
        answer = session.ask("four?", model="gpt-5.5", **said)
        body = sim.requests[-1].body
        assert "messages" in body
        assert "truncation" not in body
        assert (body["user"], body["verbosity"], body["service_tier"]) == ("u", "low", "flex")
        [told] = answer.notes
        assert told.startswith("asked by the Chat API: openai has no Responses")
        assert told.endswith("; without truncation, which Chat has not")


def test_the_tokens_are_counted_without_what_is_not_counted(sim, session):
    said = {"param": 'user="u"\ntool_choice="none"', "tier": "flex", "store": False}
    profile = session.layers.profile(said | {"dry_run": True, "exact": True, "verbosity": "low"})
    session.foreseen(session.plan("four?", profile))
    body = sim.requests[-1].body
    assert set(body) == {"model", "input", "tool_choice", "text"}


def test_they_come_along_in_every_turn_and_every_way(sim, session):
    said = {"model": "gpt-5.5", "param": 'user="u"', "verbosity": "low", "tier": "priority"}
    session.ask("one", conversation="talk", **said)
    session.ask("two", conversation="talk", **said)
    compared = session.compare("three", efforts=("low", "high"), **said)
    assert compared.errors == ("", "")
    assert len(sim.requests) == 4
    for received in sim.requests:
        body = received.body
        assert (body["user"], body["text"]["verbosity"]) == ("u", "low")
        assert body["service_tier"] == "priority"


def test_what_cannot_be_said_sends_nothing(sim, session):
    for wrong in ("model=1", "stream=false", "n=3", "temperature=hot"):
        with pytest.raises(BadOption):
            session.ask("four?", param=wrong)
    assert sim.requests == []


# The key


def key(session, **said):
    planned = session.plan("four?", session.layers.profile(said))
    return planned.question.key


def test_what_is_asked_is_in_the_key_and_how_it_is_carried_is_not(session):
    plain = key(session)
    same = [
        {"tier": "flex"},
        {"param": 'metadata={"a":"b"}'},
        {"param": 'user="u"\nprompt_cache_key="k"'},
        {"param": "stream_options.include_obfuscation=false"},
    ]
    assert {key(session, **each) for each in same} == {plain}
    other = [
        {"verbosity": "low"},
        {"verbosity": "high"},
        {"param": "top_p=0.5"},
        {"param": "top_p=0.6"},
        {"param": 'reasoning.mode="pro"'},
        {"formatting": False},
        {"formatting": False, "param": "top_p=0.5"},
    ]
    assert len({plain, *(key(session, **each) for each in other)}) == len(other) + 1
    assert key(session, param="a=1\nb=2") == key(session, param={"b": 2.0, "a": 1})


def test_it_is_recorded_and_replays_for_the_same_words_alone(sim, tmp_path):
    notebook = tmp_path / "lesson.ipynb"
    said = {"param": "top_p=0.5", "verbosity": "low", "model": "gpt-5.5"}
    record(sim, notebook, "four", tier="priority", **said)
    cassette = json.loads(notebook.with_name("lesson.o3.json").read_text())
    [entry] = cassette["entries"]
    assert entry["request"]["options"] == {"top_p": 0.5, "verbosity": "low"}
    assert "tier" not in entry["request"]
    with offline(notebook) as session:
        assert session.ask("four?", replay_speed=0, **said).text == "four"
        session.begin_cell("another cell")
        assert session.ask("four?", replay_speed=0, tier="flex", **said).notes == ()
        with pytest.raises(CassetteMiss) as missed:
            session.ask("four?", **said | {"param": "top_p=0.9"})
        assert "options" in "".join(map(str, missed.value.lines()))


def test_a_note_on_the_tier_is_the_same_when_recorded_and_replayed(sim, tmp_path):
    notebook = tmp_path / "lesson.ipynb"
    sim.script(Reply(body=response_stream("four", model="o3-2025-04-16", service_tier="default")))
    with online(sim, notebook) as session:
        first = session.ask("four?", model="o3", tier="priority")
    with offline(notebook) as session:
        again = session.ask("four?", model="o3", tier="priority", replay_speed=0)
    assert again.notes == first.notes
    assert again.cost_usd == first.cost_usd


def test_the_books_know_nothing_of_the_parameters(sim, session):
    session.ask("four?", param='user="very-private"')
    assert "very-private" not in repr(entries(session))


# Kept nowhere


def asked(received):
    return {n: v for n, v in received.body.items() if n in ("store", "include")}


BARE = {"store": False}
ENCRYPTED = BARE | {"include": ["reasoning.encrypted_content"]}


def test_encrypted_reasoning_is_asked_of_models_that_reason(sim, session):
    for model, said in (("o3", ENCRYPTED), ("gpt-5.5", ENCRYPTED)):
        session.ask("four?", model=model, store=False)
        assert asked(sim.requests[-1]) == said
    session.ask("four?", model="o3", store=False, api="chat")
    assert asked(sim.requests[-1]) == {}


def test_a_model_whose_card_has_no_efforts_is_asked_for_none(sim):
    with session_at(sim.base_url, models={"gpt-4.1": {"efforts": []}}) as session:
        answer = session.ask("four?", model="gpt-4.1", store=False)
    assert [asked(each) for each in sim.requests] == [BARE]
    assert answer.notes == ()


@pytest.mark.parametrize("stream", [True, False])
def test_who_turns_out_to_have_none_is_asked_without_it(sim, session, stream):
    said = {"store": False, "stream": stream}
    answer = session.ask("four?", model="gpt-4o-audio-x", **said)
    assert [asked(each) for each in sim.requests] == [ENCRYPTED, BARE]
    assert answer.text
    note = "no encrypted reasoning: gpt-4o-audio-x has none at openai"
    assert answer.notes == (note,)
    # It is known from then on, of this model alone.
    assert session.ask("five?", model="gpt-4o-audio-x", **said).notes == (note,)
    assert asked(sim.requests[-1]) == BARE
    assert session.ask("four?", model="o3", **said).notes == ()
    assert asked(sim.requests[-1]) == ENCRYPTED
    assert [row.status for row in entries(session)] == ["error", "ok", "ok", "ok"]


def test_what_else_is_to_be_included_stays(sim, session):
    more = 'include=["message.output_text.logprobs"]'
    session.ask("four?", model="gpt-4o-audio-x", store=False, param=more)
    logprobs = ["message.output_text.logprobs"]
    assert [each.body["include"] for each in sim.requests] == [
        [*ENCRYPTED["include"], *logprobs],
        logprobs,
    ]
    refused = {"message": "No logprobs here.", "param": "include"}
    sim.script(Reply(status=400, error=refused))
    with pytest.raises(RequestRefused, match="No logprobs"):
        session.ask("four?", model="gpt-4o-audio-x", store=False, param=more)


def test_a_table_may_say_that_a_provider_has_no_encrypted_reasoning(sim):
    with session_at(sim.base_url, providers={"openai": {"lacks": ["encrypted"]}}) as session:
        session.ask("four?", model="o3", store=False)
    assert [asked(each) for each in sim.requests] == [BARE]


def test_a_stream_of_the_chat_api_says_its_tier_too(sim, session):
    said = b'"id": "chatcmpl-1", "service_tier": "flex"'
    stream = chat_stream("four").replace(b'"id": "chatcmpl-1"', said)
    sim.script(Reply(body=stream.replace(b'"o3-mini-2025-01-31"', b'"o3-2025-04-16"')))
    session.ask("four?", model="o3", api="chat", tier="flex")
    assert entries(session)[0].cost_nano_usd == COST["flex"]
