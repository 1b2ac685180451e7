"""What a job shows at its end: who made its answers up, and the same line at every replay."""

import json

import pytest

from o3magic.events import LABELS
from o3magic.money import show_usd
from o3magic.notebook.progress import progress_bundle
from o3magic.rows.map_job import MapOptions, list_map_jobs, map_rows
from o3magic.rows.progress import JobProgress, ProgressLines
from o3magic.rows.store import JobStore
from o3magic.rows.sweep.sweep import JoinedProgress, VariantDisplay
from o3magic.simulator import Simulator
from tests.rows.conftest import texts
from tests.rows.loopback import COST_NANO_USD
from tests.sessions import KEY, session_at

NOBODY = "http://127.0.0.1:9/v1"


class Seen(list):
    update = list.append


@pytest.fixture
def notebook(tmp_path):
    return tmp_path / "rows.ipynb"


def run(base_url, notebook, rows, store=None, **options):
    """All that was shown."""
    seen, wish = Seen(), MapOptions(concurrency=4)
    with session_at(base_url) as session:
        session.notebook = str(notebook)
        kept = store or JobStore(":memory:")
        map_rows(session, kept, rows, "{{ a }}", wish=wish, show=seen, replay_speed=0, **options)
    return seen


def write_by_hand(notebook, count):
    """Say of the first answers of a cassette that a person wrote them."""
    path = notebook.with_suffix(".o3.json")
    tape = json.loads(path.read_text("utf-8"))
    for entry in tape["entries"][:count]:
        entry["source"] = "hand"
        for gone in ("by", "sha256", "pieces"):
            entry.pop(gone, None)
        entry["response"] = {"text": entry["response"]["text"], "cost_usd": "0"}
    path.write_text(json.dumps(tape), encoding="utf-8")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (0, f"4 of 4 rows · {show_usd(4 * COST_NANO_USD)} when recorded, $0 on replay"),
        (
            1,
            "4 of 4 rows · 1 of 4 rows WRITTEN BY HAND · "
            f"{show_usd(3 * COST_NANO_USD)} when recorded, $0 on replay",
        ),
        (4, "4 of 4 rows · WRITTEN BY HAND, no model was asked · $0"),
    ],
)
def test_a_replay_says_which_rows_a_person_wrote(server, notebook, written, said):
    run(server.base_url, notebook, texts(4), mode="record")
    write_by_hand(notebook, written)
    [*_, last] = run(NOBODY, notebook, texts(4), mode="replay")
    assert last.words() == said
    shown = progress_bundle(last).data
    assert said in shown["text/plain"]
    assert all(words in shown["text/markdown"] for words in said.split("$")[0].split(" · ")[:2])


def test_an_answer_that_was_edited_is_written_by_hand(server, notebook):
    run(server.base_url, notebook, texts(2), mode="record")
    path = notebook.with_suffix(".o3.json")
    tape = json.loads(path.read_text("utf-8"))
    tape["entries"][0]["response"]["text"] = "mine"
    path.write_text(json.dumps(tape), encoding="utf-8")
    [*_, last] = run(NOBODY, notebook, texts(2), mode="replay")
    assert "1 of 2 rows WRITTEN BY HAND" in last.words()


def test_simulated_rows_say_so_when_they_are_made_and_when_they_are_replayed(notebook):
    with Simulator(key=KEY) as simulator:
        [*_, made] = run(simulator.base_url, notebook, texts(5), mode="record")
    [*_, again] = run(NOBODY, notebook, texts(5), mode="replay")
    assert made.words() == "5 of 5 rows · SIMULATED, no model was asked · $0"
    assert progress_bundle(again) == progress_bundle(made)


def test_simulated_rows_of_an_earlier_call_say_so_too(notebook):
    """They come out of the file of jobs, not from a cassette."""
    store = JobStore(":memory:")
    with Simulator(key=KEY) as simulator:
        run(simulator.base_url, notebook, texts(3), store, mode="live")
        [*_, last] = run(simulator.base_url, notebook, texts(3), store, mode="live")
    assert last.words() == "3 of 3 rows · 3 from before · SIMULATED, no model was asked · $0"


