"""Attempts at one answer: sent, sent again after a wait, or asked in another way."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Protocol

from o3magic.answer_builder import AnswerBuilder
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.replay import events
from o3magic.client.cancellation import CancelToken
from o3magic.client.request import HttpRequest, located
from o3magic.client.retry import RetryPolicy
from o3magic.cost.entries import Outcome
from o3magic.cost.pricing import Charge, card_at, charge
from o3magic.errors import Interrupted, ModelNotFound, ModelRetired, O3Error, RequestFailed
from o3magic.events import (
    Accepted,
    AnswerSource,
    Event,
    Finished,
    FinishReason,
    ModelStatus,
    Recorded,
    Retrying,
    TextDelta,
    Usage,
)
from o3magic.models import Card
from o3magic.params import laid_into
from o3magic.redaction import redact
from o3magic.session.capability_fallbacks import disproved, lack_in, model_lack, without
from o3magic.session.default_model import next_default
from o3magic.session.error_hints import current_replacement, explained, surviving_effort
from o3magic.session.plan import Plan, with_default
from o3magic.session.spending import CallAccounting
from o3magic.tools.toolbox import check_tools
from o3magic.wire.usage import oddities

NOTHING = Usage(0, 0, 0, 0, 0, 0)


class AttemptState:
    """One attempt: its draft, its times and its cost."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.draft = AnswerBuilder()
        self.source: AnswerSource = "simulated" if plan.call.provider.embedded else "live"
        self.request_id = ""
        self.said_cost_usd: Decimal | None = None
        self.began_s = time.perf_counter()
        self.first_token_s: float | None = None
        self.elapsed_s = 0.0
        self.reason: FinishReason = "error"
        self.cost_nano_usd: int | None = None
        self.refused = False
        self.take: Recording | None = None

    @property
    def usage(self) -> Usage:
        """What the provider counted, if it came to that."""
        end = self.draft.finished
        if end is None:
            return NOTHING if self.refused else Usage()
        return end.usage or Usage()

    def put_on(self, take: Recording) -> None:
        """It is on a cassette: from here on its words, cost and times are those of the take."""
        self.take = take
        self.elapsed_s = (take.total_ms or 0) / 1000
        self.first_token_s = None if take.first_ms is None else take.first_ms / 1000
        self.draft = AnswerBuilder()
        for event in events(take, speed=0):
            self.draft.add(event)

    @property
    def recorded(self) -> Recorded | None:
        """The take it is on."""
        if self.take is None:
            return None
        return Recorded(self.take.key, self.take.n, self.take.recorded, self.take.label)

    @property
    def made_for_nano_usd(self) -> int | None:
        """What the answer cost when it was made, now or when it was recorded."""
        if self.take is None:
            return self.cost_nano_usd
        return self.take.cost_nano_usd if self.take.label == "live" else 0

    def _charge(self) -> Charge:
        """What it cost: by the served model, tier and day."""
        if self.source != "live" or self.refused:
            return Charge(0, 0)
        end, provider = self.draft.finished, self._plan.call.provider
        if provider.managed:
            return Charge(0, 0)  # it runs here, whatever came of it
        if end is None:
            return Charge()
        today, tier = date.today(), self._tier(end)
        return charge(provider, self._served(), end, today, tier, self.said_cost_usd)

    def _tier(self, end: Finished) -> str:
        """The tier it was served at; where nobody says, the one that was asked for."""
        return end.service_tier or self._plan.call.request.tier or ""

    def _served(self) -> Card | None:
        """The card of the model that answered, None where we do not have it, with its prices."""
        name, plan = self.draft.model, self._plan
        return (
            card_at(plan.call.provider, plan.catalog, name, date.today()) if name else plan.priced
        )

    def outcome(self, failed: O3Error | None, *, interrupted: bool) -> Outcome:
        """What the ledger keeps of it."""
        self.elapsed_s = time.perf_counter() - self.began_s
        if self.source != "replayed":  # what is recorded stays as it was shown
            self.draft.doubt_zeros()
        end = self.draft.finished
        self.reason = end.reason if end else "interrupted" if interrupted else "error"
        self.refused = refused_unbilled(failed) and not self.draft.id
        charged = self._charge()
        self.cost_nano_usd = charged.nano_usd
        if end and charged.notes:
            self.draft.finished = replace(end, notes=(*end.notes, *charged.notes))
        hosted = end.hosted if end else ()
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
            price_since=charged.price_since,
            price_source=charged.price_source,
            hosted_calls=sum(use.calls or 0 for use in hosted),
            hosted_nano_usd=charged.hosted_nano_usd if hosted else 0,
            source=self.source,
            error=type(failed).__name__ if failed else "",
        )


