"""Batches from rows to a table: matched, validated, paid for once, and told in clear words."""

import json
import sqlite3
from dataclasses import replace

import pandas
import pytest
from pydantic import BaseModel

from o3magic.client.files import Files
from o3magic.errors import (
    BadOption,
    CassetteMiss,
    Interrupted,
    NoKey,
    OverBudget,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    TemplateError,
    WrongKey,
)
from o3magic.money import show_usd
from o3magic.rows.batch.parts import PartLimits
from o3magic.rows.batch.registry import find_batch, list_batches
from o3magic.rows.batch.store import BatchStore, NewRow
from o3magic.rows.map_job import map_rows
from o3magic.simulator import BatchScript, Reply, Simulator
from tests.rows.conftest import CITIES
from tests.sessions import COST_NANO_USD, KEY, USAGE, entries, response

BATCH_NANO_USD = COST_NANO_USD // 2
WHOLE = {"input_tokens": 28, "output_tokens": 348, "total_tokens": 376}  # of four rows
WHOLE |= {"input_tokens_details": {"cached_tokens": 0}}
WHOLE |= {"output_tokens_details": {"reasoning_tokens": 256}}
CAPITAL = '{"country": "Norway", "people": 5}'


class City(BaseModel):
    country: str
    people: int


def uploaded(sim):
    """The lines of all files that were uploaded, the oldest first."""
    files = [each["id"] for each in reversed(sim.files) if each["purpose"] == "batch"]
    return [[json.loads(line) for line in sim.content(each).splitlines()] for each in files]


def paths(sim, method="POST"):
    return [each.path for each in sim.requests if each.method == method]


def answering(text="four", usage=USAGE):
    """A script whose answers cost, as a provider's do."""
    return BatchScript(answer=lambda _: response(text, usage=usage))


def cost(place):
    return [each.cost_nano_usd for each in entries(place.session)]


def test_rows_become_a_batch_and_a_table_in_their_order(sim, place, shared_api):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((shared_api / "schemas" / "batch_input_line.json").read_text("utf-8"))
    body = json.loads((shared_api / "schemas" / "responses_request.json").read_text("utf-8"))
    table = place.batch(schema=City, name="cities").wait()
    [lines] = uploaded(sim)
    for line in lines:
        jsonschema.validate(line, schema)
        jsonschema.validate(line["body"], body)
        assert "stream" not in line["body"]
    said = [line["body"]["input"][0]["content"] for line in lines]
    assert said == [f"Where is {name}?" for name in ("Oslo", "Rome", "Paris", "Bern")]
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns[:2]) == ["country", "people"]
    assert table["error"].isna().all()
    assert len(table) == len(CITIES)
    assert table["country"][0] == table["country"][3]
    assert table["country"].nunique() > 1


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_each_row_gets_its_own_answer_whatever_the_order_of_the_lines(sim, place, api):
    rows = [{"n": n} for n in range(50)]
    table = place.batch(rows, "number {{ n }}", api=api).wait()
    [file] = [each["id"] for each in sim.files if each["filename"] == "batch_output.jsonl"]
    by_id = {}
    for line in sim.content(file).splitlines():
        body = json.loads(line)["response"]["body"]
        found = body["choices"][0]["message"] if api == "chat" else body["output"][-1]
        content = found["content"]
        by_id[json.loads(line)["custom_id"]] = content if api == "chat" else content[0]["text"]
    [lines] = uploaded(sim)
    assert list(by_id) != [line["custom_id"] for line in lines]
    assert table["text"].tolist() == [by_id[line["custom_id"]] for line in lines]


def test_the_table_has_the_index_of_the_dataframe(place):
    rows = pandas.DataFrame({"city": ["Oslo", "Rome"]}, index=[7, 9])
    assert place.batch(rows).wait().index.tolist() == [7, 9]


