"""GroupCommitWriter: a call that the ledger rejects leaves no reservation; no error is silent."""

import asyncio

import pytest

from o3magic.cost.budgets import Budget
from o3magic.cost.entries import Attempt
from o3magic.cost.ledger import FallbackLedger, Ledger, OpenEntry
from o3magic.errors import OverBudget
from o3magic.rows.context import GroupCommitWriter, RunOptions, Stores
from o3magic.rows.records import ClaimRequest
from o3magic.rows.store import JobStore
from o3magic.session.spending import LedgerContext
from tests.rows.conftest import texts

ATTEMPT = Attempt(session="s", provider="openai", model="o3-mini", worst_nano_usd=100)


def test_who_looks_for_money_again_and_again_takes_none_from_the_job():
    store, ledger = JobStore(":memory:"), Ledger(":memory:")
    job = store.begin("map", "digest").id
    budgets = (Budget("session", 150),)
    ledgers = Stores(
        store, FallbackLedger(ledger), LedgerContext("s", "", ""), ledger.hold(0, budgets, "s")
    )

    async def asked():
        clerk = GroupCommitWriter(
            ledgers, job, "run", RunOptions(budget_nano_usd=250, budgets=budgets)
        )
        first = await clerk.begin(ClaimRequest("a", 0, 100), ATTEMPT)
        more = [await clerk.begin(ClaimRequest("a", 0, 100), ATTEMPT, again=True) for _ in range(5)]
        other = [await clerk.begin(ClaimRequest("b", 1, 100), ATTEMPT) for _ in range(5)]
        await clerk.close()
        return first, *more, *other

    first, *others = asyncio.run(asked())
    assert isinstance(first, OpenEntry)
    assert [type(each) for each in others] == [OverBudget] * 10
    assert store.jobs()[0].held_nano_usd == 100
    assert {row.key: row.state for row in store.first(job, 9)} == {"a": "claimed", "b": "open"}


@pytest.mark.parametrize("where", ["claim", "end"])
def test_a_fault_of_ours_ends_the_job_and_holds_nobody_up(mapped, store, monkeypatch, where):
    def broken(*_):
        raise RuntimeError("a fault")

    monkeypatch.setattr(store, where, broken)
    with pytest.raises(RuntimeError, match="a fault"):
        mapped(texts(30))
