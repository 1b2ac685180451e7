"""Batches on the cassette: recorded when they are collected, and complete at once in a replay."""

import json
import threading

import pandas
import pytest
from pydantic import BaseModel

from o3magic.cassettes.cassette import Cassette
from o3magic.errors import BadOption, CassetteError, CassetteMiss, NoKey
from o3magic.money import show_usd
from o3magic.notebook.jobs import list_jobs as listing
from o3magic.notebook.progress import progress_bundle
from o3magic.rows.batch.parts import PartLimits
from o3magic.rows.batch.registry import find_batch, find_job, list_jobs
from o3magic.rows.map_job import MapOptions, map_rows
from o3magic.simulator import BatchScript, Reply
from tests.rows.conftest import CITIES
from tests.sessions import COST_NANO_USD, entries, response

NOBODY = "http://127.0.0.1:9/v1"
BATCH_NANO_USD = COST_NANO_USD // 2
ASK = "Where is {{ city }}?"
CAPITAL = '{"country": "Norway", "people": 5}'


class City(BaseModel):
    country: str
    people: int


@pytest.fixture
def notebook(tmp_path):
    return tmp_path / "cities.ipynb"


@pytest.fixture
def recording(at, sim, notebook):
    """A place that records what a provider answers, at a provider's price."""
    place = at(sim.base_url, notebook=notebook)
    place.session.configure({"mode": "record"})
    sim.script_batches(BatchScript(answer=lambda body: response(said(body))))
    return place


@pytest.fixture
def replaying(at, notebook):
    """Makes a place without key, server or file of jobs."""

    def make(**more):
        place = at(NOBODY, notebook=notebook, jobs="none.sqlite3", OPENAI_API_KEY="", **more)
        place.session.configure({"mode": "replay"})
        return place

    return make


def said(body):
    return f"{body['input'][-1]['content']} Here."


def takes(notebook):
    return Cassette(notebook.with_suffix(".o3.json")).entries


def mapped(place, rows=CITIES, **more):
    """What `o3.map` gives there."""
    name = more.pop("name", "")
    wish = MapOptions(concurrency=1, name=name)
    return map_rows(place.session, place.room.store, rows, ASK, wish=wish, replay_speed=0, **more)


def same(one, two):
    pandas.testing.assert_frame_equal(one, two)
    return True


def test_a_batch_replays_with_nobody_there_as_it_was_recorded(sim, recording, replaying, tmp_path):
    job = recording.batch(name="cities")
    first = job.wait()
    requests = len(sim.requests)
    place = replaying()
    again = place.batch(name="cities")
    assert same(again.results(), first)
    assert same(again.wait(), first)
    assert repr(again) == repr(job)
    assert repr(job) == (
        "batch job 'cities' is done: 4 of 4 rows answered · "
        f"{show_usd(4 * BATCH_NANO_USD)} when recorded, $0 on replay"
    )
    assert progress_bundle(place.shown.all[-1]) == progress_bundle(recording.shown.all[-1])
    assert place.pauses == []
    assert len(sim.requests) == requests
    assert not (tmp_path / "none.sqlite3").exists()
    assert {(e.kind, e.source, e.cost_nano_usd) for e in entries(place.session)} == {
        ("batch", "replayed", 0)
    }


def test_what_is_on_the_tape_has_the_tier_and_the_price_it_was_answered_at(recording, notebook):
    recording.batch().wait()
    found = takes(notebook)
    assert len(found) == 4
    assert {(each.service_tier, each.cost_nano_usd) for each in found} == {
        ("batch", BATCH_NANO_USD)
    }
    assert {each.request["tier"] for each in found} == {"batch"}


def test_it_replays_where_no_thread_can_be_started(recording, replaying, monkeypatch):
    table = recording.batch().wait()
    place = replaying()

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)  # as in a browser
    assert same(place.batch().wait(), table)


