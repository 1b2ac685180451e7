"""What effort buys: a sweep over a real server that is better at higher effort."""

import _thread
import json
import threading
from decimal import Decimal

import pandas as pd
import pytest
from pydantic import BaseModel

import o3magic as o3
from o3magic.errors import BadOption, Interrupted, OverBudget, TemplateError
from o3magic.money import usd
from o3magic.rows.progress import NoProgress
from o3magic.rows.sweep import result as sweep_result
from o3magic.rows.sweep.sweep import run_sweep
from tests.rows.sweep_provider import OUTPUT_TOKENS, cost_nano_usd, serving
from tests.sessions import KEY, session_at


class Label(BaseModel):
    label: str
    n: int


@pytest.fixture
def provider():
    with serving() as server:
        yield server


@pytest.fixture
def session(provider):
    with session_at(provider.base_url) as made:
        yield made


@pytest.fixture
def sweep(session):
    def run(rows, prompt="{{ q }}", *, show=None, **options):
        options = {"scorer": "number", "expected": "n"} | options
        return run_sweep(
            session, rows, prompt, show=NoProgress() if show is None else show, **options
        )

    return run


def tasks(count):
    return [{"q": f"row {n}", "n": n} for n in range(count)]


def test_accuracy_cost_and_tokens_of_each_effort(sweep, provider):
    found = sweep(pd.DataFrame(tasks(40))).to_frame().set_index("effort")
    assert list(found.index) == ["low", "medium", "high"]
    assert list(found.accuracy) == [0.5, 0.8, 0.9]
    assert list(found.rows) == [40] * 3
    low = found.loc["low"]
    assert (low.accuracy_low, low.accuracy_high) == pytest.approx((0.351995, 0.648005), abs=1e-6)
    assert low.cost_usd == usd(40 * cost_nano_usd("low"))
    assert low.cost_per_row_usd == usd(cost_nano_usd("low"))
    assert low.cost_per_correct_usd == usd(2 * cost_nano_usd("low"))
    assert found.loc["high"].reasoning_tokens_per_row == 890
    assert (found.mean_s > 0).all()
    assert (found.p95_s >= found.mean_s / 2).all()
    assert len(provider.asked) == 120


def test_the_recommendation_is_the_cheapest_that_is_not_distinguishably_worse(sweep):
    said = sweep(tasks(100)).recommendation
    # Medium is worse on 10 rows that high got right: p = 2 / 2^10.
    assert said.startswith("high: its accuracy (0.90, 0.83-0.94) is distinguishably above")
    assert "next is medium (0.80, 0.71-0.87; p = 0.002) at 45% of the cost per row." in said


def test_few_rows_are_too_few_to_tell(sweep):
    said = sweep(tasks(10)).recommendation
    start = "low: its accuracy (0.50, 0.24-0.76) is not distinguishably below high's"
    assert said.startswith(start)
    assert "p = 0.12) at 1/9 of the cost per row. 10 rows are too few to tell" in said


def test_the_same_call_asks_nothing_twice(sweep, provider):
    first = sweep(tasks(10))
    again = sweep(tasks(10))
    assert set(provider.asked.values()) == {1}
    assert again.records() == first.records()
    sweep(tasks(12))
    assert sum(provider.asked.values()) == 36


def test_rows_where_efforts_disagree_come_with_answers_and_scores(sweep):
    found = sweep(tasks(10)).disagreements()
    assert list(found.row) == [5, 6, 7, 8]
    assert list(found["low score"]) == [0] * 4
    assert list(found["medium score"]) == [1, 1, 1, 0]
    assert found["low answer"][0] == "The answer is 105."
    assert len(sweep(tasks(10)).rows_frame()) == 10


def test_efforts_that_agree_leave_an_empty_table_with_its_columns(sweep):
    found = sweep(tasks(3)).disagreements()
    assert len(found) == 0
    assert "low answer" in found.columns


@pytest.mark.parametrize(
    "given", [[0, 1, 2], (0, 1, 2), pd.Series([0, 1, 2]), lambda row: row["n"]]
)
def test_expected_is_a_list_or_a_function_too(sweep, given):
    assert sweep(tasks(3), expected=given, efforts=["low"]).choices[0].accuracy == 1


def test_rows_from_an_iterator(sweep):
    assert sweep(iter(tasks(4)), efforts=["low"]).choices[0].n == 4


def test_a_row_with_nothing_expected_is_not_asked(sweep, provider):
    rows = [*tasks(3), {"q": "row 3", "n": None}, {"q": "row 4", "n": float("nan")}]
    found = sweep(rows, efforts=["low"])
    assert found.choices[0].n == 3
    assert sum(provider.asked.values()) == 3
    assert "2 rows have no expected value" in str(found)


