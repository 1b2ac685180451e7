"""A batch that is to be forgotten: not while the provider still works on it, and is paid."""

import pytest

from o3magic.errors import BadOption, RateLimited
from o3magic.rows.batch.registry import list_batches
from o3magic.simulator import BatchScript, Reply
from tests.sessions import COST_NANO_USD, entries, response

LONG = ("validating", *["in_progress"] * 20, "completed")
AGAIN = "job 1 still runs at openai, where it would go on and be paid for"


def known(place):
    return list_batches(place.room, {})


def test_a_running_batch_is_not_forgotten_but_says_how_to_end_it(sim, place):
    sim.script_batches(BatchScript(states=LONG))
    job = place.batch()
    with pytest.raises(BadOption, match=AGAIN) as caught:
        job.delete()
    assert "%o3_jobs cancel 1 ends it" in caught.value.hint
    assert "%o3_jobs delete 1 --force" in caught.value.hint
    assert len(known(place)) == 1
    assert sim.batches[0]["status"] == "in_progress"


def test_force_ends_it_there_and_keeps_in_the_books_what_it_cost(sim, place):
    answer = BatchScript(states=LONG, done=3, answer=lambda _: response())
    sim.script_batches(answer)
    job = place.batch()
    assert job.delete(force=True) == "it was cancelled at openai"
    assert known(place) == []
    assert sim.batches[0]["status"] == "cancelled"
    [entry] = entries(place.session)
    assert entry.cost_nano_usd == 3 * COST_NANO_USD // 2


@pytest.mark.parametrize("end", ["completed", "expired", "cancelled"])
def test_one_that_is_over_meanwhile_is_fetched_and_forgotten(sim, place, end):
    states = ("validating", end)
    sim.script_batches(BatchScript(states=states, done=4, answer=lambda _: response()))
    assert place.batch().delete() == ""
    assert known(place) == []
    assert [each.cost_nano_usd for each in entries(place.session)] == [4 * COST_NANO_USD // 2]


def test_cancelling_what_ended_a_moment_ago_gives_its_end(sim, place):
    sim.script_batches(BatchScript(states=("validating", "completed")))
    job = place.batch()
    files = job._sending.files  # somebody else looks at it
    assert files.batch(job.batch_ids[0]).over
    status = job.cancel()
    assert status.state == "completed"
    assert job.results()["error"].isna().all()


def test_one_that_was_never_made_is_forgotten_without_asking(sim, place):
    sim.script_batches(BatchScript(refuse=Reply(status=429, body={})))
    with pytest.raises(RateLimited):
        place.batch()
    [job] = known(place)
    requests = len(sim.requests)
    assert job.delete() == ""
    assert len(sim.requests) == requests
    assert known(place) == []


def test_one_that_was_made_and_never_heard_of_is_looked_for(sim, place):
    sim.script_batches(BatchScript(states=LONG))
    job = place.batch()
    with place.room.store.store.write() as connection:
        connection.execute("UPDATE batches SET step = 'creating', batch_id = ''")
    with pytest.raises(BadOption, match=AGAIN):
        job.delete()


def test_one_that_another_process_is_sending_is_left_alone(sim, place):
    job = place.batch()
    with place.room.store.store.write() as connection:
        # Process 1 of this machine lives.
        connection.execute(
            "UPDATE batches SET step = 'creating', batch_id = '', pid = 1, started = ''"
        )
    for force in (False, True):
        with pytest.raises(BadOption, match="another kernel is sending job 1"):
            job.delete(force=force)
    assert len(known(place)) == 1


@pytest.mark.parametrize("lost", ["server", "key"])
def test_where_the_provider_cannot_be_asked_it_says_where_to_end_it(sim, place, at, lost):
    sim.script_batches(BatchScript(states=LONG))
    [batch_id] = place.batch().batch_ids
    url = "http://127.0.0.1:9/v1" if lost == "server" else sim.base_url
    away = at(url, **({"OPENAI_API_KEY": ""} if lost == "key" else {}))
    away.session.configure({"retries": 0})
    [job] = known(away)
    with pytest.raises(BadOption, match="may still run at openai, which cannot be asked") as caught:
        job.delete()
    assert batch_id in caught.value.hint
    assert len(known(away)) == 1
    said = job.delete(force=True)
    assert "could not be asked" in said
    assert batch_id in said
    assert known(away) == []
