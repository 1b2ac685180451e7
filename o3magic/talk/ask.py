"""One question from its plan to its answer: attempts, repairs, and what each of them cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from datetime import date
from functools import reduce
from typing import Any, Protocol

from o3magic.client.http import Call
from o3magic.client.retry import Policy
from o3magic.client.watch import Stop
from o3magic.cost.entries import Attempt, Outcome
from o3magic.errors import Interrupted, InvalidAnswer, ModelRetired, O3Error, RequestFailed
from o3magic.events import (
    Accepted,
    Answer,
    Event,
    Retrying,
    Source,
    TextDelta,
    Usage,
    why_cut,
)
from o3magic.messages import Message
from o3magic.money import usd
from o3magic.talk.explain import explained
from o3magic.talk.lacks import lack_in, without
from o3magic.talk.plan import Plan
from o3magic.talk.round import Round, odd
from o3magic.talk.schemas import SchemaMismatch


class Sender(Protocol):
    """Who sends a call and yields what arrives."""

    def events(self, call: Call, stop: Stop | None = None) -> Iterator[Event]:
        """The events of one call, until `stop` is said."""


class Keeper(Protocol):
    """Who keeps the books."""

    def enter(self, attempt: Attempt) -> int:
        """A row, before the request leaves."""

    def settle(self, entry: int, outcome: Outcome) -> None:
        """What became of it."""


class Asking:
    """A question being answered. Iterate over it for the events; `answer` is what there is so far.

    Closing the iterator stops the provider's work and books the attempt as interrupted.
    """

    def __init__(
        self,
        plan: Plan,
        client: Sender,
        ledger: Keeper,
        session: str,
        notebook: str = "",
        *,
        lacks: set[str] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.plan = plan
        self._client = client
        self._ledger = ledger
        self._session = session
        self._notebook = notebook
        self._lacks = set() if lacks is None else lacks
        self._stop = Stop()
        self._sleep = sleep or self._stop.wait
        self._rounds: list[Round] = []
        self._notes: list[str] = list(plan.notes)
        self._parsed: Any = None
        self._data: Any = None

    def __iter__(self) -> Iterator[Event]:
        """Ask, and ask again where the answer does not fit its schema.

        Raises RequestFailed, InvalidAnswer and Interrupted, all with `.answer` set.
        """
        call, kind = self.plan.call, "ask"
        for left in range(self.plan.profile.repairs, -1, -1):
            call = yield from self._persist(call, kind)
            problems = self._validate()
            if not problems:
                return
            if left == 0 or self._rounds[-1].reason != "stop":
                raise self._invalid(problems)
            yield Retrying(f"the answer does not fit {self.plan.profile.schema}: {problems[0]}", 0)
            self._notes.append(f"asked again: {problems[0]}")
            call, kind = repaired(call, self._rounds[-1].draft.text, problems), "repair"

    def _persist(self, call: Call, kind: str) -> Generator[Event, None, Call]:
        """One answer: again after a wait, or asked in another way, while nothing has come of it.

        Gives the call that was answered. Raises RequestFailed.
        """
        waits = Policy(self.plan.profile.retries).waits()
        next(waits)
        while True:
            try:
                yield from self._attempt(call, kind)
            except RequestFailed as error:
                if self._stop.said:
                    raise Interrupted("stopped by you", answer=self.answer) from None
                closer = self._explained(error, call)
                again = self._changed(closer, call) or self._waited(closer, call, waits)
                if again is None:
                    closer.answer = self.answer
                    raise closer from None
                call, retrying = again
                self.plan = replace(self.plan, call=call)  # what is asked now, and its price
                yield retrying
                self._sleep(retrying.wait_s)
                kind = "retry"
            else:
                return call

    def _explained(self, error: RequestFailed, call: Call) -> RequestFailed:
        """The error with what we know besides."""
        catalog = self.plan.catalog
        card = catalog.card(call.provider.cards.get(call.request.model, call.request.model))
        return explained(error, card, catalog.names, call.provider, date.today())

    def _changed(self, error: RequestFailed, call: Call) -> tuple[Call, Retrying] | None:
        """The call without what the provider turns out not to have; None where that is not it."""
        if self._rounds[-1].draft.holds:
            return None
        card = self.plan.card
        if isinstance(error, ModelRetired):
            return self._replaced(error, call)
        lack = lack_in(error, call, api_free=self.plan.profile.api == "auto")
        changed, note = without(call, lack, card)
        if not note:
            return None
        self._lacks.add(lack)
        self._notes.append(note)
        return changed, Retrying(note, 0)

    def _replaced(self, error: ModelRetired, call: Call) -> tuple[Call, Retrying] | None:
        """The call to the replacement of a model that is gone, where the user asked for that."""
        card = self.plan.catalog.card(call.request.model)
        if self.plan.profile.on_retired != "replace" or not card.replacement:
            return None
        new = self.plan.catalog.card(card.replacement)
        effort = call.request.effort
        if new.efforts is not None and effort not in new.efforts:
            effort = None
        request = replace(call.request, model=new.id, effort=effort)
        note = f"{card.id} is gone: {new.id} was asked instead (on_retired)"
        if note in self._notes:
            return None  # the user's own cards replace each other
        self._notes.append(note)
        return replace(call, request=request), Retrying(note, 0)

    def _waited(
        self, error: RequestFailed, call: Call, waits: Generator[float, RequestFailed, None]
    ) -> tuple[Call, Retrying] | None:
        """The same call after a wait, or None where that is hopeless or something came already."""
        if self._rounds[-1].draft.holds:
            return None
        try:
            wait_s = waits.send(error)
        except StopIteration:
            return None
        return call, Retrying(str(error), wait_s)

    def stop(self) -> None:
        """End it from another thread: the iterator raises Interrupted, what had arrived is kept."""
        self._stop.say()

    def _attempt(self, call: Call, kind: str) -> Iterator[Event]:
        """One call, in the ledger before it leaves and settled however it ends."""
        current = Round(self.plan)
        self._rounds.append(current)
        draft, add_text = current.draft, current.draft.add_text
        entry = self._ledger.enter(self._row(call, kind, current.source))
        failed: O3Error | None = None
        interrupted = True
        try:
            for event in self._client.events(call, self._stop):
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
            interrupted = self._stop.said
            failed = None if interrupted else error
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
        known = None if None in costs else sum(cost or 0 for cost in costs)
        counted = [each.usage for each in self._rounds if each.usage != Usage()]
        usage = reduce(Usage.plus, counted) if counted else Usage()
        notes = (*self._notes, *answer.notes, *odd(last, self.plan))
        if None in costs[:-1]:
            notes += ("an attempt before this one may have been billed: its cost is unknown",)
        return replace(
            answer,
            parsed=self._parsed,
            data=self._data,
            usage=usage,
            cost_usd=usd(known),
            model=answer.model or self.plan.call.request.model,
            effort=self.plan.effort,
            elapsed_s=sum(each.elapsed_s for each in self._rounds),
            first_token_s=self._first_token_s(),
            provider=self.plan.call.provider.name,
            request_id=last.request_id,
            source=last.source,
            notes=notes,
            schema_name=self.plan.profile.schema,
        )

    def _first_token_s(self) -> float | None:
        """Seconds to the first token of all, those of attempts before it that had none included."""
        before_s = 0.0
        for each in self._rounds:
            if each.first_token_s is not None:
                return before_s + each.first_token_s
            before_s += each.elapsed_s
        return None


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