def test_what_it_costs_is_entered_at_batch_prices(sim, place):
    sim.script_batches(answering())
    job = place.batch()
    [entry] = entries(place.session)
    assert (entry.kind, entry.status, entry.cost_nano_usd) == ("batch", "pending", None)
    assert (entry.service_tier, entry.source) == ("batch", "live")
    assert entry.worst_nano_usd >= 4 * 100_000 * 2200  # half of 4.40 a million
    table = job.wait()
    [entry] = entries(place.session)
    assert entry.status == "ok"
    assert entry.cost_nano_usd == 4 * BATCH_NANO_USD
    assert (entry.input_tokens, entry.output_tokens) == (4 * 7, 4 * 87)
    assert entry.response_id == job.batch_ids[0]
    assert [int(each * 10**9) for each in table["cost_usd"]] == [
        BATCH_NANO_USD,
        BATCH_NANO_USD,
        BATCH_NANO_USD,
        0,
        BATCH_NANO_USD,
    ]


def test_what_a_batch_used_besides_its_rows_is_paid_too(sim, place):
    """A row that is missing in the files was run all the same: the batch counts it."""
    sim.script_batches(BatchScript(answer=lambda _: response(), missing=[1], usage=WHOLE))
    place.batch().wait()
    assert cost(place) == [4 * BATCH_NANO_USD]


def test_what_a_missing_row_cost_is_unknown_where_nobody_counts(sim, place):
    sim.script_batches(BatchScript(answer=lambda _: response(), missing=[1], usage=False))
    place.batch().wait()
    assert cost(place) == [None]


ZERO = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def test_a_batch_that_counts_nothing_costs_what_its_rows_do(sim, place):
    sim.script_batches(BatchScript(answer=lambda _: response(), usage=ZERO))
    place.batch().wait()
    assert cost(place) == [4 * BATCH_NANO_USD]


@pytest.mark.parametrize("usage", [None, {"output_tokens": 5}, ZERO])
def test_a_cost_that_nobody_told_stays_unknown(sim, place, usage):
    sim.script_batches(BatchScript(answer=lambda _: response(usage=usage), usage=False))
    table = place.batch().wait()
    assert cost(place) == [None]
    assert table["cost_usd"][:3].isna().all()


def test_the_batch_counts_where_its_rows_do_not(sim, place):
    sim.script_batches(BatchScript(answer=lambda _: response(usage=None), usage=WHOLE))
    place.batch().wait()
    assert cost(place) == [4 * BATCH_NANO_USD]


def test_a_batch_in_a_region_costs_a_tenth_more_than_half(sim, place):
    own = {"openai": {"uplift_percent": "10"}}
    place.session.layers = replace(place.session.layers, providers=own)
    sim.script_batches(answering())
    table = place.batch().wait()
    [entry] = entries(place.session)
    assert entry.cost_nano_usd * 10 == 4 * BATCH_NANO_USD * 11
    assert entry.price_source.endswith("+10 %")
    assert table["cost_usd"][0] * 10**10 == BATCH_NANO_USD * 11


def test_a_simulated_batch_costs_nothing_and_says_so(place):
    place.batch().wait()
    [entry] = entries(place.session)
    assert (entry.source, entry.cost_nano_usd) == ("simulated", 0)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"budget": 0.5}, "of the job's budget is left"),
        ({"budget_session": 0.5}, "the budget of this session"),
        ({"budget_day": 0.5}, "the budget of today"),
        ({"budget_call": 0.1}, "one row may cost up to"),
    ],
)
def test_what_it_may_cost_is_held_before_anything_leaves(sim, place, more, why):
    with pytest.raises(OverBudget, match=why):
        place.batch(**more)
    assert sim.requests == []
    assert entries(place.session) == []
    enough = {name: value * 4 for name, value in more.items()}
    assert place.batch(**enough).status().state == "in_progress"
    # It is on its way: what it may cost is not there for another.
    if "budget_session" in more:
        with pytest.raises(OverBudget):
            place.batch([{"city": "Bonn"}], budget_session=0.9)


