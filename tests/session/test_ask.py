"""Questions in plain Python: a session, its plans, answers, errors and books."""

import asyncio
import copy
import json
import os
import pickle
import subprocess
import sys
import time
import traceback
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

import o3magic as o3
from o3magic import errors
from o3magic.config import Config
from o3magic.errors import (
    BadOption,
    BrokenAnswer,
    EmptyPrompt,
    InvalidAnswer,
    NoKey,
    OverBudget,
    PromptTooLong,
    UnknownSchema,
)
from o3magic.events import Accepted, Finished, Retrying, Started, TextDelta, Usage
from o3magic.session.plan import build_shown_request
from o3magic.session.session import DEFAULT_SESSION, Session
from o3magic.simulator import Reply
from tests.client.conftest import chunked
from tests.sessions import (
    COST_NANO_USD,
    KEY,
    chat_stream,
    entries,
    response,
    response_stream,
    session_at,
)

ROOT = Path(__file__).parents[2]


class Point(BaseModel):
    """A place."""

    x: int
    y: int


BAD, GOOD = {"x": 1, "y": "two"}, {"x": 1, "y": 2}


# Answers


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_is_a_value_with_all_that_is_known(sim, session, api, stream):
    body = {"responses": response_stream("fo", "ur"), "chat": chat_stream("fo", "ur")}[api]
    sim.script(Reply(body=body, headers={"x-request-id": "req_7"}))
    answer = session.ask("four?", api=api, stream=stream, effort="low")
    assert (answer.text, answer.finish_reason, answer.effort) == ("four", "stop", "low")
    assert (answer.model, answer.provider) == ("o3-mini-2025-01-31", "openai")
    assert (answer.source, answer.request_id) == ("live", "req_7")
    assert answer.cost_usd * 10**9 == COST_NANO_USD
    assert 0 < answer.first_token_s <= answer.elapsed_s
    (row,) = entries(session)
    assert (row.status, row.cost_nano_usd, row.session) == ("ok", COST_NANO_USD, session.id)


def test_a_simulated_answer_says_so_and_costs_nothing(session):
    answer = session.ask("four?")
    assert (answer.source, answer.cost_usd) == ("simulated", 0)
    assert entries(session)[0].source == "simulated"


def test_a_stream_is_the_events_in_their_order(sim, session):
    sim.script(Reply(body=response_stream("fo", "ur")))
    events = list(session.stream("four?"))
    assert [type(event) for event in events] == [Accepted, Started, TextDelta, TextDelta, Finished]


def test_a_stream_that_nobody_reads_sends_nothing(sim, session):
    session.stream("four?").close()
    assert sim.requests == []
    assert entries(session) == []


def test_closing_a_stream_stops_the_answer_and_books_it_as_interrupted(sim, session):
    sim.script(Reply(text="one two three " * 100, pause_s=0.05))
    asking = session.begin(session.plan("four?", session.layers.profile()))
    with closing(iter(asking)) as events:
        while type(next(events)) is not TextDelta:
            pass
    answer = asking.answer
    assert (answer.finish_reason, answer.text) == ("interrupted", "one")
    assert [row.status for row in entries(session)] == ["interrupted"]


def test_the_cost_of_what_was_closed_is_unknown(line):
    line.say(chunked(response_stream("four")[:180], end=False))
    with session_at(line.base_url) as session:
        with closing(session.stream("four?")) as events:
            while type(next(events)) is not TextDelta:
                pass
        assert line.gone.wait(5)  # the provider sees that nobody listens any more
        assert [(r.status, r.cost_nano_usd) for r in entries(session)] == [("interrupted", None)]


def test_an_error_holds_what_had_arrived(sim, session):
    sim.script(Reply(body=response_stream("one ", "two ", "three"), cut_after_bytes=260))
    with pytest.raises(BrokenAnswer) as caught:
        session.ask("four?")
    answer = caught.value.answer
    assert answer.text.startswith("one ")
    assert (answer.cost_usd, answer.finish_reason) == (None, "error")
    sim.script(Reply(status=401, error={"code": "invalid_api_key"}))
    with pytest.raises(errors.WrongKey) as caught:
        session.ask("four?")
    assert (caught.value.answer.text, caught.value.answer.cost_usd) == ("", 0)
    assert "OPENAI_API_KEY" in caught.value.hint


