"""Attempts at one answer: sent, sent again after a wait, or asked in another way."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from typing import Protocol

from o3magic.client.call import Call, located
from o3magic.client.retry import Policy
from o3magic.client.watch import Stop
from o3magic.errors import Interrupted, ModelNotFound, ModelRetired, O3Error, RequestFailed
from o3magic.events import Accepted, Event, ModelStatus, Retrying, TextDelta
from o3magic.params import laid_into
from o3magic.talk.books import Books
from o3magic.talk.default_model import next_default
from o3magic.talk.explain import current_replacement, explained, surviving_effort
from o3magic.talk.lacks import lack_in, model_lack, without
from o3magic.talk.plan import Plan, with_default
from o3magic.talk.round import Round
from o3magic.tapes.replay import events
from o3magic.tapes.take import Take
from o3magic.tools.toolbox import check_tools


class Sender(Protocol):
    """Who sends a call and yields what arrives."""

    def events(self, call: Call, stop: Stop | None = None) -> Iterator[Event]:
        """The events of one call, until `stop` is said."""


class Server(Protocol):
    """What runs a model on this machine, for as long as it is used."""

    def has(self, file: str) -> bool:
        """Whether it runs already."""

    def lease(self, file: str, stopped: Callable[[], bool]) -> AbstractContextManager[str]:
        """Its address; waits until it has loaded."""


Waits = Generator[float, RequestFailed, None]


class Tries:
    """What was tried for one question: `rounds`, in order; `plan` is what is asked by now."""

    def __init__(self, plan: Plan, lacks: set[str]) -> None:
        self.plan = plan
        self.rounds: list[Round] = []
        self.notes: list[str] = list(plan.notes)
        self._lacks = lacks

    def again(self, error: RequestFailed, call: Call, waits: Waits) -> tuple[Call, Retrying]:
        """What to ask after an error, and when. Raises it, better explained, where that is all."""
        closer = self._explained(error, call)
        found = self._changed(closer, call) or self._waited(closer, call, waits)
        if found is None:
            raise closer from None
        self.plan = replace(self.plan, call=found[0])  # what is asked now, and its price
        return found

    def _explained(self, error: RequestFailed, call: Call) -> RequestFailed:
        """The error with what we know besides."""
        catalog = self.plan.catalog
        request, provider = call.request, call.provider
        card = catalog.card(provider.cards.get(request.model, request.model))
        return explained(error, card, catalog, request, provider, date.today())

    def _changed(self, error: RequestFailed, call: Call) -> tuple[Call, Retrying] | None:
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

    def _next_default(self, call: Call) -> tuple[Call, Retrying] | None:
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

    def _replaced(self, error: ModelRetired, call: Call) -> tuple[Call, Retrying] | None:
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
        self, error: RequestFailed, call: Call, waits: Waits
    ) -> tuple[Call, Retrying] | None:
        """The same call after a wait, or None where that is hopeless or something came already."""
        if self.rounds[-1].draft.holds:
            return None
        try:
            wait_s = waits.send(error)
        except StopIteration:
            return None
        return call, Retrying(str(error), wait_s)


class Attempts(Tries):
    """All attempts of one question, sent and waited for."""

    def __init__(
        self,
        plan: Plan,
        client: Sender,
        books: Books,
        stop: Stop,
        lacks: set[str],
        sleep: Callable[[float], None],
        server: Server | None = None,
    ) -> None:
        super().__init__(plan, lacks)
        self._server = server
        self._client = client
        self._books = books
        self._stop = stop
        self._sleep = sleep

    def answered(self, call: Call, kind: str) -> Generator[Event, None, Call]:
        """One answer: again after a wait, or asked in another way, while nothing has come of it.

        Gives the call that was answered. Raises RequestFailed.
        """
        waits = Policy(self.plan.profile.retries).waits()
        next(waits)
        while True:
            try:
                yield from self._served(call, kind)
            except RequestFailed as error:
                if self._stop.said:
                    raise Interrupted("stopped by you") from None
                model = call.request.model
                call, retrying = self.again(error, call, waits)
                if call.request.model != model:
                    self._books.hold_again(self.plan)
                yield retrying
                self._sleep(retrying.wait_s)
                kind = "retry"
            else:
                return call

    def replayed(self, take: Take, speed: float) -> Iterator[Event]:
        """The answer of a take, as if it came; in the ledger it is there, and costs nothing."""
        current = Round(self.plan)
        current.source = "replayed"
        ticket = self._books.enter(self.plan, self.plan.call, "ask", "replayed")
        self.rounds.append(current)
        stopped = True
        try:
            for event in events(take, speed=speed, sleep=self._sleep):
                if self._stop.said:
                    raise Interrupted("stopped by you")
                current.draft.add(event)
                yield event
            stopped = False
        finally:
            self._books.settle(ticket, current.outcome(None, interrupted=stopped))
            if not stopped:
                current.put_on(take)

    def _served(self, call: Call, kind: str) -> Iterator[Event]:
        """One call, to the server of its model where that is started here. Loading is not timed."""
        if self._server is None:
            yield from self._attempt(call, kind)
            return
        file = call.provider.file
        if loads := not self._server.has(file):
            yield ModelStatus("is loading")
        with self._server.lease(file, lambda: self._stop.said) as address:
            if loads:
                yield ModelStatus("is thinking")
            yield from self._attempt(located(call, address), kind)

    def _attempt(self, call: Call, kind: str) -> Iterator[Event]:
        """One call, in the ledger before it leaves and settled however it ends."""
        current = Round(self.plan)
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
            interrupted = self._stop.said
            failed = None if interrupted else error
            raise
        finally:
            self._books.settle(ticket, current.outcome(failed, interrupted=interrupted))
