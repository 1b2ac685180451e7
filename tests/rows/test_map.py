"""One prompt over many rows, on a real server: rows in, a table out."""

import datetime
from decimal import Decimal

import pandas as pd
import pytest
from pydantic import BaseModel

from o3magic.errors import BadOption, EmptyPrompt, InvalidAnswer, O3Error, TemplateError
from o3magic.money import usd
from o3magic.rows import results
from o3magic.rows.map_job import map_rows
from o3magic.rows.results import MappedRows
from o3magic.simulator import Simulator
from tests.rows.conftest import texts
from tests.rows.loopback import COST_NANO_USD
from tests.sessions import session_at


class Label(BaseModel):
    label: str
    score: int


class Inner(BaseModel):
    b: float
    c: list[int]


class Outer(BaseModel):
    a: Inner
    on: datetime.date | None
    good: bool
    many: int | None


def test_answers_come_in_the_order_of_the_rows_with_their_index(mapped, server):
    server.begin(slow=0.3, slow_s=0.1)
    frame = pd.DataFrame({"a": [f"row {n}" for n in range(40)]}, index=range(100, 140))
    out = mapped(frame, schema=Label)
    assert list(out.index) == list(frame.index)
    assert list(out.label) == list(frame.a)
    assert list(out.columns) == [
        *("label", "score", "error", "cost_usd"),
        *("input_tokens", "output_tokens", "reasoning_tokens"),
    ]
    assert out.score.dtype == "int64"
    assert out.error.isna().all()
    assert out.cost_usd.sum() == usd(40 * COST_NANO_USD)
    assert (out.output_tokens.sum(), out.reasoning_tokens.sum()) == (40 * 30, 40 * 8)


def test_without_a_schema_there_is_the_text(mapped, server):
    server.begin(text="four")
    out = mapped(texts(3))
    assert list(out.text) == ["four"] * 3
    assert list(out.columns)[:2] == ["text", "error"]


def test_a_prompt_without_names_is_the_same_for_all_and_asked_once(mapped, server):
    out = mapped(texts(5), "what is it?")
    assert server.stats["requests"] == 1
    assert len(out) == 5
    assert out.text.nunique() == 1


def test_identical_rows_are_asked_once_and_cost_once(mapped, server, session):
    frame = pd.DataFrame({"a": ["x", "y", "x", "x"]}, index=[1, 1, 2, 2])
    out = mapped(frame, schema=Label)
    assert server.stats["begun"] == {"x": 1, "y": 1}
    assert list(out.label) == ["x", "y", "x", "x"]
    assert list(out.index) == [1, 1, 2, 2]
    assert list(out.cost_usd) == [usd(COST_NANO_USD)] * 2 + [Decimal(0)] * 2
    assert session.ledger.totals(by=())[0].live.cost_nano_usd == 2 * COST_NANO_USD


def test_what_costs_nothing_is_shown_as_nothing(store):
    with Simulator() as simulator, session_at(simulator.base_url) as session:
        out = map_rows(session, store, texts(2), "{{ a }}")
    assert [str(each) for each in out.cost_usd] == ["0", "0"]


def test_an_unknown_column_stops_before_anything_is_sent(mapped, server):
    with pytest.raises(TemplateError, match="no column city") as caught:
        mapped([{"citi": "x", "a": 1}], "{{ city }}")
    assert "citi" in caught.value.hint
    with pytest.raises(TemplateError, match="no column amuont"):
        mapped([{"amount": 1.5}], "{{ amuont | round(1) }}")
    assert server.stats["requests"] == 0


def test_expressions_over_columns_work_as_in_any_prompt(mapped, server):
    mapped([{"name": "ann", "n": 3}], "{{ name | upper }} has {{ n + 1 }}, {% not %} { this }")
    assert list(server.stats["begun"]) == ["ANN has 4, {% not %} { this }"]


def test_a_row_that_breaks_the_template_is_an_error_of_that_row(mapped, server):
    rows = [{"a": "x"}, {"a": b"\x00\x01"}, {"b": 1}, {"a": "y"}]
    out = mapped(rows, "say {{ a }}")
    assert list(out.error.isna()) == [True, False, False, True]
    assert "no text" in out.error[1]
    assert "TemplateError" in out.error[2]
    assert sorted(server.stats["begun"]) == ["say x", "say y"]
    assert pd.isna(out.cost_usd[1])


