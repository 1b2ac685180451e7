"""Questions on a cassette: recorded once, replayed without a key and without anybody there."""

import json
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel

from o3magic.config import Config
from o3magic.errors import BadOption, BrokenAnswer, CassetteError, CassetteMiss, NoKey
from o3magic.render.answer import bundles
from o3magic.session.session import Session
from o3magic.simulator import Reply
from tests.sessions import COST_NANO_USD, KEY, entries, response, response_stream, session_at


@pytest.fixture
def notebook(tmp_path):
    return tmp_path / "lesson.ipynb"


@pytest.fixture
def cassette(notebook):
    return notebook.with_name("lesson.o3.json")


def online(sim, notebook, mode="record", **environment):
    """A session with a key that records."""
    environment = {"O3MAGIC_MODE": mode} | environment if mode else environment
    session = session_at(sim.base_url, **environment)
    session.thing.notebook = str(notebook)
    return session


def offline(notebook, **environment):
    """A session on a machine with no key and nobody to ask."""
    session = Session(Config(), {"O3MAGIC_LEDGER": ":memory:", **environment})
    session.notebook = str(notebook)
    return closing(session)


def record(sim, notebook, *words, **options):
    sim.script(Reply(body=response_stream(*words)))
    with online(sim, notebook) as session:
        return session.ask("four?", **options)


def test_what_is_recorded_replays_without_a_key(sim, notebook, cassette):
    first = record(sim, notebook, "It ", "is ", "four.")
    assert json.loads(cassette.read_text())["format"] == "o3magic-cassette/1"
    with offline(notebook) as session:
        again = session.ask("four?", replay_speed=0)
        assert again.text == first.text == "It is four."
        assert (again.source, again.replayed, again.made_by) == ("replayed", True, "live")
        assert again.cost_usd == first.cost_usd == Decimal(COST_NANO_USD).scaleb(-9)
        assert again.spent_usd == 0
        assert again.elapsed_s == first.elapsed_s
        [row] = entries(session)
        assert (row.source, row.cost_nano_usd) == ("replayed", 0)
    assert len(sim.requests) == 1


@pytest.mark.parametrize("options", [{}, {"raw": True}, {"summary": "auto"}, {"api": "chat"}])
def test_recording_and_replay_show_the_same_bytes(sim, notebook, options):
    raw = options.pop("raw", False)
    if options.get("api") != "chat":
        first = record(sim, notebook, "# Four\n\n", "| a |\n|---|\n| 4 |", **options)
    else:
        with online(sim, notebook) as session:
            first = session.ask("four?", **options)
    with offline(notebook) as session:
        again = session.ask("four?", replay_speed=0, **options)
    assert bundles(again, raw=raw) == bundles(first, raw=raw)
    assert repr(again) == repr(first)
    assert "$0 " in bundles(again)[0].data["text/markdown"].replace("<span>&#36;</span>", "$")


def test_a_structured_answer_and_its_repair_replay(sim, notebook):
    sim.script(Reply(body=response("no")), Reply(body=response('{"value": 4}')))
    with online(sim, notebook) as session:
        first = session.ask("four?", schema=int)
    with offline(notebook) as session:
        again = session.ask("four?", schema=int, replay_speed=0)
        assert again.parsed == first.parsed == 4
        assert bundles(again) == bundles(first)
        assert [row.kind for row in entries(session)] == ["ask", "ask"]
    assert again.cost_usd == first.cost_usd


def test_the_simulator_says_so_on_a_cassette_too(notebook):
    with offline(notebook, O3MAGIC_MODE="record") as session:
        first = session.ask("four?", provider="simulator")
    with offline(notebook) as session:
        again = session.ask("four?", replay_speed=0)
    assert again.made_by == "simulated"
    assert bundles(again) == bundles(first)
    assert "SIMULATED" in bundles(again)[0].data["text/markdown"]
    assert "SIMULATED" in repr(again)


def test_a_provider_without_responses_is_recorded_as_it_was_asked(sim, notebook):
    from tests.sessions import chat_stream

    sim.script(Reply(status=404), Reply(body=chat_stream("four")))
    with online(sim, notebook) as session:
        first = session.ask("four?")
    assert "by the Chat API" in first.notes[0]
    with offline(notebook) as session:
        again = session.ask("four?", replay_speed=0)
    assert again.notes == first.notes
    assert bundles(again) == bundles(first)


