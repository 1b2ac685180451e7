"""A batch survives the kernel: processes that die at each place, and others that go on."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from o3magic.cost.ledger import Ledger
from o3magic.simulator import BatchScript, Reply
from tests.sessions import COST_NANO_USD, KEY, response

SEND = """
import sys, time
from dataclasses import dataclass
import o3magic as o3
@dataclass
class City:
    country: str
    people: int
{before}
rows = [{{"city": name}} for name in ("Oslo", "Rome", "Paris", "Oslo", "Bern")]
job = o3.batch(rows, "Where is {{{{ city }}}}?", schema=City, name="cities")
print(job.id, flush=True)
time.sleep(60)
"""
# At these places the process is gone, as after kill -9.
DIE_BEFORE_CREATE = """
import os
from o3magic.client.files import Files
Files.create = lambda *a, **k: os._exit(9)
"""
DIE_AFTER_CREATE = """
import os
from o3magic.client.files import Files
create = Files.create
def create_and_die(*a, **k):
    create(*a, **k)
    os._exit(9)
Files.create = create_and_die
"""
DIE_AFTER_UPLOAD = """
import os
from o3magic.rows.batch.store import BatchStore
mark_uploaded = BatchStore.mark_uploaded
def keep_and_die(*a, **k):
    mark_uploaded(*a, **k)
    os._exit(9)
BatchStore.mark_uploaded = keep_and_die
"""
DIE_BEFORE_UPLOAD = """
import os
from o3magic.client.files import Files
Files.upload = lambda *a, **k: os._exit(9)
"""
GO_ON = """
import json, sys
import o3magic as o3
{before}
from o3magic.rows.batch import upload
upload.LIST_LAG_S = 0
[job] = o3.jobs()
table = job.wait(poll_s=0.01)
print(table.to_json(orient="records"))
"""
DIE_IN_FETCH = """
import os
from o3magic.rows.batch.store import BatchStore
save_outcomes = BatchStore.save_outcomes
def keep_and_die(*a, **k):
    save_outcomes(*a, **k)
    os._exit(9)
BatchStore.save_outcomes = keep_and_die
"""
DIE_BEFORE_SETTLE = """
import os
from o3magic.rows.batch.download import Downloader
Downloader._settle = lambda *a, **k: os._exit(9)
"""
DIE_AFTER_SETTLE = """
import os
from o3magic.rows.batch.store import BatchStore
BatchStore.mark_ended = lambda *a, **k: os._exit(9)
"""


@pytest.fixture
def environment(sim, tmp_path):
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(tmp_path),
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": sim.base_url,
        "O3MAGIC_MODEL": "o3-mini",
        "O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3"),
    }


@pytest.fixture
def python(environment, tmp_path):
    """Runs a program to its end, in a process of its own; gives its exit code and its words."""

    def run(code):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode not in (0, 9):
            raise AssertionError(done.stderr)
        return done.returncode, done.stdout

    return run


@pytest.fixture
def sent_and_killed(environment, tmp_path):
    """Sends a batch in a process that is killed as soon as it is sent."""

    def run():
        with subprocess.Popen(
            [sys.executable, "-c", SEND.format(before="")],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline().strip() == "1"
            process.send_signal(signal.SIGKILL)

    return run


def answer(body):
    """An answer that costs, with the city in it."""
    content = body["input"][0]["content"]
    return response(json.dumps({"country": content, "people": 7}))


def settled(tmp_path):
    """Kind, status and cost of each entry of the ledger."""
    with closing(Ledger(tmp_path / "ledger.sqlite3")) as ledger:
        return [(each.kind, each.status, each.cost_nano_usd) for each in ledger.entries()]


def test_a_killed_kernel_and_the_next_one_gets_the_table(sim, sent_and_killed, python, tmp_path):
    failing = {1: Reply(status=500)}
    sim.script_batches(BatchScript(answer=answer, failing=failing, missing=[2], usage=False))
    sent_and_killed()
    assert settled(tmp_path) == [("batch", "pending", None)]
    code, said = python(GO_ON.format(before=""))
    table = json.loads(said)
    assert code == 0
    assert [row["country"] for row in table] == [
        "Where is Oslo?",
        None,
        None,
        "Where is Oslo?",
        "Where is Bern?",
    ]
    assert [row["people"] for row in table] == [7, None, None, 7, 7]
    assert "HTTP 500" in table[1]["error"]
    assert "without an answer" in table[2]["error"]
    assert len(sim.batches) == 1
    # What the missing row cost nobody knows.
    assert settled(tmp_path) == [("batch", "ok", None)]


@pytest.mark.parametrize(
    ("die", "uploads"),
    [(DIE_AFTER_UPLOAD, 1), (DIE_BEFORE_CREATE, 1), (DIE_AFTER_CREATE, 1)],
    ids=["after the upload", "before the batch is made", "after the batch is made"],
)
def test_a_process_that_dies_while_it_sends_never_pays_twice(sim, python, tmp_path, die, uploads):
    sim.script_batches(BatchScript(answer=answer))
    assert python(SEND.format(before=die))[0] == 9
    code, said = python(GO_ON.format(before=""))
    assert code == 0
    assert [row["people"] for row in json.loads(said)] == [7] * 5
    assert len(sim.batches) == 1
    assert len([each for each in sim.files if each["purpose"] == "batch"]) == uploads
    paid = [cost for _, _, cost in settled(tmp_path) if cost]
    assert paid == [4 * COST_NANO_USD // 2]
    assert all(cost is not None for _, _, cost in settled(tmp_path))


def test_a_process_that_dies_before_anything_left_is_gone_on_with_by_the_same_call(
    sim, python, tmp_path
):
    sim.script_batches(BatchScript(answer=answer))
    assert python(SEND.format(before=DIE_BEFORE_UPLOAD))[0] == 9
    assert sim.batches == []
    again = SEND.format(before="").replace("time.sleep(60)", "print(job.wait(0.01).people.sum())")
    assert python(again)[1].split() == ["1", "35"]
    assert settled(tmp_path) == [("batch", "ok", 4 * COST_NANO_USD // 2)]


@pytest.mark.parametrize(
    "die",
    [DIE_IN_FETCH, DIE_BEFORE_SETTLE, DIE_AFTER_SETTLE],
    ids=["with some rows kept", "before the cost is entered", "after the cost is entered"],
)
def test_a_process_that_dies_while_it_fetches_is_gone_on_with(
    sim, sent_and_killed, python, tmp_path, die
):
    sim.script_batches(BatchScript(answer=answer, failing={1: Reply(status=400)}))
    sent_and_killed()
    assert python(GO_ON.format(before=die))[0] == 9
    code, said = python(GO_ON.format(before=""))
    assert code == 0
    assert [row["people"] for row in json.loads(said)] == [7, None, 7, 7, 7]
    assert settled(tmp_path) == [("batch", "ok", 3 * COST_NANO_USD // 2)]
