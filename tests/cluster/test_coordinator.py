"""The gate and the post on the scheduler, without a scheduler."""

import asyncio
from collections import defaultdict

import pytest

from o3magic.cluster.coordinator import GONE, Coordinator, error_of, fields_of
from o3magic.errors import NoConnection, RateLimited

LIMITS = {"requests_per_min": None, "tokens_per_min": None, "most_down_s": 300.0}


class Workers:
    """What the workers were told."""

    def __init__(self):
        self.told = defaultdict(list)
        self.coordinator = Coordinator(self.send)

    def send(self, worker, message):
        assert message.pop("op") == "o3magic"
        assert message.pop("job") == "job"
        self.told[worker].append((message["run"], *message["said"]))

    def say(self, worker, *said, letters=b""):
        self.coordinator.heard(worker, "job", [[*each] for each in said], letters)

    def turns(self, worker):
        """The numbers of the turns it was given, and of those it was refused."""
        said = [each for each in self.told[worker] if each[1] == "turn"]
        given = [each[2] for each in said if each[3] is not None]
        return given, [each[2] for each in said if each[3] is None]


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def workers():
    made = Workers()
    made.coordinator.begin("job", "client", 3, LIMITS)
    made.say("a", (1, "open", "task-a"))
    made.say("b", (1, "open", "task-b"))
    return made


def run(work):
    asyncio.run(work)


def test_workers_share_one_width_and_a_dead_one_gives_its_places_back(workers):
    async def work():
        workers.say("a", (1, "turn", 10, 0), (1, "turn", 11, 0), (1, "turn", 12, 0))
        workers.say("b", (1, "turn", 20, 0), (1, "turn", 21, 0))
        await settled()
        assert workers.turns("a") == ([10, 11, 12], [])
        assert workers.turns("b") == ([], [])
        workers.say("a", (1, "landed", 1))
        await settled()
        assert workers.turns("b") == ([20], [])
        workers.coordinator.worker_gone("a")
        await settled()
        assert workers.turns("b") == ([20, 21], [])

    run(work())


def test_who_is_gone_takes_no_place_that_it_still_waits_for(workers):
    async def work():
        workers.say("a", *((1, "turn", n, 0) for n in range(9)))
        await settled()
        workers.coordinator.worker_gone("a")
        workers.say("b", *((1, "turn", n, 0) for n in range(3)))
        await settled()
        assert workers.turns("b") == ([0, 1, 2], [])

    run(work())


def test_the_post_is_kept_until_the_caller_has_it_and_a_death_comes_last(workers):
    async def work():
        workers.say("a", letters=b"one")
        workers.say("b", letters=b"two")
        workers.coordinator.worker_gone("a")
        for _ in range(2):  # an answer that got lost: the same again
            said = await workers.coordinator.exchange("job", 0, [], 1)
            assert [each[1:] for each in said["letters"]] == [
                ("a", b"one"),
                ("b", b"two"),
                ("a", GONE),
            ]
        after = said["letters"][1][0]
        said = await workers.coordinator.exchange("job", after, [("b", b"reply")], 1)
        assert [each[1:] for each in said["letters"]] == [("a", GONE)]
        assert workers.told["b"] == [(0, "letters", b"reply")]
        assert (await workers.coordinator.exchange("job", 9, [], 0.01))["letters"] == []

    run(work())


def test_a_caller_that_is_gone_ends_its_job(workers):
    async def work():
        waiting = asyncio.create_task(workers.coordinator.exchange("job", 0, [], 60))
        await settled()
        workers.coordinator.client_gone("another")
        assert not waiting.done()
        workers.coordinator.client_gone("client")
        await waiting
        assert await workers.coordinator.exchange("job", 0, [], 60) is None
        assert workers.told["a"] == [(1, "stop", True), (0, "end")]
        workers.say("a", (2, "open", "late"))
        assert workers.told["a"][-1] == (0, "end")

    run(work())


def test_a_task_nobody_waits_for_stops_its_run_alone(workers):
    workers.coordinator.task_gone("task-b")
    assert (workers.told["a"], workers.told["b"]) == ([], [(1, "stop", True)])


def test_a_job_that_is_halted_lets_nobody_out(workers):
    async def work():
        workers.say("a", *((1, "turn", n, 0) for n in range(5)))
        await settled()
        workers.coordinator.halt("job", False)
        await settled()
        assert workers.turns("a") == ([0, 1, 2], [3, 4])
        assert workers.told["b"] == [(1, "stop", False)]
        workers.say("b", (2, "open", "late"))
        assert workers.told["b"][-1] == (2, "stop", True)

    run(work())


def test_what_is_hopeless_for_one_is_for_all_and_the_next_run_may_try_again(workers):
    async def work():
        error = RateLimited("slow down")
        error.retry_after_s = 3600.0
        workers.say("a", (1, "turn", 1, 0))
        await settled()
        workers.say("a", (1, "limited", *fields_of(error), 0.1))
        for worker in "ab":
            run_, word, kind, fields = workers.told[worker][-1]
            assert (run_, word) == (1, "hopeless")
            assert "3,600 s" in error_of(kind, fields).hint
        workers.say("a", (1, "landed", 1), (1, "close"))
        workers.say("b", (1, "close"), (2, "open", "again"), (2, "turn", 7, 0))
        await settled()
        assert workers.turns("b") == ([7], [])
        found = await workers.coordinator.exchange("job", 0, [], 0.01)
        assert found["standing"] == {"width": 3, "limited": 0, "flying": 1}

    run(work())


def test_errors_keep_what_is_looked_at():
    error = NoConnection("nobody there", hint="try", status=None)
    error.billed = False
    made = error_of(*fields_of(error))
    assert (type(made), str(made), made.hint, made.billed) == (
        *(NoConnection, "nobody there", "try", False),
    )
