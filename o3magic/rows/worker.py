"""One row from its claim to its outcome: attempts, repairs, and the cost of each."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import reduce
from typing import Any

from o3magic.client.pool import PoolResult
from o3magic.client.request import HttpRequest
from o3magic.client.retry import RetryPolicy, is_retryable
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
from o3magic.schemas.validation import judge_answer
from o3magic.session.answer_stream import add_messages_to_call, build_repair_messages
from o3magic.session.attempts import AttemptHistory, AttemptState
from o3magic.session.estimate import count_most_tokens

# A job runs unattended for hours: it retries at least this often.
LEAST_RETRIES = 6
POLL_S = 0.25


def is_over_budget(result: StartResult) -> bool:
    """Return whether a budget rejected the call."""
    return result == "budget" or isinstance(result, OverBudget)


class RowTask:
    """One row that is sent and answered: `await ending()` for its outcome.

    data: the structured answer as JSON-able values, once there is one.
    """

    def __init__(self, context: RunContext, row: PendingRow, slot: int) -> None:
        self._context, self._row, self._slot = context, row, slot
        self._history = AttemptHistory(context.form.plan, context.lacks)
        self._entry: OpenEntry | None = None
        self._outcome: Outcome | None = None
        self._worst_nano_usd = self._settled_nano_usd = 0
        self._begun = False
        self.data: Any = None

    async def ending(self) -> RowOutcome:
        """Send the row and save its outcome. Raises RowTaken, BudgetExhausted and JobFailed."""
        try:
            return await self._send()
        except (asyncio.CancelledError, LimiterClosed):
            self._end("open")
            raise
        except RequestFailed as error:
            if self._context.is_fatal(error):
                self._end("open")
                raise JobFailed(error) from None
            return self._end("failed", error)
        except BudgetExhausted as exhausted:
            if not self._begun:
                raise
            # No budget covers the repair: the outcome is that of the answer before it.
            over = exhausted.error or OverBudget("no budget is left to ask again")
            state: RowState = "invalid" if self._history.rounds[-1].draft.holds else "open"
            return self._end(state, over)
        except O3Error as error:  # an invalid address, a proxy
            self._end("open")
            raise JobFailed(error) from None

    async def _send(self) -> RowOutcome:
        profile, repairs = self._history.plan.profile, self._history.plan.profile.repairs
        call, kind = self._context.form.call(self._row.prompt), "map"
        while True:
            call = await self._answered(call, kind)
            last, wanted = self._history.rounds[-1], self._history.plan.answer_type
            verdict = judge_answer(last.draft.answer(last.reason), wanted, profile.schema)
            self.data = verdict.data
            if not verdict.wrong:
                return self._end("done")
            if not verdict.problems or not repairs or last.reason != "stop":
                return self._end("invalid", InvalidAnswer(verdict.wrong))
            call = add_messages_to_call(
                call, build_repair_messages(last.draft.text, [*verdict.problems])
            )
            kind, repairs = "repair", repairs - 1

    async def _answered(self, call: HttpRequest, kind: str) -> HttpRequest:
        """Send a call until it is answered; return the call that was. Raises RequestFailed."""
        retries = max(self._history.plan.profile.retries, LEAST_RETRIES)
        waits = RetryPolicy(retries).waits()
        next(waits)
        while True:
            asked_s = self._context.clock()
            result = await self._attempt(call, kind)
            error, gate = result.error, self._context.gate
            if error is None:
                gate.answered()
                return call
            kind = "retry"
            try:
                if isinstance(error, RateLimited) and is_retryable(error):
                    gate.limited(error, asked_s)
                    continue
                if gate.down(error):
                    continue
            except RequestFailed as hopeless:
                raise JobFailed(hopeless) from None
            before = set(self._context.lacks)
            call, retrying = self._history.again(error, call, waits)
            for lack in self._context.lacks - before:
                self._context.form.drop_capability(lack)
            await self._context.gate.pause(retrying.wait_s)

    async def _attempt(self, call: HttpRequest, kind: str) -> PoolResult:
        """Send a call once: its ledger entry is begun before, and settled in any case."""
        context = self._context
        located = await context.lease.locate(call)
        tokens = context.form.tokens(self._row.prompt) // 4
        await context.gate.turn(tokens)
        try:
            entry = await self._begin_call(call, kind)
        except BaseException:
            context.gate.back(tokens)
            context.gate.landed()
            raise
        current = AttemptState(self._history.plan)
        self._history.rounds.append(current)
        mark = context.gate.mark
        context.flying += 1
        context.sent_calls += 1
        result = PoolResult((), None, {})
        interrupted = True
        try:
            result = await context.pool.answer(located, self._slot)
            interrupted = False
        finally:
            context.flying -= 1
            context.gate.landed()
            if result.simulated:
                current.source = "simulated"
            for event in result.events:
                current.draft.add(event)
            current.request_id = result.request_id
            current.said_cost_usd = result.said_cost_usd
            self._settle(entry, current.outcome(result.error, interrupted=interrupted))
        context.gate.heard(result.headers, mark)
        return result

    async def _begin_call(self, call: HttpRequest, kind: str) -> OpenEntry:
        """Claim the row, or reserve more for it, and begin the call in the ledger."""
        context, key = self._context, self._row.key
        self._flush()
        worst = self._estimate_worst_nano_usd(call, kind)
        attempt = context.attempt(call, kind, worst)
        spare = min(worst, self._spare_nano_usd())
        wanted = ClaimRequest(key, self._row.place, worst - spare)
        result = await self._begin_within_budget(wanted, attempt)
        if not isinstance(result, OpenEntry):
            raise RowTaken(str(result))
        context.begun_rows += not self._begun
        self._begun, self._worst_nano_usd = True, worst
        self._settled_nano_usd -= spare
        return result

    def _spare_nano_usd(self) -> int:
        """Return what finished calls reserved and did not cost; it covers the next one."""
        known = (attempt.cost_nano_usd or 0 for attempt in self._history.rounds)
        return max(0, self._settled_nano_usd - sum(known))

    async def _begin_within_budget(self, wanted: ClaimRequest, attempt: Attempt) -> StartResult:
        """Begin a call as soon as the budgets cover it. Raises BudgetExhausted if they never will.

        Calls in flight reserve their highest possible cost, most of which is released when they
        end. A row that waits for that gives up its slot, as calls in flight may need one to end.
        """
        context = self._context
        if self._begun or not context.budget_tight:  # a further call of a row may need no more
            result = await self._begin(wanted, attempt)
            if not is_over_budget(result):
                return result
            context.budget_tight = True
        context.rows_waiting_for_budget += self._begun
        try:
            # One row at a time tries again.
            await context.gate.yield_slot(context.budget_lock.acquire())
            try:
                return await self._begin_when_released(wanted, attempt)
            finally:
                context.budget_lock.release()
        finally:
            context.rows_waiting_for_budget -= self._begun

    async def _begin_when_released(self, wanted: ClaimRequest, attempt: Attempt) -> StartResult:
        """Try again, with the budget lock held, whenever a reservation may have been released."""
        context = self._context
        while not context.gate.closed:
            context.landed.clear()
            result = await self._begin(wanted, attempt)
            if not is_over_budget(result):
                context.budget_tight = False
                return result
            may_release = (
                context.landed.is_set() or context.begun_rows > context.rows_waiting_for_budget
            )
            if not may_release and not await asyncio.to_thread(context.others):
                raise BudgetExhausted(result if isinstance(result, OverBudget) else None)
            with suppress(TimeoutError):
                await context.gate.yield_slot(asyncio.wait_for(context.landed.wait(), POLL_S))
        raise LimiterClosed

    async def _begin(self, wanted: ClaimRequest, attempt: Attempt) -> StartResult:
        return await self._context.clerk.begin(wanted, attempt, again=self._begun)

    def _estimate_worst_nano_usd(self, call: HttpRequest, kind: str) -> int:
        """Return the highest possible cost of a call, or 0 where it is unknown."""
        form = self._context.form
        if kind != "repair":
            return form.worst_nano_usd(form.tokens(self._row.prompt))
        return form.worst_nano_usd(count_most_tokens(call.request))

    def _settle(self, entry: OpenEntry, outcome: Outcome) -> None:
        """Keep the outcome of a call, to be written with the next call or the row's outcome."""
        self._entry, self._outcome = entry, outcome
        if outcome.cost_nano_usd is not None:
            self._settled_nano_usd += self._worst_nano_usd

    def _flush(self) -> None:
        """Settle the last call of a row that goes on."""
        if self._entry is not None and self._outcome is not None:
            self._context.clerk.settle(self._entry, self._outcome)
        self._entry = self._outcome = None

    def _end(self, state: RowState, error: O3Error | None = None) -> RowOutcome:
        """Build the outcome of the row and save it."""
        outcome = self._build_outcome(state, error)
        context = self._context
        if self._begun:
            context.clerk.end(outcome, self._entry, self._outcome)
            context.begun_rows -= 1
            context.landed.set()
        context.answered_rows += state == "done"
        return outcome

    def _build_outcome(self, state: RowState, error: O3Error | None) -> RowOutcome:
        rounds = self._history.rounds
        usages = [attempt.usage for attempt in rounds if attempt.usage != Usage()]
        last = rounds[-1] if rounds else None
        costs = [attempt.cost_nano_usd for attempt in rounds]
        known = [cost for cost in costs if cost is not None]
        is_complete = last is not None and last.draft.finished is not None
        return RowOutcome(
            key=self._row.key,
            state=state,
            answer=self._build_content(last) if last is not None and is_complete else None,
            error="" if error is None else str(error),
            error_kind="" if error is None else type(error).__name__,
            source=last.source if last else "",
            usage=reduce(Usage.plus, usages) if usages else Usage(),
            cost_nano_usd=sum(known) if known and costs[-1] is not None else None,
            settled_nano_usd=self._settled_nano_usd,
            attempts=len(rounds),
            entry=self._entry.entry if self._entry else None,
        )

    def _build_content(self, last: AttemptState) -> dict[str, Any]:
        """Build the stored form of an answer: for tables, cassettes and the ledger."""
        answer, end, usage = last.draft.answer(last.reason), last.draft.finished, last.usage
        values = {
            "text": answer.text,
            "data": self.data,
            "refusal": answer.refusal,
            "summary": answer.reasoning_summary,
            "finish": last.reason,
            "detail": end.detail if end else "",
            "tier": end.service_tier if end else "",
            "model": answer.model,
            "id": answer.id,
            "notes": [*self._history.notes, *answer.notes],
            "elapsed_ms": round(last.elapsed_s * 1000),
        }
        content = {name: value for name, value in values.items() if value not in (None, "", [])}
        if len(self._history.rounds) > 1:
            tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens)
            content["last"] = [*tokens, usage.reasoning_tokens, last.cost_nano_usd]
        return content