def test_a_budget_needs_a_price(sim, place):
    with pytest.raises(OverBudget, match="not known"):
        place.batch(model="o9-huge", budget=5)
    assert sim.requests == []


@pytest.mark.parametrize(
    ("script", "looks", "state", "said"),
    [
        ({"states": ("validating",) * 9}, 1, "validating", "is being checked by openai"),
        ({}, 1, "in_progress", "is running at openai: 0 of 4 rows done"),
        ({}, 2, "finalizing", "writes its files now"),
        ({}, 3, "completed", "is done: 4 of 4 rows answered"),
        (
            {"errors": ({"code": "token_limit_exceeded", "message": "Too many tokens."},)},
            1,
            "failed",
            "was refused by openai before it ran, and cost nothing: Too many tokens.",
        ),
        (
            {"states": ("validating", "expired"), "done": 1},
            1,
            "expired",
            "ran out of its 24 hours: 1 of 4 rows were answered; the others cost nothing",
        ),
        (
            {"states": ("validating", "cancelling", "cancelled")},
            1,
            "cancelling",
            "is being cancelled, which may take ten minutes",
        ),
        (
            {"states": ("validating", "cancelled"), "done": 3},
            1,
            "cancelled",
            "was cancelled: 3 of 4 rows were answered; the others cost nothing",
        ),
        ({"states": ("validating", "queued")}, 1, "queued", "is 'queued' at openai"),
    ],
)
def test_each_state_is_told_in_one_sentence(sim, place, script, looks, state, said):
    sim.script_batches(BatchScript(**script))
    job = place.batch()
    for _ in range(looks):
        status = job.status()
    assert status.state == state
    assert said in str(status)
    assert said in repr(job)


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_what_was_done_before_the_end_is_kept_and_paid(sim, place, end):
    script = BatchScript(
        states=("validating", "in_progress", end), done=2, answer=lambda _: response()
    )
    sim.script_batches(script)
    table = place.batch().wait()
    assert table["text"][:2].tolist() == ["four", "four"]
    assert end.removeprefix("cancelled") in table["error"][2]
    assert "BatchUnfinished" in table["error"][4]
    assert cost(place) == [2 * BATCH_NANO_USD]


def test_a_batch_that_is_refused_costs_nothing_and_can_be_sent_again(sim, place):
    error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}
    sim.script_batches(BatchScript(errors=(error,)))
    table = place.batch().wait()
    assert table["error"].str.contains("Enqueued token limit reached").all()
    assert cost(place) == [0]
    again = place.batch()
    assert again.id == 1
    assert again.wait()["error"].isna().all()
    assert len(sim.batches) == 2


def test_a_batch_is_cancelled(sim, place):
    sim.script_batches(BatchScript(done=1))
    job = place.batch()
    assert job.cancel().state == "cancelled"
    table = job.wait()
    assert table["error"].notna().tolist() == [False, True, True, False, True]
    assert job.status().over


def test_where_every_row_failed_there_is_only_an_error_file(sim, place):
    failing = {n: Reply(status=400, error={"message": "No."}) for n in range(4)}
    sim.script_batches(BatchScript(failing=failing))
    job = place.batch()
    table = job.wait()
    assert table["error"].str.startswith("RequestRefused: No").all()
    assert "4 failed" in repr(job)


def test_lines_that_are_missing_twice_strange_or_broken_confuse_nothing(sim, place):
    strange = {"custom_id": "nobody", "response": {"status_code": 200, "body": {}}}
    junk = b"\xef\xbb\xbf{broken\n\n[]\n" + json.dumps(strange).encode() + b"\n"
    failing = {2: Reply(status=500)}
    sim.script_batches(BatchScript(missing=[1], twice=[0], failing=failing, junk=junk))
    job = place.batch(schema=City)
    table = job.wait()
    assert table["error"].isna().tolist() == [True, False, False, True, True]
    assert "without an answer" in table["error"][1]
    assert "HTTP 500" in table["error"][2]
    said = repr(job)
    assert "2 could not be read" in said
    assert "1 are missing" in said
    assert "2 belong to no row of it" in said