def test_a_function_scores_with_the_answer_and_the_row(sweep):
    seen = []

    def scorer(answer, row):
        seen.append((answer, dict(row)))
        return 0.25 if row["n"] else 0.5

    found = sweep(tasks(3), scorer=scorer, expected=None, efforts=["low"])
    assert seen[2] == ("The answer is 2.", {"q": "row 2", "n": 2})
    assert found.choices[0].accuracy == pytest.approx(1 / 3)
    sweep(tasks(1), scorer=scorer, expected=["right"], efforts=["low"])
    assert seen[-1][1]["expected"] == "right"


def test_a_scorer_that_fails_is_told_and_counts_as_wrong(sweep):
    found = sweep(tasks(4), scorer=lambda answer, row: 1 / row["n"] <= 1, efforts=["low"])
    assert found.choices[0].accuracy == 0.75
    assert found.records()[0]["not_scored"] == 1
    assert found.rows_frame()["low error"][0].startswith("not scored: ZeroDivisionError")
    assert "1 answers at low could not be scored" in str(found)


def test_a_row_without_an_answer_counts_as_wrong_and_is_shown_apart(sweep, provider):
    provider.refused = "row 1"
    found = sweep(tasks(4), efforts=["low"])
    record = found.records()[0]
    assert (record["accuracy"], record["no_answer"], record["rows"]) == (0.75, 1, 4)
    assert "RequestRefused" in found.rows_frame()["low error"][1]
    assert "A row without an answer counts as wrong." in found.markdown().replace("&#46;", ".")


def test_fields_of_a_schema_are_scored_by_their_f1(sweep, provider):
    provider.words = lambda prompt, effort, n: json.dumps({"label": "X", "n": n})
    rows = [{"q": f"row {n}", "right": {"label": "x", "n": n}} for n in range(10)]
    found = sweep(rows, schema=Label, scorer="fields", expected="right")
    assert [choice.accuracy for choice in found.choices] == [0.75, 0.9, 0.95]
    one = sweep(tasks(10), schema=Label, scorer="exact")
    assert [choice.accuracy for choice in one.choices] == [0.5, 0.8, 0.9]
    objects = sweep(tasks(10), schema=Label, scorer=lambda answer, row: answer.n == row["n"])
    assert [choice.accuracy for choice in objects.choices] == [0.5, 0.8, 0.9]


def test_a_budget_is_for_all_efforts_and_all_runs_of_them(sweep, session, provider):
    limit = usd(10 * cost_nano_usd("low") + 10 * cost_nano_usd("medium") + 10)
    options = {"max_output_tokens": 1000, "budget": limit, "concurrency": 2}
    found = sweep(tasks(10), **options)
    asked = [choice.n for choice in found.choices]
    assert asked[0] == 10
    assert asked[2] < 10
    assert found.partial
    assert "not complete" in str(found)
    assert "do not count" in str(found)
    spent = sum(choice.known_cost_nano_usd for choice in found.choices)
    assert spent <= limit * 10**9
    before = sum(provider.asked.values())
    sweep(tasks(10), **options)
    again = sum(choice.known_cost_nano_usd for choice in sweep(tasks(10), **options).choices)
    assert again <= limit * 10**9
    assert sum(provider.asked.values()) >= before
    whole = sweep(tasks(10), **options | {"budget": Decimal(1)})
    assert [choice.n for choice in whole.choices] == [10] * 3
    assert set(provider.asked.values()) == {1}


def test_a_budget_for_not_one_row_is_refused(sweep, provider):
    with pytest.raises(OverBudget):
        sweep(tasks(3), budget=0)
    assert not provider.asked


def test_an_interrupt_keeps_what_is_done(sweep, provider):
    over = threading.Event()

    def at(effort):
        if effort == "medium" and sum(e == "medium" for e, _ in provider.asked) == 3:
            _thread.interrupt_main()
            over.wait(0.5)  # a row on its way, while the interrupt reaches the main thread

    provider.at = at
    with pytest.raises(Interrupted) as caught:
        sweep(tasks(40), concurrency=1)
    over.set()
    provider.at = lambda effort: None
    found = caught.value.answer
    low, medium, high = found.choices
    assert low.n == 40
    assert 0 < medium.n < 40
    assert high.n == 0
    assert found.partial
    assert "stopped" in str(found)
    assert found.plot().svg
    assert found.recommendation
    whole = sweep(tasks(40))
    assert [choice.n for choice in whole.choices] == [40] * 3
    # What was on its way at the interrupt may be asked again; what was answered is not.
    assert sum(count - 1 for count in provider.asked.values()) <= 1


def test_everything_is_looked_at_before_the_first_row_is_asked(sweep, provider):
    for wrong in (
        {"efforts": ["low", "enormous"]},
        {"scorer": "exakt"},
        {"expected": "m"},
        {"expected": None},
        {"expected": [1, 2]},
        {"expected": {"n": 1}},
        {"expected": lambda row: row["m"]},
        {"efforts": "low"},
        {"flatten": True},
        {"concurrency": 0},
    ):
        with pytest.raises(BadOption):
            sweep(tasks(3), **wrong)
    with pytest.raises(TemplateError):
        sweep(tasks(3), "{{ nothing }}")
    assert not provider.asked


