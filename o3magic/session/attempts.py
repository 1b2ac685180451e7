"""Attempts at one answer: sent, retried after a wait, or sent with a fallback."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from o3magic.answer_builder import AnswerBuilder
from o3magic.client.cancellation import CancelToken
from o3magic.client.request import HttpRequest, with_base_url
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
from o3magic.session.capability_fallbacks import (
    apply_fallback,
    disproved,
    find_lack,
    format_model_lack,
)
from o3magic.session.default_model import choose_next_default
from o3magic.session.plan import Plan, replace_default
from o3magic.session.spending import CallAccounting
from o3magic.wire.usage import find_usage_problems

if TYPE_CHECKING:
    from o3magic.cassettes.entry import Recording

NOTHING = Usage(0, 0, 0, 0, 0, 0)


class AttemptState:
    """One attempt: the answer so far, its times and its cost."""

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
        """The usage that the provider reported."""
        end = self.draft.finished
        if end is None:
            return NOTHING if self.refused else Usage()
        return end.usage or Usage()

    def use_recording(self, recording: Recording) -> None:
        """Take text, cost and times from its recording on a cassette."""
        from o3magic.cassettes.replay import replay_events

        self.take = recording
        self.elapsed_s = (recording.total_ms or 0) / 1000
        self.first_token_s = None if recording.first_ms is None else recording.first_ms / 1000
        self.draft = AnswerBuilder()
        for event in replay_events(recording, speed=0):
            self.draft.add(event)

    @property
    def recorded(self) -> Recorded | None:
        """Where it is recorded, None where it is not."""
        if self.take is None:
            return None
        return Recorded(self.take.key, self.take.n, self.take.recorded, self.take.label)

    @property
    def original_nano_usd(self) -> int | None:
        """The cost of the answer when it was made, now or at its recording."""
        if self.take is None:
            return self.cost_nano_usd
        return self.take.cost_nano_usd if self.take.label == "live" else 0

    def _charge(self) -> Charge:
        """The cost by served model, tier and day."""
        if self.source != "live" or self.refused:
            return Charge(0, 0)
        end, provider = self.draft.finished, self._plan.call.provider
        if provider.managed:
            return Charge(0, 0)  # a model on this machine costs nothing
        if end is None:
            return Charge()
        today, tier = date.today(), self._tier(end)
        return charge(provider, self._served_card(), end, today, tier, self.said_cost_usd)

    def _tier(self, end: Finished) -> str:
        """The service tier of the response, or else of the request."""
        return end.service_tier or self._plan.call.request.tier or ""

    def _served_card(self) -> Card | None:
        """The card with the prices of the model that answered; None where it has no card."""
        name, plan = self.draft.model, self._plan
        return (
            card_at(plan.call.provider, plan.catalog, name, date.today()) if name else plan.priced
        )

    def outcome(self, failed: O3Error | None, *, interrupted: bool) -> Outcome:
        """The outcome for the ledger."""
        self.elapsed_s = time.perf_counter() - self.began_s
        if self.source != "replayed":  # a recording stays as it was shown
            self.draft.doubt_zeros()
        end = self.draft.finished
        self.reason = end.reason if end else "interrupted" if interrupted else "error"
        self.refused = is_unbilled_refusal(failed) and not self.draft.id
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


def is_unbilled_refusal(failed: O3Error | None) -> bool:
    """Whether the provider refused the request before any work that it bills."""
    if isinstance(failed, RequestFailed | Interrupted):
        return failed.billed is False
    return failed is not None  # an option or a key that could not be sent


def describe_other_tier(last: AttemptState, plan: Plan) -> tuple[str, ...]:
    """A note where the answer was served at another tier than requested."""
    asked, end = plan.call.request.tier, last.draft.finished
    served = end.service_tier if end else ""
    if last.take or asked in (None, "auto") or served in ("", asked):
        return ()
    return (f"asked for the {asked} tier, but served at {redact(served)[:20]}",)


def find_usage_oddities(last: AttemptState, plan: Plan) -> tuple[str, ...]:
    """Notes on a usage that cannot be right."""
    draft = last.draft.answer()
    texts = [draft.text, draft.refusal, *(c.name + c.arguments for c in draft.tool_calls)]
    visible_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
    return find_usage_problems(last.usage, visible_bytes, plan.call.request.max_output_tokens)


class CallSender(Protocol):
    """Sends a call and yields the events of its response."""

    def events(self, call: HttpRequest, stop: CancelToken | None = None) -> Iterator[Event]:
        """The events of one call, until `stop` is set."""


class LocalServer(Protocol):
    """The server of a model on this machine."""

    def has(self, file: str) -> bool:
        """Whether the model is loaded."""

    def lease(self, file: str, stopped: Callable[[], bool]) -> AbstractContextManager[str]:
        """A context with its address; waits until the model is loaded."""


RetryWaits = Generator[float, RequestFailed, None]


class AttemptHistory:
    """The attempts at one question, in order; `plan` is the current one."""

    def __init__(self, plan: Plan, lacks: set[str]) -> None:
        self.plan = plan
        self.rounds: list[AttemptState] = []
        self.notes: list[str] = list(plan.notes)
        self._lacks = lacks

    def again(
        self, error: RequestFailed, call: HttpRequest, waits: RetryWaits
    ) -> tuple[HttpRequest, Retrying]:
        """The next call after an error, and its wait. Raises the error where there is none."""
        closer = self._explain(error, call)
        retry = self._with_fallback(closer, call) or self._after_wait(closer, call, waits)
        if retry is None:
            raise closer from None
        self.plan = replace(self.plan, call=retry[0])  # the model, and so the price, may be another
        return retry

    def _explain(self, error: RequestFailed, call: HttpRequest) -> RequestFailed:
        """The error with a hint from the model catalog."""
        from o3magic.session.error_hints import explain_error

        catalog = self.plan.catalog
        request, provider = call.request, call.provider
        card = catalog.card(provider.cards.get(request.model, request.model))
        return explain_error(error, card, catalog, request, provider, date.today())

    def _with_fallback(
        self, error: RequestFailed, call: HttpRequest
    ) -> tuple[HttpRequest, Retrying] | None:
        """The call without the capability that the provider lacks, or None."""
        if self.rounds[-1].draft.holds:
            return None
        card = self.plan.card
        if isinstance(error, ModelNotFound) and not self.plan.choice.named:
            return self._with_next_default(call)
        if isinstance(error, ModelRetired):
            return self._with_replacement(error, call)
        lack = find_lack(error, call, api_free=self.plan.profile.api == "auto")
        changed, note = apply_fallback(call, lack, card)
        if not note:
            return None
        self._lacks.add(lack)
        if (toolbox := self.plan.asked.toolbox) is not None:
            from o3magic.tools.toolbox import check_tools

            strict = self.plan.choice.named or changed.provider.has_rules_of_openai
            check_tools(toolbox, card, changed.api, changed.request.effort, strict=strict)
        self.notes.append(note)
        return changed, Retrying(note, 0)

    def _with_next_default(self, call: HttpRequest) -> tuple[HttpRequest, Retrying] | None:
        """The call to the provider's next default model, or None."""
        gone, provider = self.plan.choice.model, call.provider
        self._lacks.add(format_model_lack(gone))
        choice = choose_next_default(self.plan.choice, provider, self.plan.catalog)
        if choice is None:
            return None
        self.plan = replace_default(self.plan, choice)
        request = self.plan.call.request
        call = replace(
            call, request=replace(call.request, model=choice.model, effort=request.effort)
        )
        note = f"{provider.name} does not serve {gone}: {choice.model} is asked instead"
        return call, Retrying(note, 0)

    def _with_replacement(
        self, error: ModelRetired, call: HttpRequest
    ) -> tuple[HttpRequest, Retrying] | None:
        """The call to the replacement of a retired model, where `on_retired` allows it."""
        from o3magic.session.error_hints import find_replacement, find_surviving_effort

        catalog = self.plan.catalog
        card = catalog.card(call.request.model)
        new, mode = find_replacement(card, catalog, date.today())
        if self.plan.profile.on_retired != "replace" or new is None:
            return None
        effort = find_surviving_effort(call.request.effort, card, new)
        request = replace(call.request, model=new.id, effort=effort)
        if mode:
            params = laid_into(request.params, {"reasoning": {"mode": mode}})
            request = replace(request, params=params)
        note = f"{card.id} is gone: {new.id} was asked instead (on_retired)"
        if note in self.notes:
            return None  # two cards that name each other as replacement
        self.notes.append(note)
        return replace(call, request=request), Retrying(note, 0)

    def _after_wait(
        self, error: RequestFailed, call: HttpRequest, waits: RetryWaits
    ) -> tuple[HttpRequest, Retrying] | None:
        """The same call after a wait, or None where the policy ends or text has arrived."""
        if self.rounds[-1].draft.holds:
            return None
        try:
            wait_s = waits.send(error)
        except StopIteration:
            return None
        return call, Retrying(str(error), wait_s)


