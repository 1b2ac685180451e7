"""A batch in a real kernel: shown in one place, interrupted, and found again after a restart."""

import os
import time
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from o3magic.simulator import BatchScript
from tests.notebook.conftest import Kernel
from tests.sessions import KEY

BEGIN = """
import o3magic as o3
%load_ext o3magic
from dataclasses import dataclass
@dataclass
class City:
    country: str
    people: int
"""
SEND = """
rows = [{"city": name} for name in ("Oslo", "Rome")]
job = o3.batch(rows, "Where is {{ city }}?", schema="City", name="cities")
"""


@pytest.fixture
def kernel(sim, tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    root = str(Path(__file__).parents[2])
    said = {
        "O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3"),
        "O3MAGIC_CONFIG": str(tmp_path / "none.toml"),
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": sim.base_url,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH", "")])),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    manager, client = start_new_kernel(kernel_name="python3", env=kept | said, cwd=str(tmp_path))
    yield Kernel(manager, client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.context.destroy(linger=0)


def shown(kernel, request):
    """Waits until a cell shows something."""
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s:
        message = kernel.client.get_iopub_msg(timeout=30)
        ours = message["parent_header"].get("msg_id") == request
        if ours and message["msg_type"] == "display_data":
            return message["content"]["data"]
    raise AssertionError("nothing was shown")


def test_an_interrupted_and_restarted_kernel_comes_back_to_its_batch(sim, kernel):
    sim.script_batches(BatchScript(states=("validating", *["in_progress"] * 4, "completed")))
    assert kernel.run(BEGIN).status == "ok"
    sent = kernel.run(SEND)
    assert sent.status == "ok", sent.error
    request = kernel.start("job.wait(poll_s=600)")
    data = shown(kernel, request)
    assert "is running at openai: 0 of 2 rows done" in data["text/plain"]
    assert "text/html" not in data
    kernel.interrupt()
    ran = kernel.collect(request)
    assert ran.status == "error"
    [line, hint] = next(each["traceback"] for each in ran.outputs if each["kind"] == "error")
    assert line == "Interrupted: batch job 1 'cities' goes on at openai without you"
    assert hint.endswith("o3.job(1).wait() comes back to it, .cancel() ends it")

    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=60)
    assert kernel.run(BEGIN).status == "ok"
    ran = kernel.run("[job] = o3.jobs(); print(job.name); df = job.wait(poll_s=0.01)")
    assert ran.status == "ok", ran.error
    assert ran.stdout == "cities\n"
    displays = [each for each in ran.messages if each["type"] == "display_data"]
    assert len(displays) <= 1  # one place, updated
    assert ran.texts()[-1].endswith("is done: 2 of 2 rows answered")
    assert kernel.value("[df.error.isna().all(), list(df.columns[:2]), len(df)]") == [
        "True",
        ["country", "people"],
        2,
    ]
    assert len(sim.batches) == 1
