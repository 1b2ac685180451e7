"""`o3magic strip`: on files, as a filter of git, and as a hook before a commit."""

import copy
import json
import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from o3magic.cli.strip import from_stream
from tests.cli.conftest import ROOT
from tests.cli.test_run import OLD

LINK = {"o3magic": {"key": "16269065f02e48c4", "n": 1}}
WIDGET = "application/vnd.jupyter.widget-view+json"


def display(text="an answer", mime="text/plain", **metadata):
    return new_output("display_data", data={mime: text}, metadata=metadata)


CELLS = {
    "print(1)": [
        new_output("stream", text="out"),
        new_output("stream", text="err", name="stderr"),
        new_output("execute_result", data={"text/plain": "7"}, execution_count=3),
    ],
    "%%o3\nrecorded": [display(**LINK)],
    "%%o3\nasked live": [display()],
    "%o3_panel": [display({"model_id": "1"}, WIDGET)],
    "plot()": [display("a figure")],
}
LEFT = {
    "--all": [0, 0, 0, 0, 0],
    "--o3-only": [3, 0, 0, 1, 1],
    "--unreproducible": [2, 1, 0, 0, 1],
}


@pytest.fixture
def full(tmp_path):
    """A notebook with outputs of every kind."""
    cells = [
        new_code_cell(
            source,
            id=f"c{number}",
            outputs=copy.deepcopy(found),
            execution_count=number,
            metadata={"execution": {"iopub.status.busy": "2026"}, "tags": ["kept"]},
        )
        for number, (source, found) in enumerate(CELLS.items())
    ]
    notebook = new_notebook(cells=[*cells, new_markdown_cell("# é", id="m")])
    notebook.metadata.language_info = {"name": "python", "version": "3.11.1"}
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {}}
    path = tmp_path / "full.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize("kind", LEFT)
def test_each_kind_takes_out_its_own_and_a_second_time_nothing(o3magic, full, kind):
    os.chmod(full, 0o600)
    code, out, _ = o3magic("strip", kind, full)
    assert (code, out) == (0, f"{full}: stripped\n")
    notebook = nbformat.read(full, as_version=4)
    nbformat.validate(notebook)
    assert [len(cell.outputs) for cell in notebook.cells[:-1]] == LEFT[kind]
    only_answers = kind == "--o3-only"
    assert [cell.execution_count is None for cell in notebook.cells[:-1]] == [not only_answers] * 5
    assert ("widgets" in notebook.metadata) is only_answers
    assert ("version" in notebook.metadata.language_info) is only_answers
    assert all(cell.metadata["tags"] == ["kept"] for cell in notebook.cells[:-1])
    assert full.stat().st_mode & 0o777 == 0o600
    before = full.read_bytes()
    assert o3magic("strip", kind, full) == (0, "", "")
    assert full.read_bytes() == before


def test_all_is_the_default_and_two_kinds_are_too_many(o3magic, full):
    assert o3magic("strip", full)[0] == 0
    assert all(not c.get("outputs") for c in nbformat.read(full, as_version=4).cells)
    with pytest.raises(SystemExit, match="2"):
        o3magic("strip", "--all", "--o3-only", full)


def test_a_check_changes_nothing_and_says_what_it_would(o3magic, full):
    before = full.read_bytes()
    assert o3magic("strip", "--check", full) == (1, f"{full}: has outputs to strip\n", "")
    assert full.read_bytes() == before
    assert o3magic("strip", full)[0] == 0
    assert o3magic("strip", "--check", full) == (0, "", "")


def test_a_file_with_nothing_to_strip_keeps_its_own_form(o3magic, tmp_path):
    path = tmp_path / "a.ipynb"
    notebook = new_notebook(cells=[new_code_cell("1", id="a")])
    path.write_text(json.dumps(notebook, indent=4))
    before = path.read_bytes()
    assert o3magic("strip", path)[0] == 0
    assert path.read_bytes() == before


def test_an_older_minor_format_stays_what_it_is(o3magic, tmp_path):
    path = tmp_path / "a.ipynb"
    cell = {"cell_type": "code", "source": ["1"], "outputs": [], "metadata": {}}
    cell["execution_count"] = 1
    said = {"nbformat": 4, "nbformat_minor": 2, "metadata": {}, "cells": [cell]}
    path.write_text(json.dumps(said))
    assert o3magic("strip", path)[0] == 0
    assert json.loads(path.read_text()) == said | {"cells": [cell | {"execution_count": None}]}


def filtered(data, *, check=False):
    """The exit code of the filter, and what it wrote."""
    written = BytesIO()
    return from_stream(BytesIO(data), written, "all", check=check), written.getvalue()


def test_git_shows_no_change_where_only_outputs_changed(full, tmp_path):
    def git(*words):
        done = subprocess.run(
            ["git", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    environment = os.environ | {"PYTHONPATH": ROOT, "GIT_CONFIG_GLOBAL": os.devnull}
    environment |= {"GIT_CONFIG_SYSTEM": os.devnull, "HOME": str(tmp_path)}
    git("init", "-q")
    git("config", "filter.o3.clean", f'"{sys.executable}" -m o3magic strip -')
    git("config", "filter.o3.required", "true")
    (tmp_path / ".gitattributes").write_text("*.ipynb filter=o3\n")
    git("add", ".")
    staged = json.loads(git("show", ":full.ipynb"))
    assert [cell.get("outputs", []) for cell in staged["cells"]] == [[]] * 6
    notebook = nbformat.read(full, as_version=4)
    assert notebook.cells[0].outputs
    notebook.cells[0].outputs[0].text = "another"
    nbformat.write(notebook, full)
    assert git("diff", "--name-only") == ""
    notebook.cells[0].source = "print(2)"
    nbformat.write(notebook, full)
    assert git("diff", "--name-only") == "full.ipynb\n"


def test_the_filter_refuses_what_is_no_notebook_and_writes_nothing(full, capsys):
    for data, told in ((b"<<<<<<< HEAD", "not JSON"), (json.dumps(OLD).encode(), "nbformat 3")):
        assert filtered(data) == (3, b"")
        assert told in capsys.readouterr().err
    code, once = filtered(full.read_bytes())
    assert (code, filtered(once)) == (0, (0, once))
    assert filtered(full.read_bytes(), check=True) == (1, b"")


def test_a_file_that_is_read_only_stays(o3magic, full):
    before = full.read_bytes()
    os.chmod(full, 0o400)
    code, _, told = o3magic("strip", full)
    assert (code, "full.ipynb is read-only" in told) == (3, True)
    assert full.read_bytes() == before


def test_the_hooks_before_a_commit_name_commands_that_exist(o3magic):
    hooks = Path(ROOT, ".pre-commit-hooks.yaml").read_text("utf-8")
    entries = re.findall(r"entry: o3magic (\w+)", hooks)
    assert entries == ["strip", "check"]
    for entry in entries:
        with pytest.raises(SystemExit, match="0"):
            o3magic(entry, "--help")
