"""The output of a batch: read line by line, each row's outcome stored, its cost entered."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
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
from o3magic.rows.batch.upload import NO_USAGE, Uploader
from o3magic.rows.records import RowOutcome
from o3magic.schemas.lookup import AnswerType
from o3magic.schemas.validation import judge_answer
from o3magic.wire.batch import NOT_RUN, BatchLine, BatchState, parse_batch_line
from o3magic.wire.dialects import DIALECTS

GROUP_ROWS = 2_000  # stored in one transaction
USAGE_COUNTS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
ODD_LINES = {
    "broken": "{} could not be read",
    "strange": "{} belong to no row of it, or came twice",
    "missing": "{} are missing",
}


@dataclass(frozen=True)
class LineReader:
    """Parses the lines of one job's output. `on`: the day whose prices apply."""

    api: Api
    model: str
    provider: Provider
    catalog: Catalog
    wanted: AnswerType | None
    on: date

    def parse_outcome(self, line: BatchLine, *, simulated: bool) -> RowOutcome:
        """The outcome of a row, with its answer validated and its cost."""
        source: AnswerSource = "simulated" if simulated else "live"
        if line.body is None:
            assert line.failed is not None
            return build_failure(line.id, line.failed, source)
        builder = AnswerBuilder()
        try:
            for event in DIALECTS[self.api].decode(line.body):
                builder.add(event)
        except RequestFailed as error:
            return build_failure(line.id, error, source)
        builder.doubt_zeros()
        answer, finished = builder.answer(), builder.finished or Finished("error")
        verdict = judge_answer(answer, self.wanted)
        charged = self.charge(finished, answer.model, source)
        content = {
            "text": answer.text,
            "data": verdict.data,
            "refusal": answer.refusal,
            "summary": answer.reasoning_summary,
            "finish": answer.finish_reason,
            "detail": finished.detail,
            "tier": TIER,
            "model": answer.model,
            "id": answer.id,
            "notes": [*answer.notes, *charged.notes],
        }
        return RowOutcome(
            key=line.id,
            state="invalid" if verdict.wrong else "done",
            answer={name: value for name, value in content.items() if value not in (None, "", [])},
            error=verdict.wrong,
            error_kind="InvalidAnswer" if verdict.wrong else "",
            source=source,
            usage=answer.usage,
            cost_nano_usd=charged.nano_usd,
        )

    def charge(self, end: Finished, model: str, source: AnswerSource) -> Charge:
        """The cost of a row at batch prices."""
        if source != "live":
            return Charge(0)
        at_batch = replace(end, service_tier=TIER)
        return charge(self.provider, self.find_card(model), at_batch, self.on, TIER)

    def find_card(self, model: str) -> Card | None:
        """The card, with its prices, of the model that answered; None where there is none."""
        return card_at(self.provider, self.catalog, model or self.model, self.on)


def build_failure(key: str, error: O3Error, source: AnswerSource | None = None) -> RowOutcome:
    """The outcome of a row without an answer. A row that the provider refused costs nothing."""
    is_free = source == "simulated" or getattr(error, "billed", None) is False
    return RowOutcome(
        key=key,
        state="failed",
        error=str(error),
        error_kind=type(error).__name__,
        source=source or "",
        usage=NO_USAGE if is_free else Usage(),
        cost_nano_usd=0 if is_free else None,
    )