# Schemas


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_an_answer_that_does_not_fit_is_asked_again_with_what_was_wrong(sim, session, api):
    make = {
        "responses": lambda said: Reply(body=response(json.dumps(said))),
        "chat": lambda said: Reply(body=chat_stream(json.dumps(said))),
    }[api]
    sim.script(make(BAD), make(BAD), make(GOOD))
    answer = session.ask("where?", schema=Point, api=api, repairs=2)
    assert (answer.parsed, answer.data) == (Point(x=1, y=2), GOOD)
    assert answer.schema_name == "Point"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3 * 7, 3 * 87)
    assert answer.cost_usd * 10**9 == 3 * COST_NANO_USD
    assert sum(note.startswith("asked again: y: ") for note in answer.notes) == 2
    assert [row.kind for row in entries(session)] == ["ask", "repair", "repair"]
    said = sim.requests[1].body["messages" if api == "chat" else "input"]
    quoted = {"role": "assistant", "content": json.dumps(BAD)}
    assert said[-2] == quoted | ({"type": "message"} if api == "responses" else {})
    assert "y: should be a whole number" in said[-1]["content"]


def test_a_repair_is_an_event_that_says_why(sim, session):
    sim.script(Reply(json=BAD), Reply(json=GOOD))
    (event,) = [e for e in session.stream("where?", schema=Point) if isinstance(e, Retrying)]
    assert event.why.startswith("the answer does not fit Point: y: should be a whole number")


def test_usage_over_repairs_is_unknown_where_one_of_them_did_not_say_it_all(sim, session):
    part = {"input_tokens": 7, "output_tokens": 87}
    sim.script(Reply(body=response(json.dumps(BAD), usage=part)))
    sim.script(Reply(body=response(json.dumps(GOOD))))
    answer = session.ask("where?", schema=Point)
    assert answer.usage == Usage(14, None, 174, None, None, None)


def test_an_answer_that_never_fits_is_an_error_with_the_answer_in_it(sim, session):
    sim.script(*[Reply(json=BAD)] * 2)
    with pytest.raises(InvalidAnswer, match="does not fit Point: y: ") as caught:
        session.ask("where?", schema=Point)
    assert json.loads(caught.value.answer.text) == BAD
    assert caught.value.answer.parsed is None
    sim.script(Reply(json=BAD))
    with pytest.raises(InvalidAnswer):
        session.ask("where?", schema=Point, repairs=0)
    assert len(sim.requests) == 3


def test_a_structured_answer_that_was_cut_off_is_not_asked_again(sim, session):
    sim.script(Reply(text='{"x": 1', finish="length"))
    with pytest.raises(InvalidAnswer, match="cut off") as caught:
        session.ask("where?", schema=Point, repairs=5)
    assert "--max-output-tokens" in caught.value.hint
    assert len(sim.requests) == 1
    assert [row.status for row in entries(session)] == ["length"]


def test_a_refusal_is_no_invalid_answer(sim, session):
    sim.script(Reply(refusal="No."))
    answer = session.ask("where?", schema=Point)
    assert (answer.refusal, answer.finish_reason, answer.parsed) == ("No.", "refusal", None)


def test_a_type_may_be_given_by_its_registered_name(sim, session):
    session.schemas["Place"] = Point
    sim.script(Reply(json=GOOD), Reply(json={"items": [GOOD]}))
    assert session.ask("where?", schema="Place").parsed == Point(x=1, y=2)
    assert session.ask("where?", schema="list[Place]").parsed == [Point(x=1, y=2)]
    with pytest.raises(UnknownSchema) as caught:
        session.ask("where?", schema="Plaice")
    assert "Place" in caught.value.hint


