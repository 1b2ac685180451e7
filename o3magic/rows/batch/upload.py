"""Parts become batches: uploaded, entered in the books, made once, and found again after a crash.

Before a batch is asked for, the file of jobs says so; the batch carries the job's tag and the
part's number. Whoever finds such a part without the id of its batch looks through the provider's
list before anything is made, so that nothing is paid for twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from o3magic.client.files import Files
from o3magic.cost.budgets import Budget
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import FallbackLedger, OpenEntry
from o3magic.errors import RequestFailed
from o3magic.events import AnswerSource, Usage
from o3magic.rows.batch.parts import TIER
from o3magic.rows.batch.store import BatchPart, BatchStore
from o3magic.rows.migrations import CREATING, UPLOADED
from o3magic.session.spending import LedgerContext
from o3magic.wire.batch import BatchState

NOTHING = Usage(0, 0, 0, 0, 0, 0)
CLOCKS_DIFFER_S = 3_600
LOOK_AGAIN_S = 5.0


@dataclass(frozen=True)
class UploadSpec:
    """What the parts of a job have in common, as the file of jobs keeps it.

    tag: what the provider's batches are known by. budget_nano_usd: of the whole job, or None.
    answer: the JSON Schema of the answers' type. options: the profile's, to ask a row once more.
    model_reason: why it is this model, where none was named.
    """

    tag: str
    template: str
    provider: str
    model: str
    api: str
    endpoint: str
    effort: str = ""
    schema: str = ""
    answer: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    budget_nano_usd: int | None = None
    flatten: bool = False
    model_reason: str = ""

    @property
    def which_model(self) -> str:
        """Which model is asked and why, where none was named; else ""."""
        return f"asked {self.model}, {self.model_reason}" if self.model_reason else ""

    def metadata(self, part: BatchPart) -> dict[str, str]:
        """What a part is found by."""
        return {"o3magic_job": self.tag, "part": str(part.part)}


@dataclass(frozen=True)
class Uploader:
    """Sends the parts of one job."""

    store: BatchStore
    files: Files
    keeping: FallbackLedger
    place: LedgerContext
    spec: UploadSpec
    budgets: Sequence[Budget] = ()
    sleep: Callable[[float], None] = time.sleep

    def send(self, parts: Iterable[tuple[BatchPart, Path]], hold: int | None) -> None:
        """Upload each part and make its batch. Raises RequestFailed and OverBudget."""
        for part, path in parts:
            file_id = self.files.upload(path, f"o3magic-{self.spec.tag}-{part.part}.jsonl")
            path.unlink()
            self._create(self.store.uploaded(part, file_id), hold)

    def go_on(self, part: BatchPart) -> BatchPart:
        """A part whose making was interrupted, made now unless it is there already."""
        part = self.adopted(part)
        return self._create(part, None) if part.step == UPLOADED else part

    def adopted(self, part: BatchPart) -> BatchPart:
        """A part that may have been made, with its batch where it was; else it never was."""
        if part.step != CREATING or (not part.owner.current() and part.owner.alive()):
            return part  # another process is at it
        found = self._find(part) or self._look_again(part)
        if found is not None:
            return self.store.created(part, found.id, found.status)
        self.keeping.settle(self.ticket(part), Outcome("error", NOTHING, 0))
        return self.store.not_created(part)

    def _create(self, part: BatchPart, hold: int | None) -> BatchPart:
        """Make a batch, in the books before it is asked for."""
        if not self.store.creating(part):
            return self.store.part(part)  # another process is at it
        try:
            ticket = self._enter(part, hold)
        except BaseException:
            self.store.not_created(part)
            raise
        part = self.store.entered(part, self.place.session, ticket.entry)
        try:
            state = self.files.create(part.file_id, self.spec.endpoint, self.spec.metadata(part))
        except RequestFailed as error:
            if error.billed is False:
                refused = Outcome("error", NOTHING, 0, error=type(error).__name__)
                self.keeping.settle(ticket, refused)
                self.store.not_created(part)
                raise
            found = self._lost(part, error)
            return self.store.created(part, found.id, found.status)
        return self.store.created(part, state.id, state.status)

    def _enter(self, part: BatchPart, hold: int | None) -> OpenEntry:
        """Its entry. Raises OverBudget, also where nothing was held for it."""
        attempt, budgets = self._attempt(part), self.budgets
        if hold is not None or not budgets:
            return self.keeping.enter(attempt, hold=hold, budgets=budgets)
        place = self.place
        own = self.keeping.hold(part.worst_nano_usd, budgets, place.session, place.notebook)
        try:
            return self.keeping.enter(attempt, hold=own, budgets=budgets)
        finally:
            self.keeping.release(own)

    def _lost(self, part: BatchPart, error: RequestFailed) -> BatchState:
        """The batch whose making was not answered. Raises the error where it is not there."""
        try:
            found = self._find(part) or self._look_again(part)
        except RequestFailed:
            found = None
        if found is None:
            error.hint = (
                "o3.jobs() has the job: .wait() looks for its batch, and makes it if need be"
            )
            raise error
        return found

    def _find(self, part: BatchPart) -> BatchState | None:
        """The batch of a part in the provider's list, or None."""
        wanted = self.spec.metadata(part)
        since_s = part.changed_ms / 1000 - CLOCKS_DIFFER_S
        for state in self.files.batches():
            if state.created_s is not None and state.created_s < since_s:
                return None
            said = state.metadata or {}
            if all(said.get(name) == value for name, value in wanted.items()):
                return state
        return None

    def _look_again(self, part: BatchPart) -> BatchState | None:
        """The same after a while: a list may lag behind."""
        self.sleep(LOOK_AGAIN_S)
        return self._find(part)

    def ticket(self, part: BatchPart) -> OpenEntry:
        """The entry of a part in the ledger; a new one where this ledger has none of it."""
        ledger = self.keeping.ledger
        attempt = self._attempt(part)
        known = part.entry and any(
            each.id == part.entry and each.kind == attempt.kind
            for each in ledger.entries(session=part.session)
        )
        if known:
            return OpenEntry(ledger, part.entry, attempt)
        return self.keeping.enter(attempt)

    def _attempt(self, part: BatchPart) -> Attempt:
        """What is entered before a batch is made: the most it can cost, its cost unknown."""
        source: AnswerSource = "simulated" if self.files.provider.embedded else "live"
        return self.place.attempt(
            self.spec.provider,
            self.spec.model,
            effort=self.spec.effort,
            tier=TIER,
            schema=self.spec.schema,
            source=source,
            kind="batch",
            worst_nano_usd=part.worst_nano_usd,
        )
