"""`--compare`: the same question at several efforts or models, in a real kernel."""

import json
import time

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import Kernel


def test_every_effort_of_the_model_is_asked_at_once(kernel: Kernel, simulator: Simulator):
    ran = kernel.run("%%o3 --compare -o cmp\nWhy is the sky blue?")
    assert ran.status == "ok", ran.error
    efforts = sorted(request.body["reasoning"]["effort"] for request in simulator.requests)
    assert efforts == ["high", "low", "medium"]
    assert kernel.value("[a.effort for a in cmp.answers]") == ["low", "medium", "high"]
    assert kernel.value("list(cmp.to_frame()['reasoning_tokens'] > 0)") == [True] * 3
    markdown = ran.texts("text/markdown")[0]
    for text in ("| low | medium | high |", "of which reasoning", "SIMULATED", "seconds"):
        assert text in markdown
    assert ran.texts("image/svg+xml")
    assert "medium:" in ran.texts()[0]


def test_models_can_be_compared_and_fields_that_differ_are_marked(kernel, simulator: Simulator):
    kernel.run(
        "from pydantic import BaseModel\nclass City(BaseModel):\n    name: str\n    size: int"
    )
    ran = kernel.run(
        "import o3magic as o3\n"
        "cmp = o3.compare('Which?', models=('o3', 'o4-mini'), effort='low', schema=City)\ncmp"
    )
    assert ran.status == "ok", ran.error
    assert kernel.value("list(cmp.labels)") == ["o3", "o4-mini"]
    assert kernel.value("[type(a.parsed).__name__ for a in cmp.answers]") == ["City", "City"]
    assert "**differs**" in ran.texts("text/markdown")[0]
    assert kernel.value("'name' in cmp.to_frame().columns") is True


def test_one_that_fails_does_not_stop_the_others(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(status=400, error={"message": "no <b>such</b> thing", "code": "x"}))
    ran = kernel.run("%%o3 --compare --efforts low,high -o cmp\nWhy?")
    assert ran.status == "ok", ran.error
    assert sorted(bool(text) for text in kernel.value("list(cmp.errors)")) == [False, True]
    assert "<b>" not in ran.texts("text/markdown")[0]


def test_an_interrupt_stops_them_all_and_keeps_what_arrived(kernel: Kernel, simulator: Simulator):
    words = " ".join(f"word{n}" for n in range(500))
    simulator.script(*[Reply(text=words, pause_s=0.05)] * 3)
    request = kernel.start("%%o3 --compare -o cmp\ntell me a lot")
    limit_s = time.monotonic() + 20
    while len(simulator.requests) < 3 and time.monotonic() < limit_s:
        time.sleep(0.05)
    time.sleep(3)  # high effort thinks for more than a second at this pace
    kernel.interrupt()
    ran = kernel.collect(request, 20)
    assert ran.error["ename"] == "Interrupted"
    assert kernel.value("[a.finish_reason for a in cmp.answers]") == ["interrupted"] * 3
    texts = kernel.value("[a.text for a in cmp.answers]")
    assert [text[:5] for text in texts] == ["word0"] * 3, ran.outputs
    assert "word0" in json.dumps(ran.outputs)


def test_nothing_to_compare_is_an_error(kernel: Kernel):
    ran = kernel.run("%%o3 --compare --efforts low\nWhy?")
    assert ran.error["ename"] == "BadOption"


def test_a_dry_run_of_a_comparison_sends_nothing(kernel: Kernel, simulator: Simulator):
    ran = kernel.run("%%o3 --compare --dry-run\nWhy?")
    assert ran.status == "ok", ran.error
    requests = [json.loads(text[text.index("{") :]) for text in ran.texts()]
    shown = [request["body"]["reasoning"]["effort"] for request in requests]
    assert shown == ["low", "medium", "high"]
    assert simulator.requests == []


def test_a_quiet_comparison_shows_nothing(kernel: Kernel, simulator: Simulator):
    ran = kernel.run("%%o3 --compare -q -o cmp\nWhy?")
    assert ran.status == "ok", ran.error
    assert ran.outputs == []
    assert kernel.value("len(cmp.answers)") == 3
