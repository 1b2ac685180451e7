"""The picture of costs: well-formed whatever the names are, and true to the sums."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from o3magic.cost.entries import CallSums, CostTotal
from o3magic.reports.chart import COST_HEIGHT, CostPlot, compute_ticks, format_ticks
from o3magic.reports.report import build_report

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert(1)</script>&\"'\x00\x1b[31m\u202e\ud800]]>"


def live(day: str, effort: str, nano: int, *, calls: int = 1, unknown: int = 0) -> CostTotal:
    return CostTotal(
        day=day, effort=effort, live=CallSums(calls, unknown, 0, 9, 0, 0, 80, 60, nano)
    )


def parsed(days: list[CostTotal], title: str = "this month") -> ET.Element:
    return ET.fromstring(CostPlot(days, title).svg)


def words(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def bars(root: ET.Element, word: str) -> list[ET.Element]:
    """The rectangles whose words for the mouse hold a word."""
    found = []
    for each in root.iter(f"{SVG}rect"):
        title = each.find(f"{SVG}title")
        if title is not None and word in (title.text or ""):
            found.append(each)
    return found


def test_a_bar_is_as_high_as_its_cost():
    days = [live("2026-11-01", "low", 10**6), live("2026-11-02", "low", 4 * 10**6)]
    small, large = (float(bar.get("height")) for bar in bars(parsed(days), "low:"))
    assert large == pytest.approx(4 * small, rel=0.01)
    assert large <= COST_HEIGHT


def test_efforts_are_stacked_in_their_order_with_their_names_below():
    days = [live("2026-11-01", effort, 10**6) for effort in ("high", "low", "")]
    root = parsed(days)
    tops = [float(bars(root, name)[0].get("y")) for name in ("default:", "low:", "high:")]
    assert tops == sorted(tops, reverse=True)
    assert [word for word in words(root) if word in ("default", "low", "high")] == [
        "default",
        "low",
        "high",
    ]
    colours = {bars(root, name)[0].get("fill") for name in ("default:", "low:", "high:")}
    assert len(colours) == 3


def test_days_without_a_call_keep_their_place():
    days = [live("2026-11-01", "low", 10**6), live("2026-11-04", "low", 10**6)]
    assert [bar.name[-2:] for bar in CostPlot(days).bars] == ["01", "02", "03", "04"]
    assert "2026-11-02" not in str(CostPlot(days))


@pytest.mark.parametrize(
    ("last", "name", "count"),
    [("2026-12-31", "month", 12), ("2040-01-01", "year", 15), ("2026-03-01", "day", 60)],
)
def test_a_long_time_is_drawn_in_months_or_years(last, name, count):
    days = [live("2026-01-01", "low", 10**6), live(last, "low", 2 * 10**6)]
    plot = CostPlot(days)
    assert len(plot.bars) == count
    assert f"per {name}, UTC" in plot.svg
    assert sum(bar.total.cost_nano_usd for bar in plot.bars) == 3 * 10**6


def test_the_share_of_reasoning_is_that_of_the_output():
    days = [live("2026-11-01", "low", 10**6)]
    assert bars(parsed(days), "75% of the output was reasoning")
    silent = CostTotal(day="2026-11-01", effort="low", live=CallSums(1, 0, 0, 9))
    assert not bars(parsed([silent]), "was reasoning")


def test_what_is_not_known_is_marked_and_never_drawn_as_nothing():
    root = parsed([live("2026-11-01", "low", 0, unknown=1)])
    assert "≥" in words(root)
    assert any("unknown" in word for word in words(root))
    assert "$0.010" in words(root)
    assert "unknown" in str(CostPlot([live("2026-11-01", "low", 0, unknown=1)]))


def test_nothing_to_draw_says_why():
    assert "no calls yet" in words(parsed([]))
    free = [CostTotal(day="2026-11-01", simulated=CallSums(2))]
    assert "no live calls yet; 2 simulated or replayed calls cost $0" in words(parsed(free))
    assert "no live calls yet" in str(CostPlot(free))


def test_hostile_names_are_text_in_a_well_formed_picture():
    days = [live("2026-11-01", HOSTILE, 10**6, unknown=1, calls=2)]
    root = parsed(days, HOSTILE)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg",
        "title",
        "text",
        "rect",
        "path",
    }
    assert any("<script>" in word for word in words(root))
    assert not [name for element in root.iter() for name in element.attrib if name[:2] == "on"]
    CostPlot(days, HOSTILE).svg.encode()


@given(st.text(), st.text(), st.integers(0, 10**15))
def test_any_name_and_any_sum_give_well_formed_xml(title, effort, nano):
    root = parsed([live("2026-11-01", effort, nano)], title)
    numbers = re.findall(r'[xy]="(-?[\d.]+)"', ET.tostring(root).decode())
    assert all(-20 <= float(number) <= 740 for number in numbers)


@given(st.integers(0, 10**18))
def test_ticks_are_round_few_and_reach_above(most):
    found = compute_ticks(most)
    assert found[0] == 0
    assert found[-1] >= most
    assert 2 <= len(found) <= 6
    assert len({b - a for a, b in pairwise(found)}) == 1
    assert str(found[1]).rstrip("0") in ("1", "2", "5")
    labels = format_ticks(found)
    assert len(set(labels)) == len(labels)
    assert all(label.startswith("$") for label in labels)


def test_labels_have_as_many_digits_as_their_step():
    assert format_ticks([0, 5_000_000, 10_000_000]) == ["$0", "$0.005", "$0.010"]
    assert format_ticks([0, 2 * 10**9]) == ["$0", "$2"]
    assert format_ticks([0, 5 * 10**8, 10**9]) == ["$0", "$0.50", "$1.00"]
    assert format_ticks([0, 2000 * 10**9]) == ["$0", "$2,000"]


def test_it_shows_itself_as_a_picture_with_a_table_beside_it_and_never_as_html():
    shown = CostPlot([live("2026-11-01", "low", 10**6)])._repr_mimebundle_()
    assert set(shown) == {"image/svg+xml", "text/plain"}
    assert "2026-11-01  ▇▇▇" in shown["text/plain"]


def test_a_report_draws_its_days(tmp_path):
    days = [live("2026-11-01", "low", 10**6)]
    made = build_report(
        [CostTotal(model="o3", effort="low", live=days[0].live)], "today", days=days
    )
    made.plot().save(tmp_path / "costs.svg")
    assert ET.parse(tmp_path / "costs.svg").getroot().tag == f"{SVG}svg"
    with pytest.raises(ValueError, match="svg or matplotlib"):
        made.plot(library="gnuplot")


def test_matplotlib_draws_the_same_sums():
    pytest.importorskip("matplotlib")
    days = [
        live("2026-11-01", "low", 10**9),
        live("2026-11-03", "high", 2 * 10**9, calls=2, unknown=1),
    ]
    figure = build_report([], "$x$ and _y_", days=days).plot(library="matplotlib")
    cost, share = figure.axes
    heights = [patch.get_height() for patch in cost.patches]
    assert sum(heights) == pytest.approx(3.0)
    assert [patch.get_height() for patch in share.patches] == [75.0, 0.0, 75.0]
    assert [(words.get_text(), words.get_position()[0]) for words in cost.texts] == [("≥", 2)]
    picture, size = figure._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert size == pytest.approx({"width": 720, "height": 420})


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        build_report([], "x").plot(library="matplotlib")
