"""The ledger beside a provider's bill: what differs is found, and a broken file is explained."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import Ledger
from o3magic.errors import BadOption
from o3magic.events import Usage
from o3magic.models import Catalog
from o3magic.reports.reconciliation import Reconciliation, compare_invoice, read_invoice
from tests.cost.conftest import Clock

CATALOG = Catalog.built_in()
DAY_S = 86_400
FIRST_S = 1_772_323_200  # 2026-03-01T00:00:00Z
CENT = Decimal("0.01")


def page(*buckets: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {"object": "page", "data": [*buckets], "has_more": more, "next_page": None}


def bucket(day: int, *results: dict[str, Any]) -> dict[str, Any]:
    begin = FIRST_S + (day - 1) * DAY_S
    return {
        "object": "bucket",
        "start_time": begin,
        "end_time": begin + DAY_S,
        "results": [*results],
    }


def charge(usd: Any, item: str | None = None, currency: str = "usd") -> dict[str, Any]:
    return {
        "object": "organization.costs.result",
        "amount": {"value": usd, "currency": currency},
        "line_item": item,
        "project_id": None,
    }


def used(model: str | None, calls: int, tokens: int, out: int, cached: int = 0) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": tokens,
        "output_tokens": out,
        "input_cached_tokens": cached,
        "num_model_requests": calls,
        "model": model,
        "batch": False,
    }


@pytest.fixture
def bill(tmp_path: Path):
    """Writes an export and reads it."""

    def read(content: Any, name: str = "bill.json"):
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return read_invoice(path)

    return read


@pytest.fixture
def filled(ledger: Ledger, clock: Clock) -> Ledger:
    """Calls of 2026-03-01 and -02: o3-mini by its snapshot, o3 by its own name, and others'."""

    def call(day: int, model: str, served: str, nano: int | None, **more: Any) -> None:
        clock.now = datetime(2026, 3, day, 23, 59, 59, tzinfo=UTC)
        attempt = Attempt("s", more.pop("provider", "openai"), model, **more)
        outcome = Outcome("ok", Usage(100, 40, 50, 20, 0, 150), nano, served)
        ledger.settle(ledger.enter(attempt), outcome)

    call(1, "my-alias", "o3-mini-2025-01-31", 20_000_000)
    call(1, "o3-mini", "o3-mini-2025-01-31", 30_000_000)
    call(2, "o3", "", 100_000_000)
    call(2, "o3-mini", "", 5_000_000_000, source="simulated")
    call(2, "o3-mini", "o3-mini", 7_000_000_000, provider="azure")
    call(3, "o3-mini", "o3-mini", 9_000_000_000)
    clock.now = datetime(2026, 3, 2, tzinfo=UTC)
    refused = ledger.enter(Attempt("s", "openai", "o3-mini"))
    ledger.settle(refused, Outcome("error", Usage(), 0, error="RateLimited"))
    return ledger


def reconciled(ledger: Ledger, bill: Any, tolerance: Decimal = CENT) -> Reconciliation:
    return compare_invoice(ledger, bill, CATALOG, tolerance_usd=tolerance)


COSTS = page(
    bucket(1, charge(0.02, "o3-mini-2025-01-31, input"), charge(0.03, "o3-mini, output")),
    bucket(2, charge(0.1, "o3-2025-04-16, output")),
)


def test_a_bill_that_agrees_has_no_rows(filled, bill):
    found = reconciled(filled, bill(COSTS))
    assert not found.differs
    assert (found.rows, found.compared) == ((), 2)
    assert found.total.cost_usd == 0
    assert "0 of 2 rows differ by more than $0.01" in str(found)


def test_money_is_compared_in_exact_decimals(filled, bill):
    with localcontext(prec=3):
        found = reconciled(filled, bill(COSTS), Decimal(0))
        assert not found.differs
    dust = page(*COSTS["data"], bucket(2, charge(1e-17, "o3, output")))
    assert reconciled(filled, bill(dust), Decimal(0)).differs


def test_no_digit_of_a_difference_is_lost(filled, bill):
    digits = "10000.0500000000000000000001"
    text = json.dumps(page(bucket(1, charge(0.5, "o3-mini")))).replace("0.5", digits)
    with localcontext(prec=3):
        [row] = reconciled(filled, bill(text)).rows
        assert row.cost_usd == Decimal("10000.0000000000000000000001")


