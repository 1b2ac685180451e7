"""`%o3_cost` in a real kernel: tables, pictures, files, and a view that follows the ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import Kernel, chat_stream

USAGE = {"prompt_tokens": 100, "completion_tokens": 300, "total_tokens": 400}
USAGE |= {"completion_tokens_details": {"reasoning_tokens": 240}}
COST = "$0.00143"  # 100 at 1.10 and 300 at 4.40


@pytest.fixture
def asked(kernel: Kernel, simulator: Simulator) -> Kernel:
    """A session with one call that costs, one of unknown cost, and one simulated."""
    simulator.script(Reply(body=chat_stream(["four"], USAGE)))
    simulator.script(Reply(body=chat_stream(["four"])))
    ran = kernel.run(
        "%o3_config api=chat\n"
        "%o3 -q --effort low 2+2?\n"
        "%o3 -q --effort high 2+2?\n"
        "%o3 -q -p simulator 2+2?"
    )
    assert ran.status == "ok", ran.error
    return kernel


def test_by_itself_it_shows_the_session_and_a_line_for_each_longer_time(asked: Kernel):
    ran = asked.run("%o3_cost")
    [text] = ran.texts()
    [markdown] = ran.texts("text/markdown")
    assert text.startswith("this session\nmodel")
    rows = [line.split() for line in text.splitlines()]
    assert ["o3-mini", "low", "1", "100", "0", "300", "240", COST] in rows
    assert ["o3-mini", "high", "1", *["unknown"] * 5] in rows
    assert f"at least {COST}" in text
    assert "(SIMULATED)" in text
    for span in ("today", "this month", "all time"):
        assert any(line.startswith(f"{span} ") for line in text.splitlines())
        assert f"| {span} |" in markdown
    assert "$" not in markdown


def test_the_picture_is_svg_with_a_table_and_no_html(asked: Kernel):
    ran = asked.run("%o3_cost --of session --by effort --plot")
    [picture] = ran.texts("image/svg+xml")
    assert ET.fromstring(picture).tag.endswith("svg")
    assert "≥" in picture
    assert "▇" in ran.texts()[-1]
    assert not ran.texts("text/html")


def test_files_are_written_where_it_says(asked: Kernel):
    ran = asked.run("%o3_cost --of session --csv 'my costs.csv' --json=costs.json --plot p.svg")
    assert ran.texts()[-1] == "written: p.svg, my costs.csv, costs.json"
    assert asked.value("open('my costs.csv').read().count('\\n')") == 4
    rows = json.loads(asked.value("open('costs.json').read()"))["rows"]
    assert {row["cost_usd"] for row in rows} == {"0.001430000", None, "0.000000000"}
    assert asked.value("open('p.svg').read()[:4]") == "<svg"


def test_python_gets_the_same_as_a_value_that_shows_itself(asked: Kernel):
    ran = asked.run("import o3magic as o3\nfound = o3.costs(of='session', by='effort')\nfound")
    [out] = ran.outputs
    assert out["kind"] == "execute_result"
    assert set(out["data"]) == {"text/markdown", "text/plain"}
    assert out["data"]["text/plain"].startswith("this session\neffort")
    assert asked.value("str(found.cost_usd)") == "0.001430000"
    assert asked.value("found.records()[0]['effort']") == "low"
    [plot] = asked.run("found.plot()").outputs
    assert set(plot["data"]) == {"image/svg+xml", "text/plain"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--off month", "did you mean --of"),
        ("--of monthly", "invalid choice: 'monthly'"),
        ("--by efort", "did you mean effort"),
        ("--since soon", "'soon' is not a date"),
        ("please", "takes no 'please'"),
        ("--csv", "expected one argument"),
        ("--watch --of month", "--watch takes no --of"),
        ("--csv /nowhere/at/all.csv", "cannot be written"),
    ],
)
def test_wrong_words_are_one_line_and_what_to_try(kernel: Kernel, line: str, message: str):
    ran = kernel.run(f"%o3_cost {line}")
    assert ran.status == "error"
    assert ran.error["ename"] == "BadOption"
    assert message in " ".join(ran.error["traceback"])


def test_the_help_lists_every_option(kernel: Kernel):
    ran = kernel.run("from o3magic.notebook.costs import help_text, FLAGS; print(help_text())")
    flags = kernel.value("FLAGS")
    assert all(flag in ran.stdout for flag in flags)
    assert "usage:" not in ran.stdout


WATCHED = "magics_of(get_ipython()).actions.context.views(CostWatch)"


def watch(kernel: Kernel) -> None:
    ran = kernel.run("%o3_cost --watch")
    assert ran.status == "ok", ran.error
    [out] = [out for out in ran.outputs if out["kind"] == "display_data"]
    assert "application/vnd.jupyter.widget-view+json" in out["data"]
    assert out["data"]["text/plain"] == "o3magic costs, live (%o3_cost shows them once)"
    kernel.run("from o3magic.notebook.extension import magics_of")
    kernel.run("from o3magic.notebook.cost_watch import CostWatch")


def watched(kernel: Kernel) -> str:
    return kernel.value(f"{WATCHED}[0].table.value")


def test_a_view_follows_the_ledger_and_shows_money_as_text(asked: Kernel, simulator: Simulator):
    watch(asked)
    before = watched(asked)
    assert f"at least {COST}" in before
    assert "2 + 1 simulated" in before
    assert "80%" in before
    simulator.script(Reply(body=chat_stream(["four"], USAGE)))
    asked.run("%o3 -q 2+2?")
    assert "at least $0.00286" in watched(asked)
    simulator.script(Reply(body=chat_stream(["four"], USAGE)))
    # In one cell, so that the end of no other cell can bring the news.
    ran = asked.run(
        "import threading\n"
        "news = threading.Event()\n"
        "tell = lambda change: '$0.00429' in change.new and news.set()\n"
        f"{WATCHED}[0].table.observe(tell, 'value')\n"
        "later = get_ipython().run_cell_magic('o3', '-q --background', '2+2?')\n"
        "later.wait(20)\n"
        "assert news.wait(20), 'the view did not hear of it'"
    )
    assert ran.status == "ok", ran.error
    assert "at least $0.00429" in watched(asked)


def test_a_view_is_closed_by_its_button_and_with_the_extension(kernel: Kernel):
    watch(kernel)
    kernel.run(f"first = {WATCHED}[0]; first.stop.click()")
    assert kernel.value(f"len({WATCHED})") == 0
    assert kernel.value("first.box.comm is None") is True
    kernel.run("first.refresh(); first.close()")
    watch(kernel)
    kernel.run(f"second = {WATCHED}[0]")
    assert kernel.run("%unload_ext o3magic").status == "ok"
    assert kernel.value("second.closed") is True
    hooks = "get_ipython().events.callbacks['post_run_cell']"
    assert kernel.value(f"[str(f) for f in {hooks} if 'CostWatch' in str(f)]") == []


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python or IPython in a process of its own, as narrow as a phone."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    own = {"O3MAGIC_LEDGER": ":memory:", "O3MAGIC_CONFIG": str(folder / "none.toml")}
    own |= {"PYTHONPATH": str(Path(__file__).parents[2]), "IPYTHONDIR": str(folder)}
    return subprocess.run(
        [sys.executable, *words],
        env=inherited | own | {"COLUMNS": "60"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_a_terminal_shows_it_once_and_in_its_own_width(tmp_path: Path):
    lines = "%load_ext o3magic\n%o3 -q -p simulator 2+2?\n%o3_cost --watch\n"
    (tmp_path / "cells.ipy").write_text(lines)
    words = ("-m", "IPython", "--no-banner", "--colors=NoColor", "cells.ipy")
    out = python(tmp_path, *words).stdout
    table = out[out.index("this session") :].splitlines()
    assert out.count("this session") == 1
    assert "(SIMULATED)" in out
    assert "cached" not in table[1]
    assert all(len(line) <= 60 for line in table[1:5])


def test_plain_python_has_them_too_and_loads_no_notebook(tmp_path: Path):
    code = "import sys, o3magic as o3; print(o3.costs()); print('IPython' in sys.modules)"
    out = python(tmp_path, "-c", code).stdout
    assert out.startswith("all time: no calls yet\n")
    assert out.endswith("False\n")


def test_prices_are_compared_by_the_models_magic(kernel: Kernel):
    pytest.importorskip("genai_prices")
    [text] = kernel.run("%o3_models --check").texts()
    assert "genai-prices 0." in text