def test_the_model_is_not_told_what_is_expected(sweep, provider):
    with pytest.raises(BadOption, match="which is what is expected"):
        sweep(tasks(3), "{{ q }} is {{ n }}")
    assert not provider.asked


def test_no_rows_are_no_failure(sweep):
    found = sweep([])
    assert "Nothing was measured." in str(found)
    assert found.plot().svg
    assert len(found.to_frame()) == 3


def test_identical_rows_are_asked_once_and_all_counted(sweep, provider):
    found = sweep(tasks(1) * 5, efforts=["low"])
    assert sum(provider.asked.values()) == 1
    record = found.records()[0]
    assert (record["rows"], record["cost_per_row_usd"]) == (5, usd(cost_nano_usd("low")))
    assert record["cost_usd"] == usd(cost_nano_usd("low"))


def test_an_unknown_cost_stays_unknown(sweep):
    found = sweep(tasks(3), efforts=["low", "high"], model="nobody-knows-it")
    record = found.records()[0]
    assert {record[n] for n in record if n.startswith("cost_")} == {None}
    assert "unknown" in str(found)
    assert found.plot().prices.unit == "output tokens"


def test_simulated_answers_are_labelled_in_every_view(sweep, provider):
    provider.simulated = True
    found = sweep(tasks(10), efforts=["low", "high"])
    views = [str(found), repr(found), found.markdown(), found.recommendation, found.plot().svg]
    views += [str(found.plot()), found.to_frame().to_string(), found.disagreements().to_string()]
    for view in [*views, found.rows_frame().to_string()]:
        assert "SIMULATED" in view


def test_the_table_has_sums_of_money_only_where_something_was_paid(sweep, provider):
    assert {"cost per row", "per correct", "in all"} <= {*sweep(tasks(2)).table().head}
    provider.simulated = True
    head = sweep(tasks(2), name="made up").table().head
    assert "cost per row" in head
    assert not {"per correct", "in all"} & {*head}


def test_hostile_texts_are_escaped_wherever_they_are_shown(sweep, provider):
    evil = "<script>alert(1)</script>|\n# x ![](http://evil)"
    provider.words = lambda prompt, effort, n: evil

    def scorer(answer, row):
        raise ValueError(answer)

    found = sweep(tasks(3), scorer=scorer, efforts=["low"])
    shown = found._repr_mimebundle_()
    assert set(shown) == {"text/markdown", "text/plain"}
    for marks in ("<script", "![", "\n# x"):
        assert marks not in shown["text/markdown"]
    assert "\n# x" not in shown["text/plain"]
    assert evil.split()[0] not in found.plot().svg
    assert "<script" not in found.rows_frame().to_html()


def test_progress_of_all_efforts_is_one(sweep):
    class Seen(list):
        update = list.append

    seen = Seen()
    sweep(tasks(10), show=seen)
    assert seen[-1].rows == seen[-1].total == 30
    assert [each.over for each in seen].count(True) == 1
    rows = [each.rows for each in seen]
    assert rows == sorted(rows)
    assert seen[-1].spent_nano_usd == 10 * sum(map(cost_nano_usd, OUTPUT_TOKENS))


def test_without_pandas_there_are_dicts(sweep, monkeypatch):
    monkeypatch.setattr(sweep_result, "has_pandas", lambda: False)
    found = sweep(tasks(10))
    assert found.to_frame() == found.records()
    assert [row["row"] for row in found.disagreements()] == [5, 6, 7, 8]


def at_notebook(base_url, notebook, mode, **options):
    with session_at(base_url) as session:
        options |= {"expected": "n", "scorer": "number", "mode": mode, "notebook": str(notebook)}
        return run_sweep(session, tasks(10), "{{ q }}", show=NoProgress(), **options)


@pytest.mark.parametrize("simulated", [False, True])
def test_a_recorded_sweep_replays_to_the_same_figures_with_nobody_there(
    provider, tmp_path, simulated
):
    provider.simulated = simulated
    notebook = tmp_path / "effort.ipynb"
    recorded = at_notebook(provider.base_url, notebook, "record")
    assert (tmp_path / "effort.o3.json").is_file()
    replayed = at_notebook("http://127.0.0.1:9/v1", notebook, "replay")
    first, again = recorded.records(), replayed.records()
    for was, found in zip(first, again, strict=True):
        assert (was.pop("source"), found.pop("source")) == (
            ("SIMULATED", "SIMULATED") if simulated else ("live", "replayed")
        )
    assert again == first
    assert replayed.recommendation == recorded.recommendation
    assert replayed.plot().svg == recorded.plot().svg
    assert replayed.markdown() == recorded.markdown()


def test_the_public_name_asks_with_the_settings_of_the_environment(provider, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("O3MAGIC_LEDGER", ":memory:")
    found = o3.sweep(tasks(4), "{{ q }}", expected="n", scorer="number", efforts=["low"])
    assert found.choices[0].accuracy == 1
