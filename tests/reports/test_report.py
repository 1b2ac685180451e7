"""The table of costs: its words, its sums, and names that try to break it."""

from __future__ import annotations

import csv
import importlib.util
from decimal import Decimal
from pathlib import Path

import pytest

from o3magic.cost.entries import CallSums, CostTotal
from o3magic.reports.report import build_report

COLUMNS = ["source", "model", "effort", "calls", "unknown_cost_calls", "input_tokens"]
COLUMNS += ["cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd"]
HIGH = CostTotal(
    model="o3-mini",
    effort="high",
    live=CallSums(3, 1, 1, 12_345, 2_000, 0, 6_000, 4_032, 7_406_000),
)
LOW = CostTotal(
    model="o3-mini",
    effort="low",
    live=CallSums(1, 0, 0, 10, 0, 0, 20, 0, 400),
    simulated=CallSums(2, 0, 0, 5, 0, 0, 6, 0, 0),
)
MEDIUM = CostTotal(
    model="o3-mini",
    effort="medium",
    live=CallSums(1, 1, 0, 7, 0, 0, 8, 0, 0),
    replayed=CallSums(1, 0, 0, 5, 0, 0, 6, 0, 0),
)
HOSTILE = (
    "o3|<img src=x onerror=alert(1)>`$\\frac$`\n# [a](javascript:b) **b** www.example.org"
    " \x1b[31m\u202e"
)


TABLE = """\
this session
model                effort  calls   input  cached  output  reasoning                cost
-----------------------------------------------------------------------------------------
o3-mini              low         1      10       0      20          0          $0.0000004
o3-mini              medium      1       7       0       8          0             unknown
o3-mini              high        3  12,345   2,000   6,000      4,032  at least $0.007406
total                            5  12,362   2,000   6,028      4,032  at least $0.007406
o3-mini (SIMULATED)  low         2       5       0       6          0                  $0
o3-mini (replayed)   medium      1       5       0       6          0                  $0
The cost of 2 calls is unknown, and missing from the sums.
The tokens of 1 call are unknown, and missing from the sums.
SIMULATED calls went to the simulator: no model answered them."""


def test_the_table_reads_well() -> None:
    assert str(build_report([HIGH, LOW, MEDIUM], "this session")) == TABLE


def test_a_session_whose_costs_are_all_known_needs_no_notes() -> None:
    known = CostTotal(model="o3", live=CallSums(2, 0, 0, 10, 0, 0, 20, 0, 1_000_000_000))
    made = build_report([known], "today")
    assert made.notes == ()
    assert "at least" not in str(made)
    assert made.total == known.live


def test_what_no_call_said_is_unknown_and_never_nothing() -> None:
    silent = CostTotal(model="o3", live=CallSums(2, 2, 2))
    row = str(build_report([silent], "today")).splitlines()[3]
    assert row.split() == ["o3", "2", *["unknown"] * 5]


def test_a_session_without_calls_says_so() -> None:
    assert str(build_report([], "this session")) == "this session: no calls yet"
    assert build_report([], "").markdown() == "**costs**: no calls yet\n"


def test_only_simulated_calls_leave_a_total_of_nothing() -> None:
    only = build_report([CostTotal(model="o3", simulated=CallSums(4, 0, 0, 10, 0, 0, 20))], "demo")
    total, simulated = str(only).splitlines()[3:5]
    assert total.split() == ["total", "0", "0", "0", "0", "0", "$0"]
    assert simulated.split() == ["o3", "(SIMULATED)", "4", "10", "0", "20", "0", "$0"]


def test_markdown_is_the_same_table_with_its_dollars_no_mathematics() -> None:
    text = build_report([HIGH, LOW], "this session").markdown()
    assert text.splitlines()[:7] == [
        "**this session**",
        "",
        "| model | effort | calls | input | cached | output | reasoning | cost |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| o3-mini | low | 1 | 10 | 0 | 20 | 0 | &#36;0.0000004 |",
        "| o3-mini | high | 3 | 12,345 | 2,000 | 6,000 | 4,032 | at least &#36;0.007406 |",
        "| **total** |  | **4** | **12,355** | **2,000** | **6,020** | **4,032** |"
        " **at least &#36;0.007406** |",
    ]
    assert "$" not in text


def test_a_hostile_name_stays_a_name_in_markdown() -> None:
    hostile = CostTotal(model=HOSTILE, effort=HOSTILE, live=CallSums(1))
    text = build_report([hostile], HOSTILE).markdown()
    [row] = [line for line in text.splitlines() if line.startswith("| o3")]
    assert row.count("|") == 9
    assert not set("<>`$\\[]:=\x1b\u202e") & set(text.replace("---:", ""))
    assert "www." not in text
    assert len(text.splitlines()) == 6


def test_a_hostile_name_stays_on_its_line_in_plain_text() -> None:
    text = str(build_report([CostTotal(model=HOSTILE, live=CallSums(1))], HOSTILE))
    assert len(text.splitlines()) == 5
    assert text.replace("\n", "").isprintable()
    assert "…" in text


def test_csv_holds_every_row_exactly(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    formula = CostTotal(model="=HYPERLINK(1)\x1b", live=CallSums(1, 0, 0, 1, 0, 0, 1, 0, 1))
    build_report([HIGH, LOW, MEDIUM, formula], "all").to_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [*rows[0]] == COLUMNS
    assert [row["source"] for row in rows] == ["live"] * 4 + ["simulated", "replayed"]
    assert rows[0]["model"] == "'=HYPERLINK(1)"
    costs = [row["cost_usd"] for row in rows[:4]]
    assert costs == ["0.000000001", "0.000000400", "", "0.007406000"]
    assert sum(int(row["calls"]) for row in rows) == 9


def test_records_sum_to_the_total() -> None:
    made = build_report([HIGH, LOW, MEDIUM], "all")
    live = [row for row in made.records() if row["source"] == "live"]
    assert sum(row["cost_usd"] or 0 for row in live) == Decimal("0.007406400")
    assert sum(row["output_tokens"] for row in live) == made.total.output_tokens


@pytest.mark.skipif(importlib.util.find_spec("pandas") is not None, reason="pandas is here")
def test_without_pandas_a_frame_is_refused_with_what_to_install() -> None:
    with pytest.raises(ImportError, match="pip install pandas"):
        build_report([HIGH], "all").to_frame()


def test_a_frame_has_the_records_as_rows() -> None:
    pytest.importorskip("pandas")
    frame = build_report([HIGH, LOW], "all").to_frame()
    assert [*frame.columns] == COLUMNS
    assert frame["cost_usd"].sum() == Decimal("0.007406400")
    assert [*build_report([], "none").to_frame().columns] == COLUMNS
