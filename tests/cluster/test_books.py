"""The books of the caller, told by hand what workers say: each row once, whoever dies when."""

import asyncio

import pytest

from o3magic.cluster.caller import CallerService
from o3magic.cluster.coordinator import GONE
from o3magic.cluster.messages import (
    PARKED,
    BeginRow,
    CancelClaim,
    CloseRun,
    DaskTask,
    EndRow,
    OpenRun,
    ReadRows,
    RowGranted,
    SettleRow,
    pack,
    unpack,
)
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import FallbackLedger, Ledger
from o3magic.rows.context import GroupCommitWriter, RunOptions, Stores
from o3magic.rows.records import ClaimRequest, RowOutcome
from o3magic.rows.store import JobStore
from o3magic.session.spending import LedgerContext

ATTEMPT = Attempt(session="s", provider="openai", model="o3-mini", worst_nano_usd=100)
PAID = Outcome("ok", cost_nano_usd=60)
DONE = {"state": "done", "answer": {"text": "t"}, "source": "live"}


class Desk:
    """Books in memory, and what was heard of them."""

    def __init__(self, budget_nano_usd=None):
        self.store, self.ledger = JobStore(":memory:"), Ledger(":memory:")
        self.job = self.store.begin("map", "digest").id
        self.over, self.known = [], []
        ledgers = Stores(self.store, FallbackLedger(self.ledger), LedgerContext("s", "", ""))
        chosen = RunOptions(budget_nano_usd=budget_nano_usd)
        self.clerk = GroupCommitWriter(ledgers, self.job, "run", chosen)
        self.books = CallerService(self.clerk, self.store, self.job, "run", b"spec", self)
        self.numbers = iter(range(1, 1000))

    def ended(self, place, ending):
        self.over.append((place, ending.key, ending.state))

    def before(self, key):
        self.known.append(key)

    def stands(self, standing):
        raise AssertionError

    def runs(self, count):
        self.count = count

    async def say(self, *said):
        """What workers are told when they say this: (worker, letter), or a worker that is gone."""
        posted = [(s, GONE) if isinstance(s, str) else (s[0], pack([s[1]])) for s in said]
        answered = await self.books.answer(posted)
        await asyncio.sleep(0.01)  # the clerk writes in its own task
        return {worker: dict(unpack(packed)) for worker, packed in answered}

    async def ask(self, worker, key, *, run=1, again=False, worst=100):
        """What it is told that wants to ask a row, and the number of a later word."""
        number, later = next(self.numbers), next(self.numbers)
        wanted = ClaimRequest(key, 0, worst)
        said = await self.say((worker, BeginRow(number, later, run, wanted, ATTEMPT, again)))
        return said[worker][number], later

    @property
    def now(self):
        return self.store.job(self.job)

    @property
    def live(self):
        return self.ledger.totals(by=())[0].live


def run(work, budget_nano_usd=None):
    """Do something with a desk, where there is an event loop."""

    async def whole():
        desk = Desk(budget_nano_usd)
        try:
            await work(desk)
        finally:
            await desk.clerk.close()
            desk.store.close()
            desk.ledger.close()

    asyncio.run(whole())


def within(work):
    """A test that does it."""

    def test():
        run(work)

    test.__doc__ = work.__doc__
    return test


@within
async def test_a_row_is_granted_once_and_kept_once(desk):
    granted, _ = await desk.ask("a", "k")
    assert isinstance(granted, RowGranted)
    assert (await desk.ask("b", "k"))[0] == "theirs"
    ending = RowOutcome("k", cost_nano_usd=60, settled_nano_usd=100, entry=granted.entry, **DONE)
    await desk.say(("a", EndRow(1, ending, PAID)))
    await desk.say(("a", EndRow(1, ending, PAID)), ("b", EndRow(1, ending, PAID)))
    assert desk.over == [(0, "k", "done")]
    assert (await desk.ask("b", "k"))[0] == "answered"
    assert desk.known == ["k"]
    assert (desk.live.calls, desk.live.cost_nano_usd) == (1, 60)
    assert (desk.now.done_rows, desk.now.held_nano_usd, desk.now.lost_calls) == (1, 0, 0)
    said = await desk.say(("b", ReadRows(5, 1, ("k", "other"))))
    assert [row.key for row in said["b"][5].rows] == ["k"]


@within
async def test_a_dead_worker_loses_its_rows_once_and_another_asks_them_again(desk):
    await desk.ask("a", "k")
    assert await desk.say("a") == {}
    assert (desk.now.lost_calls, desk.now.claimed_rows, desk.now.held_nano_usd) == (1, 0, 100)
    second, _ = await desk.ask("b", "k")
    assert isinstance(second, RowGranted)
    # What the dead one said is late, and nobody's.
    await desk.say(("a", EndRow(1, RowOutcome("k", cost_nano_usd=60, **DONE), PAID)), "a")
    assert desk.over == []
    ending = RowOutcome("k", cost_nano_usd=60, settled_nano_usd=100, entry=second.entry, **DONE)
    await desk.say(("b", EndRow(1, ending, PAID)))
    assert (desk.live.calls, desk.live.unknown_cost_calls, desk.live.cost_nano_usd) == (2, 1, 60)
    assert (desk.now.lost_calls, desk.now.spent_nano_usd, desk.now.held_nano_usd) == (1, 60, 100)


