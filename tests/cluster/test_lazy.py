"""DataFrames and bags of Dask stay lazy, and their books come back however they are computed."""

import os
import threading
import warnings
from decimal import Decimal

import dask.array
import dask.bag
import dask.dataframe as dd
import pandas
import pytest
from pydantic import BaseModel

from o3magic.errors import BadOption, LedgerUnavailable, O3Error, TemplateError, WrongKey
from o3magic.money import usd
from o3magic.rows.store import JobStore
from tests.cluster.conftest import kill_a_worker, wait_for
from tests.cluster.test_rows import LIMIT, WORST_NANO_USD, Label
from tests.rows.conftest import texts
from tests.rows.loopback import COST_NANO_USD

OWN = ["error", "cost_usd", "input_tokens", "output_tokens", "reasoning_tokens"]


def frame_of(count, partitions, **more):
    frame = pandas.DataFrame(texts(count), **more)
    return dd.from_pandas(frame, npartitions=partitions, sort=False)


def labels(count):
    return [f"row {n}" for n in range(count)]


def test_a_frame_asks_nothing_before_it_is_computed_and_nothing_twice(caller, server):
    rows = frame_of(60, 4)
    lazy = caller.map(rows, schema=Label)
    assert isinstance(lazy, dd.DataFrame)
    assert list(lazy.columns) == ["label", "score", *OWN]
    assert (lazy.npartitions, lazy.divisions) == (rows.npartitions, rows.divisions)
    assert server.stats["requests"] == 0
    out = lazy.compute()
    assert list(out.label) == labels(60)
    assert out.error.isna().all()
    assert (out.dtypes == lazy.dtypes).all()
    assert [str(each) for each in out.dtypes] == [
        *("string", "Int64", "string", "Float64", "Int64", "Int64", "Int64")
    ]
    assert round(out.cost_usd.sum() * 10**9) == caller.live.cost_nano_usd == 60 * COST_NANO_USD
    assert (caller.job.state, caller.job.done_rows, caller.job.claimed_rows) == ("done", 60, 0)
    # Once more, a part of it, and all of it from another call.
    assert lazy.compute().equals(out)
    assert lazy.partitions[2].compute().equals(out.iloc[30:45])
    assert caller.map(rows, schema=Label).compute().label.equals(out.label)
    assert server.stats["requests"] == 60
    assert caller.live.calls == 60


def test_the_answers_stand_beside_their_rows(caller, server, tmp_path):
    rows = frame_of(20, 3, index=[3, 3, *range(18)])
    lazy = caller.map(rows, schema=Label)
    both = rows.assign(label=lazy.label).persist()
    assert list(both.compute().label) == list(both.compute().a)
    lazy.to_parquet(tmp_path / "out")
    stored = pandas.read_parquet(tmp_path / "out")
    assert list(stored.label) == labels(20)
    assert stored.cost_usd.dtype.kind == "f"
    assert server.stats["requests"] == 20


def test_missing_values_empty_partitions_and_rows_that_fail(caller, server):
    frame = pandas.DataFrame({"a": ["x", None, "bad", "y"], "n": [1.0, float("nan"), 2.0, 3.0]})
    rows = dd.from_pandas(frame, npartitions=2)
    rows = dd.concat([rows, rows[rows.n > 7]])
    assert any(len(part.compute()) == 0 for part in rows.partitions)
    server.begin(refuse="bad")
    out = caller.map(rows, "{{ a }}{{ n }}", schema=Label).compute()
    assert list(out.label.fillna("-")) == ["x1.0", "-", "-", "y3.0"]
    assert out.error[1].startswith("EmptyPrompt")
    assert out.error[2].startswith("RequestRefused")
    assert [str(each) for each in out.dtypes][:2] == ["string", "Int64"]
    assert list(out.score.isna()) == [False, True, True, False]
    none = caller.map(rows[rows.n > 7], schema=Label, name="none").compute()
    assert (len(none), list(none.columns)) == (0, ["label", "score", *OWN])


