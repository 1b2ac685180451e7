"""`%%o3` in IPython in a real terminal, and with its output in a pipe."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import SECRET

pexpect = pytest.importorskip("pexpect", reason="IPython brings it where there are terminals")

CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[=>]")
ROOT = str(Path(__file__).parents[2])


def environment(simulator: Simulator, folder: Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    own = {
        "OPENAI_API_KEY": SECRET,
        "OPENAI_BASE_URL": simulator.base_url,
        "O3MAGIC_MODEL": "o3-mini",
        "O3MAGIC_LEDGER": ":memory:",
        "O3MAGIC_CONFIG": str(folder / "none.toml"),
        "IPYTHONDIR": str(folder),
        "PYTHONPATH": ROOT,
        "TERM": "xterm-256color",
    }
    return inherited | own


@pytest.fixture
def shell(simulator: Simulator, tmp_path: Path):
    words = ["-m", "IPython", "--no-banner", "--no-confirm-exit", "--simple-prompt"]
    child = pexpect.spawn(
        sys.executable,
        words,
        env=environment(simulator, tmp_path),
        encoding="utf-8",
        dimensions=(40, 110),
        timeout=30,
    )
    child.expect(r"In \[1\]:")
    child.sendline("%load_ext o3magic")
    child.expect(r"In \[2\]:")
    yield child
    child.close(force=True)


def say(shell, cell: str, number: int) -> str:
    """Run a line; return the text on the screen, without control sequences."""
    shell.sendline(cell)
    shell.expect(rf"In \[{number}\]:")
    return CONTROL.sub("", shell.before)


def test_an_answer_is_rendered_in_a_terminal_with_its_footer(shell, simulator: Simulator):
    simulator.script(Reply(text="# Sum\n\nIt is **four**, `x < y`.\n\n- one\n- two"))
    seen = say(shell, "get_ipython().run_cell_magic('o3', '-e low', 'What is 2+2?');", 3)
    assert "It is four, x < y." in seen
    assert "• one" in seen
    assert "SIMULATED" in seen
    assert "Markdown object" not in seen
    assert "four" in say(shell, "print(_.text)", 4)


def test_escape_sequences_of_an_answer_do_not_reach_the_terminal(shell, simulator: Simulator):
    simulator.script(Reply(text="safe \x1b]0;owned\x07 and \x1b[31mred\x1b[0m \x9b5n end"))
    shell.sendline("a = %o3 hi")
    shell.expect(r"In \[3\]:")
    assert "owned" not in shell.before
    assert "\x1b[31mred" not in shell.before
    assert "\x9b" not in shell.before


def test_ctrl_c_keeps_what_arrived(shell, simulator: Simulator):
    words = " ".join(f"word{n}" for n in range(500))
    simulator.script(Reply(text=words, pause_s=0.03))
    shell.sendline("b = %o3 tell me")
    shell.expect("word20")
    shell.sendintr()
    shell.expect(r"In \[\d+\]:")
    seen = CONTROL.sub("", shell.before)
    assert "Interrupted" in seen
    assert "Traceback" not in seen
    assert "word0 word1" in say(shell, "print(_.text)", 4)


def test_in_a_pipe_the_words_come_as_text(simulator: Simulator, tmp_path: Path):
    simulator.script(Reply(text="It is **four**."))
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "-c", "%load_ext o3magic\n%o3 What is 2+2?"],
        env=environment(simulator, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "It is **four**." in done.stdout
    assert "SIMULATED" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_same_words_again_are_another_turn_there(shell, simulator: Simulator):
    for number in (3, 4):
        say(shell, "get_ipython().run_cell_magic('o3', '-c plan', 'Go on.');", number)
    sent = [item["content"] for item in simulator.requests[-1].body["input"]]
    assert sent.count("Go on.") == 2


def test_code_of_an_answer_is_shown_there_and_not_run(shell, simulator: Simulator):
    simulator.script(Reply(text="```python\nmade = \x1b[31m6 * 7\n```"))
    say(shell, "a = %o3 code", 3)
    assert "made = 6 * 7" in say(shell, "%o3_insert", 4)
    assert "False" in say(shell, "print('made' in globals())", 5)