def test_columns_may_be_called_anything(mapped, server):
    frame = pd.DataFrame(
        {"class": ["c"], "in": ["i"], "not": ["n"], "unit price": [2.5], "self": 1}
    )
    mapped(frame, "{{ class }} {{ in }} {{ not }} {{ unit price }} {{ self }}")
    assert list(server.stats["begun"]) == ["c i n 2.5 1"]


def test_what_is_missing_is_empty(mapped, server):
    frame = pd.DataFrame(
        {
            "a": ["x", None, "z"],
            "n": [1.5, float("nan"), 2.0],
            "t": pd.to_datetime(["2026-01-01", None, None]),
            "i": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    mapped(frame, "[{{ a }}|{{ n }}|{{ i }}|{{ t }}]")
    assert sorted(server.stats["begun"]) == ["[x|1.5|1|2026-01-01 00:00:00]", "[z|2.0|3|]", "[|||]"]


def test_a_row_of_nothing_has_an_error(mapped):
    out = mapped([{"a": None}, {"a": "x"}])
    assert "EmptyPrompt" in out.error[0]
    assert out.error.isna()[1]


def test_no_rows_are_no_requests(mapped, server):
    assert len(mapped([])) == 0
    out = mapped(pd.DataFrame({"a": []}), schema=Label)
    assert list(out.columns)[:2] == ["label", "score"]
    assert len(out) == 0
    assert server.stats["requests"] == 0


def test_an_iterator_is_read_as_it_is_needed(mapped, server):
    server.begin(latency_s=0.05)
    seen = []

    def rows():
        for n in range(600):
            seen.append(n)
            yield {"a": f"row {n}"}

    class Early:
        ahead = 0

        def update(self, progress):
            if progress.asked == 0:
                self.ahead = max(self.ahead, len(seen))

    early = Early()
    out = mapped(rows(), show=early, concurrency=64)
    assert len(out) == 600
    assert early.ahead < 400


def test_an_iterator_that_fails_keeps_what_was_done(mapped, store):
    def rows():
        yield from texts(20)
        raise ZeroDivisionError("the source broke")

    with pytest.raises(ZeroDivisionError):
        mapped(rows())
    [job] = store.jobs()
    assert (job.done_rows, job.state) == (20, "stopped")


def test_polars_comes_back_as_polars(mapped):
    polars = pytest.importorskip("polars")
    out = mapped(polars.DataFrame({"a": ["x", "y"]}), schema=Label)
    assert isinstance(out, polars.DataFrame)
    assert out["label"].to_list() == ["x", "y"]
    assert out["score"].to_list() == [1, 1]


def test_without_pandas_there_are_rows(mapped, monkeypatch):
    monkeypatch.setattr(results, "has_pandas", lambda: False)
    out = mapped(texts(3), schema=Label)
    assert isinstance(out, MappedRows)
    assert len(out) == 3
    assert out.to_dicts()[2]["label"] == "row 2"
    assert out[-1]["cost_usd"] == usd(COST_NANO_USD)
    assert out["error"] == out.column("error") == [None] * 3


def test_structs_are_columns_and_flat_on_request(mapped, server):
    text = '{"a":{"b":1.5,"c":[1]},"on":"2026-02-03","good":true,"many":null}'
    server.begin(text=text)
    out = mapped(texts(2), schema=Outer)
    assert out.a[0] == {"b": 1.5, "c": [1]}
    assert (str(out.on.dtype)[:10], out.good.dtype, out.many.dtype) == (
        "datetime64",
        "bool",
        "Int64",
    )
    flat = mapped(texts(2), schema=Outer, flatten=True)
    assert flat["a.b"].to_list() == [1.5, 1.5]
    assert flat["a.c"][0] == [1]


def test_a_type_that_is_no_struct_is_a_column_called_value(mapped, server):
    server.begin(text='{"value": 7}')
    assert mapped(texts(2), schema=int).value.to_list() == [7, 7]


def test_an_answer_that_does_not_fit_is_repaired_once(mapped, server, session):
    server.begin(texts=['{"label":"x"}', '{"label":"x","score":4}'])
    out = mapped(texts(1), schema=Label)
    assert out.score[0] == 4
    assert out.cost_usd[0] == usd(2 * COST_NANO_USD)
    kinds = [entry.kind for entry in session.ledger.entries()]
    assert kinds == ["map", "repair"]


def test_an_answer_that_never_fits_is_an_error_that_is_paid_once(mapped, server):
    server.begin(text="no JSON at all")
    first = mapped(texts(2), schema=Label)
    assert "InvalidAnswer: the answer does not fit Label" in first.error[0]
    again = mapped(texts(2), schema=Label)
    assert server.stats["requests"] == 4
    assert list(again.error) == list(first.error)
    assert list(again.cost_usd) == list(first.cost_usd) == [usd(2 * COST_NANO_USD)] * 2


def test_a_refused_row_is_an_error_and_asked_again_next_time(mapped, server):
    server.begin(refuse="row 1")
    out = mapped(texts(3))
    assert list(out.error.isna()) == [True, False, True]
    assert "not like this" in out.error[1]
    server.begin()
    assert mapped(texts(3)).error.isna().all()
    assert server.stats["begun"] == {"row 1": 1}


def test_raise_stops_at_the_first_error_and_keeps_the_work(mapped, server, store):
    server.begin(refuse="row 5")
    with pytest.raises(O3Error, match="not like this") as caught:
        mapped(texts(400), on_error="raise", concurrency=2)
    out = caught.value.answer
    assert len(out) == 400
    assert out.error[399] == "not asked: stopped at an error"
    assert store.jobs()[0].done_rows == out.error.isna().sum() > 0
    assert server.stats["requests"] < 30


def test_what_is_wrong_with_all_rows_stops_the_job(mapped, server):
    server.begin(status=401, refuse="invalid_api_key")
    with pytest.raises(O3Error, match="invalid_api_key"):
        mapped(texts(500), concurrency=8)
    assert server.stats["requests"] <= 8
    server.begin(status=400, refuse="bad")
    with pytest.raises(O3Error, match="bad"):
        mapped(texts(500), concurrency=8)
    assert server.stats["requests"] < 40


def test_an_answer_that_is_too_large_is_an_error(mapped, server):
    server.begin(text="x" * 50_000)
    out = mapped(texts(2), max_answer_bytes=10_000)
    assert out.error.str.contains("larger than 10,000 bytes").all()


def test_a_huge_row_is_an_error_of_that_row(mapped, server):
    out = mapped([{"a": "x" * 5_000_000}, {"a": "word " * 300_000}, {"a": "y"}])
    assert "TemplateError" in out.error[0]
    assert "PromptTooLong" in out.error[1]
    assert list(server.stats["begun"]) == ["y"]


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ("text", {}, "rows cannot be a str"),
        ({"a": 1}, {}, "rows cannot be a dict"),
        ([{"a": 1}, "x"], {}, "row 1 is a str"),
        (5, {}, "rows cannot be a int"),
        ([{"a": 1}], {"concurrency": 0}, "concurrency"),
        ([{"a": 1}], {"on_error": "ignore"}, "on_error"),
        ([{"a": 1}], {"budget": "much"}, "budget"),
        ([{"a": 1}], {"requests_per_min": -1}, "requests_per_min"),
        ([{"a": 1}], {"conversation": "c"}, "conversation"),
        ([{"a": 1}], {"dry_run": True}, "dry_run"),
    ],
)
def test_what_cannot_be_is_said(mapped, server, rows, options, said):
    with pytest.raises(BadOption, match=said):
        mapped(rows, **options)
    assert server.stats["requests"] == 0


def test_two_columns_of_one_name_are_told(mapped):
    with pytest.raises(BadOption, match="two columns"):
        mapped(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_an_empty_prompt_is_told(mapped):
    with pytest.raises(EmptyPrompt):
        mapped(texts(1), "  ")


def test_a_field_that_is_called_like_ours_keeps_its_name(mapped, server):
    class Odd(BaseModel):
        error: str

    server.begin(text='{"error":"mine"}')
    out = mapped(texts(1), schema=Odd)
    assert out.error[0] == "mine"
    assert out.o3_error.isna().all()


def test_an_invalid_answer_can_be_raised(mapped, server):
    server.begin(text="nothing")
    with pytest.raises(O3Error, match="does not fit Label") as caught:
        mapped(texts(1), schema=Label, on_error="raise")
    assert isinstance(caught.value, InvalidAnswer)
