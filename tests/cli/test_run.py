"""`o3magic run`: real kernels, real files."""

import json
import os
import signal
import stat
import subprocess
import sys

import nbformat
import pytest

from o3magic.cli import kernel_runner
from o3magic.cli.notebooks import encoded, give_ids, replace
from o3magic.cli.run import inject, value_of
from tests.cli.conftest import outputs, printed, text_of

STAYS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"


def test_a_notebook_is_run_in_place_and_written_by_fixed_rules(o3magic, book):
    path = book(
        "a.ipynb",
        ("n, name = 1, 'ä'", ["parameters"]),
        "import os, sys\nprint(name, end=''); print('e', file=sys.stderr); print(n)",
        "for k in ('NOTEBOOK', 'MODE', 'BUDGET_NOTEBOOK'): print(os.environ[f'O3MAGIC_{k}'])",
        "%load_ext o3magic",
        "%%o3\nA question.",
        widgets={"application/vnd.jupyter.widget-state+json": {}},
    )
    os.chmod(path, 0o640)
    words = ("--mode", "live", "--budget", "0.25", "-p", "n", "2", "-p", "name", "ü")
    code, _, told = o3magic("run", path, *words)
    assert code == 0, told
    assert [line.partition("]")[0] for line in told.splitlines()] == [
        f"[{i}/6" for i in range(1, 7)
    ]
    assert told.splitlines()[0].startswith("[1/6] ok 0.")
    text = path.read_text("utf-8")
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert [cell["id"] for cell in notebook["cells"]] == [
        *("c1", "injected-parameters", "c2", "c3", "c4", "c5")
    ]
    assert notebook["cells"][1]["source"] == ["# Parameters\n", "n = 2\n", "name = 'ü'"]
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert "widgets" not in notebook["metadata"]
    assert not any("execution" in cell["metadata"] for cell in notebook["cells"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    _, _, said, environment, _, answer = outputs(path)
    assert [(out.name, out.text) for out in said] == [("stdout", "ü2\n"), ("stderr", "e\n")]
    assert text_of(environment) == f"{path}\nlive\n0.25\n"
    assert "SIMULATED" in str(answer)


def test_running_twice_writes_the_same_bytes(o3magic, book):
    path = book("a.ipynb", "print(1)", "object.__name__")
    assert o3magic("run", path, "-p", "n", "1")[0] == 0
    first = path.read_bytes()
    assert o3magic("run", path, "-p", "n", "1")[0] == 0
    assert path.read_bytes() == first


def test_what_a_thread_or_a_later_cell_shows_gets_into_the_right_output(o3magic, book):
    late = "import contextvars, threading\ngo, gone = threading.Event(), threading.Event()\n"
    late += "def work():\n    go.wait(); print('late'); gone.set()\n"
    path = book(
        "a.ipynb",
        "import sys\nfrom IPython.display import display\n"
        "for i in range(3): print(i, flush=True); print('e', file=sys.stderr, flush=True)\n"
        "handle = display('first', display_id=True)",
        f"{late}here = contextvars.copy_context()\n"
        "thread = threading.Thread(target=here.run, args=(work,))\nthread.start()",
        "go.set(), gone.wait(), thread.join()\nhandle.update('second')\nprint('here')",
    )
    code, _, told = o3magic("run", path)
    assert code == 0, told
    first, second, third = outputs(path)
    assert [out.output_type for out in first] == ["stream", "stream", "display_data"]
    assert first[0].text == "0\n1\n2\n"
    assert first[2].data["text/plain"] == "'second'"
    assert text_of(second) == "late\n"
    assert text_of(third) == "here\n"


def test_a_cell_that_fails_ends_the_run_and_everything_is_kept(o3magic, book):
    path = book("a.ipynb", "1", "print('before')\nhalf = 1 / 0", ("print(3)", [], printed("old")))
    code, _, told = o3magic("run", path)
    assert code == 2
    assert f"{path}: cell 2 of 3 failed in line 2: ZeroDivisionError: division by zero" in told
    assert "Traceback" not in told
    first, second, third = outputs(path)
    assert text_of(first) == "1"
    assert [out.output_type for out in second] == ["stream", "error"]
    assert text_of(third) == "old"


def test_an_error_that_explains_itself_is_told_as_it_is(o3magic, book):
    path = book("a.ipynb", "%load_ext o3magic", "%%o3 --effrot low\nHi")
    code, _, told = o3magic("run", path)
    assert code == 2
    assert "cell 2 of 2 failed: " in told
    assert "\n  try: " in told


def test_a_cell_may_be_meant_to_fail_or_to_be_left_alone(o3magic, book):
    path = book(
        "a.ipynb",
        ("1 / 0", ["raises-exception"]),
        ("print('no')", ["skip-execution"]),
        "",
        "print('end')",
    )
    code, _, told = o3magic("run", path)
    assert code == 0
    assert "[2/3] skipped\n" in told
    failed, skipped, empty, end = outputs(path)
    assert failed[0].ename == "ZeroDivisionError"
    assert (skipped, empty, text_of(end)) == ([], [], "end\n")


@pytest.mark.parametrize("loop", ["while True: pass", STAYS], ids=["interrupted", "killed"])
def test_a_cell_that_never_ends_is_stopped_in_time(o3magic, book, monkeypatch, loop):
    monkeypatch.setattr(kernel_runner, "GRACE_S", 0.5)
    path = book("a.ipynb", f"print('here', flush=True)\n{loop}", "2")
    code, _, told = o3magic("run", path, "--timeout", "0.5")
    assert code == 2
    assert "cell 1 of 2 did not end within 0.5 s and was stopped" in told
    assert text_of(outputs(path)[0]).startswith("here\n")


def test_a_cell_that_kills_the_kernel_is_named(o3magic, book):
    path = book("a.ipynb", "print('before', flush=True)\nimport os; os._exit(1)", "2")
    code, _, told = o3magic("run", path)
    assert code == 2
    assert "cell 1 of 2: the kernel died in it" in told
    assert "1 cell after it did not run" in told


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Ctrl-C is sent as a signal of Unix")
@pytest.mark.parametrize("command", ["run", "check"])
def test_ctrl_c_stops_the_cell_and_everything_after_it(own_settings, book, tmp_path, command):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    path = book("a.ipynb", "print(1)", f"open({str(gate)!r}, 'w').close()\nwhile True: pass", "3")
    words = [sys.executable, "-m", "o3magic", command, path, path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        gate.read_text()  # the cell has opened it
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=30)[0].decode()
    assert process.returncode == 130, told
    assert "Traceback" not in told
    if command == "check":
        assert told == "stopped\n"
        return
    assert "cell 2 of 3 was stopped" in told
    first, second, _ = outputs(path)
    assert text_of(first) == "1\n"
    assert second[-1].ename == "KeyboardInterrupt"


def test_a_file_that_somebody_saves_meanwhile_is_left_as_it_is(o3magic, book):
    path = book("a.ipynb", "open('a.ipynb', 'a').write(' ')\nprint('ran')")
    code, _, told = o3magic("run", path)
    assert code == 0
    beside = path.with_name("a-ran.ipynb")
    assert f"was changed while it ran and is left as it is: see {beside}" in told
    assert path.read_bytes().endswith(b"\n ")
    assert text_of(outputs(beside)[0]) == "ran\n"


def test_outputs_can_go_elsewhere(o3magic, book, tmp_path):
    path = book("a.ipynb", "print(1)")
    before = path.read_bytes()
    (tmp_path / "out").mkdir()
    assert o3magic("run", path, "--output", "out")[0] == 0
    assert text_of(outputs(tmp_path / "out" / "a.ipynb")[0]) == "1\n"
    assert path.read_bytes() == before


def test_a_budget_is_an_amount(o3magic, book):
    code, _, told = o3magic("run", book("a.ipynb", "1"), "--budget", "cheap")
    assert (code, "--budget cheap is no amount in USD" in told) == (1, True)


OLD = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": []}
OLD["worksheets"] = [{"cells": [{"cell_type": "code", "input": ["6*7"], "outputs": []}]}]
OLD["worksheets"][0]["cells"][0] |= {"language": "python", "metadata": {}, "collapsed": False}


def test_an_old_notebook_is_run_only_into_another_file(o3magic, tmp_path):
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(OLD))
    code, _, told = o3magic("run", path)
    assert code == 3
    assert "nbformat 3" in told
    assert "--output" in told
    assert json.loads(path.read_text()) == OLD
    assert o3magic("run", path, "--output", "new.ipynb")[0] == 0
    assert text_of(outputs(tmp_path / "new.ipynb")[0]) == "42"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.ipynb", None, "there is no file"),
        ("a.ipynb", "<<<<<<< HEAD\n{}", "it is not JSON (line 1)"),
        ("a.ipynb", "", "it is not JSON"),
        ("a.ipynb", b"\xff\xfe{\x00", "it is not UTF-8"),
        ("a.ipynb", "[" * 100_000, "it is not JSON"),
        ("a.ipynb", '{"cells": []}', "it has no nbformat"),
        ("a.ipynb", '{"nbformat": 9}', "nbformat 9, which is not known here"),
        ("a.ipynb", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 5}', "not a va"),
        ("a.ipynb", '{"nbformat": 4, "nbformat_minor": 5, "cells": []}', "not a valid notebook"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check", "strip"])
def test_what_is_no_notebook_is_named_and_left_alone(
    o3magic, tmp_path, name, content, told, command
):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes() if path.exists() else None
    code, out, err = o3magic(command, path)
    assert code == 3
    assert told in out + err
    assert "Traceback" not in err
    assert (path.read_bytes() if path.exists() else None) == before


def test_places_that_cannot_be_written_are_named_before_anything_runs(o3magic, book, tmp_path):
    path = book("a.ipynb", "open('ran', 'w')")
    os.chmod(path, 0o444)
    (tmp_path / "empty").mkdir()
    for words, told in (
        ([path], "a.ipynb is read-only"),
        (["empty"], "there is no .ipynb file in empty"),
        ([path, "--output", "none/b.ipynb"], "there is no folder none"),
        ([path, "--output", "data.csv"], "data.csv would not be a notebook"),
        ([path, path, "--output", "b.ipynb"], "there is no folder b.ipynb"),
        ([path, "--output", "b.ipynb", "--kernel", "pyton3"], "there is no kernel pyton3"),
    ):
        code, _, err = o3magic("run", *words)
        assert (code, told in err) == (3, True), err
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "b.ipynb").exists()


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(("1", 1), ("-2.5", -2.5), ("1e3", 1000.0), ("true", True), ("False", False)),
        *(("null", None), ("None", None), ("word", "word"), ("two words", "two words")),
        *(('"5"', "5"), ("'5'", "5"), ("[1, 'a']", [1, "a"]), ('{"a": null}', {"a": None})),
        *(("1e999", "1e999"), ("007", "007"), ("1+2j", "1+2j"), ("", ""), ("(1, 2)", "(1, 2)")),
        *(("NaN", "NaN"), ("2026-11-21", "2026-11-21"), ("__import__('os')", "__import__('os')")),
    ],
)
def test_parameters_are_read_as_scalars_and_come_back_from_their_literals(word, value):
    assert value_of(word) == value
    assert type(value_of(word)) is type(value)
    notebook = nbformat.v4.new_notebook(cells=[])
    inject(notebook, {"x": value_of(word)})
    names = {}
    exec(notebook.cells[0].source, names)
    assert names["x"] == value


def test_ids_are_made_of_the_text_and_never_twice_the_same():
    cells = [nbformat.v4.new_code_cell(source) for source in ("a", "a", "b")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    del cells[0]["id"], cells[1]["id"]
    cells[2]["id"] = "not an id"
    give_ids(notebook)
    first = [cell.id for cell in notebook.cells]
    assert len(set(first)) == 3
    give_ids(notebook)
    assert [cell.id for cell in notebook.cells] == first
    nbformat.validate(notebook)


def test_half_a_surrogate_is_written_as_an_escape_and_read_again():
    cell = nbformat.v4.new_code_cell("'\ud83d'", id="a")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert json.loads(encoded(notebook))["cells"][0]["source"] == ["'\ud83d'"]


def test_a_file_is_replaced_whole_through_a_link_or_not_at_all(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    replace(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    with pytest.raises(TypeError):
        replace(target, "no bytes")
    assert target.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == [link, target]
