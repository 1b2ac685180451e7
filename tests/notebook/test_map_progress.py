"""`%%o3 --map df` and `%o3_jobs` in a real kernel."""

import time

import pytest

from tests.notebook.conftest import SECRET
from tests.rows.loopback import served

SETUP = """
import os
os.environ.update({env})
import pandas as pd
from pydantic import BaseModel
class Label(BaseModel):
    label: str
    score: int
df = pd.DataFrame({{"city": ["Rome", "Oslo", "<b>Bern</b>"]}}, index=[7, 8, 9])
%load_ext o3magic
"""


@pytest.fixture(scope="module")
def server():
    with served() as made:
        yield made


@pytest.fixture
def ready(kernel, server, tmp_path):
    """A kernel that asks the server."""
    server.begin()
    env = {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": server.base_url}
    env["O3MAGIC_MODEL"] = "o3-mini"
    env["O3MAGIC_LEDGER"] = str(tmp_path / "ledger.sqlite3")
    ran = kernel.run(SETUP.format(env=env))
    assert ran.status == "ok", ran.error
    return kernel


def test_a_cell_maps_a_frame_and_keeps_the_table(ready, server):
    ran = ready.run("%%o3 --map df -s Label -o out\nWhere is {{ city }}?")
    assert ran.status == "ok", ran.error
    assert ready.value("out.label.tolist()") == [
        f"Where is {c}?"[:20] for c in ("Rome", "Oslo", "<b>Bern</b>")
    ]
    assert ready.value("out.index.tolist()") == [7, 8, 9]
    assert ready.value("_ is out or True")
    shown = ran.texts()
    assert "3 of 3 rows" in shown[0]
    # What the job shows is text and safe Markdown; the table is the DataFrame's own.
    assert "text/html" not in ran.outputs[0]["data"]
    assert ran.outputs[1]["kind"] == "execute_result"
    assert "<b>Bern" not in ran.outputs[1]["data"].get("text/html", "")


def test_rows_are_seen_as_they_land(ready, server):
    server.begin(latency_s=0.4)
    ready.run("import o3magic as o3")
    ready.run("rows = [{'a': n} for n in range(12)]")
    ran = ready.run("out = o3.map(rows, 'is {{ a }} *even*?', concurrency=2, schema=Label)")
    assert ran.status == "ok", ran.error
    updates = [m["content"]["data"] for m in ran.messages if m["type"] == "update_display_data"]
    assert any("| row | label | score |" in data["text/markdown"] for data in updates)
    assert all(set(data) <= {"text/plain", "text/markdown"} for data in updates)
    assert len(updates) <= 8


def test_jobs_are_listed_shown_gone_on_with_and_deleted(ready, server):
    ready.run("%%o3 --map df -s Label -o out\nWhere is {{ city }}?")
    ran = ready.run("%o3_jobs")
    assert "3 of 3" in ran.texts()[0]
    ran = ready.run("%o3_jobs show 1")
    assert "Where is {{ city }}?" in ran.texts()[0]
    assert "score" in ran.texts()[1]
    ready.run("df = pd.concat([df, pd.DataFrame({'city': ['Kyiv']}, index=[1])])")
    asked = server.stats["requests"]
    assert ready.run("more = %o3_jobs resume 1").status == "ok"
    assert ready.value("len(more)") == 4
    assert server.stats["requests"] == asked + 1
    assert ready.value("[j.id for j in __import__('o3magic').jobs()]") == [1]
    assert ready.run("%o3_jobs delete 1").status == "ok"
    assert "no jobs" in ready.run("%o3_jobs").texts()[0]
    assert ready.run("%o3_jobs show 1").error["ename"] == "BadOption"


def test_the_stop_button_keeps_what_is_done(ready, server):
    server.begin(latency_s=0.3)
    ready.run("df = pd.DataFrame({'city': [f'c{n}' for n in range(60)]})")
    request = ready.start("%%o3 --map df -o part --concurrency 4\nWhere is {{ city }}?")
    while len(server.stats["answered"]) < 8:
        time.sleep(0.02)
    ready.interrupt()
    ran = ready.collect(request)
    assert ran.error["ename"] == "Interrupted"
    done = ready.value("int(part.error.isna().sum())")
    assert 8 <= done < 60
    server.begin()
    assert ready.run("%%o3 --map df -o part --concurrency 4\nWhere is {{ city }}?").status == "ok"
    assert ready.value("int(part.error.isna().sum())") == 60
    assert len(server.stats["begun"]) == 60 - done


def test_mistakes_are_errors(ready):
    assert ready.run("%%o3 --map dg\n{{ city }}").error["evalue"].startswith("--map dg: dg is not")
    ran = ready.run("%%o3 --map df\n{{ citi }}")
    assert ran.error["ename"] == "TemplateError"
    assert "no column citi" in ran.error["evalue"]
    assert ready.run("%o3_jobs burn 1").error["ename"] == "BadOption"
