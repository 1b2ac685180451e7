"""One question from its plan to its answer: attempts, repairs, and what each of them cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any, Protocol

from o3magic.client.http import Call
from o3magic.cost.entries import Attempt, Outcome
from o3magic.errors import InvalidAnswer, O3Error, RequestFailed
from o3magic.events import (
    Accepted,
    Answer,
    Draft,
    Event,
    FinishReason,
    Retrying,
    Source,
    TextDelta,
    Usage,
    why_cut,
)
from o3magic.messages import Message
from o3magic.money import usd
from o3magic.talk.explain import explained
from o3magic.talk.plan import Plan
from o3magic.talk.schemas import SchemaMismatch
from o3magic.wire.usage import oddities

NOTHING = Usage(0, 0, 0, 0, 0, 0)


class Sender(Protocol):
    """Who sends a call and yields what arrives."""

    def events(self, call: Call) -> Iterator[Event]:
        """The events of one call."""


class Keeper(Protocol):
    """Who keeps the books."""

    def enter(self, attempt: Attempt) -> int:
        """A row, before the request leaves."""

    def settle(self, entry: int, outcome: Outcome) -> None:
        """What became of it."""


class Round:
    """One attempt: its draft, its times and its cost."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.draft = Draft()
        self.source: Source = "simulated" if plan.call.provider.embedded else "live"
        self.request_id = ""
        self.began_s = time.perf_counter()
        self.first_token_s: float | None = None
        self.elapsed_s = 0.0
        self.reason: FinishReason = "error"
        self.cost_nano_usd: int | None = None
        self.refused = False

    @property
    def usage(self) -> Usage:
        """What the provider counted, if it came to that."""
        end = self.draft.finished
        if end is None:
            return NOTHING if self.refused else Usage()
        return end.usage or Usage()

    def cost(self) -> int | None:
        """Nano-dollars, or None where unknown: by the served model, tier and day."""
        if self.source == "simulated" or self.refused:
            return 0
        end, provider = self.draft.finished, self._plan.call.provider
        if end is None or end.usage is None or not provider.list_prices:
            return None
        # By the model that answered: a card we do not have is a cost we do not know.
        card = self._plan.catalog.card(self.draft.model or self._plan.call.request.model)
        return card.nano_usd(end.usage, date.today(), end.service_tier)

    def outcome(self, failed: O3Error | None, *, interrupted: bool) -> Outcome:
        """What the ledger keeps of it."""
        self.elapsed_s = time.perf_counter() - self.began_s
        end = self.draft.finished
        self.reason = end.reason if end else "interrupted" if interrupted else "error"
        self.refused = refused_unbilled(failed) and not self.draft.id
        self.cost_nano_usd = self.cost()
        card = self._plan.catalog.find(self.draft.model)
        price = card.price(date.today(), end.service_tier) if card and end else None
        return Outcome(
            status="ok" if self.reason == "stop" else self.reason,
            usage=self.usage,
            cost_nano_usd=self.cost_nano_usd,
            model_served=self.draft.model,
            service_tier=end.service_tier if end else "",
            request_id=self.request_id,
            response_id=self.draft.id,
            first_token_s=self.first_token_s,
            elapsed_s=self.elapsed_s,
            price_since=str(price.since or "") if price else "",
            price_source=price.source if price else "",
            source=self.source,
            error=type(failed).__name__ if failed else "",
        )


