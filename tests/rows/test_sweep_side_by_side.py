"""The efforts of a sweep at once: within one width, ended by one interrupt, told as one."""

import _thread
import threading
from collections import Counter

import pytest

from o3magic.errors import Interrupted, WrongKey
from o3magic.rows.progress import NoProgress
from o3magic.rows.sweep.sweep import group_labels, run_sweep
from tests.rows.sweep_provider import serving
from tests.rows.test_sweep import tasks
from tests.sessions import session_at

WAIT_S = 20


class Watched:
    """Counts the calls that are on their way, by effort."""

    def __init__(self):
        self.lock, self.now, self.most, self.begun = threading.Lock(), Counter(), 0, []

    def __call__(self, effort):
        with self.lock:
            self.begun.append(effort)
            self.now[effort] += 1
            self.most = max(self.most, self.now.total())
        threading.Event().wait(0.02)
        with self.lock:
            self.now[effort] -= 1


@pytest.fixture
def provider():
    with serving() as server:
        yield server


@pytest.fixture
def sweep(provider):
    with session_at(provider.base_url) as session:

        def run(rows, show=None, **options):
            said = {
                "expected": "n",
                "scorer": "number",
                "show": NoProgress() if show is None else show,
            } | options
            return run_sweep(session, rows, "{{ q }}", **said)

        yield run


def test_efforts_whose_rows_fit_into_the_width_are_asked_at_once(sweep, provider):
    together, first = threading.Barrier(3), {}

    def at(effort):
        if first.setdefault(effort, threading.get_ident()) == threading.get_ident():
            together.wait(WAIT_S)  # the first of each effort waits for those of the others

    provider.at = at
    found = sweep(tasks(2))
    assert [choice.accuracy for choice in found.choices] == [1.0, 1.0, 1.0]
    assert not together.broken


def test_all_of_them_together_keep_to_the_width(sweep, provider):
    provider.at = watched = Watched()
    found = sweep(tasks(6), concurrency=13)
    assert [choice.n for choice in found.choices] == [6, 6, 6]
    assert watched.most <= 13
    assert set(watched.begun[:12]) == {"low", "medium"}
    assert watched.begun[12:] == ["high"] * 6


@pytest.mark.parametrize("limit", [{"budget": 5}, {"requests_per_min": 60_000}])
def test_under_a_limit_for_all_they_go_in_turn(sweep, provider, limit):
    provider.at = watched = Watched()
    sweep(tasks(6), max_output_tokens=1000, **limit)
    assert watched.begun == ["low"] * 6 + ["medium"] * 6 + ["high"] * 6


@pytest.mark.parametrize(
    ("rows", "width", "sizes"), [(10, 64, [3]), (10, 20, [2, 1]), (10, 5, [1] * 3), (0, 64, [3])]
)
def test_as_many_go_together_as_fit(rows, width, sizes):
    assert [len(each) for each in group_labels(["low", "medium", "high"], rows, width)] == sizes
    assert group_labels(["low", "high"], rows, 0) == [["low"], ["high"]]


def test_one_interrupt_ends_all_and_keeps_what_is_done(sweep, provider):
    on, reached = threading.Event(), threading.Semaphore(0)

    def at(effort):
        if provider.asked.total() >= 9:
            reached.release()
            on.wait(WAIT_S)

    def interrupt():
        for _ in range(3):
            reached.acquire(timeout=WAIT_S)
        _thread.interrupt_main()

    provider.at = at
    stopper = threading.Thread(target=interrupt)
    stopper.start()
    with pytest.raises(Interrupted, match="stopped by you") as caught:
        sweep(tasks(12))
    stopper.join()
    on.set()
    found = caught.value.answer
    assert found.partial
    assert 0 < sum(choice.n for choice in found.choices) < 36
    assert "stopped while" in str(found)
    provider.at = lambda effort: None
    assert [choice.n for choice in sweep(tasks(12)).choices] == [12] * 3


def test_one_that_cannot_be_asked_ends_all_and_is_what_is_told(sweep, provider):
    provider.barred = "medium"
    with pytest.raises(WrongKey) as caught:
        sweep(tasks(10))
    found = caught.value.answer
    assert "stopped while medium was asked" in str(found)
    assert found.choices[1].n == 0


def test_progress_is_shown_from_the_thread_that_waits(sweep):
    class Seen(list):
        def update(self, progress):
            self.append((threading.current_thread(), progress))

    seen = Seen()
    sweep(tasks(10), show=seen)
    assert {thread for thread, _ in seen} == {threading.main_thread()}
    assert seen[-1][1].rows == seen[-1][1].total == 30
    assert [progress.over for _, progress in seen].count(True) == 1
