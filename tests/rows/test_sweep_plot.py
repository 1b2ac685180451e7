"""The plot of a sweep: true to its figures, escaped, and honest about what it shows."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from o3magic.errors import BadOption
from o3magic.rows.sweep.plot import (
    PUBLISHED,
    SweepPlot,
    build_accuracy_axis,
    build_price_axis,
    find_front,
    find_published,
    list_round_values,
)
from o3magic.rows.sweep.rows import ScoredRow
from o3magic.rows.sweep.statistics import Interval
from o3magic.rows.sweep.summary import VariantPrices, VariantResult, build_recommendation

SVG = "{http://www.w3.org/2000/svg}"


def choice(effort, right, cost=1_000_000, *, n=100, label="", made_by="live", tokens=100):
    rows = [
        ScoredRow(
            score=float(at < right),
            answered=True,
            charged=True,
            cost_nano_usd=cost,
            elapsed_s=1.0,
            output_tokens=tokens,
            made_by=made_by,
        )
        for at in range(n)
    ]
    return VariantResult(label or effort, "o3-mini", effort, rows)


def words(plot):
    """Every text of the picture, by its place."""
    tree = ElementTree.fromstring(plot.svg)
    return [each.text for each in tree.iter(f"{SVG}text")]


def circles(plot, *, hollow):
    tree = ElementTree.fromstring(plot.svg)
    found = [c for c in tree.iter(f"{SVG}circle") if (c.get("fill") == "none") == hollow]
    return [(float(c.get("cx")), float(c.get("cy"))) for c in found]


def test_marks_stand_where_their_figures_say():
    plot = SweepPlot([choice("low", 60), choice("medium", 80, 2_000_000), choice("high", 90)])
    (x_low, y_low), (x_medium, y_medium), (x_high, y_high) = circles(plot, hollow=False)
    assert x_low == x_high < x_medium
    # The scale is linear, and begins at nothing.
    assert x_medium - 82 == pytest.approx(2 * (x_low - 82), abs=0.02)
    assert (y_low - y_medium) == pytest.approx(2 * (y_medium - y_high), abs=0.02)


def test_a_decade_makes_a_logarithm():
    near = SweepPlot([choice("low", 60, 100_000), choice("high", 80, 999_000)])
    far = SweepPlot([choice("low", 60, 100_000), choice("high", 80, 1_000_000)])
    assert "cost per row, US dollars" in words(near)
    assert "cost per row, US dollars (log scale)" in words(far)
    (low, _), (middle, _), (high, _) = circles(
        SweepPlot([choice(e, 50, 10**p) for e, p in (("low", 5), ("medium", 6), ("high", 7))]),
        hollow=False,
    )
    assert middle - low == pytest.approx(high - middle, abs=0.02)


def test_an_interval_is_a_bar_through_its_mark():
    plot = SweepPlot([choice("low", 60), choice("high", 80)])
    bars = re.findall(r'd="M([\d.]+) ([\d.]+)V([\d.]+)M', plot.svg)
    for (x, low, high), (cx, cy) in zip(bars, circles(plot, hollow=False), strict=True):
        assert float(x) == cx
        assert float(high) < cy < float(low)


def test_the_front_is_what_nothing_beats():
    cheap, dear, worse = choice("low", 60, 1), choice("high", 80, 5), choice("medium", 50, 3)
    same = choice("xhigh", 80, 9)
    choices = [dear, worse, cheap, same]
    prices = VariantPrices("cost", [5.0, 3.0, 1.0, 9.0])
    assert find_front(choices, prices) == [cheap, dear]
    assert find_front(choices, VariantPrices("", [0.0] * 4)) == []


@pytest.mark.parametrize(("made_by", "label"), [("simulated", "SIMULATED"), ("hand", "BY HAND")])
def test_what_no_model_gave_is_labelled_and_drawn_over_tokens(made_by, label):
    made_up = {"cost": 0, "made_by": made_by}
    plot = SweepPlot([choice("low", 60, **made_up), choice("high", 80, **made_up, tokens=900)])
    assert "output tokens per row" in words(plot)
    assert f"{label} answers say nothing of any model" in words(plot)
    assert f"({label})" in plot.title
    assert build_recommendation(plot.choices).startswith(f"{label} answers, which say nothing")
    assert "$" not in plot.svg


def test_a_choice_of_unknown_cost_makes_all_be_drawn_over_tokens():
    plot = SweepPlot([choice("low", 60, None), choice("high", 80)])
    assert plot.prices.unit == "output tokens"
    nothing = SweepPlot([choice("low", 60, None, tokens=None), choice("high", 80)])
    assert nothing.prices.unit == "seconds"


def test_nothing_known_is_drawn_side_by_side():
    rows = [ScoredRow(score=1.0, answered=True)] * 3
    plot = SweepPlot(
        [VariantResult("low", "m", "low", rows), VariantResult("high", "m", "high", rows)]
    )
    assert "cost, tokens and time are unknown" in words(plot)
    (first, _), (second, _) = circles(plot, hollow=False)
    assert first < second
    assert "unknown" in str(plot)


def test_nothing_measured_is_a_picture_that_says_so():
    plot = SweepPlot([VariantResult("low", "m", "low", [ScoredRow()])])
    assert words(plot) == ["nothing was measured"]


def test_published_figures_are_hollow_on_their_own_scale_with_their_source():
    plot = SweepPlot([choice("medium", 60), choice("high", 80)], find_published("aime 2024"))
    said = words(plot)
    for text in ("AIME 2024, %", "published, not measured here", "76.2", "83.6"):
        assert text in said
    assert "o3-mini launch documents" in said
    assert "o3-mini-2025-01-31, read 2026-11-20" in said
    hollow = circles(plot, hollow=True)
    assert len(hollow) == 2
    assert hollow[0][1] > hollow[1][1]
    assert min(x for x, _ in hollow) > max(x for x, _ in circles(plot, hollow=False))
    assert "not measured here" in str(plot)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.benchmark)
def test_every_published_figure_can_be_drawn(published):
    plot = SweepPlot([choice("high", 80)], published)
    inside = [y for _, y in circles(plot, hollow=True)]
    assert all(76 < y < 358 for y in inside)


def test_a_benchmark_nobody_published_is_refused():
    with pytest.raises(BadOption) as caught:
        find_published("AMIE 2024")
    assert "AIME 2024" in caught.value.hint
    with pytest.raises(BadOption):
        find_published("  ")


def test_names_are_escaped_and_short():
    evil = '</text><script>alert("1")</script>&'
    plot = SweepPlot([choice("low", 60, label=evil), choice("high", 80, label="x" * 500)])
    assert any(each.startswith("</text><script>") for each in words(plot))
    assert "<script" not in plot.svg
    assert max(map(len, words(plot))) <= 60


def test_names_do_not_cover_each_other_nor_a_mark():
    close = [choice("low", 60 + n, 1_000_000 + n, label=f"model-{n} low") for n in range(4)]
    tree = ElementTree.fromstring(SweepPlot(close).svg)
    at = [float(e.get("y")) for e in tree.iter(f"{SVG}text") if "model" in (e.text or "")]
    sides = [e.get("text-anchor") for e in tree.iter(f"{SVG}text") if "model" in (e.text or "")]
    places = sorted(zip(sides, at, strict=True))
    for (side, y), (other, below) in pairwise(places):
        assert side != other or below - y >= 10


def test_the_picture_is_written(tmp_path):
    plot = SweepPlot([choice("low", 60)])
    plot.save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text("utf-8") == plot.svg
    assert set(plot._repr_mimebundle_()) == {"image/svg+xml", "text/plain"}


def test_scales_hold_all_values_and_their_ticks_are_round():
    axis = build_accuracy_axis([Interval(0.33, 0.52), Interval(0.6, 0.91)], 300, 0)
    assert (axis.low, axis.high) == (0.2, 1.0)
    assert [name for _, name in axis.ticks] == ["0.2", "0.4", "0.6", "0.8", "1.0"]
    assert build_accuracy_axis([Interval(1.0, 1.0)], 300, 0).high == 1.0
    assert build_accuracy_axis([Interval(0.0, 0.0)], 300, 0).low == 0.0
    assert list_round_values(0.0003, 0.006) == [0.0005, 0.001, 0.002, 0.005]
    assert list_round_values(0.0003, 6) == [0.001, 0.01, 0.1, 1]
    names = [name for _, name in build_price_axis(VariantPrices("cost", [1e-5, 2.0]), 0, 100).ticks]
    assert names == ["$0.00001", "$0.0001", "$0.001", "$0.01", "$0.10", "$1.00"]


def test_a_recommendation_names_the_cheapest_of_equals():
    said = build_recommendation([choice("high", 90, 7_000_000), choice("low", 90, 1_000_000)])
    assert said.startswith("low: none is more accurate (0.90, 0.83-0.94) or takes less")


def test_a_recommendation_says_how_much_less_it_takes():
    said = build_recommendation([choice("low", 82, 1_000_000), choice("high", 83, 7_000_000)])
    assert said == (
        "low: its accuracy (0.82, 0.73-0.88) is not distinguishably below high's "
        "(0.83, 0.74-0.89; p = 1.00) at 1/7 of the cost per row."
    )


def test_a_recommendation_where_nothing_is_right_or_nothing_to_compare():
    assert "No choice answered any row right" in build_recommendation(
        [choice("low", 0), choice("high", 0)]
    )
    assert "nothing to compare" in build_recommendation([choice("low", 5)])
    assert build_recommendation([]) == "Nothing was measured."


def test_rows_that_one_effort_was_not_asked_are_not_compared():
    whole, part = choice("low", 50), choice("high", 100)
    rows = [*part.rows[:10], *[ScoredRow()] * 90]
    said = build_recommendation([whole, VariantResult("high", "o3-mini", "high", rows)])
    assert said.startswith("low: its accuracy")
    assert "10 rows are too few to tell" in said