def test_identical_rows_of_all_partitions_are_asked_and_charged_once(caller, server):
    frame = pandas.DataFrame({"a": [f"row {n % 5}" for n in range(40)], "n": range(40)})
    lazy = caller.map(dd.from_pandas(frame, npartitions=4), schema=Label)
    part = lazy.partitions[2].compute()
    out = lazy.compute()
    assert list(out.label) == [f"row {n % 5}" for n in range(40)]
    assert server.stats["requests"] == 5
    assert round(out.cost_usd.sum() * 10**9) == 5 * COST_NANO_USD
    assert round(part.cost_usd.sum() * 10**9) == 5 * COST_NANO_USD
    assert lazy.compute().equals(out)
    bag = dask.bag.from_sequence(texts(4) * 3, npartitions=3)
    told = caller.map(bag, schema=Label, name="bag").compute()
    assert sum(each["cost_usd"] for each in told) * 10**9 == 4 * COST_NANO_USD
    assert caller.live.cost_nano_usd == 9 * COST_NANO_USD


def test_a_worker_dies_while_a_frame_is_computed(caller, client, server):
    server.begin(latency_s=0.1)

    def kill():
        wait_for(lambda: sum(server.stats["answered"].values()) >= 40)
        kill_a_worker(client)

    killer = threading.Thread(target=kill)
    killer.start()
    out = caller.map(frame_of(180, 6), schema=Label, concurrency=12).compute()
    killer.join()
    assert list(out.label) == labels(180)
    assert out.error.isna().all()
    job, live = caller.job, caller.live
    assert 0 < job.lost_calls <= 12
    assert sum(server.stats["begun"].values()) <= 180 + job.lost_calls
    assert live.cost_nano_usd == job.spent_nano_usd == 180 * COST_NANO_USD
    assert live.unknown_cost_calls == job.lost_calls
    wait_for(lambda: caller.job.state == "done")
    assert "workers that died" in caller.job.said


def test_one_limit_for_all_partitions(caller, server):
    server.begin(latency_s=0.03)
    caller.map(frame_of(60, 6), schema=Label, concurrency=5).compute()
    assert 3 <= server.stats["peak"] <= 5


def test_a_budget_holds_for_all_partitions(caller, server):
    server.begin(latency_s=0.01)
    budget = usd(20 * COST_NANO_USD + WORST_NANO_USD - COST_NANO_USD)
    said = {"budget": budget, "concurrency": 8, "max_output_tokens": LIMIT}
    out = caller.map(frame_of(60, 4), **said).compute()
    answered = out.error.isna().sum()
    assert 16 <= answered <= 21
    assert set(out.error.dropna()) == {"not asked: budget"}
    assert sum(server.stats["begun"].values()) == answered
    assert caller.job.spent_nano_usd == answered * COST_NANO_USD <= budget * 10**9
    assert caller.map(frame_of(60, 4), **said | {"budget": 1}).compute().error.isna().all()
    assert set(server.stats["begun"].values()) == {1}


def test_nobody_asks_for_what_nobody_waits_for(caller, client, server):
    server.begin(latency_s=0.2)
    lazy = caller.map(frame_of(2000, 2), schema=Label, concurrency=4)
    future = client.compute(lazy)
    wait_for(lambda: server.stats["requests"] >= 8)
    future.cancel()
    wait_for(lambda: caller.job.state == "done")
    asked = server.stats["requests"]
    assert asked < 100
    assert caller.job.done_rows == asked
    assert (caller.job.claimed_rows, caller.live.unknown_cost_calls) == (0, 0)


def tasks_left(dask_scheduler):
    return len(dask_scheduler.tasks)


def test_an_error_of_all_rows_is_raised_where_they_are_computed(caller, client, server):
    server.begin(status=401)
    lazy = caller.map(frame_of(20, 2), schema=Label)
    with pytest.raises(WrongKey):
        lazy.compute()
    wait_for(lambda: client.run_on_scheduler(tasks_left) == 0)  # Dask keeps errors for a moment
    server.begin()
    assert lazy.compute().error.isna().all()
    server.begin(text="no JSON")
    with pytest.raises(O3Error, match="does not fit Label"):
        caller.map(frame_of(9, 2), schema=Label, name="raise", on_error="raise").compute()


