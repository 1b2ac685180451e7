"""Notebooks to run, and the command that runs them."""

from pathlib import Path

import nbformat
import pytest

from o3magic.cli.main import main
from o3magic.simulator import Simulator

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def own_settings(tmp_path, monkeypatch):
    """The simulator answers, and nothing of whoever runs the tests is read or written."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "O3MAGIC_MODE", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("O3MAGIC_PROVIDER", "simulator")
    monkeypatch.setenv("O3MAGIC_LEDGER", str(tmp_path / "ledger.sqlite3"))
    monkeypatch.setenv("O3MAGIC_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.chdir(tmp_path)
    with Simulator() as simulator:  # it does not take its time, as the built-in one does
        monkeypatch.setenv("O3MAGIC_SIMULATOR_URL", simulator.base_url)
        yield


@pytest.fixture
def o3magic(own_settings, capsys):
    """The command: gives its exit code, what it printed, and what it printed on stderr."""

    def command(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


@pytest.fixture
def book(tmp_path):
    """Writes a notebook. A cell is its source, or that with its tags and its outputs."""

    def write(name, *cells, **metadata):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL} | metadata)
        for number, cell in enumerate(cells, 1):
            source, tags, *said = (cell, []) if isinstance(cell, str) else cell
            made = nbformat.v4.new_code_cell(source, id=f"c{number}", outputs=said)
            if tags:
                made.metadata["tags"] = tags
            notebook.cells.append(made)
        nbformat.write(notebook, path)
        return path

    return write


KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def printed(text, name="stdout"):
    """What a cell has printed."""
    return nbformat.v4.new_output("stream", text=text, name=name)


def result(text):
    """The value of a cell."""
    return nbformat.v4.new_output("execute_result", data={"text/plain": text}, execution_count=1)


def outputs(path):
    """The outputs of each cell of a notebook."""
    return [cell.outputs for cell in nbformat.read(path, as_version=4).cells]


def text_of(found):
    """What outputs say, as one text."""
    return "".join(
        out.text if out.output_type == "stream" else out.get("data", {}).get("text/plain", "")
        for out in found
    )
