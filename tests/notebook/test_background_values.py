"""An answer that is still arriving: in a prompt, when the kernel ends, and under a runner."""

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import SECRET, Kernel

WORDS = "one two three four five"
SLOW = {"text": WORDS, "pause_s": 0.08}


def start(kernel: Kernel, simulator: Simulator, **reply) -> None:
    simulator.script(Reply(**(SLOW | reply)))
    assert kernel.run("%%o3 --background -o later\nSay it slowly.").status == "ok"
    assert kernel.value("later.done") is False


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [
        ("sum up {{ later }}", f"sum up {WORDS}"),
        ("sum up {{ later.text }}", f"sum up {WORDS}"),
        ("sum up {{ several | json }}", json.dumps([WORDS])),
    ],
)
def test_a_prompt_waits_for_it_and_says_its_text(
    kernel: Kernel, simulator: Simulator, prompt: str, sent: str
):
    start(kernel, simulator)
    kernel.run("several = [later]")
    assert kernel.run(f"%%o3 -q\n{prompt}").status == "ok"
    asked = simulator.requests[-1].body["input"]
    assert sent in json.dumps(asked) or sent in str(asked)
    assert "AnswerFuture" not in str(asked)


def test_one_that_failed_is_a_clear_error(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(status=400, error={"message": "no such thing"}, wait_s=0.3))
    kernel.run("%%o3 --background -o later\nSay it.")
    ran = kernel.run("%%o3 -q\nsum up {{ later }}")
    assert ran.error["ename"] == "TemplateError"
    assert "no such thing" in ran.error["evalue"]


def test_its_str_is_the_text(kernel: Kernel, simulator: Simulator):
    start(kernel, simulator)
    kernel.run("later.wait()")
    assert kernel.value("str(later)") == WORDS


def test_a_runner_saves_the_whole_answer(simulator: Simulator, tmp_path: Path, monkeypatch):
    """nbclient is what nbconvert, papermill and `o3magic run` are made of."""
    ledger = tmp_path / "ledger.sqlite3"
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url)
    monkeypatch.setenv("O3MAGIC_LEDGER", str(ledger))
    monkeypatch.setenv("O3MAGIC_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    simulator.script(Reply(**SLOW))
    cells = ["%load_ext o3magic", "%%o3 --background -m o3-mini -o later\nSay it slowly."]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert WORDS in json.dumps(notebook.cells[1].outputs)
    with sqlite3.connect(ledger) as connection:
        assert connection.execute("SELECT status FROM entries").fetchall() == [("ok",)]
    connection.close()


def test_at_the_end_of_the_kernel_it_is_stopped_and_booked(simulator: Simulator, tmp_path: Path):
    ledger = tmp_path / "ledger.sqlite3"
    code = f"""
from IPython.core.interactiveshell import InteractiveShell
import os, time
os.environ.update({{
    "OPENAI_API_KEY": {SECRET!r},
    "OPENAI_BASE_URL": {simulator.base_url!r},
    "O3MAGIC_LEDGER": {str(ledger)!r},
}})
shell = InteractiveShell.instance()
shell.kernel = object()  # what tells a notebook from a terminal
shell.run_line_magic("load_ext", "o3magic")
shell.run_cell("%%o3 --background -m o3-mini -o later\\nSay it slowly.").raise_error()
while not shell.user_ns["later"].text:
    time.sleep(0.05)
"""
    simulator.script(Reply(text=WORDS * 50, pause_s=0.2))
    began_s = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=30, cwd=Path(__file__).parents[2]
    )
    assert time.monotonic() - began_s < 15
    with sqlite3.connect(ledger) as connection:
        assert connection.execute("SELECT status FROM entries").fetchall() == [("interrupted",)]
    connection.close()


def test_the_kernel_s_own_end_books_it_too(simulator: Simulator, tmp_path: Path, monkeypatch):
    ledger = tmp_path / "ledger.sqlite3"
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url)
    monkeypatch.setenv("O3MAGIC_LEDGER", str(ledger))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    simulator.script(Reply(text=WORDS * 50, pause_s=0.2))
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        kernel = Kernel(manager, client)
        kernel.run("%load_ext o3magic")
        assert kernel.run("%%o3 --background -m o3-mini\nSay it slowly.").status == "ok"
        time.sleep(1)
    finally:
        client.shutdown()
        client.stop_channels()
        manager.finish_shutdown()
        manager.cleanup_resources()
        manager.context.destroy(linger=0)
    with sqlite3.connect(ledger) as connection:
        assert connection.execute("SELECT status FROM entries").fetchall() == [("interrupted",)]
    connection.close()
