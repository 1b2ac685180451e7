"""One attempt at an answer: what came of it, how long it took and what it cost."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date
from decimal import Decimal

from o3magic.catalog import Card
from o3magic.cost.entries import Outcome
from o3magic.cost.pricing import Charge, card_at, charge
from o3magic.draft import Draft
from o3magic.errors import O3Error, RequestFailed
from o3magic.events import Finished, FinishReason, Recorded, Source, Usage
from o3magic.redaction import redact
from o3magic.talk.plan import Plan
from o3magic.tapes.replay import events
from o3magic.tapes.take import Take
from o3magic.wire.usage import oddities

NOTHING = Usage(0, 0, 0, 0, 0, 0)


class Round:
    """One attempt: its draft, its times and its cost."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.draft = Draft()
        self.source: Source = "simulated" if plan.call.provider.embedded else "live"
        self.request_id = ""
        self.said_cost_usd: Decimal | None = None
        self.began_s = time.perf_counter()
        self.first_token_s: float | None = None
        self.elapsed_s = 0.0
        self.reason: FinishReason = "error"
        self.cost_nano_usd: int | None = None
        self.refused = False
        self.take: Take | None = None

    @property
    def usage(self) -> Usage:
        """What the provider counted, if it came to that."""
        end = self.draft.finished
        if end is None:
            return NOTHING if self.refused else Usage()
        return end.usage or Usage()

    def put_on(self, take: Take) -> None:
        """It is on a cassette: from here on its words, cost and times are those of the take."""
        self.take = take
        self.elapsed_s = (take.total_ms or 0) / 1000
        self.first_token_s = None if take.first_ms is None else take.first_ms / 1000
        self.draft = Draft()
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
    if isinstance(failed, RequestFailed):
        return failed.billed is False
    return failed is not None  # an option or a key that could not be sent: nothing left


def other_tier(last: Round, plan: Plan) -> tuple[str, ...]:
    """What to say of an answer that came by another tier than the one that was asked for."""
    asked, end = plan.call.request.tier, last.draft.finished
    served = end.service_tier if end else ""
    if last.take or asked in (None, "auto") or served in ("", asked):
        return ()
    return (f"asked for the {asked} tier, but served at {redact(served)[:20]}",)


def odd(last: Round, plan: Plan) -> tuple[str, ...]:
    """What cannot be right in the usage of an attempt."""
    draft = last.draft.answer()
    said = [draft.text, draft.refusal, *(c.name + c.arguments for c in draft.tool_calls)]
    visible_bytes = sum(len(each.encode("utf-8", "replace")) for each in said)
    return oddities(last.usage, visible_bytes, plan.call.request.max_output_tokens)
