"""The panel's bars of budgets: their widths, colours and labels for screen readers."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from o3magic.cost.budgets import Budget, BudgetStatus
from o3magic.notebook.panel_html import FULL_COLOUR, OK_COLOUR, WARN_COLOUR, bars_html, percent
from tests.notebook.conftest import Kernel

DAY = Budget("day", 1_000_000_000)


@pytest.mark.parametrize(
    ("spent", "held", "widths", "colour"),
    [
        (0, 0, [0, 0], OK_COLOUR),
        (1, 0, [1, 0], OK_COLOUR),
        (310_000_000, 440_000_000, [31, 44], OK_COLOUR),
        (310_000_000, 500_000_000, [31, 50], WARN_COLOUR),
        (900_000_000, 900_000_000, [90, 10], FULL_COLOUR),
        (2_000_000_000, 0, [100, 0], FULL_COLOUR),
    ],
)
def test_a_bar_is_as_long_as_what_is_gone(spent, held, widths, colour):
    html = bars_html([BudgetStatus(DAY, spent, held)], 0.8)
    assert [int(w) for w in re.findall(r'"width:(\d+)%', html)] == widths
    assert colour in html
    [meter] = [e for e in ElementTree.fromstring(html).iter() if e.get("role") == "meter"]
    assert meter.get("aria-valuenow") == str(sum(widths))
    assert "today" in meter.get("aria-label")


def test_no_budget_is_no_bar():
    assert bars_html([], 0.8) == ""


def test_a_limit_of_one_question_has_no_bar():
    assert (
        bars_html([BudgetStatus(Budget("call", 20_000_000), 0)], 0.8).count("each question up") == 1
    )


def test_a_budget_of_nothing_is_full():
    assert (percent(0, 0), percent(5, 0)) == (0, 100)


def test_the_panel_shows_the_budgets_that_are_set(kernel: Kernel):
    kernel.run("%o3_config budget_day=1000000 budget_warn=0.5\npanel = %o3_panel")
    shown = kernel.value("panel.controls.budget.value")
    kernel.run("%o3_config budget_day= budget_warn=")
    after = kernel.value("panel.controls.budget.value")
    kernel.run("panel.close()")
    assert "today" in shown
    assert "$1,000,000.00" in shown
    assert after == ""