def test_a_plain_dataclass_is_a_schema_too(sim, session):
    @dataclass
    class Pair:
        a: int
        b: list[str]

    sim.script(Reply(json={"a": 1, "b": ["c"]}))
    assert session.ask("which?", schema=Pair).parsed == Pair(1, ["c"])


def test_the_decorator_leaves_its_type_as_it_is():
    assert o3.schema(Point) is Point


# What is refused before it is sent


def test_what_cannot_be_asked_is_refused_and_costs_nothing(sim, session):
    for kind, prompt, options in (
        (EmptyPrompt, " \n", {}),
        (PromptTooLong, "one two " * 150_000, {}),
        (BadOption, "four?", {"effort": "enormous"}),
        (BadOption, "four?", {"efort": "low"}),
        (BadOption, "four?", {"effort": "max"}),
        (BadOption, "four?", {"provider": "opnai"}),
        (BadOption, "four?", {"max_output_tokens": 100_001}),
        (UnknownSchema, "four?", {"schema": "Nothing"}),
    ):
        with pytest.raises(kind) as caught:
            session.ask(prompt, **options)
        assert caught.value.hint
    assert sim.requests == []
    assert entries(session) == []


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_developer_message_is_one_where_the_model_has_that_role(sim, session, api):
    session.ask("four?", developer="Be brief.", api=api)
    first, second = sim.requests[0].body["messages" if api == "chat" else "input"]
    assert first == {"role": "developer", "content": "Formatting re-enabled\nBe brief."}
    assert second == {"role": "user", "content": "four?"}


def test_a_developer_message_stands_above_the_prompt_where_there_is_no_such_role(sim, session):
    answer = session.ask("four?", developer="Be brief.", model="o1-mini")
    (said,) = sim.requests[0].body["messages"]
    assert said == {"role": "user", "content": "Be brief.\n\nfour?"}
    assert any("takes no developer message" in note for note in answer.notes)


def test_a_plan_shows_what_would_be_sent_and_sends_nothing(sim, session):
    planned = session.plan("four?", session.layers.profile({"effort": "low"}))
    shown = build_shown_request(planned)
    assert shown["POST"] == f"{sim.base_url}/responses"
    assert shown["body"]["reasoning"] == {"effort": "low"}
    assert KEY not in json.dumps(shown)
    assert sim.requests == []
    session.ask("four?", effort="low")
    assert sim.requests[0].body == shown["body"]


def test_a_dry_run_needs_neither_key_nor_provider():
    with closing(Session(Config(), {})) as session:
        planned = session.plan("four?", session.layers.profile({"dry_run": True}))
        assert build_shown_request(planned)["body"]["model"] == "gpt-6.1-terra"


# Sessions


def test_a_change_of_the_environment_counts_from_the_next_question_on(sim, session):
    session.ask("four?")
    session.environment["OPENAI_API_KEY"] = "sk-another-0123456789"
    session.ask("four?")
    said = [received.headers["authorization"] for received in sim.requests]
    assert said == [f"Bearer {KEY}", "Bearer sk-another-0123456789"]
    del session.environment["OPENAI_API_KEY"]
    with pytest.raises(NoKey):
        session.ask("four?", provider="openai")


def test_settings_of_one_session_are_not_those_of_another(sim):
    with session_at(sim.base_url) as one, session_at(sim.base_url) as two:
        one.configure({"effort": "high"})
        one.ask("four?")
        two.ask("four?")
        assert len(entries(one)) == len(entries(two)) == 1
    assert [received.body.get("reasoning") for received in sim.requests] == [
        {"effort": "high"},
        None,
    ]


def test_a_closed_session_opens_again_when_it_is_used(sim, session):
    session.ask("four?")
    session.close()
    session.close()
    assert session.ask("four?").source == "simulated"


def python(code, tmp_path, **environment):
    """What a program of its own prints."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    said = {"PYTHONPATH": str(ROOT), "O3MAGIC_CONFIG": str(tmp_path / "none.toml")}
    said |= {"O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3"), "OPENAI_API_KEY": KEY}
    said |= {"IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | said | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ONE_CALL = """
