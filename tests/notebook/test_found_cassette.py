"""A kernel that is not told which notebook it runs, as nbconvert and papermill leave it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from o3magic.simulator import Simulator
from tests.notebook.conftest import Kernel


@pytest.fixture
def recorded(kernel: Kernel, tmp_path: Path) -> Iterator[Path]:
    """The cassette of a lesson whose one question was recorded, in the working folder."""
    kernel.run(f"%cd {tmp_path}")
    kernel.run("%o3_config notebook=lesson.ipynb mode=record")
    assert kernel.run("%%o3 -q\nSay a word.").status == "ok"
    kernel.run("%o3_config notebook= mode=")
    yield tmp_path / "lesson.o3.json"
    kernel.run("%cd -")


def test_it_is_found_by_its_content_and_nothing_is_sent(
    kernel: Kernel, simulator: Simulator, recorded: Path
):
    asked = len(simulator.requests)
    assert kernel.run("%%o3 -q -o again\nSay a word.").status == "ok"
    assert kernel.value("again.replayed") is True
    assert len(simulator.requests) == asked


def test_without_a_key_too(kernel: Kernel, simulator: Simulator, recorded: Path):
    kernel.run("import os; del os.environ['OPENAI_API_KEY'], os.environ['OPENAI_BASE_URL']")
    kernel.run("%reload_ext o3magic")
    assert kernel.run("%%o3 -q -o again\nSay a word.").status == "ok"
    assert kernel.value("again.replayed") is True


def test_another_question_is_asked(kernel: Kernel, simulator: Simulator, recorded: Path):
    before = recorded.read_bytes()
    assert kernel.run("%%o3 -q -o other\nSay two words.").status == "ok"
    assert kernel.value("other.replayed") is False
    assert recorded.read_bytes() == before


def test_two_that_hold_it_are_not_chosen_from(kernel: Kernel, simulator: Simulator, recorded: Path):
    shutil.copy(recorded, recorded.with_name("copy.o3.json"))
    ran = kernel.run("%%o3 -q\nSay a word.")
    assert ran.error["ename"] == "CassetteError"
    assert "copy.o3.json and lesson.o3.json hold this question" in ran.error["evalue"]
    assert "--notebook" in "".join(ran.error["traceback"])
    assert kernel.run("%%o3 -q --notebook lesson.ipynb\nSay a word.").status == "ok"


def test_a_file_that_cannot_be_read_is_passed_over(
    kernel: Kernel, simulator: Simulator, recorded: Path
):
    recorded.with_name("broken.o3.json").write_text("{")
    asked = len(simulator.requests)
    assert kernel.run("%%o3 -q\nSay a word.").status == "ok"
    assert len(simulator.requests) == asked