def test_a_replayed_job_behaves_as_one_that_is_over(recording, replaying):
    recording.batch(name="cities").wait()
    place = replaying()
    job = place.batch(name="cities")
    assert job.status().over
    assert (job.status().state, job.status().total, job.status().done) == ("completed", 4, 4)
    assert str(job.cancel()) == str(job.status())
    assert (job.name, job.batch_ids, job.failed_rows()) == ("cities", [], [])
    assert same(job.retry(), job.results())
    assert list_jobs(place.room, {}) == [job]
    assert find_job(place.room, "cities", {}) is job
    assert find_job(place.room, job.id, {}) is job
    assert job.id < 0
    again = place.batch(name="cities")
    assert list_jobs(place.room, {}) == [again]
    assert again.id == job.id
    other = place.batch(name="others")
    assert {each.id for each in list_jobs(place.room, {})} == {job.id, other.id}
    other.delete()
    assert list_jobs(place.room, {}) == [again]


def test_map_and_batch_of_the_same_rows_each_replay_with_their_own_price(sim, recording, replaying):
    sim.script(*[Reply(body=response())] * 4)
    tables = [mapped(recording), recording.batch().wait()]
    place = replaying()
    assert same(mapped(place), tables[0])
    assert same(place.batch().wait(), tables[1])
    costs = [int(sum(table["cost_usd"]) * 10**9) for table in tables]
    assert costs == [4 * COST_NANO_USD, 4 * BATCH_NANO_USD]


def test_what_a_batch_answered_answers_a_map_where_nobody_can_be_asked(recording, replaying):
    table = recording.batch().wait()
    found = mapped(replaying())
    assert same(found, table)
    assert int(found["cost_usd"][0] * 10**9) == BATCH_NANO_USD


def test_what_a_map_answered_answers_a_batch_where_nobody_can_be_asked(
    at, sim, notebook, replaying
):
    place = at(sim.base_url, notebook=notebook)
    table = mapped(place, mode="record")
    assert same(replaying().batch().wait(), table)


def test_where_somebody_can_be_asked_a_batch_is_not_taken_for_a_map(sim, recording, at, notebook):
    recording.batch().wait()
    place = at(sim.base_url, notebook=notebook, jobs="others.sqlite3")
    mapped(place, mode="auto")
    assert [each.source for each in entries(place.session)] == ["simulated"] * 4
    assert len(takes(notebook)) == 8


def test_a_row_that_is_not_recorded_says_so_and_the_others_are_there(recording, replaying):
    recording.batch().wait()
    place = replaying()
    table = place.batch([*CITIES, {"city": "Bonn"}]).wait()
    assert table["error"].isna().tolist() == [True] * 5 + [False]
    assert table["error"][5].startswith("CassetteMiss: not recorded in cities.o3.json: nearest")
    assert "+ Where is Bonn?" in table["error"][5]
    assert place.shown.all[-1].said == "1 row is not on the cassette"
    with pytest.raises(CassetteMiss, match="nearest recorded question"):
        place.batch([{"city": "Bonn"}])
    with pytest.raises(CassetteMiss):
        place.batch([*CITIES, {"city": "Bonn"}], on_error="raise")


BAD = [
    lambda body: response('{"country": "Italy", "people": "many"}'),
    lambda body: (
        response()
        | {
            "output": [
                {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}
            ]
        }
    ),
    lambda body: (
        response('{"country": "It')
        | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    ),
    lambda body: response(CAPITAL),
]


def test_rows_that_are_no_answer_replay_the_same_error(sim, at, notebook, replaying):
    bodies = iter(BAD)
    sim.script_batches(BatchScript(answer=lambda body: next(bodies)(body)))
    place = at(sim.base_url, notebook=notebook)
    place.session.configure({"mode": "record"})
    job = place.batch(schema=City)
    table = job.wait()
    assert table["error"].isna().tolist() == [False, False, False, False, True]
    assert "does not fit City: people" in table["error"][0]
    assert table["error"][1] == "InvalidAnswer: refused: I cannot."
    assert "cut off" in table["error"][2]
    there = replaying()
    again = there.batch(schema=City)
    assert same(again.wait(), table)
    assert repr(again) == repr(job)
    assert progress_bundle(there.shown.all[-1]) == progress_bundle(place.shown.all[-1])
    assert again.failed_rows() == CITIES[:4]


