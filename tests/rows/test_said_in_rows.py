"""Tier, verbosity and parameters for many rows: in every body, in the books, and in the job."""

import json

import pytest

from o3magic.errors import BadOption, OverBudget
from o3magic.rows.map_job import find_map_job
from o3magic.simulator import BatchScript, Reply
from tests.rows.conftest import texts
from tests.sessions import entries, response, session_at

PARAM = 'user="u"\ntop_p=0.5'
SAID = {"model": "gpt-5.2", "effort": "none", "param": PARAM, "verbosity": "low"}


@pytest.fixture
def session(sim):
    """A session that asks the simulator."""
    with session_at(sim.base_url) as made:
        yield made


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_each_row_of_a_map_says_it(mapped, sim, session, api):
    param = 'user="u"\nmetadata.team="a"'
    table = mapped(texts(3), model="gpt-5.5", param=param, verbosity="low", tier="flex", api=api)
    assert table["error"].isna().all()
    assert len(sim.requests) == 3
    for received in sim.requests:
        body = received.body
        assert (body["user"], body["metadata"]) == ("u", {"team": "a"})
        assert body["service_tier"] == "flex"
        assert (body["text"] if api == "responses" else body)["verbosity"] == "low"
    assert {row.service_tier for row in entries(session)} == {"flex"}
    assert {row.tier_served for row in entries(session)} == {"flex"}


def test_rows_cost_by_the_tier_that_served_them(mapped, sim, session):
    for tier in ("flex", "default"):
        sim.script(Reply(body=response(model="o3-2025-04-16", service_tier=tier)))
    mapped(texts(2), model="o3", tier="flex", concurrency=1)
    flex, usual = 7 * 1000 + 87 * 4000, 7 * 2000 + 87 * 8000
    assert sorted(row.cost_nano_usd for row in entries(session)) == [flex, usual]


def test_the_budget_of_a_job_is_held_by_the_tier(mapped, sim, session):
    said = {"model": "o3", "max_output_tokens": 1000, "budget": "0.005"}
    with pytest.raises(OverBudget):
        mapped(texts(1), **said)
    assert sim.requests == []
    sim.script(Reply(body=response(model="o3-2025-04-16", service_tier="flex")))
    assert mapped(texts(1), tier="flex", **said)["text"].tolist() == ["four"]
    assert 4_000_000 < entries(session)[0].worst_nano_usd < 5_000_000
    with pytest.raises(OverBudget, match="in the flex tier is not known"):
        mapped(texts(1), model="o3-mini", tier="flex", budget=1)


def test_another_parameter_is_another_job_and_a_tier_is_not(mapped, sim):
    mapped(texts(2), **SAID)
    mapped(texts(2), tier="priority", **SAID)
    assert len(sim.requests) == 2
    mapped(texts(2), **SAID | {"verbosity": "high"})
    mapped(texts(2), **SAID | {"param": 'user="u"\ntop_p=0.6'})
    assert len(sim.requests) == 6


def test_a_job_is_gone_on_with_as_it_was_begun(mapped, session, store, sim):
    mapped(texts(2), name="said", tier="flex", **SAID)
    job = find_map_job(session, store, "said")
    assert job.resume(texts(3))["error"].isna().all()
    [last] = sim.requests[2:]
    assert last.body["service_tier"] == "flex"
    assert (last.body["user"], last.body["text"]["verbosity"]) == ("u", "low")


def test_a_model_without_encrypted_reasoning_is_asked_without_it(mapped, sim, session):
    table = mapped(texts(4), model="gpt-4o-audio-x", store=False, concurrency=1)
    assert table["error"].isna().all()
    said = [received.body.get("include") for received in sim.requests]
    assert said == [["reasoning.encrypted_content"], None, None, None, None]
    assert all(received.body["store"] is False for received in sim.requests)


# Batches


def uploaded(sim):
    """The bodies of all lines that were uploaded."""
    files = [each["id"] for each in sim.files if each["purpose"] == "batch"]
    return [json.loads(line)["body"] for each in files for line in sim.content(each).splitlines()]


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_each_line_of_a_batch_says_it(sim, place, api):
    param = 'user="u"\nstream_options.include_obfuscation=false'
    job = place.batch(model="gpt-5.5", verbosity="low", param=param, api=api)
    assert job.wait()["error"].isna().all()
    bodies = uploaded(sim)
    assert len(bodies) == 4
    for body in bodies:
        assert body["user"] == "u"
        assert (body["text"] if api == "responses" else body)["verbosity"] == "low"
        assert not {"stream", "stream_options", "service_tier"} & set(body)
    assert place.batch(model="gpt-5.5", verbosity="low", param=param, api=api).id == job.id


@pytest.mark.parametrize("tier", ["auto", "default", "flex", "priority"])
def test_a_batch_takes_no_tier_for_it_is_one(sim, place, tier):
    with pytest.raises(BadOption, match="the Batch API is a tier of its own") as refused:
        place.batch(tier=tier)
    assert "o3.map" in refused.value.hint
    assert sim.requests == []
    place.session.configure({"tier": tier})
    with pytest.raises(BadOption):
        place.batch()
    assert place.batch(tier=None).wait()["error"].isna().all()


def test_rows_of_a_batch_are_asked_again_with_the_same_words(sim, place):
    wrong = response("", status="failed", error={"code": "server_error", "message": "no"})
    sim.script_batches(BatchScript(answer=lambda _: wrong))
    job = place.batch(model="gpt-5.5", verbosity="low", param='user="u"')
    assert job.wait()["error"].notna().all()
    before = len(sim.requests)
    job.retry()
    asked = [each.body for each in sim.requests[before:] if each.path.endswith("/responses")]
    assert [(body["user"], body["text"]["verbosity"]) for body in asked] == [("u", "low")] * 4
