"""Rows and the cassette: recorded where the mode says so, replayed without anybody to ask."""

import json

import pandas
import pytest
from pydantic import BaseModel

from o3magic.errors import CassetteError, CassetteMiss
from o3magic.rows.map_job import MapOptions, build_request_template, map_rows
from o3magic.rows.store import JobStore
from o3magic.schemas.lookup import answer_type
from o3magic.simulator import Reply, Simulator
from tests.rows.conftest import texts
from tests.rows.loopback import COST_NANO_USD
from tests.sessions import KEY, response, session_at


class Label(BaseModel):
    label: str
    score: int


@pytest.fixture
def notebook(tmp_path):
    return tmp_path / "rows.ipynb"


class Seen(list):
    update = list.append


def run(base_url, notebook, rows, store=None, *, show=None, concurrency=4, **options):
    with session_at(base_url) as session:
        session.notebook = str(notebook)
        kept = store or JobStore(":memory:")
        wish = MapOptions(concurrency=concurrency)
        said = {"schema": Label, "wish": wish, "show": show, "replay_speed": 0, **options}
        out = map_rows(session, kept, rows, "{{ a }}", **said)
        return out, [(e.source, e.cost_nano_usd) for e in session.ledger.entries()]


def test_what_was_recorded_is_replayed_with_nobody_there(server, notebook):
    first, entered = run(server.base_url, notebook, texts(12), mode="record")
    assert entered == [("live", COST_NANO_USD)] * 12
    asked = server.stats["requests"]
    again, entered = run("http://127.0.0.1:9/v1", notebook, texts(12), mode="replay")
    assert entered == [("replayed", 0)] * 12
    assert list(again.label) == list(first.label)
    assert list(again.cost_usd) == list(first.cost_usd)
    assert list(again.output_tokens) == list(first.output_tokens)
    assert server.stats["requests"] == asked


TRICKY = [
    "x",
    "two\nlines\n",
    "\r\n one\r\ntwo  \n\n",
    '"é\\ \U0001f600',
    "\ud800",
    "{{ }}",
    "\u2028\x00 ",
]


@pytest.mark.parametrize("prompt", TRICKY)
def test_the_key_of_a_row_is_that_of_its_question(session, prompt):
    """It is put together faster, and yet a row answers a cell that asks the same."""
    profile = session.layers.profile({"developer": "be brief", "effort": "low"})
    form = build_request_template(session, profile, answer_type(Label))
    question = session.plan(prompt, profile, None, answer_type(Label)).question
    assert form.key(prompt) == form.question(prompt).key == question.key
    assert form.call(prompt).request.messages[-1].text == prompt


def test_a_row_that_was_not_recorded_is_an_error_of_that_row(server, notebook):
    run(server.base_url, notebook, texts(3), mode="record")
    out, _ = run("http://127.0.0.1:9/v1", notebook, texts(4), mode="replay")
    assert list(out.error.isna()) == [True, True, True, False]
    assert out.error[3].startswith("CassetteMiss: not recorded")
    with session_at("http://127.0.0.1:9/v1") as session:
        session.notebook = str(notebook)
        wish, kept = MapOptions(on_error="raise"), JobStore(":memory:")
        with pytest.raises(CassetteMiss):
            map_rows(session, kept, texts(4), "{{ a }}", schema=Label, wish=wish, mode="replay")