def test_what_differs_is_shown_for_its_day_and_model(filled, bill):
    wrong = page(bucket(1, charge(0.25, "o3-mini, output")), bucket(2, charge(0.1, "o3, input")))
    found = reconciled(filled, bill(wrong))
    [row] = found.rows
    assert (str(row.day), row.model, row.cost_usd) == ("2026-03-01", "o3-mini", Decimal("0.20"))
    assert found.differs
    [line] = [line for line in str(found).splitlines() if line.startswith("2026-03-01  ")]
    assert line.split() == ["2026-03-01", "o3-mini", "$0.05", "$0.25", "+$0.20"]
    assert not reconciled(filled, bill(wrong), Decimal("0.2")).differs


def test_rows_that_only_one_side_has_are_shown(filled, bill):
    other = page(bucket(1, charge(0.05, "o3-mini, output")), bucket(2, charge(0.4, "web search")))
    found = reconciled(filled, bill(other))
    by_model = {row.model: row for row in found.rows}
    assert by_model["o3"].billed is None
    assert by_model["o3"].cost_usd == Decimal("-0.1")
    assert by_model["web search"].ledger is None
    assert "–" in str(found)
    assert "asked elsewhere" in str(found)


def test_small_differences_that_add_up_are_found(ledger, clock, bill):
    days = []
    for day in range(1, 31):
        clock.now = datetime(2026, 3, day, 5, tzinfo=UTC)
        entry = ledger.enter(Attempt("s", "openai", "o3"))
        ledger.settle(entry, Outcome("ok", Usage(1, 0, 1), 1_000_000_000))
        days.append(bucket(day, charge(1.009, "o3, output")))
    found = reconciled(ledger, bill(page(*days)))
    assert found.rows == ()
    assert found.total.cost_usd == Decimal("0.27")
    assert found.differs


def test_a_bill_by_day_alone_is_compared_by_day(filled, bill):
    found = reconciled(filled, bill(page(bucket(1, charge(0.05)), bucket(2, charge(0.2)))))
    assert [(str(row.day), row.model) for row in found.rows] == [("2026-03-02", "")]
    assert "(all models)" in str(found)


def test_usage_is_compared_in_calls_and_tokens(filled, bill):
    same = page(
        bucket(1, used("o3-mini-2025-01-31", 2, 200, 100, 80)),
        bucket(2, used("o3-2025-04-16", 1, 100, 50, 40)),
    )
    found = reconciled(filled, bill(same))
    assert not found.differs
    assert "has no costs" in str(found)
    same["data"][1]["results"][0]["output_tokens"] = 51
    [row] = reconciled(filled, bill(same)).rows
    assert row.model == "o3"


def test_an_unknown_cost_is_at_least_and_said(filled, clock, bill):
    clock.now = datetime(2026, 3, 1, 1, tzinfo=UTC)
    filled.enter(Attempt("s", "openai", "o3-mini"))
    wrong = page(bucket(1, charge(0.5, "o3-mini, output")), bucket(2, charge(0.1, "o3, output")))
    said = str(reconciled(filled, bill(wrong)))
    assert "at least $0.05" in said
    assert "does not know the cost of 1 call." in said


def test_days_without_a_charge_are_compared_too(filled, bill):
    found = reconciled(filled, bill(page(bucket(1, charge(0.05, "o3-mini")), bucket(2))))
    assert [(str(row.day), row.model) for row in found.rows] == [("2026-03-02", "o3")]


def test_an_export_that_is_not_whole_says_so(filled, bill):
    assert "not complete" in str(reconciled(filled, bill(page(*COSTS["data"], more=True))))
    whole = [page(COSTS["data"][0], more=True), page(COSTS["data"][1])]
    found = reconciled(filled, bill(whole))
    assert "not complete" not in str(found)
    assert not found.differs


CSVS = {
    "of the dashboard": (
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item\n"
        '1772323200,1772409600,2026-03-01T00:00:00+00:00,x,0.05,usd,"o3-mini, output"\n'
        '1772409600,1772496000,2026-03-02T00:00:00+00:00,x,0.1,usd,"o3-2025-04-16, input"\n'
        "1772409600,1772496000,2026-03-02T00:00:00+00:00,x,,,\n"
    ),
    "with other words": "\ufeffDate;Model;Cost\n2026-03-01;o3-mini;$0.05\n2026-03-02;o3;0.10\n",
    "in seconds": "Start Time,Model,Amount USD\n1772323200,o3-mini,0.05\n1772409600.0,o3,0.1\n",
    "in tabs": "timestamp\tmodel\tamount\n1772323200000\to3-mini\t0.05\n20260302\to3\t0.1\n",
}


@pytest.mark.parametrize("text", CSVS.values(), ids=CSVS)
def test_a_csv_agrees_as_the_json_does(filled, bill, text):
    found = reconciled(filled, bill(text, "bill.csv"))
    assert not found.differs, str(found)
    assert found.compared == 2