@within
async def test_who_dies_before_it_is_granted_has_sent_nothing(desk):
    begin = BeginRow(1, 2, 1, ClaimRequest("k", 0, 100), ATTEMPT, False)
    assert await desk.say(("a", begin), "a") == {}
    assert desk.now.lost_calls == 0
    assert desk.ledger.totals(by=()) == []


@within
async def test_what_is_granted_to_somebody_who_left_costs_nothing(desk):
    await desk.ask("a", "k")
    await desk.say(("a", CancelClaim(1, "k")))
    assert (desk.now.held_nano_usd, desk.now.claimed_rows, desk.now.lost_calls) == (0, 0, 0)
    assert (desk.live.cost_nano_usd, desk.live.unknown_cost_calls) == (0, 0)
    # The same of a row that was asked before: it ends by itself.
    await desk.ask("a", "k")
    await desk.say(("a", SettleRow(1, "k", PAID)))
    await desk.ask("a", "k", again=True)
    await desk.say(("a", EndRow(1, RowOutcome("k", "open", settled_nano_usd=100), None)))
    assert (desk.now.held_nano_usd, desk.now.claimed_rows) == (0, 0)
    assert (desk.live.cost_nano_usd, desk.live.unknown_cost_calls) == (60, 0)


@within
async def test_a_run_that_ends_lets_go_of_what_it_has(desk):
    await desk.say(("a", OpenRun(1)), ("a", OpenRun(2)))
    assert (desk.count, desk.books.quiet.is_set()) == (2, False)
    await desk.ask("a", "k", run=1)
    await desk.ask("a", "other", run=2)
    await desk.say(("a", CloseRun(1)))
    assert (desk.now.claimed_rows, desk.now.lost_calls, desk.count) == (1, 1, 1)
    await desk.say("a")
    assert (desk.now.claimed_rows, desk.now.lost_calls, desk.count) == (0, 2, 0)
    assert desk.books.quiet.is_set()


@within
async def test_a_row_is_charged_in_one_partition_of_each_collection(desk):
    async def charged(collection, number, *keys):
        said = await desk.say(("a", ReadRows(9, 1, keys, DaskTask("t", collection, number))))
        return said["a"][9].charged

    assert await charged("all", 0, "k", "m") == {"k", "m"}
    assert await charged("all", 1, "k", "n") == {"n"}
    assert await charged("all", 1, "k", "n") == {"n"}
    assert await charged("part", 0, "k", "n") == {"k", "n"}


async def poor(desk):
    """Of a budget two rows need all; a third one waits. Gives what the first was granted."""
    first, _ = await desk.ask("a", "1")
    await desk.ask("b", "2")
    said, later = await desk.ask("b", "3")
    assert said == PARKED
    return first, later


def test_a_row_without_money_waits_for_what_comes_back():
    async def work(desk):
        first, later = await poor(desk)
        ending = RowOutcome("1", cost_nano_usd=10, settled_nano_usd=100, entry=first.entry, **DONE)
        said = await desk.say(("a", EndRow(1, ending, PAID)))
        assert isinstance(said["b"][later], RowGranted)
        assert desk.now.spent_nano_usd + desk.now.held_nano_usd <= 250

    run(work, 250)


def test_it_is_denied_once_nothing_can_come_back():
    async def work(desk):
        _, later = await poor(desk)
        for worker, key in (("a", "1"), ("b", "2")):
            ending = RowOutcome(key, cost_nano_usd=90, settled_nano_usd=100, entry=1, **DONE)
            said = await desk.say((worker, EndRow(1, ending, PAID)))
        said = said or await desk.say()
        assert said == {"b": {later: "budget"}}
        assert desk.now.spent_nano_usd == 180
        assert desk.now.claimed_rows == 0

    run(work, 250)


@pytest.mark.parametrize("leaving", [CancelClaim(1, "3"), CloseRun(1), "b"])
def test_who_leaves_the_line_is_not_granted_anything(leaving):
    async def work(desk):
        first, _ = await poor(desk)
        await desk.say(leaving if leaving == "b" else ("b", leaving))
        ending = RowOutcome("1", cost_nano_usd=10, settled_nano_usd=100, entry=first.entry, **DONE)
        await desk.say(("a", EndRow(1, ending, PAID)))
        assert await desk.say() == {}
        assert desk.now.claimed_rows == (leaving == CancelClaim(1, "3"))

    run(work, 250)


def test_repairs_that_lack_money_are_denied_one_at_a_time():
    async def work(desk):
        for worker in "ab":
            await desk.ask(worker, worker)
            await desk.say((worker, SettleRow(1, worker, PAID)))
        for number, worker in enumerate("ab", 900):
            wanted = ClaimRequest(worker, 0, 100)
            said = await desk.say((worker, BeginRow(number, number + 10, 1, wanted, ATTEMPT, True)))
            assert said[worker][number] == PARKED
        assert said["a"] == {910: "budget"}  # nothing else can come back, and b waits for it
        assert await desk.say() == {}
        ending = RowOutcome("a", "invalid", {}, cost_nano_usd=60, settled_nano_usd=100)
        said = await desk.say(("a", EndRow(1, ending, None)))
        assert isinstance(said["b"][911], RowGranted)
        assert desk.now.held_nano_usd == 200  # what was refused is not held

    run(work, 290)