def test_nobody_waits_for_books_that_fail(caller, server, monkeypatch):
    def read(self, job, keys):
        raise LedgerUnavailable("the file of jobs is damaged")

    lazy = caller.map(frame_of(4, 2))
    monkeypatch.setattr(JobStore, "read", read)
    with pytest.raises(O3Error, match="whoever keeps the books of these rows is gone"):
        lazy.compute()


def test_a_column_that_is_not_there_is_missed_at_once(caller, server):
    with pytest.raises(TemplateError, match="there is no column b") as caught:
        caller.map(frame_of(4, 2), "{{ b }}")
    assert "a" in caught.value.hint
    lazy = caller.map(dask.bag.from_sequence(texts(4), npartitions=2), "{{ b }}")
    with pytest.raises(TemplateError, match="there is no column b"):
        lazy.compute()
    assert server.stats["requests"] == 0


def test_a_bag_of_dicts_gives_a_bag_of_dicts(caller, server):
    bag = dask.bag.from_sequence(texts(12), npartitions=3)
    lazy = caller.map(bag, schema=Label)
    assert isinstance(lazy, dask.bag.Bag)
    assert lazy.npartitions == bag.npartitions
    assert server.stats["requests"] == 0
    out = lazy.compute()
    assert [each["label"] for each in out] == labels(12)
    assert [*out[0]] == ["label", "score", *OWN]
    assert sum(each["cost_usd"] for each in out) == Decimal(12 * COST_NANO_USD) / 10**9
    assert lazy.compute() == out
    assert server.stats["requests"] == 12
    with pytest.raises(BadOption, match="row 0 is a str"):
        caller.map(dask.bag.from_sequence(["x"]), "no columns").compute()


class Place(BaseModel):
    city: str
    zip: int | None


class Person(BaseModel):
    name: str
    home: Place
    born: str
    tags: list[str]


def test_flat_fields_are_known_before_any_answer_is(caller, server):
    said = '{"name": "n", "home": {"city": "c", "zip": null}, "born": "b", "tags": ["t"]}'
    server.begin(text=said)
    lazy = caller.map(frame_of(2, 1), schema=Person, flatten=True)
    assert list(lazy.columns) == ["name", "home.city", "home.zip", "born", "tags", *OWN]
    out = lazy.compute()
    assert (out["home.city"][0], out.tags[1]) == ("c", ["t"])
    assert (out["home.zip"].dtype == "Int64", out["home.zip"].isna().all()) == (True, True)
    deep = caller.map(frame_of(2, 1), schema=Person)
    assert deep.compute().home[0] == {"city": "c", "zip": None}


def test_a_plain_text_and_a_list_have_a_column_each(caller, server):
    server.begin(text='{"items": [1, 2]}')
    assert list(caller.map(frame_of(2, 1)).compute().text) == ['{"items": [1, 2]}'] * 2
    assert list(caller.map(frame_of(2, 1), schema=list[int]).compute().value) == [[1, 2]] * 2


def test_other_collections_and_other_schedulers_are_refused(caller, server, tmp_path):
    for rows in (dask.array.ones(3), frame_of(2, 1).a, dask.delayed(1)):
        with pytest.raises(BadOption, match="rows cannot be a Dask"):
            caller.map(rows)
    lazy = caller.map(frame_of(2, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Dask's own, in some of its versions
        with pytest.raises(O3Error, match="asked by the workers of the cluster"):
            lazy.compute(scheduler="sync")
    caller.notebook = str(tmp_path / "rows.ipynb")
    with pytest.raises(BadOption, match="neither recorded nor replayed"):
        caller.map(frame_of(2, 1), mode="record")
    assert server.stats["requests"] == 0


def test_the_simulator_of_each_worker_answers_and_is_labelled(caller, client):
    seen = []

    class Show:
        def update(self, progress):
            seen.append(progress)

    lazy = caller.map(frame_of(4, 2), schema=Label, provider="simulator", show=Show())
    assert "SIMULATED" in seen[-1].said
    assert lazy.compute().error.isna().all()
    caller.map(texts(4), schema=Label, provider="simulator", name="here", show=Show())
    assert "SIMULATED" in seen[-1].words()
    assert caller.live.calls == 0
    assert len(set(client.run(os.getpid).values())) == 2