def refused_unbilled(failed: O3Error | None) -> bool:
    """Whether the provider refused before it did any work that it charges for."""
    if isinstance(failed, RequestFailed | Interrupted):
        return failed.billed is False
    return failed is not None  # an option or a key that could not be sent: nothing left


def other_tier(last: AttemptState, plan: Plan) -> tuple[str, ...]:
    """What to say of an answer that came by another tier than the one that was asked for."""
    asked, end = plan.call.request.tier, last.draft.finished
    served = end.service_tier if end else ""
    if last.take or asked in (None, "auto") or served in ("", asked):
        return ()
    return (f"asked for the {asked} tier, but served at {redact(served)[:20]}",)


def odd(last: AttemptState, plan: Plan) -> tuple[str, ...]:
    """What cannot be right in the usage of an attempt."""
    draft = last.draft.answer()
    said = [draft.text, draft.refusal, *(c.name + c.arguments for c in draft.tool_calls)]
    visible_bytes = sum(len(each.encode("utf-8", "replace")) for each in said)
    return oddities(last.usage, visible_bytes, plan.call.request.max_output_tokens)


class CallSender(Protocol):
    """Who sends a call and yields what arrives."""

    def events(self, call: HttpRequest, stop: CancelToken | None = None) -> Iterator[Event]:
        """The events of one call, until `stop` is said."""


class LocalServer(Protocol):
    """What runs a model on this machine, for as long as it is used."""

    def has(self, file: str) -> bool:
        """Whether it runs already."""

    def lease(self, file: str, stopped: Callable[[], bool]) -> AbstractContextManager[str]:
        """Its address; waits until it has loaded."""


RetryWaits = Generator[float, RequestFailed, None]


class AttemptHistory:
    """What was tried for one question: `rounds`, in order; `plan` is what is asked by now."""

    def __init__(self, plan: Plan, lacks: set[str]) -> None:
        self.plan = plan
        self.rounds: list[AttemptState] = []
        self.notes: list[str] = list(plan.notes)
        self._lacks = lacks

    def again(
        self, error: RequestFailed, call: HttpRequest, waits: RetryWaits
    ) -> tuple[HttpRequest, Retrying]:
        """What to ask after an error, and when. Raises it, better explained, where that is all."""
        closer = self._explained(error, call)
        found = self._changed(closer, call) or self._waited(closer, call, waits)
        if found is None:
            raise closer from None
        self.plan = replace(self.plan, call=found[0])  # what is asked now, and its price
        return found

    def _explained(self, error: RequestFailed, call: HttpRequest) -> RequestFailed:
        """The error with what we know besides."""
        catalog = self.plan.catalog
        request, provider = call.request, call.provider
        card = catalog.card(provider.cards.get(request.model, request.model))
        return explained(error, card, catalog, request, provider, date.today())

    def _changed(
        self, error: RequestFailed, call: HttpRequest
    ) -> tuple[HttpRequest, Retrying] | None:
        """The call without what the provider turns out not to have; None where that is not it."""
        if self.rounds[-1].draft.holds:
            return None
        card = self.plan.card
        if isinstance(error, ModelNotFound) and not self.plan.choice.named:
            return self._next_default(call)
        if isinstance(error, ModelRetired):
            return self._replaced(error, call)
        lack = lack_in(error, call, api_free=self.plan.profile.api == "auto")
        changed, note = without(call, lack, card)
        if not note:
            return None
        self._lacks.add(lack)
        strict = self.plan.choice.named or changed.provider.has_rules_of_openai
        box, effort = self.plan.asked.toolbox, changed.request.effort
        check_tools(box, card, changed.api, effort, strict=strict)
        self.notes.append(note)
        return changed, Retrying(note, 0)

    def _next_default(self, call: HttpRequest) -> tuple[HttpRequest, Retrying] | None:
        """The call to the provider's next default, where the first one turned out to be gone."""
        gone, provider = self.plan.choice.model, call.provider
        self._lacks.add(model_lack(gone))
        choice = next_default(self.plan.choice, provider, self.plan.catalog)
        if choice is None:
            return None
        self.plan = with_default(self.plan, choice)
        request = self.plan.call.request
        call = replace(
            call, request=replace(call.request, model=choice.model, effort=request.effort)
        )
        note = f"{provider.name} does not serve {gone}: {choice.model} is asked instead"
        return call, Retrying(note, 0)

    def _replaced(
        self, error: ModelRetired, call: HttpRequest
    ) -> tuple[HttpRequest, Retrying] | None:
        """The call to the replacement of a model that is gone, where the user asked for that."""
        catalog = self.plan.catalog
        card = catalog.card(call.request.model)
        new, mode = current_replacement(card, catalog, date.today())
        if self.plan.profile.on_retired != "replace" or new is None:
            return None
        effort = surviving_effort(call.request.effort, card, new)
        request = replace(call.request, model=new.id, effort=effort)
        if mode:
            params = laid_into(request.params, {"reasoning": {"mode": mode}})
            request = replace(request, params=params)
        note = f"{card.id} is gone: {new.id} was asked instead (on_retired)"
        if note in self.notes:
            return None  # the user's own cards replace each other
        self.notes.append(note)
        return replace(call, request=request), Retrying(note, 0)

    def _waited(
        self, error: RequestFailed, call: HttpRequest, waits: RetryWaits
    ) -> tuple[HttpRequest, Retrying] | None:
        """The same call after a wait, or None where that is hopeless or something came already."""
        if self.rounds[-1].draft.holds:
            return None
        try:
            wait_s = waits.send(error)
        except StopIteration:
            return None
        return call, Retrying(str(error), wait_s)