class RetryLoop(AttemptHistory):
    """Sends the attempts of one question and waits between them."""

    def __init__(
        self,
        plan: Plan,
        client: CallSender,
        accounting: CallAccounting,
        stop: CancelToken,
        lacks: set[str],
        sleep: Callable[[float], None],
        server: LocalServer | None = None,
    ) -> None:
        super().__init__(plan, lacks)
        self._server = server
        self._client = client
        self._accounting = accounting
        self._stop = stop
        self._sleep = sleep

    def answer_with_retries(
        self, call: HttpRequest, kind: str
    ) -> Generator[Event, None, HttpRequest]:
        """One answer, retried or sent with a fallback as long as no text has arrived.

        Returns the call that was answered. Raises RequestFailed.
        """
        waits: RetryWaits | None = None
        while True:
            try:
                if self._server is None:
                    yield from self._attempt(call, kind)
                else:
                    yield from self._attempt_locally(self._server, call, kind)
            except RequestFailed as error:
                if self._stop.is_set:
                    raise Interrupted("stopped by you") from None
                if waits is None:
                    waits = RetryPolicy(self.plan.profile.retries).waits()
                    next(waits)
                model = call.request.model
                call, retrying = self.again(error, call, waits)
                if call.request.model != model:
                    self._accounting.hold_again(self.plan)
                yield retrying
                self._sleep(retrying.wait_s)
                if self._stop.is_set:
                    raise Interrupted("stopped by you") from None
                kind = "retry"
            else:
                self._lacks.difference_update(disproved(call))
                return call

    def replay(self, recording: Recording, speed: float) -> Iterator[Event]:
        """The events of a recording, timed; the ledger has it at no cost."""
        from o3magic.cassettes.replay import replay_events

        current = AttemptState(self.plan)
        current.source = "replayed"
        ticket = self._accounting.enter(self.plan, self.plan.call, "ask", "replayed")
        self.rounds.append(current)
        stopped = True
        try:
            for event in replay_events(recording, speed=speed, sleep=self._sleep):
                if self._stop.is_set:
                    raise Interrupted("stopped by you")
                current.draft.add(event)
                yield event
            stopped = False
        finally:
            self._accounting.settle(ticket, current.outcome(None, interrupted=stopped))
            if not stopped:
                current.use_recording(recording)

    def _attempt_locally(
        self, server: LocalServer, call: HttpRequest, kind: str
    ) -> Iterator[Event]:
        """One call to the server of a model on this machine. The time to load is not counted."""
        file = call.provider.file
        if loads := not server.has(file):
            yield ModelStatus("is loading")
        with server.lease(file, lambda: self._stop.is_set) as address:
            if loads:
                yield ModelStatus("is thinking")
            yield from self._attempt(with_base_url(call, address), kind)

    def _attempt(self, call: HttpRequest, kind: str) -> Iterator[Event]:
        """One call: a ledger row before it is sent, settled however it ends."""
        current = AttemptState(self.plan)
        draft, add_text = current.draft, current.draft.add_text
        ticket = self._accounting.enter(self.plan, call, kind, current.source)
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
            failed = None if interrupted and not is_unbilled_refusal(error) else error
            raise
        finally:
            self._accounting.settle(ticket, current.outcome(failed, interrupted=interrupted))