def test_a_miss_says_what_differs_and_asks_nobody(sim, notebook):
    record(sim, notebook, "four", effort="high")
    with online(sim, notebook, mode="replay") as session:
        with pytest.raises(CassetteMiss) as missed:
            session.ask("four?", effort="low")
        assert "effort" in str(missed.value)
        assert "high" in str(missed.value)
        with pytest.raises(CassetteMiss, match="five"):
            session.ask("five?")
    assert len(sim.requests) == 1


def test_the_same_question_twice_in_a_cell_has_two_answers_and_a_new_cell_begins_anew(
    sim, notebook
):
    sim.script(Reply(body=response_stream("one")), Reply(body=response_stream("two")))
    with online(sim, notebook) as session:
        session.begin_cell("c1")
        assert [session.ask("dice?").text for _ in range(2)] == ["one", "two"]
    with offline(notebook, O3MAGIC_REPLAY_SPEED="0") as session:
        for _ in range(3):
            session.begin_cell("c1")
            assert [session.ask("dice?").text for _ in range(2)] == ["one", "two"]
            with pytest.raises(CassetteMiss, match="asks it 3 times"):
                session.ask("dice?")


def test_samples_are_different_questions(sim, notebook):
    record(sim, notebook, "heads", sample=1)
    record(sim, notebook, "tails", sample=2)
    with offline(notebook) as session:
        found = [session.ask("four?", sample=n, replay_speed=0).text for n in (2, 1)]
    assert found == ["tails", "heads"]


def test_auto_replays_what_is_there_and_records_what_is_not(sim, notebook, cassette):
    record(sim, notebook, "four")
    sim.script(Reply(body=response_stream("five")))
    with online(sim, notebook, mode=None) as session:  # a key and a cassette: auto
        assert session.ask("four?", replay_speed=0).replayed
        new = session.ask("five?")
        assert not new.replayed
        assert new.recorded is not None
    assert len(json.loads(cassette.read_text())["entries"]) == 2


def test_auto_without_a_key_replays_and_says_there_is_no_key_for_the_rest(sim, notebook):
    record(sim, notebook, "four")
    with offline(notebook, O3MAGIC_MODE="auto") as session:
        assert session.ask("four?", replay_speed=0).replayed
        with pytest.raises(NoKey):
            session.ask("five?")


def test_record_replaces_and_refresh_writes_beside(sim, notebook, cassette):
    record(sim, notebook, "four")
    record(sim, notebook, "FOUR")
    sim.script(Reply(body=response_stream("IV")))
    with online(sim, notebook, mode="refresh") as session:
        session.ask("four?")
    texts = [
        json.loads(path.read_text())["entries"][0]["response"]["text"]
        for path in (cassette, cassette.with_name("lesson.o3.json.new"))
    ]
    assert texts == ["FOUR", "IV"]


def test_live_touches_no_cassette(sim, notebook, cassette):
    record(sim, notebook, "four")
    before = cassette.read_bytes()
    sim.script(Reply(body=response_stream("five")))
    with online(sim, notebook, mode="live") as session:
        assert session.ask("four?").text == "five"
    assert cassette.read_bytes() == before


def test_ci_replays_what_is_recorded_even_with_a_key(sim, notebook):
    record(sim, notebook, "four")
    with online(sim, notebook, mode=None, CI="true") as session:
        assert session.ask("four?", replay_speed=0).replayed


def test_an_answer_that_broke_off_is_not_recorded(sim, notebook, cassette):
    sim.script(Reply(body=response_stream("half"), cut_after_bytes=260))
    with online(sim, notebook) as session, pytest.raises(BrokenAnswer):
        session.ask("four?")
    assert not cassette.exists()


def test_a_stopped_answer_is_not_recorded(sim, notebook, cassette):
    sim.script(Reply(body=response_stream("half", " and half")))
    with online(sim, notebook) as session:
        events = iter(session.stream("four?"))
        for _ in range(3):
            next(events)
        events.close()
    assert not cassette.exists()


def test_retries_leave_one_take(sim, notebook, cassette):
    at_once = {"retry-after-ms": "1"}
    sim.script(Reply(status=503, headers=at_once), Reply(body=response_stream("four")))
    with online(sim, notebook) as session:
        session.ask("four?")
    assert len(json.loads(cassette.read_text())["entries"]) == 1