def test_answers_are_checked_against_the_schema(sim, place):
    texts = iter([CAPITAL, '{"country": "Italy", "people": "many"}', "[]", CAPITAL])
    sim.script_batches(BatchScript(answer=lambda _: response(next(texts))))
    table = place.batch(schema=City).wait()
    assert table["people"].dropna().tolist() == [5, 5, 5]
    assert table["error"].isna().tolist() == [True, False, False, True, True]
    assert "does not fit City: people" in table["error"][1]
    # It was paid for all the same.
    assert cost(place) == [4 * BATCH_NANO_USD]


def test_a_refusal_and_a_cut_are_told(sim, place):
    refused = response() | {
        "output": [{"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}]
    }
    cut = response() | {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
    }
    bodies = iter([refused, cut, response(), response()])
    sim.script_batches(BatchScript(answer=lambda _: next(bodies)))
    table = place.batch().wait()
    assert "refused: I cannot." in table["error"][0]
    assert "cut off" in table["error"][1]
    assert table["text"][2] == "four"


@pytest.mark.parametrize(
    "limits", [PartLimits(rows=2), PartLimits(bytes=600)], ids=["rows", "bytes"]
)
def test_a_job_that_is_too_large_for_one_batch_becomes_several(sim, place, limits):
    job = place.batch(limits=limits)
    files = uploaded(sim)
    assert [len(lines) for lines in files] == [2, 2]
    assert max(len(sim.content(each["id"])) for each in sim.files) <= limits.bytes
    metadata = [each["metadata"] for each in sim.batches]
    assert [each["part"] for each in metadata] == ["0", "1"]
    assert len({each["o3magic_job"] for each in metadata}) == 1
    assert "0 of 2 batches are over" in str(job.status())
    assert job.wait()["error"].isna().all()
    assert len(entries(place.session)) == 2


def test_the_same_call_again_is_the_same_job(sim, place):
    job, again = place.batch(), place.batch()
    assert (job.id, len(sim.batches)) == (again.id, 1)
    first = job.wait()
    third = place.batch()
    assert third.results().equals(first)
    assert len(sim.batches) == 1
    other = place.batch(prompt="What is {{ city }}?")
    assert other.id != job.id
    assert len(sim.batches) == 2


def test_rows_that_cannot_be_asked_are_told_and_the_others_are_asked(sim, place):
    rows = [{"city": "Oslo"}, {"city": ""}, {"city": object()}]
    table = place.batch(rows, "{{ city }}").wait()
    assert len(uploaded(sim)[0]) == 1
    assert table["error"].isna().tolist() == [True, False, False]
    assert table["error"][1].startswith("EmptyPrompt")
    with pytest.raises(TemplateError):
        place.batch(rows[2:], "{{ city }}", on_error="raise")


@pytest.mark.parametrize("rows", [[], iter([]), pandas.DataFrame({"city": []})])
def test_no_rows_are_no_batch(sim, place, rows):
    with pytest.raises(BadOption, match="no rows"):
        place.batch(rows)
    assert sim.requests == []


def test_a_column_that_is_not_there_is_told_before_anything_leaves(sim, place):
    with pytest.raises(TemplateError, match="no column town"):
        place.batch(prompt="{{ town }}")
    assert sim.requests == []


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"provider": "openrouter"}, "openrouter has no Batch API"),
        ({"provider": "azure-legacy"}, "azure-legacy has no Batch API"),
        ({"provider": "vllm"}, "vllm has no Batch API"),
        ({"model": "o1-mini", "api": "chat"}, "o1-mini is not served by the Batch API"),
        ({"tools": "python"}, "tools"),
        ({"on_error": "ignore"}, "on_error"),
        ({"budget": -1}, "budget"),
    ],
)
def test_what_cannot_be_in_a_batch_is_refused(sim, at, more, why):
    keys = {"OPENROUTER_API_KEY": KEY, "AZURE_OPENAI_API_KEY": KEY}
    place = at(sim.base_url, AZURE_OPENAI_ENDPOINT="https://me.openai.azure.com", **keys)
    with pytest.raises(BadOption, match=why) as caught:
        place.batch(**more)
    assert caught.value.hint or "budget" in more
    assert sim.requests == []


