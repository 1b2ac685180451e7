"""Without threads, as in a browser, a recorded notebook replays all the same."""

import sys
import threading
from types import SimpleNamespace

from o3magic.notebook import context
from o3magic.tools.execution import ToolJob, run_jobs
from tests.notebook.test_cassette import CELLS, lesson, offline, run_and_join

__all__ = ["lesson"]
NO_THREADS = """
import sys
import threading
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
"""
LATER = "%%o3 --background -o later\nWhat is a tree?"


def test_every_kind_of_cell_gives_the_same_outputs(kernel, simulator, lesson):
    kernel.run("%o3_config mode=record")
    first = {name: run_and_join(kernel, cell) for name, cell in CELLS.items()}
    kernel.run(LATER)
    text = kernel.value("later.wait(20).text")
    asked = len(simulator.requests)
    offline(kernel, lesson)
    kernel.run(NO_THREADS)
    assert {name: run_and_join(kernel, cell) for name, cell in CELLS.items()} == first
    kernel.run(LATER)
    assert kernel.value("[later.done, later.text]") == [True, text]
    assert len(simulator.requests) == asked


def test_a_tool_runs_where_it_is_called_and_its_prints_are_kept_apart(monkeypatch, capsys):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    def fail():
        raise ValueError("no")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    jobs = [ToolJob(lambda: sys.stdout.write("inside")), ToolJob(fail)]
    run_jobs(jobs, timeout_s=5, at_once=2)
    assert jobs[0].value == len("inside")
    assert str(jobs[0].printed) == "inside"
    assert isinstance(jobs[1].error, ValueError)
    assert not any(job.late for job in jobs)
    assert capsys.readouterr().out == ""


def browser(monkeypatch, tmp_path, parent):
    """The shell of a kernel in a browser, in a folder."""
    monkeypatch.setattr(context, "sys", SimpleNamespace(platform="emscripten"))
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(user_ns={}, kernel=SimpleNamespace(get_parent=lambda: parent))


def test_in_a_browser_the_notebook_is_the_one_that_holds_the_running_cell(monkeypatch, tmp_path):
    (tmp_path / "one.ipynb").write_text('{"cells": [{"id": "a"}, {"id": "b"}]}', "utf-8")
    (tmp_path / "two.ipynb").write_text('{"cells": [{"id": "b"}, {"id": "c"}]}', "utf-8")
    (tmp_path / "cut.ipynb").write_text('{"cells": [', "utf-8")
    (tmp_path / "list.ipynb").write_text("[]", "utf-8")
    parent = {"metadata": {"cellId": "c"}}
    shell = browser(monkeypatch, tmp_path, parent)
    assert context.cell_key(shell, "text") == "c"
    assert context.notebook_path(shell, {}) == str(tmp_path / "two.ipynb")
    parent["metadata"]["cellId"] = "b"  # in both
    assert context.notebook_path(shell, {}) == ""
    parent["metadata"]["cellId"] = "new"  # not saved yet: the notebook is still the same
    assert context.notebook_path(shell, {}, "two.ipynb") == "two.ipynb"
    assert context.notebook_path(shell, {}) == ""
    parent.clear()
    assert context.notebook_path(shell, {}) == ""
    assert context.notebook_path(shell, {context.SERVER_VARIABLE: "served.ipynb"}) == "served.ipynb"


def test_elsewhere_no_notebook_is_looked_for(monkeypatch, tmp_path):
    (tmp_path / "one.ipynb").write_text('{"cells": [{"id": "a"}]}', "utf-8")
    shell = browser(monkeypatch, tmp_path, {"metadata": {"cellId": "a"}})
    monkeypatch.setattr(context, "sys", SimpleNamespace(platform="linux"))
    assert context.notebook_path(shell, {}) == ""