def test_a_job_of_simulated_rows_says_so_in_the_file_of_jobs(notebook):
    store = JobStore(":memory:")
    with Simulator(key=KEY) as simulator:
        run(simulator.base_url, notebook, texts(3), store, mode="live")
        with session_at(simulator.base_url) as session:
            [job] = list_map_jobs(session, store)
            assert job.words() == "done · 3 of 3 rows · SIMULATED, no model was asked · $0"
            assert "SIMULATED" in repr(job)


def test_a_job_of_a_model_is_not_labelled_and_says_what_is_unknown(server, notebook):
    store = JobStore(":memory:")
    run(server.base_url, notebook, texts(2), store, mode="live")
    with session_at(server.base_url) as session:
        [job] = list_map_jobs(session, store)
        assert job.words() == f"done · 2 of 2 rows · {show_usd(2 * COST_NANO_USD)}"


def test_the_label_is_there_while_rows_land(notebook):
    with Simulator(key=KEY) as simulator:
        seen = run(simulator.base_url, notebook, texts(800), mode="live")
    middle = [each for each in seen if each.asked and not each.over]
    assert middle
    assert all("SIMULATED" in each.words() for each in middle)


@pytest.mark.parametrize("count", [1, 4])
def test_the_last_line_is_the_same_at_every_replay_as_when_it_was_recorded(server, notebook, count):
    rows = texts(count) * 2  # each of them twice: asked and charged once
    [*_, first] = run(server.base_url, notebook, rows, mode="record")
    again = [run(NOBODY, notebook, rows, mode="replay")[-1] for _ in range(2)]
    assert progress_bundle(first) == progress_bundle(again[0]) == progress_bundle(again[1])
    assert f"{show_usd(count * COST_NANO_USD)} when recorded" in first.words()


def test_what_a_call_before_had_answered_is_recorded_with_its_cost(server, notebook):
    store = JobStore(":memory:")
    run(server.base_url, notebook, texts(3), store, mode="live")
    [*_, first] = run(server.base_url, notebook, texts(3), store, mode="record")
    [*_, again] = run(NOBODY, notebook, texts(3), mode="replay")
    assert first.words() == again.words()
    assert show_usd(3 * COST_NANO_USD) in again.words()


def test_without_a_cassette_the_last_line_says_what_this_run_spent_and_no_rate(mapped):
    seen = Seen()
    mapped(texts(6), show=seen)
    assert seen[-1].asked == 6
    assert seen[-1].words() == f"6 of 6 rows · {show_usd(6 * COST_NANO_USD)}"


def test_a_terminal_reads_it_as_well(capsys):
    ProgressLines().update(
        JobProgress(total=2, rows=2, made_up={"hand": 1, "simulated": 1}, over=True)
    )
    said = capsys.readouterr().err
    assert "1 of 2 rows SIMULATED · 1 of 2 rows WRITTEN BY HAND" in said
    assert all(label.partition(",")[0] in said for label in LABELS.values())


def test_the_jobs_of_a_sweep_say_it_together():
    seen = Seen()
    both = JoinedProgress(seen, 2, ["low", "high"])
    low, high = VariantDisplay(both, "low"), VariantDisplay(both, "high")
    low.update(JobProgress(total=2, rows=2, made_up={"hand": 2}, over=True, taped=True))
    assert not seen[-1].over
    high.update(JobProgress(total=2, rows=1, made_up={"hand": 1}))
    assert "3 of 4 rows · WRITTEN BY HAND, no model was asked" in seen[-1].words()
    high.update(JobProgress(total=2, rows=2, made_up={"hand": 1}, over=True, taped=True))
    assert seen[-1].over
    assert "4 of 4 rows · 3 of 4 rows WRITTEN BY HAND" in seen[-1].words()
