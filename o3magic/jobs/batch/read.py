"""One line of a batch's files as what became of its row: validated, and with its cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from o3magic.catalog import Card, Catalog
from o3magic.cost.pricing import Charge, card_at, charge
from o3magic.draft import Draft
from o3magic.errors import O3Error, RequestFailed
from o3magic.events import Finished, Source, Usage
from o3magic.jobs.batch.rules import TIER
from o3magic.jobs.rows import Ending
from o3magic.jobs.verdict import judged
from o3magic.messages import Api
from o3magic.providers import Provider
from o3magic.schemas.lookup import AnswerType
from o3magic.wire.batch import Line
from o3magic.wire.dialects import DIALECTS

NOTHING = Usage(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Reading:
    """Reads the lines of one job. `on` is the day whose prices hold."""

    api: Api
    model: str
    provider: Provider
    catalog: Catalog
    wanted: AnswerType | None
    on: date

    def ending(self, line: Line, *, simulated: bool) -> Ending:
        """What became of a row."""
        source: Source = "simulated" if simulated else "live"
        if line.body is None:
            assert line.failed is not None
            return failed(line.id, line.failed, source)
        draft = Draft()
        try:
            for event in DIALECTS[self.api].decode(line.body):
                draft.add(event)
        except RequestFailed as error:
            return failed(line.id, error, source)
        draft.doubt_zeros()
        return self._answered(line.id, draft, source)

    def _answered(self, key: str, draft: Draft, source: Source) -> Ending:
        answer, end = draft.answer(), draft.finished or Finished("error")
        verdict = judged(answer, self.wanted)
        charged = self.charge(end, answer.model, source)
        said = {
            "text": answer.text,
            "data": verdict.data,
            "refusal": answer.refusal,
            "summary": answer.reasoning_summary,
            "finish": answer.finish_reason,
            "detail": end.detail,
            "tier": TIER,
            "model": answer.model,
            "id": answer.id,
            "notes": [*answer.notes, *charged.notes],
        }
        return Ending(
            key=key,
            state="invalid" if verdict.wrong else "done",
            answer={name: value for name, value in said.items() if value not in (None, "", [])},
            error=verdict.wrong,
            error_kind="InvalidAnswer" if verdict.wrong else "",
            source=source,
            usage=answer.usage,
            cost_nano_usd=charged.nano_usd,
        )

    def charge(self, end: Finished, model: str, source: Source) -> Charge:
        """What a row cost at batch prices."""
        if source != "live":
            return Charge(0)
        at_batch = replace(end, service_tier=TIER)
        return charge(self.provider, self.card(model), at_batch, self.on, TIER)

    def card(self, model: str) -> Card | None:
        """The card of the model that answered, None where we do not have it, with its prices."""
        return card_at(self.provider, self.catalog, model or self.model, self.on)


def failed(key: str, error: O3Error, source: Source | None = None) -> Ending:
    """A row that has no answer. What the provider refused it does not charge for."""
    free = source == "simulated" or getattr(error, "billed", None) is False
    return Ending(
        key=key,
        state="failed",
        error=str(error),
        error_kind=type(error).__name__,
        source=source or "",
        usage=NOTHING if free else Usage(),
        cost_nano_usd=0 if free else None,
    )


def odd_counts(known: Mapping[str, int]) -> tuple[str, ...]:
    """What cannot be right in a batch's files, one sentence each."""
    words = {
        "broken": "{} could not be read",
        "strange": "{} belong to no row of it, or came twice",
        "missing": "{} are missing",
    }
    return tuple(
        f"of the lines of its files, {words[name].format(f'{count:,}')}"
        for name, count in known.items()
        if count
    )
