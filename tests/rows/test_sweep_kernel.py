"""A sweep in a real kernel: what a cell shows, and going on after kill -9."""

import threading

import pytest

from tests.rows.sweep_provider import serving

ROWS = """
%load_ext o3magic
import o3magic as o3
rows = [{"q": f"row {n}", "n": n} for n in range(20)]
"""
SWEEP = 'o3.sweep(rows, "{{ q }}", expected="n", scorer="number", concurrency=1)'


@pytest.fixture
def provider():
    with serving() as server:
        yield server


@pytest.fixture
def kernel(provider, kernel_at):
    return kernel_at(provider.base_url)


def test_a_killed_sweep_goes_on_where_it_stopped_and_shows_itself(kernel, provider):
    reached, on = threading.Event(), threading.Event()

    def at(effort):
        if effort == "medium" and sum(e == "medium" for e, _ in provider.asked) == 5:
            reached.set()
            on.wait(20)

    provider.at = at
    assert kernel.run(ROWS).status == "ok"
    kernel.start(SWEEP)
    assert reached.wait(30)
    kernel.manager.restart_kernel(now=True)  # kill -9, and another
    on.set()
    provider.at = lambda effort: None
    kernel.client.wait_for_ready(timeout=60)
    assert kernel.run(ROWS).status == "ok"
    ran = kernel.run(f"found = {SWEEP}; found")
    assert ran.status == "ok", ran.error
    asked = provider.asked
    assert len(asked) == 60
    assert sum(count - 1 for count in asked.values()) <= 1  # what was on its way
    shown = ran.outputs[-1]["data"]
    assert "| low | 0.50 |" in shown["text/markdown"]
    assert "not distinguishably below" in shown["text/plain"]
    assert "text/html" not in shown
    bars = [out for out in ran.outputs if out["kind"] == "display_data"]
    assert len(bars) == 1
    assert "60 of 60 rows" in bars[0]["data"]["text/plain"]
    drawn = kernel.run('found.plot("AIME 2024")').outputs[-1]["data"]
    assert drawn["image/svg+xml"].startswith("<svg")
