"""What came of a batch: its files read line by line, each row kept, its cost entered."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path

from o3magic.answer_builder import AnswerBuilder
from o3magic.cost.entries import Outcome
from o3magic.cost.pricing import Charge, card_at, charge
from o3magic.errors import BatchUnfinished, BrokenAnswer, O3Error, RequestFailed, RequestRefused
from o3magic.events import AnswerSource, Finished, Usage
from o3magic.messages import Api
from o3magic.models import Card, Catalog
from o3magic.providers import Provider
from o3magic.rows.batch.parts import TIER
from o3magic.rows.batch.store import BatchPart, PartUsage
from o3magic.rows.batch.upload import Uploader
from o3magic.rows.records import RowOutcome
from o3magic.schemas.lookup import AnswerType
from o3magic.schemas.validation import judged
from o3magic.wire.batch import NOT_RUN, BatchLine, BatchState, read
from o3magic.wire.dialects import DIALECTS

NOTHING = Usage(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class LineReader:
    """Reads the lines of one job. `on` is the day whose prices hold."""

    api: Api
    model: str
    provider: Provider
    catalog: Catalog
    wanted: AnswerType | None
    on: date

    def ending(self, line: BatchLine, *, simulated: bool) -> RowOutcome:
        """What became of a row."""
        source: AnswerSource = "simulated" if simulated else "live"
        if line.body is None:
            assert line.failed is not None
            return build_failure(line.id, line.failed, source)
        draft = AnswerBuilder()
        try:
            for event in DIALECTS[self.api].decode(line.body):
                draft.add(event)
        except RequestFailed as error:
            return build_failure(line.id, error, source)
        draft.doubt_zeros()
        return self._answered(line.id, draft, source)

    def _answered(self, key: str, draft: AnswerBuilder, source: AnswerSource) -> RowOutcome:
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
        return RowOutcome(
            key=key,
            state="invalid" if verdict.wrong else "done",
            answer={name: value for name, value in said.items() if value not in (None, "", [])},
            error=verdict.wrong,
            error_kind="InvalidAnswer" if verdict.wrong else "",
            source=source,
            usage=answer.usage,
            cost_nano_usd=charged.nano_usd,
        )

    def charge(self, end: Finished, model: str, source: AnswerSource) -> Charge:
        """What a row cost at batch prices."""
        if source != "live":
            return Charge(0)
        at_batch = replace(end, service_tier=TIER)
        return charge(self.provider, self.card(model), at_batch, self.on, TIER)

    def card(self, model: str) -> Card | None:
        """The card of the model that answered, None where we do not have it, with its prices."""
        return card_at(self.provider, self.catalog, model or self.model, self.on)


def build_failure(key: str, error: O3Error, source: AnswerSource | None = None) -> RowOutcome:
    """A row that has no answer. What the provider refused it does not charge for."""
    free = source == "simulated" or getattr(error, "billed", None) is False
    return RowOutcome(
        key=key,
        state="failed",
        error=str(error),
        error_kind=type(error).__name__,
        source=source or "",
        usage=NOTHING if free else Usage(),
        cost_nano_usd=0 if free else None,
    )


def describe_odd_lines(known: Mapping[str, int]) -> tuple[str, ...]:
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


GROUP_ROWS = 2_000


@dataclass
class Downloader:
    """Fetches the parts of one job that are over."""

    sending: Uploader
    reading: LineReader

    def fetch(self, part: BatchPart, state: BatchState) -> BatchPart:
        """Keep what became of each row, enter what it cost, and call the part ended.

        May be done again after a crash at any place. Raises RequestFailed and LedgerUnavailable.
        """
        store = self.sending.store
        counts: Counter[str] = Counter()
        simulated = self.sending.files.provider.embedded
        with tempfile.TemporaryDirectory(prefix="o3magic-") as folder:
            path = Path(folder) / "fetched.jsonl"
            for file_id in filter(None, (state.output_file, state.error_file)):
                simulated = self.sending.files.download(file_id, path) or simulated
                endings = self._endings(part, path, counts, simulated=simulated)
                while group := [*islice(endings, GROUP_ROWS)]:
                    store.keep(part, group)
        error = build_missing_error(state)
        missing = store.untold(part)
        counts["missing"] = len(missing) if state.status == "completed" else 0
        source: AnswerSource = "simulated" if simulated else "live"
        store.keep(part, (build_failure(key, error, source) for key in missing))
        self._settle(part, state, counts, simulated=simulated)
        notes = "; ".join((*state.errors[:3], *describe_odd_lines(counts)))
        part = store.stands(part, state.status, state.completed or 0, state.failed or 0, notes)
        return store.ended(part)

    def never(self, part: BatchPart) -> BatchPart:
        """A part that was not sent, and never will be."""
        store = self.sending.store
        error = BatchUnfinished(NOT_RUN["batch_cancelled"])
        store.keep(part, (build_failure(key, error) for key in store.untold(part)))
        return store.ended(store.stands(part, "cancelled", 0, 0, ""))

    def _endings(
        self, part: BatchPart, path: Path, counts: Counter[str], *, simulated: bool
    ) -> Iterator[RowOutcome]:
        """What became of the rows in one file, each once; lines that are odd are counted."""
        waiting = self.sending.store.waiting(part)
        for raw in read_lines(path):
            try:
                line: BatchLine = read(raw)
            except BrokenAnswer:
                counts["broken"] += 1
                continue
            if line.id not in waiting:
                counts["strange"] += 1
                continue
            waiting.discard(line.id)
            yield self.reading.ending(line, simulated=simulated)

    def _settle(
        self, part: BatchPart, state: BatchState, counts: Counter[str], *, simulated: bool
    ) -> None:
        """Enter what the batch used and cost."""
        sending = self.sending
        used = sending.store.used(part)
        usage, cost = self._cost(state, used, missing=counts["missing"] + counts["broken"])
        card = self.reading.card("")
        price = card.price(self.reading.on, TIER) if card else None
        source: AnswerSource = "simulated" if simulated else "live"
        outcome = Outcome(
            status="ok" if state.status == "completed" else state.status,
            usage=usage,
            cost_nano_usd=0 if simulated else cost,
            model_served=self.reading.model,
            service_tier=TIER,
            response_id=state.id,
            price_since=str(price.since or "") if price else "",
            price_source=price.source if price else "",
            source=source,
        )
        sending.keeping.settle(sending.ticket(part), outcome)

    def _cost(
        self, state: BatchState, used: PartUsage, *, missing: int
    ) -> tuple[Usage, int | None]:
        """The usage of a batch and what it cost, None where nobody knows.

        The batch's own count is the provider's word; each row is priced by itself, since long ones
        may cost more. What the batch counts besides its rows is priced where that is plain.
        """
        rows = Usage(
            used.input_tokens, used.cached_tokens, used.output_tokens, used.reasoning_tokens
        )
        if state.usage is None or not state.usage.input_tokens:  # some count nothing
            if used.unknown_tokens_rows or missing:
                return Usage(), None
            return rows, None if used.unknown_cost_rows else used.cost_nano_usd
        more = [
            (getattr(state.usage, name) or 0) - (getattr(rows, name) or 0)
            for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
        ]
        if not any(more) and not used.unknown_cost_rows:
            return state.usage, used.cost_nano_usd
        if min(more[0], more[2]) < 0:
            return state.usage, None
        card = self.reading.card("")
        price = card.price(self.reading.on, TIER) if card else None
        usual = card.price(self.reading.on) if card else None
        if price is None or usual is None or usual.long is not None:
            return state.usage, None  # nobody knows which of the rows were long
        return state.usage, price.nano_usd(state.usage)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that hold something, one at a time."""
    with path.open("rb") as file:
        yield from (raw for raw in file if raw.strip(b"\xef\xbb\xbf \t\r\n"))


def build_missing_error(state: BatchState) -> O3Error:
    """Why a row that is in no file has no answer."""
    match state.status:
        case "failed":
            why = "; ".join(state.errors[:3]) or "no reason given"
            return RequestRefused(
                f"the provider refused the batch: {why}", hint="o3.batch(...) sends it again"
            )
        case "expired":
            return BatchUnfinished(NOT_RUN["batch_expired"])
        case "cancelled":
            return BatchUnfinished(NOT_RUN["batch_cancelled"])
    return BrokenAnswer("the batch ended without an answer to this row")
