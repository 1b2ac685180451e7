"""The progress of a job in a real terminal and in a pipe."""

import io
import re
import subprocess
import sys

import pytest

from o3magic.notebook.progress import TerminalProgressBar
from o3magic.rows.progress import LINE_S, JobProgress, ProgressLines
from o3magic.simulator import Simulator
from tests.notebook.test_terminal import CONTROL, environment, say, shell

pexpect = pytest.importorskip("pexpect", reason="IPython brings it where there are terminals")

__all__ = ["shell"]
MAP = "get_ipython().run_cell_magic('o3', '--map rows -o found --concurrency 1', 'Say {{ a }}')"
UP = "\x1b[1A\x1b[2K" * 2
SCRIPT = """
import o3magic as o3
o3.sweep([{"a": "one"}, {"a": "two"}], "Say {{ a }}", scorer=lambda answer, row: 1, efforts=["low"])
print("the end")
"""


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def screen():
    """A console of 60 columns that writes into a text."""
    rich = pytest.importorskip("rich.console")
    return rich.Console(
        file=io.StringIO(), width=60, force_terminal=True, color_system="truecolor", _environ={}
    )


@pytest.fixture
def bar(screen, clock):
    from o3magic.render.terminal import TerminalBar

    return TerminalProgressBar(TerminalBar(screen), clock)


def frames(screen):
    """The text of each drawing, without colours."""
    return [CONTROL.sub("", frame) for frame in screen.file.getvalue().split(UP)]


def test_a_job_draws_a_bar_in_a_terminal_and_ends_below_it(shell):
    say(shell, "rows = [{'a': f'row {n}'} for n in range(300)]", 3)
    seen = say(shell, MAP, 4)
    assert "━━━━" in seen
    assert "300 of 300 rows · 100%" in seen
    assert "SIMULATED, no model was asked" in seen
    assert "\x1b[2K" in shell.before  # drawn over
    assert "300" in say(shell, "print(len(found))", 5)


def test_in_a_pipe_there_are_lines_and_no_control_sequences(simulator: Simulator, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment(simulator, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "the end\n"
    assert done.stderr == "2 of 2 rows · SIMULATED, no model was asked · $0\n"


def test_it_says_rows_errors_rate_and_money(bar, screen):
    bar.update(
        JobProgress(
            total=100,
            rows=25,
            asked=25,
            errors=3,
            spent_nano_usd=50_000_000,
            elapsed_s=5.0,
            made_up={"simulated": 5},
        )
    )
    [drawn] = frames(screen)
    head, below, rest = drawn.split("\n")
    assert head.strip().endswith("━ 25 of 100 rows · 25%")
    assert below.startswith("3 errors · 5 of 25 rows SIMULATED · 5.0/s · $0.05")
    assert below.endswith("…")  # a line of a terminal, and no more
    assert len(below) == 60
    assert rest == ""
    assert re.search(r"\x1b\[31m3 errors", screen.file.getvalue())
    assert "\x1b[1;33m5 of 25 rows SIMULATED" in screen.file.getvalue()


def test_it_is_drawn_over_itself_and_ends_on_a_line_of_its_own(bar, screen, clock):
    bar.update(JobProgress(total=4, rows=1, asked=1))
    bar.update(JobProgress(total=4, rows=2, asked=2))  # too soon
    clock.now_s = 0.3
    bar.update(JobProgress(total=4, rows=3, asked=3))
    bar.update(
        JobProgress(total=4, rows=4, asked=4, over=True, said="stopped \x1b]0;owned\x07by you")
    )
    assert [re.search(r"(\d) of 4", frame)[1] for frame in frames(screen)] == ["1", "3", "4"]
    *_, note, end = screen.file.getvalue().split("\n")
    assert (note, end) == ("stopped by you", "")
    assert "owned" not in screen.file.getvalue()


def test_what_has_no_total_has_a_bar_too(bar, screen, clock):
    bar.update(JobProgress(rows=7, asked=7))
    assert "7 rows" in frames(screen)[0]
    assert "%" not in frames(screen)[0]
    bar.update(JobProgress(rows=9, asked=9, over=True))
    assert "━━━" in frames(screen)[1]


def test_lines_come_now_and_then_and_at_the_end(clock):
    written = io.StringIO()
    lines = ProgressLines(written, clock)
    for second in range(0, 3 * int(LINE_S), 5):
        clock.now_s = second
        lines.update(JobProgress(total=1000, rows=second, asked=second, elapsed_s=second))
    lines.update(JobProgress(total=1000, rows=1000, asked=1000, over=True, said="not recorded"))
    texts = written.getvalue().splitlines()
    assert [line.partition(" ")[0] for line in texts] == ["30", "60", "1,000", "not"]
    assert "\r" not in written.getvalue()
