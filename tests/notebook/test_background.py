"""`--background`: the cell returns at once, the answer follows in its output."""

import time

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import Kernel, Ran

WORDS = " ".join(f"word{n}" for n in range(60))


def later_messages(kernel: Kernel, request: str, seconds: float) -> list[dict]:
    """The messages of a cell that arrive after it has returned."""
    messages = []
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            message = kernel.client.get_iopub_msg(timeout=left)
        except Exception:  # the queue is empty
            break
        if message["parent_header"].get("msg_id") == request:
            messages.append(message)
    return messages


def test_the_cell_returns_at_once_and_the_answer_follows(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text=WORDS, pause_s=0.03))
    request = kernel.start("%%o3 --background -o later\ntell me")
    began = time.monotonic()
    ran: Ran = kernel.collect(request)
    assert time.monotonic() - began < 1.5
    assert ran.status == "ok", ran.error
    messages = later_messages(kernel, request, 4)
    updates = [m["content"]["data"] for m in messages if m["msg_type"] == "update_display_data"]
    assert len(updates) > 2
    assert WORDS in updates[-1]["text/markdown"]
    assert "SIMULATED" in updates[-1]["text/markdown"]
    assert kernel.value("[later.done, later.text, later.effort]") == [True, WORDS, "medium"]


def test_several_run_at_once_and_can_be_waited_for(kernel: Kernel, simulator: Simulator):
    simulator.script(*[Reply(text=WORDS, pause_s=0.02)] * 2)
    kernel.run("one = %o3 --background first")
    kernel.run("two = %o3 --background second")
    assert kernel.value("one.done") is False
    began = time.monotonic()
    assert kernel.value("[one.wait(20).text, (await two).text]") == [WORDS, WORDS]
    assert time.monotonic() - began < 6


def test_one_can_be_stopped_and_keeps_what_arrived(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text=WORDS, pause_s=0.1))
    kernel.run("later = %o3 --background tell me")
    until = time.monotonic() + 10
    while not kernel.value("later.text") and time.monotonic() < until:
        time.sleep(0.1)
    kernel.run("later.stop()")
    ran = kernel.run("later.wait(10)")
    assert ran.error["ename"] == "Interrupted"
    assert kernel.value("[later.finish_reason, later.text[:5]]") == ["interrupted", "word0"]


def test_an_error_lands_in_the_cell_that_asked(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(status=429, error={"message": "none", "code": "insufficient_quota"}))
    request = kernel.start("%%o3 --background -o later\nhi")
    kernel.collect(request)
    messages = later_messages(kernel, request, 2)
    assert "QuotaExhausted" in str(messages[-1]["content"]["data"])
    assert kernel.run("later.wait(5)").error["ename"] == "QuotaExhausted"


def test_unloading_stops_running_answers_and_records_them(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text=WORDS, pause_s=0.2))
    kernel.run("later = %o3 --background tell me")
    time.sleep(1)
    kernel.run("%unload_ext o3magic")
    assert kernel.value("[later.done, later.finish_reason]") == [True, "interrupted"]
    kernel.run("%load_ext o3magic")