def test_without_a_key_nothing_is_written(sim, at):
    place = at(sim.base_url, OPENAI_API_KEY="")
    with pytest.raises(NoKey):
        place.batch()
    assert list_batches(place.room, {}) == []


@pytest.mark.parametrize(
    ("api", "url"), [("chat", "/chat/completions"), ("responses", "/v1/responses")]
)
def test_azure_gets_its_own_shape(at, api, url):
    with Simulator(key=KEY) as sim:
        sim.script_batches(BatchScript(empty_error_file=True))
        place = at(
            sim.base_url,
            providers={"azure": {"cards": {"my-global-batch": "o3-mini"}}},
            AZURE_OPENAI_ENDPOINT=sim.base_url.removesuffix("/v1"),
            AZURE_OPENAI_API_KEY=KEY,
        )
        options = {"provider": "azure", "model": "my-global-batch", "api": api}
        job = place.batch(**options)
        [lines] = uploaded(sim)
        assert {line["url"] for line in lines} == {url}
        assert {line["body"]["model"] for line in lines} == {"my-global-batch"}
        assert sim.batches[0]["endpoint"] == url
        assert {each.path for each in sim.requests} == {"/openai/v1/files", "/openai/v1/batches"}
        assert all(each.headers["api-key"] == KEY for each in sim.requests)
        assert sim.batches[0]["model"] in (None, "my-global-batch")
        job.wait()


def test_looks_are_close_together_at_first_and_then_as_far_apart_as_asked(sim, place):
    sim.script_batches(BatchScript(states=("validating", *["in_progress"] * 9, "completed")))
    place.batch().wait(poll_s=30)
    assert place.pauses[0] < 30 / 4
    assert place.pauses == sorted(place.pauses)
    assert place.pauses[-1] == 30
    assert place.shown.said[-1].endswith(
        "is done: 4 of 4 rows answered · SIMULATED, no model was asked · $0"
    )
    assert any("is running at openai" in said for said in place.shown.said)


def test_a_provider_that_is_down_for_a_while_is_waited_for(sim, place):
    trouble = tuple(Reply(status=503, body={}) for _ in range(9))
    sim.script_batches(BatchScript(trouble=trouble))
    assert place.batch().wait(poll_s=30)["error"].isna().all()
    assert any("does not answer" in said for said in place.shown.said)
    assert len(sim.batches) == 1


def test_a_key_that_is_wrong_by_now_is_told(sim, place):
    sim.script_batches(BatchScript(trouble=(Reply(status=401, body={}),)))
    with pytest.raises(WrongKey):
        place.batch().wait()


def test_an_interrupt_leaves_the_batch_running_and_says_how_to_come_back(sim, at):
    def interrupt(seconds):
        raise KeyboardInterrupt

    place = at(sim.base_url, sleep=interrupt)
    job = place.batch(name="cities")
    with pytest.raises(Interrupted, match="'cities' goes on at openai") as caught:
        job.wait()
    assert "o3.job(1).wait()" in caught.value.hint
    assert sim.batches[0]["status"] == "in_progress"
    calm = at(sim.base_url)
    assert find_batch(calm.room, 1, {}).wait()["error"].isna().all()
    assert find_batch(calm.room, "cities", {}).id == 1


def test_a_batch_that_is_made_and_never_heard_of_is_found(sim, place):
    sim.script_batches(BatchScript(hang_up=True))
    table = place.batch().wait()
    assert table["error"].isna().all()
    assert len(sim.batches) == 1
    assert len(entries(place.session)) == 1