def test_a_csv_of_usage_is_compared_in_counts(filled, bill):
    text = (
        "date,model,n_requests,input_tokens,input_cached_tokens,output_tokens\n"
        "2026-03-01,o3-mini-2025-01-31,2,200,80,100\n2026-03-02,o3,1,100,40,50\n"
    )
    assert not reconciled(filled, bill(text, "usage.csv")).differs
    [row] = reconciled(filled, bill(text.replace(",2,200", ",3,200"), "usage.csv")).rows
    assert row.model == "o3-mini"


BROKEN = {
    "another currency": (page(bucket(1, charge(0.1, "o3", "eur"))), "its money is 'eur'"),
    "no JSON": ("{", "not JSON"),
    "not a number": ('{"data": [{"start_time": NaN}]}', "not JSON"),
    "a number beyond all": ('{"data": [{"start_time": 1e99999999999999999999}]}', "not"),
    "a day beyond all": ('{"data": [{"start_time": 1e400, "results": []}]}', "is not a day"),
    "deep": ("[" * 100_000, "not JSON"),
    "something else": ('{"choices": []}', "no list 'data'"),
    "a list of nothing": ("[]", "no day in it"),
    "nothing": ("", "no column for the day"),
    "no bucket": ('{"data": [1]}', "no list 'data'"),
    "no results": (page({"start_time": FIRST_S, "results": 3}), "no list 'results'"),
    "no amount": (page(bucket(1, {"model": "o3"})), "neither an amount nor a count"),
    "an amount that is none": (page(bucket(1, {"amount": 3})), "not a sum of money"),
    "an amount in words": (page(bucket(1, charge("a lot"))), "not a sum of money"),
    "an amount that is true": (page(bucket(1, charge(True))), "not a sum of money"),
    "an amount beyond all": (page(bucket(1, charge("1e999999"))), "not a sum of money"),
    "too many digits": (page(bucket(1, charge("1e-999999"))), "too many digits"),
    "half a call": (page(bucket(1, used("o3", 1, 2, 3) | {"input_tokens": 1.5})), "not a count"),
    "less than nothing": (
        page(bucket(1, used("o3", 1, 2, 3) | {"input_tokens": -1})),
        "not a count",
    ),
    "no day": (page({"start_time": None, "results": []}), "is not a day"),
    "a thousand years": (page(bucket(1), bucket(400_000)), "more than a century"),
    "a CSV without money": ("date,colour\n2026-03-01,red\n", "no column for money"),
    "a CSV without days": ("model,cost\no3,1\n", "no column for the day"),
    "a CSV of no days": ("date,cost\nsometime,1\n", "row 2: 'sometime' is not a day"),
    "a CSV in euros": ("date,cost,currency\n2026-03-01,1,EUR\n", "row 2: its money is 'EUR'"),
    "a CSV with commas": ('date,cost\n2026-03-01,"1,50"\n', "row 2: '1,50' is not a sum"),
    "a CSV cut short": ('date,cost\n2026-03-01,"1.5', "not CSV"),
    "a CSV of one cell": ("date,cost\n2026-03-01," + "9" * 200_000, "not"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_explained(bill, content, said):
    with pytest.raises(BadOption) as caught:
        bill(content)
    assert said in str(caught.value)
    assert caught.value.hint
    assert len(str(caught.value)) < 300


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BadOption, match="cannot be read"):
        read_invoice(tmp_path / "nowhere.json")
    (tmp_path / "picture.json").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(BadOption, match="not UTF-8 text"):
        read_invoice(tmp_path / "picture.json")


def test_names_in_a_bill_are_only_words(filled, bill):
    hostile = "\x1b[31m\nsum\u202e" + "o" * 500
    said = str(reconciled(filled, bill(page(bucket(1, charge(0.5, hostile))))))
    assert said.replace("\n", "").isprintable()
    assert max(map(len, said.splitlines())) < 200


@given(st.text())
def test_any_text_is_a_bill_or_explained(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "bill.csv"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(BadOption):
        read_invoice(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "results", "amount", "value", "model"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_in_a_bucket_is_read_or_explained(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("any") / "bill.json"
    said = {"data": [{"start_time": FIRST_S, "results": [{"input_tokens": 1, "model": value}]}]}
    path.write_text(json.dumps([said | {"extra": value}]))
    assert read_invoice(path).lines[0].input_tokens == 1
    path.write_text(json.dumps({"data": [{"start_time": FIRST_S, "results": value}]}))
    try:
        found = read_invoice(path)
    except BadOption:
        return
    assert found.first.year == 2026
