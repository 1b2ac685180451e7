"""Rows and cassettes: recorded rows are replayed, and answered rows are recorded.

Every answer is recorded: an invalid one or a refusal replays as the same error. A row without an
answer is not recorded: it replays as a CassetteMiss, or is sent again where the mode allows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from o3magic.cassettes.entry import Recording
from o3magic.cassettes.replay import replay_events
from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import FallbackLedger, OpenEntry
from o3magic.errors import CassetteError, CassetteMiss
from o3magic.events import Answer, Finished, Usage
from o3magic.money import usd
from o3magic.rows.context import RunContext
from o3magic.rows.records import RowOutcome, StoredRow
from o3magic.rows.row_template import RequestTemplate
from o3magic.schemas.validation import judge_answer
from o3magic.session.attempts import AttemptState
from o3magic.session.recorder import CassetteUse

# Finding the closest recorded request is slow: only this many misses explain themselves.
MAX_EXPLAINED = 10


class RowReplay:
    """The cassette of a run. tier: "batch" for rows of the Batch API.

    replayed: requests and outcomes not yet in the ledger; missed: rows that are not recorded.
    """

    def __init__(
        self, form: RequestTemplate, tape: CassetteUse, tier: Literal["", "batch"] = ""
    ) -> None:
        self._form, self.cassette, self._tier = form, tape, tier
        self._numbers: dict[str, tuple[CanonicalRequest, int]] = {}
        self.replayed: list[tuple[CanonicalRequest, Outcome]] = []
        self.missed = 0

    def find(self, question: CanonicalRequest, key: str) -> RowOutcome | None:
        """Return the recorded outcome of a row, or None. Raises CassetteMiss and CassetteError."""
        question = replace(question, tier=self._tier)
        # A batch that is repeated in a cell is the same job, so that it has the same answers.
        n = 1 if self._tier else self.cassette.deck.number(question)
        try:
            recording = self._find_recording(question, n)
            if recording is None:
                self._numbers[key] = (question, n)
                return None
            return self._build_outcome(recording, question, key)
        except BaseException as error:
            self.missed += isinstance(error, CassetteMiss)
            if not self._tier:
                self.cassette.deck.unasked(question)
            raise

    def _find_recording(self, question: CanonicalRequest, n: int) -> Recording | None:
        if self.cassette.mode != "replay" or self.missed < MAX_EXPLAINED:
            return self.cassette.find(question, n)
        recording = self.cassette.recorded(question, n)
        if recording is None:
            raise CassetteMiss(f"not recorded in {self.cassette.deck.cassette.path.name}")
        return recording

    def _build_outcome(
        self, recording: Recording, question: CanonicalRequest, key: str
    ) -> RowOutcome | None:
        """Build the outcome of a recording. Raises CassetteMiss where the schema has changed."""
        current = AttemptState(self._form.plan)
        current.source = "replayed"
        for event in replay_events(recording, speed=0):
            current.draft.add(event)
        outcome = current.outcome(None, interrupted=False)
        answer, wanted = current.draft.answer(current.reason), self._form.plan.answer_type
        data, wrong, problems = judge_answer(answer, wanted, self._form.plan.profile.schema)
        # With an unchanged schema, the answer was invalid when it was recorded, too.
        has_changed = recording.schema_sha not in ("", question.schema_sha)
        if problems and has_changed:
            if self.cassette.mode == "replay":
                raise CassetteMiss(f"the schema has changed since it was recorded: {wrong}")
            self._numbers[key] = (question, recording.n)
            return None
        self.replayed.append((question, outcome))
        content = {
            "text": recording.text,
            "data": data,
            "refusal": recording.refusal,
            "model": recording.model,
        }
        content |= {"elapsed_ms": recording.total_ms, "made_by": recording.label}
        return RowOutcome(
            key=key,
            state="invalid" if wrong else "done",
            answer={name: value for name, value in content.items() if value not in (None, "")},
            error=wrong,
            error_kind="InvalidAnswer" if wrong else "",
            source="replayed",
            usage=recording.usage or Usage(),
            cost_nano_usd=recording.cost_nano_usd,
        )

    def enter(self, keeping: FallbackLedger, desk: RunContext) -> None:
        """Record the replayed rows in the ledger, at no cost."""
        self.entered(keeping, desk.attempt(self._form.plan.call, "map", 0))

    def entered(self, keeping: FallbackLedger, attempt: Attempt) -> None:
        """Record the replayed rows in the ledger, each as this attempt."""
        attempts = [replace(attempt, source="replayed")] * len(self.replayed)
        entries = keeping.enter_many(attempts)
        outcomes = [outcome for _, outcome in self.replayed]
        pairs = zip(entries, outcomes, strict=True)
        keeping.settle_many([(t, outcome) for t, outcome in pairs if isinstance(t, OpenEntry)])
        self.replayed.clear()

    def keep(self, rows: Iterable[StoredRow]) -> str:
        """Record answered rows in one write; return a message about it, or "".

        The message about unrecorded rows is the same when they are recorded and replayed.
        """
        if not self.cassette.records:
            return format_unrecorded(self.missed)
        failed = 0
        recordings = []
        try:
            for row in rows:
                failed += row.state == "failed" and row.key in self._numbers
                if (recording := self._build_recording(row)) is not None:
                    recordings.append(recording)
            self.cassette.deck.keep_all(recordings, refresh=self.cassette.mode == "refresh")
        except (CassetteError, OSError) as error:
            return f"not recorded: {error}"
        return format_unrecorded(failed)

    def _build_recording(self, row: StoredRow) -> Recording | None:
        """Build the recording of a row of this run, or return None where it has no answer."""
        if not row.paid or not row.answer or row.source == "replayed":
            return None
        numbered = self._numbers.pop(row.key, None)
        if numbered is None:
            return None
        content = row.said
        usage = Usage(row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens)
        answer = Answer(
            text=content.get("text", ""),
            refusal=content.get("refusal", ""),
            finish_reason=content.get("finish", "stop"),
            usage=usage,
            cost_usd=usd(row.cost_nano_usd),
            model=content.get("model", ""),
            id=content.get("id", ""),
            elapsed_s=content.get("elapsed_ms", 0) / 1000,
            reasoning_summary=content.get("summary", ""),
            provider=self._form.plan.call.provider.name,
            source="simulated" if row.source == "simulated" else "live",
        )
        finished = Finished(
            content.get("finish", "stop"),
            usage,
            id=answer.id,
            model=answer.model,
            service_tier=content.get("tier", ""),
            detail=content.get("detail", ""),
            notes=tuple(content.get("notes", ())),
        )
        question, n = numbered
        return Recording.of(
            question, n, answer, finished, recorded=datetime.now(UTC), scrub=self.cassette.scrub
        )


def format_unrecorded(rows: int) -> str:
    """Format the message about rows without an answer, which a replay lacks."""
    if not rows:
        return ""
    return "1 row is not on the cassette" if rows == 1 else f"{rows:,} rows are not on the cassette"