def test_a_batch_that_is_refused_when_it_is_made_is_made_later_from_the_same_file(sim, place):
    error = {"code": "billing_hard_limit_reached", "message": "No credit."}
    sim.script_batches(BatchScript(refuse=Reply(status=400, body={"error": error})))
    with pytest.raises(QuotaExhausted, match="No credit"):
        place.batch()
    assert cost(place) == [0]
    [job] = list_batches(place.room, {})
    assert "is not completely sent" in repr(job)
    assert job.wait()["error"].isna().all()
    assert paths(sim).count("/v1/files") == 1
    assert len(entries(place.session)) == 2


def test_rows_without_an_answer_are_asked_again_one_by_one(sim, place):
    sim.script_batches(BatchScript(failing={1: Reply(status=500)}, missing=[2]))
    job = place.batch(schema=City)
    job.wait()
    assert job.failed_rows() == [{"city": "Rome"}, {"city": "Paris"}]
    table = job.retry()
    assert table["error"].isna().all()
    assert paths(sim).count("/v1/responses") == 2
    assert job.failed_rows() == []
    assert job.retry().equals(table)
    assert paths(sim).count("/v1/responses") == 2


def test_a_job_that_is_opened_where_it_was_sent_has_its_rows(sim, place):
    sim.script_batches(BatchScript(failing={1: Reply(status=500)}))
    job = place.batch(schema=City)
    assert list_batches(place.room, {}) == [job]
    find_batch(place.room, 1, {}).wait()
    assert find_batch(place.room, 1, {}).failed_rows() == [{"city": "Rome"}]
    job.delete()
    assert place.batch(name="another").id == 1
    assert find_batch(place.room, 1, {}) is not job


def test_after_a_restart_the_rows_are_given_again(sim, at):
    sim.script_batches(BatchScript(failing={1: Reply(status=500)}))
    at(sim.base_url).batch(schema=City).wait()
    [job] = list_batches(at(sim.base_url).room, {})
    with pytest.raises(BadOption, match="keeps none"):
        job.retry()
    with pytest.raises(BadOption, match="2 rows, and the job was made of 5"):
        job.failed_rows(CITIES[:2])
    assert job.failed_rows(CITIES) == [{"city": "Rome"}]
    table = job.retry(CITIES)
    assert table["error"].isna().all()
    assert table["people"].notna().all()


def test_the_file_of_jobs_keeps_no_key_no_row_and_no_prompt_of_one(sim, place, tmp_path):
    rows = [{"city": "Timbuktu-secret-row"}]
    sim.script_batches(answering())  # the simulator would say the prompt again
    place.batch(rows, "Where is {{ city }}? sk-abcdefghijklmnop1234").wait()
    place.room.store.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("jobs.sqlite3*"))
    for secret in (KEY, "Timbuktu-secret-row", "sk-abcdefghijklmnop1234", sim.base_url):
        assert secret.encode() not in kept, secret
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (1,)
    connection.close()
    for entry in entries(place.session):
        assert "Timbuktu" not in repr(entry)


def test_a_job_that_is_deleted_leaves_nothing_behind(place):
    job = place.batch()
    place.room.store.delete(job.id)
    for name in ("jobs", "rows", "batches", "copies"):
        assert place.room.store.store.read(f"SELECT count(*) FROM {name}") == [(0,)]


def test_another_process_that_is_at_it_is_left_alone(sim, place):
    job = place.batch()
    with place.room.store.store.write() as connection:
        # Process 1 of this machine lives.
        connection.execute(
            "UPDATE batches SET step = 'creating', batch_id = '', pid = 1, started = ''"
        )
    before = len(sim.requests)
    assert job.status().state == "unsent"
    job.resume()
    assert len(sim.requests) == before