import sys, threading
import o3magic as o3
answer = o3.ask("four?", effort="low")
print(answer.source)
print("".join(e.text for e in o3.stream("again?") if hasattr(e, "text")))
print("IPython" in sys.modules, [t.name for t in threading.enumerate() if "o3magic" in t.name])
try:
    o3.ask("four?", effort="lo")
except o3.O3Error as error:
    print(error.lines()[1].strip())
"""


def test_a_single_question_in_plain_python_makes_a_session_and_closes_it(sim, tmp_path):
    sim.script(Reply(text="four"), Reply(text="five"))
    said = python(ONE_CALL, tmp_path, OPENAI_BASE_URL=sim.base_url).splitlines()
    assert said[:2] == ["simulated", "five"]
    assert said[2] == "False []"
    assert "low" in said[3]
    assert len(sim.requests) == 2


def test_the_session_of_a_process_keeps_its_connection_and_closes_it_at_the_end(line, monkeypatch):
    line.say(chunked(response_stream("four")))
    line.say(chunked(response_stream("four")))
    for name, value in (
        *(("OPENAI_API_KEY", KEY), ("OPENAI_BASE_URL", line.base_url)),
        ("O3MAGIC_LEDGER", ":memory:"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(o3, "_shell", lambda: None)  # whatever other tests left behind
    assert o3.ask("four?").text == o3.ask("four?").text == "four"
    assert len(set(line.ports)) == 1
    DEFAULT_SESSION.close()  # as at the end of the process
    assert line.gone.wait(5)


TWO_SHELLS = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
quiet = Config({"HistoryManager": {"enabled": False}})
one, two = InteractiveShell(config=quiet), InteractiveShell(config=quiet)
for shell in (one, two):
    shell.run_cell("%load_ext o3magic")
one.run_cell("%o3_config effort=high")
two.run_cell("%o3_config effort=low")
for shell, text in ((one, "first"), (two, "second"), (one, "third")):
    shell.run_cell(f"answer = %o3 -q {text}").raise_error()
of = [shell.magics_manager.registry["O3Magics"].actions.session for shell in (one, two)]
print(*[shell.user_ns["answer"].effort for shell in (one, two)])
print(of[0] is not of[1], of[0].id != of[1].id)
print(*[len(list(s.ledger.entries(session=s.id))) for s in of])
one.run_cell("%unload_ext o3magic")
two.run_cell("answer = %o3 -q fourth").raise_error()
print(len(list(of[1].ledger.entries(session=of[1].id))))
two.run_cell("%unload_ext o3magic")
"""


def test_two_shells_in_one_process_have_a_session_each(sim, tmp_path):
    said = python(TWO_SHELLS, tmp_path, OPENAI_BASE_URL=sim.base_url).splitlines()
    assert said[-4:] == ["high low", "True True", "2 1", "2"]
    efforts = [received.body["reasoning"]["effort"] for received in sim.requests]
    assert efforts == ["high", "low", "high", "low"]


# Keys


def test_no_key_is_in_anything_that_is_shown_or_kept(sim, session):
    planned = session.plan("four?", session.layers.profile())
    answer = session.ask("four?")
    asking = session.begin(planned)
    shown = [repr(each) + str(each) for each in (planned, planned.call, session, answer, asking)]
    kept = [pickle.dumps(each) for each in (planned.call, answer, planned.profile)]
    copied = copy.deepcopy(planned.call)
    assert KEY not in "".join(shown) + repr(vars(planned)) + repr(vars(planned.call))
    assert not any(KEY.encode() in each for each in kept)
    assert copied.key is None
    assert planned.call.key == SecretStr(KEY)
    assert pickle.loads(kept[0]).request == planned.call.request


@pytest.mark.parametrize("status", [401, 500, None])
def test_no_key_is_in_a_traceback_with_the_values_of_its_names(sim, session, status):
    """IPython's verbose mode and error trackers show what every name stands for."""
    if status is None:
        session.environment["OPENAI_API_KEY"] = f"{KEY}é"  # which no header can hold
    else:
        sim.script(Reply(status=status, error={"message": f"Wrong key {KEY}"}))
    with pytest.raises(errors.O3Error) as caught:
        session.ask("four?", retries=0)
    below = caught.value.__traceback__.tb_next  # this test has names of its own
    kind = type(caught.value)
    shown = traceback.TracebackException(kind, caught.value, below, capture_locals=True)
    text = "".join(shown.format())
    assert "client/http.py" in text.replace(os.sep, "/")
    assert KEY not in text