class Asking:
    """A question being answered. Iterate over it for the events; `answer` is what there is so far.

    Closing the iterator stops the provider's work and books the attempt as interrupted.
    """

    def __init__(
        self, plan: Plan, client: Sender, ledger: Keeper, session: str, notebook: str = ""
    ) -> None:
        self.plan = plan
        self._client = client
        self._ledger = ledger
        self._session = session
        self._notebook = notebook
        self._rounds: list[Round] = []
        self._notes: list[str] = list(plan.notes)
        self._parsed: Any = None
        self._data: Any = None

    def __iter__(self) -> Iterator[Event]:
        """Ask, and ask again where the answer does not fit its schema.

        Raises RequestFailed and InvalidAnswer, both with `.answer` set.
        """
        call, kind = self.plan.call, "ask"
        for left in range(self.plan.profile.repairs, -1, -1):
            try:
                yield from self._attempt(call, kind)
            except RequestFailed as error:
                plan = self.plan
                names, asked = plan.catalog.names, plan.call.provider.name
                closer = explained(error, plan.card, names, asked, date.today())
                closer.answer = self.answer
                raise closer from None
            problems = self._validate()
            if not problems:
                return
            if left == 0 or self._rounds[-1].reason != "stop":
                raise self._invalid(problems)
            yield Retrying(f"the answer does not fit {self.plan.profile.schema}: {problems[0]}", 0)
            self._notes.append(f"asked again: {problems[0]}")
            call, kind = repaired(call, self._rounds[-1].draft.text, problems), "repair"

    def _attempt(self, call: Call, kind: str) -> Iterator[Event]:
        """One call, in the ledger before it leaves and settled however it ends."""
        current = Round(self.plan)
        self._rounds.append(current)
        draft, add_text = current.draft, current.draft.add_text
        entry = self._ledger.enter(self._row(call, kind, current.source))
        failed: O3Error | None = None
        interrupted = True
        try:
            for event in self._client.events(call):
                if type(event) is TextDelta:
                    if current.first_token_s is None:
                        current.first_token_s = time.perf_counter() - current.began_s
                    add_text(event[0])
                elif type(event) is Accepted:
                    current.request_id = event.request_id
                    if event.simulated:
                        current.source = "simulated"
                else:
                    draft.add(event)
                yield event
            interrupted = False
        except O3Error as error:
            failed, interrupted = error, False
            raise
        finally:
            self._ledger.settle(entry, current.outcome(failed, interrupted=interrupted))

    def _row(self, call: Call, kind: str, source: Source) -> Attempt:
        """What is known before the request leaves."""
        return Attempt(
            session=self._session,
            provider=call.provider.name,
            model=call.request.model,
            effort=self.plan.effort or "",
            schema_name=self.plan.profile.schema,
            notebook=self._notebook,
            source=source,
            kind=kind,
        )

    def _validate(self) -> list[str]:
        """What is wrong with a structured answer; nothing for a text or a refusal."""
        last, wanted = self._rounds[-1], self.plan.answer_type
        answer = last.draft.answer()
        if (
            wanted is None
            or answer.refusal
            or answer.finish_reason in ("refusal", "content_filter")
        ):
            return []
        if answer.finish_reason == "length":
            return [f"it was cut off: {why_cut(self.answer)}"]
        try:
            self._parsed = wanted.validate(answer.text)
        except SchemaMismatch as mismatch:
            return mismatch.problems
        self._data = wanted.dump(self._parsed)
        return []

    def _invalid(self, problems: list[str]) -> InvalidAnswer:
        """The end of a structured answer that does not fit."""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        error = InvalidAnswer(
            f"the answer does not fit {self.plan.profile.schema}: {problems[0]}{more}",
            answer=self.answer,
        )
        if self._rounds[-1].reason == "length":
            error.hint = "a higher --max-output-tokens, or a lower --effort"
        return error

    @property
    def answer(self) -> Answer:
        """The answer as far as it came; tokens, cost and time are those of all attempts."""
        if not self._rounds:
            return Answer(model=self.plan.profile.model, finish_reason="interrupted")
        last = self._rounds[-1]
        answer = last.draft.answer(last.reason)
        costs = [each.cost_nano_usd for each in self._rounds]
        usage = self._rounds[0].usage
        for each in self._rounds[1:]:
            usage = usage.plus(each.usage)
        known = None if None in costs else sum(cost or 0 for cost in costs)
        return replace(
            answer,
            parsed=self._parsed,
            data=self._data,
            usage=usage,
            cost_usd=usd(known),
            model=answer.model or self.plan.profile.model,
            effort=self.plan.effort,
            elapsed_s=sum(each.elapsed_s for each in self._rounds),
            first_token_s=self._rounds[0].first_token_s,
            provider=self.plan.call.provider.name,
            request_id=last.request_id,
            source=last.source,
            notes=(*self._notes, *answer.notes, *odd(last, self.plan)),
            schema_name=self.plan.profile.schema,
        )


def refused_unbilled(failed: O3Error | None) -> bool:
    """Whether the provider refused before it did any work that it charges for."""
    return isinstance(failed, RequestFailed) and failed.billed is False


def odd(last: Round, plan: Plan) -> tuple[str, ...]:
    """What cannot be right in the usage of an attempt."""
    draft = last.draft.answer()
    said = [draft.text, draft.refusal, *(c.name + c.arguments for c in draft.tool_calls)]
    visible_bytes = sum(len(each.encode("utf-8", "replace")) for each in said)
    return oddities(last.usage, visible_bytes, plan.call.request.max_output_tokens)


def repaired(call: Call, text: str, problems: list[str]) -> Call:
    """The call of a repair round: the answer as given, and what is wrong with it."""
    wrong = "\n".join(f"- {each}" for each in problems)
    ask = (
        f"That answer is not valid:\n{wrong}\n"
        "Answer again, whole and corrected, in the same schema, and with nothing else."
    )
    messages = (
        *call.request.messages,
        Message.of("assistant", text),
        Message.of("user", ask),
    )
    return replace(call, request=replace(call.request, messages=messages))