class RetryLoop(AttemptHistory):
    """All attempts of one question, sent and waited for."""

    def __init__(
        self,
        plan: Plan,
        client: CallSender,
        books: CallAccounting,
        stop: CancelToken,
        lacks: set[str],
        sleep: Callable[[float], None],
        server: LocalServer | None = None,
    ) -> None:
        super().__init__(plan, lacks)
        self._server = server
        self._client = client
        self._books = books
        self._stop = stop
        self._sleep = sleep

    def answered(self, call: HttpRequest, kind: str) -> Generator[Event, None, HttpRequest]:
        """One answer: again after a wait, or asked in another way, while nothing has come of it.

        Gives the call that was answered. Raises RequestFailed.
        """
        waits = RetryPolicy(self.plan.profile.retries).waits()
        next(waits)
        while True:
            try:
                yield from self._served(call, kind)
            except RequestFailed as error:
                if self._stop.is_set:
                    raise Interrupted("stopped by you") from None
                model = call.request.model
                call, retrying = self.again(error, call, waits)
                if call.request.model != model:
                    self._books.hold_again(self.plan)
                yield retrying
                self._sleep(retrying.wait_s)
                if self._stop.is_set:
                    raise Interrupted("stopped by you") from None
                kind = "retry"
            else:
                self._lacks.difference_update(disproved(call))
                return call

    def replayed(self, take: Recording, speed: float) -> Iterator[Event]:
        """The answer of a take, as if it came; in the ledger it is there, and costs nothing."""
        current = AttemptState(self.plan)
        current.source = "replayed"
        ticket = self._books.enter(self.plan, self.plan.call, "ask", "replayed")
        self.rounds.append(current)
        stopped = True
        try:
            for event in events(take, speed=speed, sleep=self._sleep):
                if self._stop.is_set:
                    raise Interrupted("stopped by you")
                current.draft.add(event)
                yield event
            stopped = False
        finally:
            self._books.settle(ticket, current.outcome(None, interrupted=stopped))
            if not stopped:
                current.put_on(take)

    def _served(self, call: HttpRequest, kind: str) -> Iterator[Event]:
        """One call, to the server of its model where that is started here. Loading is not timed."""
        if self._server is None:
            yield from self._attempt(call, kind)
            return
        file = call.provider.file
        if loads := not self._server.has(file):
            yield ModelStatus("is loading")
        with self._server.lease(file, lambda: self._stop.is_set) as address:
            if loads:
                yield ModelStatus("is thinking")
            yield from self._attempt(located(call, address), kind)

    def _attempt(self, call: HttpRequest, kind: str) -> Iterator[Event]:
        """One call, in the ledger before it leaves and settled however it ends."""
        current = AttemptState(self.plan)
        draft, add_text = current.draft, current.draft.add_text
        ticket = self._books.enter(self.plan, call, kind, current.source)
        self.rounds.append(current)
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
                    current.said_cost_usd = event.said_cost_usd
                    if event.simulated:
                        current.source = "simulated"
                else:
                    draft.add(event)
                yield event
            interrupted = False
        except O3Error as error:
            interrupted = self._stop.is_set
            failed = None if interrupted and not refused_unbilled(error) else error
            raise
        finally:
            self._books.settle(ticket, current.outcome(failed, interrupted=interrupted))
