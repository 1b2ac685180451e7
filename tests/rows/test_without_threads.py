"""Rows where no thread can be started, as in a browser: those on a cassette replay all the same."""

import threading

import pytest
from pydantic import BaseModel

from o3magic.errors import Interrupted
from o3magic.rows.map_job import MapOptions, map_rows
from o3magic.rows.progress import NoProgress
from o3magic.rows.store import JobStore
from o3magic.rows.sweep.sweep import run_sweep
from tests.rows.conftest import texts
from tests.sessions import session_at

NOBODY = "http://127.0.0.1:9/v1"


class Label(BaseModel):
    label: str
    score: int


class Seen(list):
    update = list.append


@pytest.fixture
def no_threads(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    def begin():
        monkeypatch.setattr(threading.Thread, "start", refuse)

    return begin


def run(base_url, tmp_path, rows, mode, show=None):
    said = {"mode": mode, "notebook": str(tmp_path / "rows.ipynb"), "replay_speed": 0}
    with session_at(base_url) as session:
        session.notebook = said["notebook"]
        wish = MapOptions(concurrency=4)
        kept = JobStore(":memory:")
        return map_rows(
            session, kept, rows, "{{ a }}", schema=Label, wish=wish, show=show, **said
        ).to_dict("list")


def test_recorded_rows_replay_to_the_same_table_and_the_same_line(server, tmp_path, no_threads):
    recorded = run(server.base_url, tmp_path, texts(12), "record")
    with_threads = Seen()
    run(NOBODY, tmp_path, texts(12), "replay", with_threads)
    no_threads()
    without = Seen()
    assert run(NOBODY, tmp_path, texts(12), "replay", without) == recorded
    assert without[-1].words() == with_threads[-1].words()
    assert "12 of 12 rows" in without[-1].words()


def test_a_row_that_is_not_recorded_says_so(server, tmp_path, no_threads):
    run(server.base_url, tmp_path, texts(3), "record")
    no_threads()
    errors = run(NOBODY, tmp_path, texts(4), "replay")["error"]
    assert errors[3].startswith("CassetteMiss: not recorded")


def test_an_interrupt_stops_it(server, tmp_path, no_threads):
    run(server.base_url, tmp_path, texts(3), "record")
    no_threads()

    def rows():
        yield from texts(2)
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as raised:
        run(NOBODY, tmp_path, rows(), "replay")
    assert len(raised.value.answer) == 2


def test_rows_that_must_be_asked_need_a_thread(server, tmp_path, no_threads):
    no_threads()
    with pytest.raises(RuntimeError, match="new thread"):
        run(server.base_url, tmp_path, texts(1), "live")
    assert not server.stats["requests"]


def test_a_recorded_sweep_replays_to_the_same_figures(server, tmp_path, no_threads):
    def swept(base_url, mode):
        said = {"mode": mode, "notebook": str(tmp_path / "sweep.ipynb"), "replay_speed": 0}
        said |= {"scorer": lambda answer, row: len(answer.label) % 2, "efforts": ["low", "high"]}
        with session_at(base_url) as session:
            return run_sweep(session, texts(4), "{{ a }}", schema=Label, show=NoProgress(), **said)

    recorded = swept(server.base_url, "record")
    no_threads()
    again = swept(NOBODY, "replay")
    assert again.markdown() == recorded.markdown()
    assert again.choices[0].n == 4
