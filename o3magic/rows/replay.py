"""Rows on a cassette: found there before they are asked, and put there when they are answered.

An answer that came and was paid for is kept whatever it is: one that fits no schema, or a refusal,
replays as the same error. A row without an answer is not kept: it replays as a CassetteMiss, and is
asked again where somebody can be asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from o3magic.cassettes.entry import Recording
from o3magic.cassettes.replay import events
from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import FallbackLedger, OpenEntry
from o3magic.errors import CassetteError, CassetteMiss
from o3magic.events import Answer, Finished, Usage
from o3magic.money import usd
from o3magic.rows.context import RunContext
from o3magic.rows.records import RowOutcome, StoredRow
from o3magic.rows.row_template import RequestTemplate
from o3magic.schemas.validation import judged
from o3magic.session.attempts import AttemptState
from o3magic.session.recorder import CassetteUse

# To look for the nearest question takes its time: of so many rows, the others need not say it too.
MAX_EXPLAINED = 10


class RowReplay:
    """The cassette of one run's rows. tier: "batch" for those of the Batch API."""

    def __init__(
        self, form: RequestTemplate, tape: CassetteUse, tier: Literal["", "batch"] = ""
    ) -> None:
        self._form, self.cassette, self._tier = form, tape, tier
        self._numbers: dict[str, tuple[CanonicalRequest, int]] = {}
        self.replayed: list[tuple[CanonicalRequest, Outcome]] = []
        self.missed = 0

    def find(self, question: CanonicalRequest, key: str) -> RowOutcome | None:
        """A row's answer from the cassette, or None to ask. Raises CassetteMiss, CassetteError."""
        question = replace(question, tier=self._tier)
        # The same batch again in a cell is the same job, not another answer.
        n = 1 if self._tier else self.cassette.deck.number(question)
        try:
            take = self._found(question, n)
            if take is None:
                self._numbers[key] = (question, n)
                return None
            return self._ending(take, question, key)
        except BaseException as error:
            self.missed += isinstance(error, CassetteMiss)
            if not self._tier:
                self.cassette.deck.unasked(question)
            raise

    def _found(self, question: CanonicalRequest, n: int) -> Recording | None:
        if self.cassette.mode != "replay" or self.missed < MAX_EXPLAINED:
            return self.cassette.find(question, n)
        take = self.cassette.recorded(question, n)
        if take is None:
            raise CassetteMiss(f"not recorded in {self.cassette.deck.cassette.path.name}")
        return take

    def _ending(self, take: Recording, question: CanonicalRequest, key: str) -> RowOutcome | None:
        """What a take says. Raises CassetteMiss where it does not fit the schema any more."""
        current = AttemptState(self._form.plan)
        current.source = "replayed"
        for event in events(take, speed=0):
            current.draft.add(event)
        outcome = current.outcome(None, interrupted=False)
        answer, wanted = current.draft.answer(current.reason), self._form.plan.answer_type
        data, wrong, problems = judged(answer, wanted, self._form.plan.profile.schema)
        # What does not fit the schema that it was asked with did not fit it then either.
        changed = take.schema_sha not in ("", question.schema_sha)
        if problems and changed:
            if self.cassette.mode == "replay":
                raise CassetteMiss(f"the schema has changed since it was recorded: {wrong}")
            self._numbers[key] = (question, take.n)
            return None
        self.replayed.append((question, outcome))
        said = {"text": take.text, "data": data, "refusal": take.refusal, "model": take.model}
        said |= {"elapsed_ms": take.total_ms, "made_by": take.label}
        return RowOutcome(
            key=key,
            state="invalid" if wrong else "done",
            answer={name: value for name, value in said.items() if value not in (None, "")},
            error=wrong,
            error_kind="InvalidAnswer" if wrong else "",
            source="replayed",
            usage=take.usage or Usage(),
            cost_nano_usd=take.cost_nano_usd,
        )

    def enter(self, keeping: FallbackLedger, desk: RunContext) -> None:
        """Write what was replayed into the ledger, where it costs nothing."""
        self.entered(keeping, desk.attempt(self._form.plan.call, "map", 0))

    def entered(self, keeping: FallbackLedger, attempt: Attempt) -> None:
        """The same, each as this attempt."""
        attempts = [replace(attempt, source="replayed")] * len(self.replayed)
        tickets = keeping.enter_many(attempts)
        outcomes = [outcome for _, outcome in self.replayed]
        pairs = zip(tickets, outcomes, strict=True)
        keeping.settle_many([(t, outcome) for t, outcome in pairs if isinstance(t, OpenEntry)])
        self.replayed.clear()

    def keep(self, rows: Iterable[StoredRow]) -> str:
        """Put answered rows on the cassette, all at once; what is to be said of it, or "".

        What is said of rows that are not on it is the same when they are recorded and replayed.
        """
        if not self.cassette.records:
            return left_out(self.missed)
        failed = 0
        takes = []
        try:
            for row in rows:
                failed += row.state == "failed" and row.key in self._numbers
                if (take := self._take(row)) is not None:
                    takes.append(take)
            self.cassette.deck.keep_all(takes, refresh=self.cassette.mode == "refresh")
        except (CassetteError, OSError) as error:
            return f"not recorded: {error}"
        return left_out(failed)

    def _take(self, row: StoredRow) -> Recording | None:
        """The take of a row that this run asked about, or None where no answer came."""
        if not row.paid or not row.answer or row.source == "replayed":
            return None
        asked = self._numbers.pop(row.key, None)
        if asked is None:
            return None
        said = row.said
        usage = Usage(row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens)
        answer = Answer(
            text=said.get("text", ""),
            refusal=said.get("refusal", ""),
            finish_reason=said.get("finish", "stop"),
            usage=usage,
            cost_usd=usd(row.cost_nano_usd),
            model=said.get("model", ""),
            id=said.get("id", ""),
            elapsed_s=said.get("elapsed_ms", 0) / 1000,
            reasoning_summary=said.get("summary", ""),
            provider=self._form.plan.call.provider.name,
            source="simulated" if row.source == "simulated" else "live",
        )
        finished = Finished(
            said.get("finish", "stop"),
            usage,
            id=answer.id,
            model=answer.model,
            service_tier=said.get("tier", ""),
            detail=said.get("detail", ""),
            notes=tuple(said.get("notes", ())),
        )
        question, n = asked
        return Recording.of(
            question, n, answer, finished, recorded=datetime.now(UTC), scrub=self.cassette.scrub
        )


def left_out(rows: int) -> str:
    """What is said of rows that have no answer, so that a replay cannot have one."""
    if not rows:
        return ""
    return "1 row is not on the cassette" if rows == 1 else f"{rows:,} rows are not on the cassette"