REFUSED = {"type": "refusal", "refusal": "I cannot."}
CUT = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
WRONG = '{"label": "x", "score": "many"}'
BAD = {
    "a misfit": [response(WRONG), response('{"label": "y"}')],
    "a refusal": [response() | {"output": [{"type": "message", "content": [REFUSED]}]}],
    "a cut": [response('{"label": "x') | CUT],
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_an_answer_that_was_paid_for_and_is_none_replays_the_same_error(notebook, bad):
    """The first is asked again, and fits no better."""
    good = response('{"label": "x", "score": 1}')
    with Simulator(key=KEY) as sim:
        sim.script(*[Reply(body=each) for each in (*bad, good)])
        first, _ = run(sim.base_url, notebook, texts(2), mode="record", concurrency=1)
        asked = len(sim.requests)
        again, entered = run(sim.base_url, notebook, texts(2), mode="auto")
        assert len(sim.requests) == asked
    assert first.error.isna().tolist() == [False, True]
    assert first.error[0].startswith("InvalidAnswer: ")
    assert entered == [("replayed", 0)] * 2
    there, _ = run("http://127.0.0.1:9/v1", notebook, texts(2), mode="replay")
    for table in (again, there):
        pandas.testing.assert_frame_equal(table, first)


def test_what_was_recorded_under_another_schema_is_a_miss_and_asked_again(notebook):
    with Simulator(key=KEY) as sim:
        run(sim.base_url, notebook, texts(1), mode="record")
        path = notebook.with_suffix(".o3.json")
        tape = json.loads(path.read_text("utf-8"))
        tape["entries"][0]["response"]["text"] = WRONG
        tape["entries"][0]["schema_sha"] = "0123456789abcdef"
        path.write_text(json.dumps(tape), encoding="utf-8")
        out, _ = run("http://127.0.0.1:9/v1", notebook, texts(1), mode="replay")
        assert out.error[0].startswith("CassetteMiss: the schema has changed since")
        out, _ = run(sim.base_url, notebook, texts(1), mode="auto")
        assert out.error.isna().all()
    out, _ = run("http://127.0.0.1:9/v1", notebook, texts(1), mode="replay")
    assert out.error.isna().all()


def test_rows_without_an_answer_are_not_recorded_and_both_runs_say_so(notebook):
    """A failed row is not recorded: it replays as a miss, or is sent again as the mode says."""
    down = Reply(status=400, error={"message": "No.", "code": "invalid_value"})
    with Simulator(key=KEY) as sim:
        sim.script(down)
        seen = Seen()
        run(sim.base_url, notebook, texts(3), mode="record", show=seen, concurrency=1)
        there = Seen()
        out, _ = run("http://127.0.0.1:9/v1", notebook, texts(3), mode="replay", show=there)
        assert out.error[0].startswith("CassetteMiss: not recorded")
        assert seen[-1].said == there[-1].said == "1 row is not on the cassette"
        out, _ = run(sim.base_url, notebook, texts(3), mode="auto")
    assert out.error.isna().all()


def test_auto_asks_only_for_what_is_missing_and_records_it(server, notebook):
    run(server.base_url, notebook, texts(5), mode="record")
    _, entered = run(server.base_url, notebook, texts(8), mode="auto")
    assert sorted(entered) == [("live", COST_NANO_USD)] * 3 + [("replayed", 0)] * 5
    out, _ = run("http://127.0.0.1:9/v1", notebook, texts(8), mode="replay")
    assert out.error.isna().all()


def test_a_replay_leaves_the_jobs_of_this_machine_alone(server, notebook):
    run(server.base_url, notebook, texts(2), mode="record")
    store = JobStore(":memory:")
    run("http://127.0.0.1:9/v1", notebook, texts(2), store=store, mode="replay")
    assert store.jobs() == []


def test_what_a_dead_kernel_had_answered_gets_on_the_tape_by_the_next(server, notebook):
    store = JobStore(":memory:")
    run(server.base_url, notebook, texts(3), store=store, mode="live")
    run(server.base_url, notebook, texts(3), store=store, mode="record")
    assert server.stats["requests"] == 3
    out, _ = run("http://127.0.0.1:9/v1", notebook, texts(3), mode="replay")
    assert out.error.isna().all()


def test_a_broken_cassette_is_told_before_anything_is_sent(server, notebook):
    run(server.base_url, notebook, texts(1), mode="record")
    [tape] = [p for p in notebook.parent.iterdir() if p.suffix == ".json"]
    tape.write_text("{", encoding="utf-8")
    with pytest.raises(CassetteError):
        run(server.base_url, notebook, texts(2), mode="record")
    assert server.stats["requests"] == 1