def test_a_working_folder_that_was_deleted_is_told(sim, session, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(BadOption, match="working folder is not there"):
        session.ask("@notes.txt?", file="notes.txt")


# Plain Python: one session of the process


@pytest.fixture
def plain(sim, monkeypatch, tmp_path):
    """A process without IPython whose calls go to the simulator."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url)
    monkeypatch.setenv("O3MAGIC_MODEL", "o3-mini")
    monkeypatch.setenv("O3MAGIC_LEDGER", str(tmp_path / "ledger.sqlite3"))
    monkeypatch.setenv("O3MAGIC_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setattr(o3, "_shell", lambda: None)
    monkeypatch.chdir(tmp_path)
    return sim


def test_conversations_hold_from_call_to_call(plain):
    o3.ask("I am Ann.", conversation="us")
    o3.ask("Who am I?", conversation="us")
    turns = [item["content"] for item in plain.requests[-1].body["input"]]
    assert turns[1] == "I am Ann."
    assert turns[-1] == "Who am I?"


def test_a_budget_of_the_session_holds_from_call_to_call(plain):
    plain.script(*[Reply(body=chat_stream("four"))] * 3)
    options = {"api": "chat", "max_output_tokens": 1000, "budget_session": 0.0045}
    o3.ask("four?", **options)
    with pytest.raises(OverBudget):
        o3.ask("four?", **options)


def test_fifty_questions_at_once_are_planned_beside_the_event_loop(plain):
    async def gathered():
        began_s = time.thread_time()
        answers = await asyncio.gather(*(o3.aask(f"{n}?") for n in range(50)))
        return answers, time.thread_time() - began_s

    o3.ask("warm")
    answers, own_s = asyncio.run(gathered())
    assert len(answers) == 50
    assert own_s < 0.25  # of CPU in the loop's thread; a session for each took 1.6 s


def test_a_process_that_forks_has_sessions_of_its_own(plain):
    code = """
import os
import o3magic as o3
print(o3.ask("one").text == o3.ask("one").text, flush=True)
from o3magic.session.session import DEFAULT_SESSION
mine = DEFAULT_SESSION.get()
child = os.fork()
if not child:
    print(DEFAULT_SESSION.get() is not mine, bool(o3.ask("two").text), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.stdout.split() == ["True", "True", "True"], done.stderr
    assert done.stderr == ""


def test_a_wrong_option_of_a_stream_is_told_at_the_call(plain):
    with pytest.raises(BadOption, match="efort"):
        o3.stream("four?", efort="high")


@pytest.mark.parametrize("prompt", [None, 123, ["a"], b"hi"])
def test_a_prompt_that_is_no_text_is_told(session, prompt):
    with pytest.raises(BadOption, match="a prompt is text, not"):
        session.ask(prompt)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("timeout", "first_token_timeout_s"),
        ("system", "developer="),
        ("temperature", "param="),
        ("max_tokens", "max_output_tokens="),
        ("response_format", "schema="),
    ],
)
def test_words_of_other_clients_get_the_word_to_use_here(session, word, hint):
    with pytest.raises(BadOption, match=word) as caught:
        session.ask("four?", **{word: 1})
    assert hint in caught.value.hint


def test_one_model_by_its_name_alone_is_compared_at_its_efforts(sim, session):
    compared = session.compare("four?", models="o3")
    assert compared.labels == ("low", "medium", "high")
    assert {request.body["model"] for request in sim.requests} == {"o3"}


def test_one_model_at_one_effort_is_asked_just_that(sim, session):
    compared = session.compare("four?", models="o3", efforts=["low"])
    assert [request.body["model"] for request in sim.requests] == ["o3"]
    assert len(compared.answers) == 1