def test_a_secret_in_the_prompt_stops_before_anything_is_sent(sim, notebook, cassette):
    with online(sim, notebook) as session:
        with pytest.raises(CassetteError) as refused:
            session.ask(f"what is {KEY}?")
        assert KEY not in str(refused.value)
        assert sim.requests == []
        sim.script(Reply(body=response_stream(f"it is {KEY}")))
        session.ask(f"what is {KEY}?", scrub=True)
    assert KEY not in cassette.read_text()
    with offline(notebook) as session:
        assert "[secret removed]" in session.ask(f"what is {KEY}?", replay_speed=0).text


def test_a_cassette_that_cannot_be_written_any_more_loses_no_answer(sim, tmp_path):
    folder = tmp_path / "lessons"
    folder.mkdir()
    sim.script(Reply(body=response_stream("four")))
    with online(sim, folder / "lesson.ipynb") as session:
        asking = session.begin(session.plan("four?", session.layers.profile()))
        for event in asking:
            if type(event).__name__ == "Accepted":
                folder.rmdir()
                folder.write_text("no folder any more")
    assert asking.answer.text == "four"
    assert any("not recorded" in note for note in asking.answer.notes)


def test_a_place_where_no_cassette_can_be_is_said_before_anything_is_sent(sim, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with online(sim, blocked / "lesson.ipynb") as session, pytest.raises(CassetteError):
        session.ask("four?")
    assert sim.requests == []


def test_a_broken_cassette_is_said_and_left_alone(sim, notebook, cassette):
    cassette.write_text('{"format": "o3magic-cassette/1", "entries": [')
    with online(sim, notebook) as session, pytest.raises(CassetteError):
        session.ask("four?", mode="auto")
    assert cassette.read_text().endswith("[")
    assert sim.requests == []


def test_a_changed_schema_replays_where_the_answer_still_fits(sim, notebook):
    class Sum(BaseModel):
        """A sum."""

        value: str

    asked = response('{"value": "four"}')
    sim.script(Reply(body=asked))
    with online(sim, notebook) as session:
        session.ask("four?", schema=Sum)

    from typing import Annotated

    from pydantic import Field

    class Wider(BaseModel):
        """A sum."""

        value: Annotated[str, Field(pattern="^fo")]

    class Narrower(BaseModel):
        """A sum."""

        value: Annotated[str, Field(pattern="^fi")]

    Wider.__name__ = Narrower.__name__ = "Sum"
    with offline(notebook) as session:
        for kind, fits in ((Wider, True), (Narrower, False)):
            session.begin_cell("again")
            if fits:
                assert session.ask("four?", schema=kind, replay_speed=0).parsed.value == "four"
            else:
                with pytest.raises(CassetteMiss):
                    session.ask("four?", schema=kind, replay_speed=0)


def test_recording_without_a_known_notebook_says_how_to_name_it(sim):
    with online(sim, "", mode="record") as session, pytest.raises(BadOption, match="notebook"):
        session.ask("four?")


def test_a_notebook_named_by_hand_counts(sim, tmp_path):
    sim.script(Reply(body=response_stream("four")))
    with online(sim, "") as session:
        session.ask("four?", notebook=str(tmp_path / "n.ipynb"))
    assert Path(tmp_path / "n.o3.json").exists()


def test_a_comparison_replays_in_its_order(sim, notebook):
    with offline(notebook, O3MAGIC_MODE="record") as session:
        first = session.compare("four?", efforts=("low", "high"), provider="simulator")
    with offline(notebook) as session:
        again = session.compare("four?", efforts=("low", "high"), replay_speed=0)
    assert [a.text for a in again.answers] == [a.text for a in first.answers]
    from o3magic.render.comparison import final

    assert final(again.labels, again.answers, again.errors) == final(
        first.labels, first.answers, first.errors
    )


def test_a_stop_ends_a_paced_replay(sim, notebook):
    record(sim, notebook, *[f"word{n} " for n in range(400)])
    with offline(notebook) as session:
        planned = session.plan("four?", session.layers.profile())
        asking = session.begin(planned)
        events = iter(asking)
        for _ in range(3):
            next(events)
        asking.stop()
        from o3magic.errors import Interrupted

        with pytest.raises(Interrupted):
            list(events)
        assert asking.answer.finish_reason == "interrupted"


def test_a_plain_response_is_recorded_too(sim, notebook):
    sim.script(Reply(body=response("four")))
    with online(sim, notebook) as session:
        first = session.ask("four?", stream=False)
    with offline(notebook) as session:
        assert bundles(session.ask("four?", replay_speed=0)) == bundles(first)
