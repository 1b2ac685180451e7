"""Which calls a report is of, and that its sums are those of the ledger, exactly."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from o3magic.cost.entries import Attempt, CallSums, CostTotal, Outcome
from o3magic.cost.ledger import Ledger
from o3magic.errors import BadOption
from o3magic.events import Usage
from o3magic.reports.query import (
    build_cost_report,
    compute_period_start,
    group_entries,
    parse_groups,
    parse_since,
)
from o3magic.reports.report import CostReport, build_report
from tests.cost.conftest import Clock

HOSTILE = '=1+1,"x"\n<b>\'\u202e;é'
USAGE = Usage(100, 20, 300, 200, 0, 400)
MONEY = st.integers(0, 10**15)
COUNTS = st.integers(0, 10**12)


@st.composite
def sums(draw: st.DrawFn) -> CallSums:
    calls = draw(st.integers(1, 9))
    return CallSums(
        calls=calls,
        unknown_cost_calls=draw(st.integers(0, calls - 1)),
        input_tokens=draw(COUNTS),
        output_tokens=draw(COUNTS),
        reasoning_tokens=draw(COUNTS),
        cost_nano_usd=draw(MONEY),
    )


@st.composite
def groups(draw: st.DrawFn) -> list[CostTotal]:
    names = st.tuples(st.text(max_size=9), st.sampled_from(["", "low", "high", "odd"]))
    keys = draw(st.lists(names, unique=True, max_size=12))
    return [CostTotal(model=model, effort=effort, live=draw(sums())) for model, effort in keys]


@given(groups(), st.randoms(use_true_random=False))
def test_the_total_is_the_decimal_sum_of_the_rows_in_any_order(made, random):
    shuffled = random.sample(made, len(made))
    one, other = build_report(made, "x"), build_report(shuffled, "x")
    assert one == other
    exact = sum((row["cost_usd"] for row in other.records()), Decimal(0))
    assert one.cost_usd == exact
    assert one.total.cost_nano_usd == sum(t.live.cost_nano_usd for t in shuffled)
    assert one.total.output_tokens == sum(row["output_tokens"] for row in one.records())
    assert ("at least" in str(one).split("total")[-1]) == any(
        t.live.unknown_cost_calls for t in made
    )


@given(groups())
def test_json_gives_back_every_row_and_every_digit(made):
    from tempfile import TemporaryDirectory

    found = build_report(made, "x")
    with TemporaryDirectory() as folder:
        path = Path(folder, "costs.json")
        found.to_json(path)
        said = json.loads(path.read_text("utf-8"))
    for row in said["rows"]:
        row["cost_usd"] = None if row["cost_usd"] is None else Decimal(row["cost_usd"])
    assert said["rows"] == found.records()
    assert Decimal(said["total"]["cost_usd"]) == found.cost_usd
    assert said["by"] == ["model", "effort"]


def test_csv_gives_back_every_row(tmp_path):
    made = [
        CostTotal(day="2026-11-01", effort="low", live=CallSums(2, 1, 0, 5, 0, 0, 6, 1, 7)),
        CostTotal(day="2026-11-02", effort=HOSTILE, live=CallSums(1, 1, 1)),
    ]
    found = build_report(made, "x", ("day", "effort"))
    found.to_csv(tmp_path / "costs.csv")
    with (tmp_path / "costs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["day"] for row in rows] == ["2026-11-01", "2026-11-02"]
    assert [row["cost_usd"] for row in rows] == ["0.000000007", ""]
    assert rows[1]["effort"].startswith("'=1+1,")
    assert len(rows) == 2


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    found = build_report([], "x")
    for write in (found.to_csv, found.to_json, found.plot().save):
        with pytest.raises(BadOption, match="cannot be written"):
            write(tmp_path / "nowhere" / "costs.csv")


@pytest.fixture
def filled(ledger: Ledger, clock: Clock) -> Ledger:
    """Calls of three days, two sessions, two notebooks; one of unknown cost, one simulated."""
    for day, session, notebook, effort, nano in (
        (1, "s1", "a.ipynb", "low", 1_000),
        (2, "s1", "a.ipynb", "high", 20_000),
        (3, "s2", "a.ipynb", "high", None),
        (3, "s2", "b.ipynb", "low", 300_000),
    ):
        clock.now = datetime(2026, 3, day, 12, tzinfo=UTC)
        attempt = Attempt(session, "openai", "o3-mini", effort, notebook=notebook, cell_key=effort)
        ledger.settle(ledger.enter(attempt), Outcome("ok", USAGE, nano))
    simulated = Attempt("s2", "simulator", "o3-mini", "low", source="simulated")
    ledger.settle(ledger.enter(simulated), Outcome("ok", USAGE, None))
    return ledger


NOW = datetime(2026, 3, 3, 13, tzinfo=UTC)


def nano_usd(found: CostReport) -> int:
    return found.total.cost_nano_usd


def test_a_report_is_of_what_was_asked(filled):
    both = {"session": "s2", "notebook": "a.ipynb", "now": NOW}
    expected = {"session": 300_000, "notebook": 21_000, "month": 321_000, "all": 321_000}
    expected |= {"day": 300_000, "cell": 300_000}
    assert {of: nano_usd(build_cost_report(filled, of=of, **both)) for of in expected} == expected
    assert nano_usd(build_cost_report(filled, since="2026-03-02T00:00+00:00", **both)) == 320_000
    assert (
        build_cost_report(filled, since="2026-03-02T00:00+00:00", **both).title
        == "since 2026-03-02"
    )
    assert build_cost_report(filled, of="cell", **both).total.calls == 1
    since = datetime(2026, 3, 3, 12, 30, tzinfo=UTC)
    assert build_cost_report(filled, of="day", since=since, **both).total.calls == 0


def test_by_itself_it_is_of_the_session_with_a_line_for_each_longer_time(filled):
    found = build_cost_report(filled, session="s2", notebook="a.ipynb", now=NOW)
    assert found.title == "this session"
    spans = {span.name: span for span in found.spans}
    assert list(spans) == ["today", "this notebook", "this month", "all time"]
    assert spans["all time"].live.cost_nano_usd == 321_000
    assert spans["all time"].calls == "4 + 1 simulated"
    text = str(found)
    assert "this notebook                3" in text
    assert text.count("at least $0.000321") == 2
    assert "this notebook" in found.markdown()


def test_without_a_session_it_is_of_all_time(filled):
    found = build_cost_report(filled, now=NOW)
    assert (found.title, nano_usd(found)) == ("all time", 321_000)
    assert [span.name for span in found.spans] == ["today", "this month", "all time"]


@pytest.mark.parametrize("by", ["day", "month,effort", "provider,notebook,session", "schema", ""])
def test_the_sums_are_the_same_however_they_are_grouped(filled, by):
    found = build_cost_report(filled, of="all", by=by)
    assert found.total == build_cost_report(filled, of="all").total
    assert sum(row.sums.calls for row in found.free) == 1
    assert str(found).count("\n") >= 3


def test_rows_summed_one_by_one_are_the_totals_of_the_ledger(filled):
    for by in (("day", "effort"), ("month",), ("model", "notebook"), ()):
        one_by_one = group_entries(filled.entries(), by)
        plain = [f.name for f in fields(CallSums) if f.name != "held_nano_usd"]
        for made, known in zip(
            sorted(one_by_one, key=str), sorted(filled.totals(by=by), key=str), strict=True
        ):
            for source in ("live", "simulated", "replayed"):
                pair = [[getattr(getattr(t, source), n) for n in plain] for t in (made, known)]
                assert pair[0] == pair[1]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"of": "sesion"}, "did you mean session"),
        ({"by": "efort"}, "did you mean effort"),
        ({"since": "yesterday-ish"}, "is not a date"),
        ({"since": "0001-01-01"}, "no call was made"),
        ({"of": "notebook"}, "not known here"),
        ({"of": "cell"}, "no session here"),
    ],
)
def test_words_that_make_no_sense_are_explained(filled, asked, said):
    with pytest.raises(BadOption) as caught:
        build_cost_report(filled, **asked)
    assert said in f"{caught.value} {caught.value.hint}"


def test_cells_without_a_name_are_not_summed_as_one(ledger):
    ledger.enter(Attempt("s1", "openai", "o3"))
    with pytest.raises(BadOption, match="does not name its cells"):
        build_cost_report(ledger, of="cell", session="s1")


@pytest.fixture
def far_west(monkeypatch):
    """A place whose midnight is not that of UTC."""
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="only Unix can move")
@pytest.mark.usefixtures("far_west")
def test_midnight_is_the_local_one():
    assert parse_since("2026-11-21") == datetime(2026, 11, 21, 8, tzinfo=UTC)
    now = datetime(2026, 11, 21, 3, tzinfo=UTC)
    assert compute_period_start("day", now) == datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert compute_period_start("month", now) == datetime(
        2026, 11, 1, 7, tzinfo=UTC
    )  # still summer


def test_a_date_without_a_zone_is_the_local_one():
    local = datetime(2026, 11, 1).astimezone()
    assert parse_since("2026-11-01") == parse_since(date(2026, 11, 1)) == local
    aware = datetime(2026, 11, 1, 5, tzinfo=UTC)
    assert parse_since("2026-11-01T05:00Z") == parse_since(aware) == aware
    assert parse_since(None) is None


def test_a_day_begins_at_the_local_midnight_whatever_the_clock_did_since():
    now = datetime(2026, 3, 29, 22, tzinfo=UTC)
    begin = compute_period_start("day", now)
    here = now.astimezone()
    assert (begin.date(), begin.hour, begin.minute) == (here.date(), 0, 0)
    assert begin <= now < begin + timedelta(hours=25)
    assert compute_period_start("month", now).day == 1


def test_groups_may_be_said_in_any_way():
    assert parse_groups("effort, model,effort") == ("effort", "model")
    assert parse_groups(["schema"]) == ("schema_name",)
    assert parse_groups(None) == ("model", "effort")


def test_a_narrow_page_gets_fewer_columns(filled):
    found = build_cost_report(filled, of="all")
    widest = max(map(len, found.text().splitlines()[:3]))
    narrow = found.text(widest - 1).splitlines()
    assert "cached" not in narrow[1]
    assert all(word in narrow[1] for word in ("model", "effort", "calls", "cost"))
    assert found.text(widest) == found.text()
    assert "cost" in found.text(10).splitlines()[1]


def test_it_shows_itself_as_text_and_markdown_and_as_nothing_else(filled):
    assert set(build_cost_report(filled)._repr_mimebundle_()) == {"text/markdown", "text/plain"}
    assert repr(build_cost_report(filled)) == str(build_cost_report(filled))


def test_a_conversation_counts_over_all_its_sessions(ledger):
    for session, talk, cost in (
        ("s0", "geo", 1),
        ("s1", "other", 2),
        ("s1", "geo", 4),
        ("s1", "", 8),
    ):
        asked = Attempt(session, "openai", "o3-mini", conversation=talk)
        ledger.settle(ledger.enter(asked), Outcome("ok", Usage(1, 0, 1), cost))
    found = build_cost_report(ledger, of="conversation", session="s1")
    assert (found.total.calls, found.total.cost_nano_usd) == (2, 5)
    with pytest.raises(BadOption, match="no conversation"):
        build_cost_report(ledger, of="conversation", session="s9")
