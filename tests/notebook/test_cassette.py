"""A notebook's cassette through a real kernel: recorded with a key, replayed without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from o3magic.simulator import Simulator
from tests.notebook.conftest import SECRET, Kernel

SCHEMA = """
from dataclasses import dataclass
@dataclass
class City:
    name: str
    people: int
"""
CELLS = {
    "text": "%%o3\nWhat is a heap?",
    "no stream": "%%o3 --no-stream -e high\nWhat is a heap?",
    "raw": "%%o3 --raw\nWhat is a heap, in raw?",
    "summary": "%%o3 --summary auto\nWhy is the sky blue?",
    "tree": "%%o3 -s City\nThe biggest city",
    "table": "%%o3 -s list[City]\nThe biggest cities",
    "compare": "%%o3 --compare --efforts low,high\nWhat is a queue?",
    "line": "answer = %o3 -q What is a set?\nprint(answer.cost_usd, answer.elapsed_s, answer)",
    "twice": "for _ in range(2):\n    a = %o3 -q the same\n    print(a.text, a.recorded)",
    "value": "import o3magic as o3\no3.ask('What is a map?')",
}


@pytest.fixture
def lesson(kernel: Kernel, tmp_path: Path) -> Path:
    """A notebook with a cassette."""
    path = tmp_path / "lesson.ipynb"
    kernel.run(f"%o3_config notebook={path}\n{SCHEMA}")
    return path


def run_and_join(kernel: Kernel, cell: str) -> list[dict[str, Any]]:
    """The outputs of a cell as a notebook stores them: no display ids, a stream in one piece."""
    ran = kernel.run(cell)
    assert ran.status == "ok", ran.error
    outputs: list[dict[str, Any]] = []
    for out in ran.outputs:
        output = {k: v for k, v in out.items() if k != "id"}
        if (
            outputs
            and output["kind"] == "stream" == outputs[-1]["kind"]
            and output["name"] == outputs[-1]["name"]
        ):
            outputs[-1]["text"] += output["text"]  # a kernel sends what is printed at its own times
        else:
            outputs.append(output)
    return outputs


def offline(kernel: Kernel, lesson: Path) -> None:
    """Load the extension again, without a key."""
    ran = kernel.run(
        "import os\nfor name in ('OPENAI_API_KEY', 'OPENAI_BASE_URL'): os.environ.pop(name)\n"
        f"%reload_ext o3magic\n%o3_config notebook={lesson} replay_speed=0\n{SCHEMA}"
    )
    assert ran.status == "ok", ran.error


def test_every_kind_of_cell_gives_the_same_outputs_again(
    kernel: Kernel, simulator: Simulator, lesson: Path
) -> None:
    kernel.run("%o3_config mode=record")
    first = {name: run_and_join(kernel, cell) for name, cell in CELLS.items()}
    asked = len(simulator.requests)
    offline(kernel, lesson)
    again = {name: run_and_join(kernel, cell) for name, cell in CELLS.items()}
    assert again == first
    assert len(simulator.requests) == asked
    links = [out["metadata"]["o3magic"] for out in first["text"]]
    assert len(links[0]["key"]) == 16
    assert "o3magic" in json.dumps(first["compare"][0]["metadata"])
    text = lesson.with_name("lesson.o3.json").read_text("utf-8")
    assert SECRET not in text
    assert '"source": "simulated"' in text


def test_background_answers_replay_too(kernel: Kernel, lesson: Path) -> None:
    kernel.run("%o3_config mode=record")
    kernel.run("%%o3 --background -o later\nWhat is a tree?")
    first = kernel.value("later.wait(20).text")
    offline(kernel, lesson)
    kernel.run("%%o3 --background -o later\nWhat is a tree?")
    assert kernel.value("later.wait(20).text") == first
    assert kernel.value("later.replayed") is True


def test_a_miss_is_one_clear_message_with_the_difference(kernel: Kernel, lesson: Path) -> None:
    kernel.run("%o3_config mode=record")
    kernel.run("%%o3\nWhat is a heap?")
    offline(kernel, lesson)
    ran = kernel.run("%%o3\nWhat is a leap?")
    assert ran.error["ename"] == "CassetteMiss"
    text = "\n".join(ran.error["traceback"])
    assert "heap" in text
    assert "leap" in text
    assert "Traceback" not in text
    assert ran.outputs[0]["kind"] == "error"


def test_a_rerun_cell_replays_the_same_answer(kernel: Kernel, lesson: Path) -> None:
    kernel.run("%o3_config mode=record")
    first = run_and_join(kernel, CELLS["twice"])
    offline(kernel, lesson)
    assert run_and_join(kernel, CELLS["twice"]) == first
    assert run_and_join(kernel, CELLS["twice"]) == first


def test_the_ledger_keeps_replays_apart(kernel: Kernel, lesson: Path) -> None:
    kernel.run("%o3_config mode=record")
    kernel.run("%%o3\nWhat is a heap?")
    offline(kernel, lesson)
    kernel.run("%%o3\nWhat is a heap?")
    assert "(replayed)" in kernel.run("%o3_cost").texts()[0]
