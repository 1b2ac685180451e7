"""`o3magic cost` and its words."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from o3magic.cli import cost
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import Ledger
from o3magic.errors import BadOption
from o3magic.events import Usage

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Run:
    """Runs the command's words on a ledger with two live calls and a simulated one."""
    monkeypatch.setenv("O3MAGIC_LEDGER", str(tmp_path / "ledger.sqlite3"))
    monkeypatch.setenv("O3MAGIC_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.chdir(tmp_path)
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with closing(
        Ledger(tmp_path / "ledger.sqlite3", clock=lambda: int(at.timestamp() * 1000))
    ) as ledger:
        for effort, nano in (("low", 50_000_000), ("high", None)):
            entry = ledger.enter(Attempt("s", "openai", "o3-mini", effort))
            ledger.settle(entry, Outcome("ok", Usage(10, 0, 20, 5), nano, "o3-mini-2025-01-31"))
        ledger.settle(
            ledger.enter(Attempt("s", "simulator", "o3", source="simulated")), Outcome("ok")
        )

    def command(*words: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser(prog="o3magic cost")
        cost.add_arguments(parser)
        chosen = parser.parse_args(words)
        code = chosen.run(chosen)
        return code, capsys.readouterr().out

    return command


def test_all_time_is_shown_with_the_sums_of_today_and_this_month(run: Run):
    code, out = run()
    assert code == 0
    for said in ("all time", "high", "at least $0.05", "o3 (SIMULATED)", "today", "this month"):
        assert said in out
    assert "2 + 1 simulated" in out


def test_it_is_grouped_and_limited_as_asked(run: Run):
    _, out = run("--by", "day,provider", "--since", "2026-02-01")
    assert ["2026-03-01", "openai", "2"] in [line.split()[:3] for line in out.splitlines()]
    _, out = run("--since", "2026-03-05")
    assert "no calls yet" in out
    with pytest.raises(BadOption, match="cannot be shown by"):
        run("--by", "colour")


def test_files_are_written(run: Run, tmp_path: Path):
    _, out = run("--csv", "costs.csv", "--json", "costs.json", "--plot", "costs.svg")
    assert "▇" in out
    assert (tmp_path / "costs.csv").read_text("utf-8").count("\n") == 4
    assert json.loads((tmp_path / "costs.json").read_text("utf-8"))["total"]["calls"] == 2
    assert ElementTree.parse(tmp_path / "costs.svg").getroot().tag.endswith("svg")


def bill(path: Path, usd: float) -> str:
    line = {"amount": {"value": usd, "currency": "usd"}, "line_item": "o3-mini, output"}
    day = {"start_time": 1772323200, "end_time": 1772409600, "results": [line]}
    path.write_text(json.dumps({"data": [day], "has_more": False}), encoding="utf-8")
    return str(path)


def test_a_bill_that_differs_is_an_exit_code_of_1(run: Run, tmp_path: Path):
    assert run("--reconcile", bill(tmp_path / "same.json", 0.05))[0] == 0
    code, out = run("--reconcile", bill(tmp_path / "more.json", 0.08))
    assert code == 1
    assert "+$0.03" in out
    assert "does not know the cost of 1 call" in out
    assert run("--reconcile", str(tmp_path / "more.json"), "--tolerance", "0.03")[0] == 0
    assert run("--reconcile", str(tmp_path / "more.json"), "--provider", "azure")[0] == 1


@pytest.mark.parametrize("tolerance", ["-1", "NaN", "much", "1e999999999999999999999"])
def test_a_tolerance_is_a_sum_of_money(run: Run, tolerance: str, capsys):
    with pytest.raises(SystemExit):
        run("--tolerance", tolerance)
    assert "tolerance" in capsys.readouterr().err


def test_a_bill_that_is_not_there_is_named(run: Run):
    with pytest.raises(BadOption, match=r"nowhere\.json cannot be read"):
        run("--reconcile", "nowhere.json")