def test_a_row_without_an_answer_is_not_recorded_and_is_asked_again(sim, at, notebook, replaying):
    sim.script_batches(BatchScript(failing={1: Reply(status=500)}, answer=lambda _: response()))
    place = at(sim.base_url, notebook=notebook)
    place.session.configure({"mode": "record"})
    job = place.batch()
    job.wait()
    assert place.shown.all[-1].said == "1 row is not on the cassette"
    there = replaying()
    table = there.batch().wait()
    assert table["error"].isna().tolist() == [True, False, True, True, True]
    assert table["error"][1].startswith("CassetteMiss")
    assert there.shown.all[-1].said == "1 row is not on the cassette"
    place.session.configure({"mode": "auto"})
    more = place.batch()
    assert more.wait()["error"].isna().all()
    assert [len(lines) for lines in lines_of(sim)] == [4, 1]
    assert replaying().batch().wait()["error"].isna().all()


def lines_of(sim):
    """The lines of each file that was uploaded."""
    files = [each["id"] for each in reversed(sim.files) if each["purpose"] == "batch"]
    return [sim.content(each).splitlines() for each in files]


def test_auto_sends_only_what_is_not_on_the_tape_and_nothing_where_all_is(
    sim, recording, at, notebook, tmp_path
):
    recording.batch(CITIES[:2]).wait()
    sim.script_batches(BatchScript(answer=lambda body: response(said(body))))
    place = at(sim.base_url, notebook=notebook, jobs="others.sqlite3")
    job = place.batch()
    table = job.wait()
    assert [len(lines) for lines in lines_of(sim)] == [2, 2]
    assert table["text"].tolist() == [f"Where is {each['city']}? Here." for each in CITIES]
    assert repr(job).startswith("batch job is done: 4 of 4 rows answered · ")
    assert job.failed_rows() == []
    requests = len(sim.requests)
    nothing = at(sim.base_url, notebook=notebook, jobs="none.sqlite3")
    assert same(nothing.batch().wait(), table)
    assert len(sim.requests) == requests
    assert not (tmp_path / "none.sqlite3").exists()


def test_auto_without_a_key_replays_what_is_there_and_says_what_is_missing(recording, at, notebook):
    table = recording.batch().wait()
    place = at(NOBODY, notebook=notebook, OPENAI_API_KEY="")
    assert same(place.batch(mode="auto").wait(), table)
    with pytest.raises(NoKey):
        place.batch([*CITIES, {"city": "Bonn"}], mode="auto")


def test_a_batch_that_another_kernel_collects_is_recorded_by_it(recording, at, sim, notebook):
    recording.batch()
    place = at(sim.base_url, notebook=notebook)
    by_number = find_batch(place.room, 1, {})
    place.session.configure({"mode": "record"})
    by_number.wait()
    assert "not recorded: a job that is opened again" in place.shown.all[-1].said
    assert takes(notebook) == ()
    place.batch().wait()
    assert len(takes(notebook)) == 4
    assert len(sim.batches) == 1


def test_results_before_the_end_are_recorded_and_those_after_it_too(sim, at, notebook, replaying):
    sim.script_batches(BatchScript(), BatchScript(states=("validating", *["in_progress"] * 9)))
    place = at(sim.base_url, notebook=notebook)
    place.session.configure({"mode": "record"})
    job = place.batch(limits=PartLimits(rows=2))
    for _ in range(3):
        job.status()
    table = job.results()
    assert table["error"].isna().tolist() == [True, True, False, True, False]
    assert len(takes(notebook)) == 2
    job.cancel()


def test_what_a_retry_answered_is_there_in_a_replay_too(sim, at, notebook, replaying):
    bodies = iter([response("not json"), *[response(CAPITAL)] * 3])
    sim.script_batches(BatchScript(answer=lambda _: next(bodies)))
    place = at(sim.base_url, notebook=notebook)
    place.session.configure({"mode": "record"})
    job = place.batch(schema=City)
    before, after = job.wait(), job.retry()
    assert before["error"].notna().sum() == 2
    assert after["error"].isna().all()
    again = replaying().batch(schema=City)
    assert same(again.wait(), before)
    assert same(again.retry(), after)


