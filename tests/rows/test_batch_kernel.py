"""A batch in a real kernel: shown in one place, interrupted, and found again after a restart."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nbformat import read, write
from nbformat.v4 import new_code_cell, new_notebook

from o3magic.simulator import BatchScript, Reply
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
def kernel(sim, kernel_at):
    return kernel_at(sim.base_url)


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
    assert "is done: 2 of 2 rows answered · SIMULATED" in ran.texts()[-1]
    assert kernel.value("[df.error.isna().all(), list(df.columns[:2]), len(df)]") == [
        "True",
        ["country", "people"],
        2,
    ]
    assert len(sim.batches) == 1


def test_jobs_are_listed_with_their_label_shown_cancelled_and_forgotten(sim, kernel):
    long = ("validating", *["in_progress"] * 20, "completed")
    sim.script_batches(
        BatchScript(), BatchScript(states=long, trouble=(Reply(status=401, body={}),))
    )
    assert kernel.run(BEGIN).status == "ok"
    sent = kernel.run(SEND + "df = job.wait(poll_s=0.01)")
    assert sent.status == "ok", sent.error
    assert "SIMULATED, no model was asked" in sent.texts()[-1]
    other = kernel.run('other = o3.batch(rows, "What is {{ city }}?", name="others")')
    assert other.status == "ok", other.error
    listed = kernel.run("%o3_jobs").texts()[0]
    assert "o3-mini (SIMULATED)" in listed
    shown = kernel.run("%o3_jobs show cities")
    assert shown.status == "ok", shown.error
    assert "SIMULATED, no model was asked" in shown.texts()[0]
    assert "country" in shown.texts()[1]
    assert "SIMULATED, no model was asked" in kernel.run("job").texts()[0]
    away = kernel.run("%o3_jobs show others")
    assert away.status == "ok", away.error
    assert "not asked: " in away.texts()[0]
    assert "not answered yet" in away.texts()[1]
    running = kernel.run("%o3_jobs delete others")
    assert running.error["ename"] == "BadOption"
    assert "%o3_jobs cancel 2 ends it" in running.error["traceback"][-1]
    ended = kernel.run("%o3_jobs cancel 2")
    assert "was cancelled: 0 of 2 rows were answered" in ended.texts()[0]
    gone = kernel.run("%o3_jobs delete 1 2")
    assert gone.status == "ok", gone.error
    assert "no jobs" in kernel.run("%o3_jobs").texts()[0]
    assert kernel.run("%o3_jobs cancel 1").error["ename"] == "BadOption"


CELLS = [
    "%load_ext o3magic",
    "import o3magic as o3\nrows = [{'city': name} for name in ('Oslo', 'Rome', 'Oslo', '')]",
    "job = o3.batch(rows, '{{ city }}', name='cities')",
    "table = job.wait(poll_s=0.01)",
    "print(table.to_string())",
    "job",
    "print(job.status())",
    "print([each.name for each in o3.jobs()], o3.job('cities').failed_rows())",
]


def test_a_notebook_with_a_batch_is_recorded_and_checked_without_key_and_network(sim, tmp_path):
    path = tmp_path / "cities.ipynb"
    cells = [new_code_cell(source, id=f"c{n}") for n, source in enumerate(CELLS)]
    write(new_notebook(cells=cells), path)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    root = str(Path(__file__).parents[2])
    kept |= {"PYTHONPATH": os.pathsep.join([root, kept.get("PYTHONPATH", "")])}
    kept |= {"IPYTHONDIR": str(tmp_path / "ipython"), "O3MAGIC_CONFIG": os.devnull}
    kept |= {"O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3")}
    there = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": sim.base_url}
    kept |= {"O3MAGIC_MODEL": "o3-mini"}

    def o3magic(*words, **more):
        line = [sys.executable, "-m", "o3magic", *words, str(path)]
        done = subprocess.run(line, env=kept | more, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    o3magic("run", "--mode", "record", **there)
    outputs = [cell.outputs for cell in read(path, 4).cells]
    requests = len(sim.requests)
    o3magic("check")
    o3magic("run", "--mode", "replay")
    assert [cell.outputs for cell in read(path, 4).cells] == outputs
    assert len(sim.requests) == requests
    assert "SIMULATED" in outputs[5][0]["data"]["text/plain"]