def test_a_wrong_batch_id_is_told(sim, place):
    job = place.batch()
    with place.room.store.store.write() as connection:
        connection.execute("UPDATE batches SET batch_id = 'batch_gone'")
    with pytest.raises(RequestRefused, match="No batch found"):
        job.status()


def test_what_one_batch_left_the_same_call_sends_in_another(sim, place):
    sim.script_batches(
        BatchScript(states=("validating", "expired"), done=1, answer=lambda _: response("first")),
        BatchScript(answer=lambda _: response("second")),
    )
    place.batch().wait()
    job = place.batch()
    assert [len(lines) for lines in uploaded(sim)] == [4, 3]
    table = job.wait()
    assert table["text"].tolist() == ["first", "second", "second", "first", "second"]
    assert [each["metadata"]["part"] for each in sim.batches] == ["0", "1"]
    assert str(job.status()) == f"is done: 4 of 4 rows answered · {show_usd(4 * BATCH_NANO_USD)}"
    assert sum(cost(place)) == 4 * BATCH_NANO_USD


def test_two_processes_do_not_send_the_same_rows(place):
    job = place.batch()
    store = BatchStore(place.room.store)
    [key] = [row.key for _, row in store.rows(job.id)][:1]
    with pytest.raises(BadOption, match="another process is sending"):
        store.plan(job.id, [[NewRow(key, 0)]])


def test_an_interrupt_while_sending_is_gone_on_with_by_the_same_call(sim, at, monkeypatch):
    place = at(sim.base_url)
    upload = Files.upload

    def interrupted(self, path, name):
        raise KeyboardInterrupt

    monkeypatch.setattr(Files, "upload", interrupted)
    with pytest.raises(Interrupted, match="before all rows were sent"):
        place.batch(budget_session=100)
    [standing] = place.session.standing(place.session.layers.profile({"budget_session": 100}))
    assert standing.held_nano_usd == 0
    monkeypatch.setattr(Files, "upload", upload)
    assert place.batch().wait()["error"].isna().all()
    assert len(sim.batches) == 1


def test_where_answers_are_replayed_nothing_is_sent(sim, place, tmp_path):
    with pytest.raises(CassetteMiss, match=r"not recorded in a\.o3\.json: nothing is recorded yet"):
        place.batch(mode="replay", notebook=str(tmp_path / "a.ipynb"))
    assert sim.requests == []


@pytest.mark.parametrize("schema", [None, City], ids=["text", "schema"])
def test_the_table_is_the_one_that_map_gives(place, schema):
    rows = pandas.DataFrame(CITIES)
    batch = place.batch(rows, schema=schema, concurrency=5).wait()
    mapped = map_rows(place.session, place.room.store, rows, "Where is {{ city }}?", schema=schema)
    assert batch.dtypes.to_dict() == mapped.dtypes.to_dict()
    pandas.testing.assert_frame_equal(batch, mapped)


def test_a_batch_that_was_not_made_is_made_by_the_same_call_within_the_budget(sim, place):
    refuse = BatchScript(refuse=Reply(status=429, body={"error": {"code": "insufficient_quota"}}))
    sim.script_batches(refuse, refuse)
    for _ in range(2):
        with pytest.raises(QuotaExhausted):
            place.batch()
    place.session.configure({"budget_day": 0.5})
    with pytest.raises(OverBudget, match="the budget of today"):
        place.batch()
    assert sim.batches == []
    place.session.configure({"budget_day": 5})
    assert place.batch().wait()["error"].isna().all()
    assert (len(sim.batches), paths(sim).count("/v1/files")) == (1, 1)


def test_what_is_cancelled_before_it_is_made_is_never_made(sim, place):
    sim.script_batches(BatchScript(refuse=Reply(status=429, body={})))
    with pytest.raises(RateLimited):
        place.batch()
    [job] = list_batches(place.room, {})
    assert str(job.cancel()) == "was cancelled: 0 of 4 rows were answered; the others cost nothing"
    assert job.wait()["error"].str.contains("cancelled").all()
    assert sim.batches == []
