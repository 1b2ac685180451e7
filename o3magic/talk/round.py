"""One attempt at an answer: what came of it, how long it took and what it cost."""

from __future__ import annotations

import time
from datetime import date

from o3magic.catalog import Card
from o3magic.cost.entries import Outcome
from o3magic.draft import Draft
from o3magic.errors import O3Error, RequestFailed
from o3magic.events import FinishReason, Recorded, Source, Usage
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

    def cost(self) -> int | None:
        """Nano-dollars, or None where unknown: by the served model, tier and day."""
        if self.source != "live" or self.refused:
            return 0
        end, provider = self.draft.finished, self._plan.call.provider
        if provider.managed:
            return 0  # it runs here, whatever came of it
        if end is None or end.usage is None or not provider.list_prices:
            return None
        # By the model that answered: a card we do not have is a cost we do not know.
        card = self._served()
        return card.nano_usd(end.usage, date.today(), end.service_tier) if card else None

    def _served(self) -> Card | None:
        """The card of the model that answered, or None; a deployment may say its own name."""
        name, cards = self.draft.model, self._plan.call.provider.cards
        return self._plan.catalog.find(cards.get(name, name)) if name else self._plan.card

    def outcome(self, failed: O3Error | None, *, interrupted: bool) -> Outcome:
        """What the ledger keeps of it."""
        self.elapsed_s = time.perf_counter() - self.began_s
        end = self.draft.finished
        self.reason = end.reason if end else "interrupted" if interrupted else "error"
        self.refused = refused_unbilled(failed) and not self.draft.id
        self.cost_nano_usd = self.cost()
        card = self._served()
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


def refused_unbilled(failed: O3Error | None) -> bool:
    """Whether the provider refused before it did any work that it charges for."""
    if isinstance(failed, RequestFailed):
        return failed.billed is False
    return failed is not None  # an option or a key that could not be sent: nothing left


def odd(last: Round, plan: Plan) -> tuple[str, ...]:
    """What cannot be right in the usage of an attempt."""
    draft = last.draft.answer()
    said = [draft.text, draft.refusal, *(c.name + c.arguments for c in draft.tool_calls)]
    visible_bytes = sum(len(each.encode("utf-8", "replace")) for each in said)
    return oddities(last.usage, visible_bytes, plan.call.request.max_output_tokens)
