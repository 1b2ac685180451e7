"""Rows on a cassette: found there before they are asked, and put there when they are answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from o3magic.cost.entries import Outcome
from o3magic.cost.keeping import Keeping, Ticket
from o3magic.errors import CassetteError, CassetteMiss
from o3magic.events import Answer, Finished, Usage
from o3magic.jobs.desk import Desk
from o3magic.jobs.form import Form
from o3magic.jobs.rows import Answered, Ending
from o3magic.money import usd
from o3magic.schemas.lookup import SchemaMismatch
from o3magic.talk.round import Round
from o3magic.talk.taping import Tape
from o3magic.tapes.key import Question
from o3magic.tapes.replay import events
from o3magic.tapes.take import Take


class Replaying:
    """The cassette of one run's rows."""

    def __init__(self, form: Form, tape: Tape) -> None:
        self._form, self.tape = form, tape
        self._numbers: dict[str, tuple[Question, int]] = {}
        self.replayed: list[tuple[Question, Outcome]] = []

    def find(self, question: Question, key: str) -> Ending | None:
        """A row's answer from the cassette, or None to ask. Raises CassetteMiss, CassetteError."""
        n = self.tape.deck.number(question)
        try:
            take = self.tape.find(question, n)
            if take is None:
                self._numbers[key] = (question, n)
                return None
            return self._ending(take, question, key)
        except BaseException:
            self.tape.deck.unasked(question)
            raise

    def _ending(self, take: Take, question: Question, key: str) -> Ending | None:
        """What a take says. Raises CassetteMiss where it does not fit the schema any more."""
        current = Round(self._form.plan)
        current.source = "replayed"
        for event in events(take, speed=0):
            current.draft.add(event)
        outcome = current.outcome(None, interrupted=False)
        data, wanted = None, self._form.plan.answer_type
        answer = current.draft.answer(current.reason)
        if wanted is not None and not answer.refusal:
            try:
                data = wanted.dump(wanted.validate(take.text))
            except SchemaMismatch as mismatch:
                if self.tape.mode == "replay":
                    raise CassetteMiss(
                        f"the recorded answer does not fit the schema: {mismatch.problems[0]}"
                    ) from None
                return None
        self.replayed.append((question, outcome))
        said = {"text": take.text, "data": data, "refusal": take.refusal, "model": take.model}
        said |= {"elapsed_ms": take.total_ms, "made_by": take.label}
        return Ending(
            key=key,
            state="invalid" if answer.refusal else "done",
            answer={name: value for name, value in said.items() if value not in (None, "")},
            error=f"refused: {answer.refusal[:200]}" if answer.refusal else "",
            error_kind="InvalidAnswer" if answer.refusal else "",
            source="replayed",
            usage=take.usage or Usage(),
            cost_nano_usd=take.cost_nano_usd,
        )

    def enter(self, keeping: Keeping, desk: Desk) -> None:
        """Write what was replayed into the ledger, where it costs nothing."""
        call = self._form.plan.call
        attempt = desk.attempt(call, "map", 0)
        attempts = [replace(attempt, source="replayed")] * len(self.replayed)
        tickets = keeping.enter_many(attempts)
        outcomes = [outcome for _, outcome in self.replayed]
        pairs = zip(tickets, outcomes, strict=True)
        keeping.settle_many([(t, outcome) for t, outcome in pairs if isinstance(t, Ticket)])
        self.replayed.clear()

    def keep(self, rows: Iterable[Answered]) -> str:
        """Put answered rows on the cassette, all at once; gives why they could not be, or ""."""
        if not self.tape.records:
            return ""
        try:
            takes = [take for row in rows if (take := self._take(row)) is not None]
            self.tape.deck.keep_all(takes, refresh=self.tape.mode == "refresh")
        except (CassetteError, OSError) as error:
            return f"not recorded: {error}"
        return ""

    def _take(self, row: Answered) -> Take | None:
        """The take of a row that this run asked about, or None."""
        asked = self._numbers.pop(row.key, None)
        if asked is None or row.state != "done" or row.source == "replayed":
            return None
        said = row.said
        usage = Usage(row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens)
        answer = Answer(
            text=said.get("text", ""),
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
        return Take.of(
            question, n, answer, finished, recorded=datetime.now(UTC), scrub=self.tape.scrub
        )