@pytest.mark.parametrize(("hands", "label"), [(0, "SIMULATED"), (1, "1 of 4 rows"), (4, "BY HAND")])
def test_what_no_model_answered_is_labelled(sim, at, notebook, replaying, hands, label):
    place = at(sim.base_url, notebook=notebook)
    place.session.configure({"mode": "record"})
    job = place.batch()
    job.wait()
    assert "SIMULATED, no model was asked" in repr(job)
    assert "SIMULATED, no model was asked" in place.shown.said[-1]
    path = notebook.with_suffix(".o3.json")
    tape = json.loads(path.read_text("utf-8"))
    for entry in tape["entries"][:hands]:
        entry["source"] = "hand"
        for gone in ("by", "sha256"):
            entry.pop(gone, None)
    path.write_text(json.dumps(tape), encoding="utf-8")
    there = replaying()
    again = there.batch()
    again.wait()
    assert label in repr(again)
    assert label in there.shown.said[-1]
    assert label in str(again.status())
    assert label in listing(there.room).data["text/plain"]
    if not hands:
        assert repr(again) == repr(job)


def test_a_refresh_is_written_beside_the_cassette_and_replays_once_accepted(
    sim, recording, replaying, notebook
):
    recording.batch().wait()
    sim.script_batches(BatchScript(answer=lambda _: response("anew")))
    recording.session.configure({"mode": "refresh"})
    table = recording.batch(name="another").wait()
    path = notebook.with_suffix(".o3.json")
    assert {take.text for take in Cassette(f"{path}.new").entries} == {"anew"}
    path.with_name(f"{path.name}.new").replace(path)
    assert same(replaying().batch(name="another").wait(), table)


def test_an_answer_written_by_hand_answers_a_batch_too(replaying, notebook):
    said = {"request": {"prompt": "Where is Oslo?"}, "response": {"text": "In Norway."}}
    tape = {"format": "o3magic-cassette/1", "entries": [said]}
    notebook.with_suffix(".o3.json").write_text(json.dumps(tape), encoding="utf-8")
    job = replaying().batch(CITIES[:1])
    assert job.results()["text"].tolist() == ["In Norway."]
    assert "WRITTEN BY HAND, no model was asked" in repr(job)


def test_a_broken_cassette_and_a_secret_are_told_before_anything_is_sent(
    sim, recording, at, notebook
):
    with pytest.raises(CassetteError):
        recording.batch([{"city": "sk-abcdefghijklmnop1234567890abcdef"}])
    notebook.with_suffix(".o3.json").write_text("{", encoding="utf-8")
    with pytest.raises(CassetteError):
        recording.batch()
    assert sim.requests == []


def test_rows_that_cannot_be_asked_are_the_same_in_a_replay(recording, replaying):
    rows = [*CITIES, {"city": object()}, {"city": "Oslo"}]
    job = recording.batch(rows)
    table = job.wait()
    again = replaying().batch(rows)
    assert same(again.wait(), table)
    assert repr(again) == repr(job)
    assert "4 of 5 rows answered, 1 failed" in repr(again)


def test_a_replay_needs_no_provider_with_batches(recording, replaying):
    table = recording.batch().wait()
    place = replaying()
    assert same(place.batch(provider="openrouter").wait(), table)
    with pytest.raises(BadOption, match="no job") as caught:
        find_job(place.room, 7, {})
    assert "the notebook's own o3.batch" in caught.value.hint


def test_many_rows_that_are_not_recorded_do_not_all_look_for_the_nearest(recording, replaying):
    recording.batch().wait()
    rows = [*CITIES, *({"city": f"Town {n}"} for n in range(30))]
    table = replaying().batch(rows).wait()
    assert table["error"].notna().sum() == 30
    assert table["error"][34] == "CassetteMiss: not recorded in cities.o3.json"
