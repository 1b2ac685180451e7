"""Ctrl-C at any moment: what arrived is kept, the call is booked, and one line is shown.

The default run interrupts a few cells; O3MAGIC_INTERRUPTS=300 runs the long one.
"""

import os
import queue
import random
import time

import pytest

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import Kernel

COUNT = int(os.environ.get("O3MAGIC_INTERRUPTS", "15"))
WORDS = "# Head\n\n" + "words **bold** $x^2$ " * 40
CELLS = {
    "a streamed cell": "%%o3 -o got\nhi",
    "a whole answer": "%%o3 -o got --no-stream\nhi",
    "o3.ask": "got = o3.ask('hi')",
    "o3.compare": "got = o3.compare('hi', efforts=('low', 'high'))",
}
LEFT = """
from o3magic.notebook.extension import session_of
session = session_of(get_ipython())
rows = list(session.ledger.entries(session=session.id))
[sum(r.status == "pending" for r in rows), len(rows)]
"""


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_interrupts_at_random_moments(kernel: Kernel, simulator: Simulator, cell: str):
    chance = random.Random(cell)
    kernel.run("import o3magic as o3")
    kernel.run("%%o3 -q\nwarm")
    simulator.script(*[Reply(text=WORDS, pause_s=0.0005)] * (2 * COUNT + 2))
    names = set()
    for _ in range(COUNT):
        request = kernel.start(cell)
        time.sleep(chance.uniform(0.005, 0.15))
        kernel.interrupt()
        try:
            ran = kernel.collect(request, 5)
        except queue.Empty:  # it hit ipykernel while that ended the cell, and its message is lost
            assert kernel.value("1") == 1
            continue
        if ran.status == "error":
            names.add(ran.error["ename"])
            # Frames of ours are shown by none; those of ipykernel may be interrupted as well.
            trace = "\n".join(ran.error["traceback"])
            assert ran.error["ename"] == "Interrupted" or "o3magic/" not in trace, trace
    assert "Interrupted" in names
    pending, entered = counts(kernel)
    assert pending == 0
    assert entered > 0
    assert kernel.run("%%o3 -q\nstill works?").status == "ok"


def counts(kernel: Kernel) -> list[int]:
    """How many calls are entered in the ledger as not ended, and how many there are."""
    *setup, last = LEFT.strip().splitlines()
    assert kernel.run("\n".join(setup)).status == "ok"
    return kernel.value(last)


def test_what_arrived_before_an_interrupt_is_kept(kernel: Kernel, simulator: Simulator):
    kernel.run("import o3magic as o3")
    simulator.script(*[Reply(text=WORDS, pause_s=0.02)] * 2)
    caught = "try:\n    o3.ask('hi')\nexcept o3.O3Error as error:\n    got = error.answer"
    for cell in ("%%o3 -o got\nhi", caught):
        request = kernel.start(cell)
        time.sleep(2.0)
        kernel.interrupt()
        kernel.collect(request, 20)
        assert kernel.value("got.text").startswith("# Head")
        assert kernel.value("got.finish_reason") == "interrupted"


def test_an_interrupted_question_is_one_line(kernel: Kernel, simulator: Simulator):
    kernel.run("import o3magic as o3")
    simulator.script(*[Reply(text=WORDS, pause_s=0.1)] * 2)
    for cell in ("%%o3\nhi", "o3.ask('hi')"):
        request = kernel.start(cell)
        time.sleep(1.0)
        kernel.interrupt()
        ran = kernel.collect(request, 20)
        assert ran.error["ename"] == "Interrupted"
        assert len("\n".join(ran.error["traceback"])) < 500


def test_one_interrupt_ends_an_awaited_question(kernel: Kernel, simulator: Simulator):
    kernel.run("import o3magic as o3")
    simulator.script(Reply(text=WORDS, pause_s=0.5))
    request = kernel.start("await o3.aask('hi')")
    time.sleep(1.0)
    kernel.interrupt()
    began_s = time.monotonic()
    assert kernel.collect(request, 20).status == "error"
    assert time.monotonic() - began_s < 1.5
