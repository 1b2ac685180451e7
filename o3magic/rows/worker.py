"""One row from its claim to its ending: attempts, repairs, and what each of them cost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import reduce
from typing import Any

from o3magic.client.pool import PoolResult
from o3magic.client.request import HttpRequest
from o3magic.client.retry import RetryPolicy, hopeful
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import OpenEntry
from o3magic.errors import (
    InvalidAnswer,
    O3Error,
    OverBudget,
    RateLimited,
    RequestFailed,
)
from o3magic.events import Usage
from o3magic.rows.context import (
    BudgetExhausted,
    JobFailed,
    PendingRow,
    RowTaken,
    RunContext,
    StartResult,
)
from o3magic.rows.rate_limiter import LimiterClosed
from o3magic.rows.records import ClaimRequest, RowOutcome, RowState
from o3magic.schemas.validation import judged
from o3magic.session.answer_stream import repair, with_messages
from o3magic.session.attempts import AttemptHistory, AttemptState
from o3magic.session.estimate import most_tokens

# A job goes on for hours, unwatched: it is more patient than a person before a cell.
LEAST_RETRIES = 6
POLL_S = 0.25


def short(said: StartResult) -> bool:
    """Whether a budget lacks it."""
    return said == "budget" or isinstance(said, OverBudget)


class RowTask:
    """A row being answered; iterate nothing, `await ending()`."""

    def __init__(self, desk: RunContext, ask: PendingRow, slot: int) -> None:
        self._desk, self._ask, self._slot = desk, ask, slot
        self._tries = AttemptHistory(desk.form.plan, desk.lacks)
        self._ticket: OpenEntry | None = None
        self._outcome: Outcome | None = None
        self._worst = self._settled_nano_usd = 0
        self._begun = False
        self.data: Any = None

    async def ending(self) -> RowOutcome:
        """Ask, and keep what comes. Raises NotMine, NoMoney and Fatal."""
        try:
            return await self._ended()
        except (asyncio.CancelledError, LimiterClosed):
            self._end("open")
            raise
        except RequestFailed as error:
            if self._desk.is_fatal(error):
                self._end("open")
                raise JobFailed(error) from None
            return self._end("failed", error)
        except BudgetExhausted as lacking:
            if not self._begun:
                raise
            # A repair that no budget allows: what came before it stays.
            why = lacking.error or OverBudget("no budget is left to ask again")
            return self._end("invalid" if self._tries.rounds[-1].draft.holds else "open", why)
        except O3Error as error:  # an address that is none, a proxy
            self._end("open")
            raise JobFailed(error) from None

    async def _ended(self) -> RowOutcome:
        profile, repairs = self._tries.plan.profile, self._tries.plan.profile.repairs
        call, kind = self._desk.form.call(self._ask.prompt), "map"
        while True:
            call = await self._answered(call, kind)
            last, wanted = self._tries.rounds[-1], self._tries.plan.answer_type
            verdict = judged(last.draft.answer(last.reason), wanted, profile.schema)
            self.data = verdict.data
            if not verdict.wrong:
                return self._end("done")
            if not verdict.problems or not repairs or last.reason != "stop":
                return self._end("invalid", InvalidAnswer(verdict.wrong))
            call = with_messages(call, repair(last.draft.text, [*verdict.problems]))
            kind, repairs = "repair", repairs - 1

    async def _answered(self, call: HttpRequest, kind: str) -> HttpRequest:
        """One answer; gives the call that was answered. Raises RequestFailed."""
        retries = max(self._tries.plan.profile.retries, LEAST_RETRIES)
        waits = RetryPolicy(retries).waits()
        next(waits)
        while True:
            asked_s = self._desk.clock()
            heard = await self._attempt(call, kind)
            error, gate = heard.error, self._desk.gate
            if error is None:
                gate.answered()
                return call
            kind = "retry"
            try:
                if isinstance(error, RateLimited) and hopeful(error):
                    gate.limited(error, asked_s)
                    continue
                if gate.down(error):
                    continue
            except RequestFailed as hopeless:
                raise JobFailed(hopeless) from None
            before = set(self._desk.lacks)
            call, retrying = self._tries.again(error, call, waits)
            for lack in self._desk.lacks - before:
                self._desk.form.lack(lack)
            await self._desk.gate.pause(retrying.wait_s)

    async def _attempt(self, call: HttpRequest, kind: str) -> PoolResult:
        """One call, in the books before it leaves and settled however it ends."""
        desk = self._desk
        located = await desk.leased.located(call)
        tokens = desk.form.tokens(self._ask.prompt) // 4
        await desk.gate.turn(tokens)
        try:
            ticket = await self._enter(call, kind)
        except BaseException:
            desk.gate.back(tokens)
            desk.gate.landed()
            raise
        current = AttemptState(self._tries.plan)
        self._tries.rounds.append(current)
        mark = desk.gate.mark
        desk.flying += 1
        desk.sent_calls += 1
        heard = PoolResult((), None, {})
        interrupted = True
        try:
            heard = await desk.wide.answer(located, self._slot)
            interrupted = False
        finally:
            desk.flying -= 1
            desk.gate.landed()
            if heard.simulated:
                current.source = "simulated"
            for event in heard.events:
                current.draft.add(event)
            current.request_id = heard.request_id
            current.said_cost_usd = heard.said_cost_usd
            self._settle(ticket, current.outcome(heard.error, interrupted=interrupted))
        desk.gate.heard(heard.headers, mark)
        return heard

    async def _enter(self, call: HttpRequest, kind: str) -> OpenEntry:
        """Claim the row, or hold more for it, and enter the call."""
        desk, key = self._desk, self._ask.key
        self._flush()
        worst = self._worst_of(call, kind)
        attempt = desk.attempt(call, kind, worst)
        spare = min(worst, self._spare_nano_usd())
        wanted = ClaimRequest(key, self._ask.place, worst - spare)
        said = await self._granted(wanted, attempt)
        if not isinstance(said, OpenEntry):
            raise RowTaken(str(said))
        desk.begun_rows += not self._begun
        self._begun, self._worst = True, worst
        self._settled_nano_usd -= spare
        return said

    def _spare_nano_usd(self) -> int:
        """What is held for calls that are over and did not cost it: it does for the next one."""
        known = (each.cost_nano_usd or 0 for each in self._tries.rounds)
        return max(0, self._settled_nano_usd - sum(known))

    async def _granted(self, wanted: ClaimRequest, attempt: Attempt) -> StartResult:
        """What comes of a beginning, once the budgets allow it. Raises NoMoney if they never will.

        What is on its way is held at its worst: most of it comes back when it lands. Whoever waits
        for money leaves the room at the gate: those that are to bring it back may need that.
        """
        desk = self._desk
        if self._begun or not desk.tight:  # one that is asked again may need no more
            said = await self._begin(wanted, attempt)
            if not short(said):
                return said
            desk.tight = True
        desk.poor_rows += self._begun
        try:
            await desk.gate.aside(desk.purse.acquire())  # one at a time looks again
            try:
                return await self._granted_late(wanted, attempt)
            finally:
                desk.purse.release()
        finally:
            desk.poor_rows -= self._begun

    async def _granted_late(self, wanted: ClaimRequest, attempt: Attempt) -> StartResult:
        """The same for the one who has the purse: looks again whenever money may be back."""
        desk = self._desk
        while not desk.gate.closed:
            desk.landed.clear()
            said = await self._begin(wanted, attempt)
            if not short(said):
                desk.tight = False
                return said
            waited = desk.landed.is_set() or desk.begun_rows > desk.poor_rows
            if not waited and not await asyncio.to_thread(desk.others):
                raise BudgetExhausted(said if isinstance(said, OverBudget) else None)
            with suppress(TimeoutError):
                await desk.gate.aside(asyncio.wait_for(desk.landed.wait(), POLL_S))
        raise LimiterClosed

    async def _begin(self, wanted: ClaimRequest, attempt: Attempt) -> StartResult:
        return await self._desk.clerk.begin(wanted, attempt, again=self._begun)

    def _worst_of(self, call: HttpRequest, kind: str) -> int:
        """The most that a call can cost, or 0 where nobody knows."""
        form = self._desk.form
        if kind != "repair":
            return form.worst_nano_usd(form.tokens(self._ask.prompt))
        return form.worst_nano_usd(most_tokens(call.request))

    def _settle(self, ticket: OpenEntry, outcome: Outcome) -> None:
        """A call is over; it is told to the ledger with the next one, or with the row's ending."""
        self._ticket, self._outcome = ticket, outcome
        if outcome.cost_nano_usd is not None:
            self._settled_nano_usd += self._worst

    def _flush(self) -> None:
        """Tell the ledger of the last call: the row is not over."""
        if self._ticket is not None and self._outcome is not None:
            self._desk.clerk.settle(self._ticket, self._outcome)
        self._ticket = self._outcome = None

    def _end(self, state: RowState, error: O3Error | None = None) -> RowOutcome:
        """Keep what became of the row."""
        made = self._made(state, error)
        desk = self._desk
        if self._begun:
            desk.clerk.end(made, self._ticket, self._outcome)
            desk.begun_rows -= 1
            desk.landed.set()
        desk.answered_rows += state == "done"
        return made

    def _made(self, state: RowState, error: O3Error | None) -> RowOutcome:
        rounds = self._tries.rounds
        counted = [each.usage for each in rounds if each.usage != Usage()]
        last = rounds[-1] if rounds else None
        costs = [each.cost_nano_usd for each in rounds]
        known = [cost for cost in costs if cost is not None]
        paid = last is not None and last.draft.finished is not None
        return RowOutcome(
            key=self._ask.key,
            state=state,
            answer=self._said(last) if last is not None and paid else None,
            error="" if error is None else str(error),
            error_kind="" if error is None else type(error).__name__,
            source=last.source if last else "",
            usage=reduce(Usage.plus, counted) if counted else Usage(),
            cost_nano_usd=sum(known) if known and costs[-1] is not None else None,
            settled_nano_usd=self._settled_nano_usd,
            attempts=len(rounds),
            entry=self._ticket.entry if self._ticket else None,
        )

    def _said(self, last: AttemptState) -> dict[str, Any]:
        """What is kept of an answer: enough to show it, to record it, and to settle its call."""
        answer, end, usage = last.draft.answer(last.reason), last.draft.finished, last.usage
        said = {
            "text": answer.text,
            "data": self.data,
            "refusal": answer.refusal,
            "summary": answer.reasoning_summary,
            "finish": last.reason,
            "detail": end.detail if end else "",
            "tier": end.service_tier if end else "",
            "model": answer.model,
            "id": answer.id,
            "notes": [*self._tries.notes, *answer.notes],
            "elapsed_ms": round(last.elapsed_s * 1000),
        }
        kept = {name: value for name, value in said.items() if value not in (None, "", [])}
        if len(self._tries.rounds) > 1:
            tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens)
            kept["last"] = [*tokens, usage.reasoning_tokens, last.cost_nano_usd]
        return kept