@dataclass
class Downloader:
    """Downloads the output of the parts of one job that are over."""

    uploader: Uploader
    reader: LineReader

    def fetch(self, part: BatchPart, state: BatchState) -> BatchPart:
        """Store the outcome of each row, enter the cost, and mark the part as ended.

        It can be repeated after a crash at any point. Raises RequestFailed and LedgerUnavailable.
        """
        store, files = self.uploader.store, self.uploader.files
        odd_lines: Counter[str] = Counter()
        simulated = files.provider.embedded
        with tempfile.TemporaryDirectory(prefix="o3magic-") as folder:
            path = Path(folder) / "output.jsonl"
            for file_id in filter(None, (state.output_file, state.error_file)):
                simulated = files.download(file_id, path) or simulated
                outcomes = self._read_outcomes(part, path, odd_lines, simulated=simulated)
                while group := [*islice(outcomes, GROUP_ROWS)]:
                    store.save_outcomes(part, group)
        error = build_missing_error(state)
        missing = store.open_keys(part)
        odd_lines["missing"] = len(missing) if state.status == "completed" else 0
        source: AnswerSource = "simulated" if simulated else "live"
        store.save_outcomes(part, (build_failure(key, error, source) for key in missing))
        self._settle(part, state, odd_lines, source)
        notes = [
            f"of the lines of its files, {ODD_LINES[name].format(f'{count:,}')}"
            for name, count in odd_lines.items()
            if count
        ]
        errors = "; ".join((*state.errors[:3], *notes))
        completed, failed = state.completed or 0, state.failed or 0
        part = store.update_status(part, state.status, completed, failed, errors)
        return store.mark_ended(part)

    def abandon(self, part: BatchPart) -> BatchPart:
        """End a part that was cancelled before it was sent."""
        store = self.uploader.store
        error = BatchUnfinished(NOT_RUN["batch_cancelled"])
        store.save_outcomes(part, (build_failure(key, error) for key in store.open_keys(part)))
        return store.mark_ended(store.update_status(part, "cancelled", 0, 0))

    def _read_outcomes(
        self, part: BatchPart, path: Path, odd_lines: Counter[str], *, simulated: bool
    ) -> Iterator[RowOutcome]:
        """The outcomes of the rows in a file, each once; other lines are counted."""
        unanswered = self.uploader.store.unanswered_keys(part)
        for raw in read_lines(path):
            try:
                line: BatchLine = parse_batch_line(raw)
            except BrokenAnswer:
                odd_lines["broken"] += 1
                continue
            if line.id not in unanswered:
                odd_lines["strange"] += 1
                continue
            unanswered.discard(line.id)
            yield self.reader.parse_outcome(line, simulated=simulated)

    def _settle(
        self, part: BatchPart, state: BatchState, odd_lines: Counter[str], source: AnswerSource
    ) -> None:
        """Settle the ledger entry of a part with its usage and cost."""
        rows = self.uploader.store.sum_usage(part)
        unread = odd_lines["missing"] + odd_lines["broken"]
        card = self.reader.find_card("")
        usage, cost = self._compute_cost(state, rows, card, unread=unread)
        price = card.price(self.reader.on, TIER) if card else None
        outcome = Outcome(
            status="ok" if state.status == "completed" else state.status,
            usage=usage,
            cost_nano_usd=0 if source == "simulated" else cost,
            model_served=self.reader.model,
            service_tier=TIER,
            response_id=state.id,
            price_since=str(price.since or "") if price else "",
            price_source=price.source if price else "",
            source=source,
        )
        self.uploader.ledger.settle(self.uploader.open_entry(part), outcome)

    def _compute_cost(
        self, state: BatchState, rows: PartUsage, card: Card | None, *, unread: int
    ) -> tuple[Usage, int | None]:
        """The usage of a batch and its cost, None where that is unknown.

        The provider's own count of the batch is authoritative, but each row is priced by itself,
        because long rows may cost more. Usage beyond that of the rows is priced where the model has
        no price for long rows.
        """
        counts = (rows.input_tokens, rows.cached_tokens, rows.output_tokens, rows.reasoning_tokens)
        if state.usage is None or not state.usage.input_tokens:  # some providers count nothing
            if rows.unknown_tokens_rows or unread:
                return Usage(), None
            return Usage(*counts), None if rows.unknown_cost_rows else rows.cost_nano_usd
        beyond = [
            (getattr(state.usage, name) or 0) - count
            for name, count in zip(USAGE_COUNTS, counts, strict=True)
        ]
        if not any(beyond) and not rows.unknown_cost_rows:
            return state.usage, rows.cost_nano_usd
        if min(beyond[0], beyond[2]) < 0:
            return state.usage, None
        price = card.price(self.reader.on, TIER) if card else None
        standard = card.price(self.reader.on) if card else None
        if price is None or standard is None or standard.long is not None:
            return state.usage, None  # it is unknown which of the rows were long
        return state.usage, price.nano_usd(state.usage)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that are not blank."""
    with path.open("rb") as file:
        yield from (raw for raw in file if raw.strip(b"\xef\xbb\xbf \t\r\n"))


def build_missing_error(state: BatchState) -> O3Error:
    """The error of a row that is in no output file."""
    match state.status:
        case "failed":
            reason = "; ".join(state.errors[:3]) or "no reason given"
            return RequestRefused(
                f"the provider refused the batch: {reason}", hint="o3.batch(...) sends it again"
            )
        case "expired":
            return BatchUnfinished(NOT_RUN["batch_expired"])
        case "cancelled":
            return BatchUnfinished(NOT_RUN["batch_cancelled"])
    return BrokenAnswer("the batch ended without an answer to this row")
