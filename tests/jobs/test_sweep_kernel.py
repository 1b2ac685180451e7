"""A sweep in a real kernel: what a cell shows, and going on after kill -9."""

import os
import threading
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from tests.jobs.sweep_provider import serving
from tests.notebook.conftest import Kernel
from tests.sessions import KEY

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
def kernel(provider, tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    root = str(Path(__file__).parents[2])
    said = {
        "O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3"),
        "O3MAGIC_CONFIG": str(tmp_path / "none.toml"),
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": provider.base_url,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH", "")])),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    manager, client = start_new_kernel(kernel_name="python3", env=kept | said, cwd=str(tmp_path))
    yield Kernel(manager, client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.context.destroy(linger=0)


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
