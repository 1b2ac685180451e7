"""Parts become batches: uploaded, entered in the ledger, created, and found again after a crash.

Before a batch is created, the job store says so, and the batch carries the job's tag and the number
of the part. A part that was being created, and whose batch has no id here, is first looked for in
the provider's list of batches: none is paid for twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
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

NO_USAGE = Usage(0, 0, 0, 0, 0, 0)
CLOCK_SKEW_S = 3_600  # between this machine and the provider
LIST_LAG_S = 5.0  # until a new batch is in the provider's list


@dataclass(frozen=True)
class UploadSpec:
    """What the parts of a job share, as the job store keeps it.

    tag              the provider's batches are found by it
    answer           the JSON Schema of the answers
    options          the profile's, for rows that are asked again
    budget_nano_usd  of the whole job
    model_reason     why the model was chosen, where none was named
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
        """The model and why it was chosen, where none was named; else ""."""
        return f"asked {self.model}, {self.model_reason}" if self.model_reason else ""

    def metadata(self, part: BatchPart) -> dict[str, str]:
        """The metadata of a part's batch, by which it is found again."""
        return {"o3magic_job": self.tag, "part": str(part.part)}

    def build_attempt(
        self, labels: LedgerContext, source: AnswerSource, worst_nano_usd: int = 0
    ) -> Attempt:
        """The ledger entry of a part, or of replayed rows."""
        return Attempt(
            session=labels.session,
            provider=self.provider,
            model=self.model,
            effort=self.effort,
            service_tier=TIER,
            schema_name=self.schema,
            notebook=labels.notebook,
            cell_key=labels.cell_key,
            source=source,
            kind="batch",
            worst_nano_usd=worst_nano_usd,
        )


@dataclass(frozen=True)
class Uploader:
    """Uploads the parts of one job and creates their batches."""

    store: BatchStore
    files: Files
    ledger: FallbackLedger
    labels: LedgerContext
    spec: UploadSpec
    budgets: Sequence[Budget] = ()
    sleep: Callable[[float], None] = time.sleep

    def send(self, parts: Iterable[tuple[BatchPart, Path]], hold: int | None) -> None:
        """Upload each part, delete its file, and create its batch.

        hold: the budget reservation of all parts. Raises RequestFailed and OverBudget.
        """
        for part, path in parts:
            file_id = self.files.upload(path, f"o3magic-{self.spec.tag}-{part.part}.jsonl")
            path.unlink()
            self._create(self.store.mark_uploaded(part, file_id), hold)

    def resume(self, part: BatchPart) -> BatchPart:
        """Create the batch of a part whose creation was interrupted, unless it exists."""
        part = self.recover(part)
        return self._create(part, None) if part.step == UPLOADED else part

    def recover(self, part: BatchPart) -> BatchPart:
        """A part that may have been created: with its batch if that exists, else not created."""
        if part.step != CREATING or (not part.owner.current() and part.owner.alive()):
            return part  # another process is creating it
        if batch := self._find(part):
            return self.store.mark_created(part, batch.id, batch.status)
        self.ledger.settle(self.open_entry(part), Outcome("error", NO_USAGE, 0))
        return self.store.mark_not_created(part)

    def _create(self, part: BatchPart, hold: int | None) -> BatchPart:
        """Create a batch; its ledger entry is written before the request is sent."""
        if not self.store.claim_creation(part):
            return self.store.part(part)  # another process is creating it
        try:
            entry = self._enter(part, hold)
        except BaseException:
            self.store.mark_not_created(part)
            raise
        part = self.store.set_entry(part, self.labels.session, entry.entry)
        batch: BatchState | None
        try:
            batch = self.files.create(part.file_id, self.spec.endpoint, self.spec.metadata(part))
        except RequestFailed as error:
            if error.billed is False:
                refused = Outcome("error", NO_USAGE, 0, error=type(error).__name__)
                self.ledger.settle(entry, refused)
                self.store.mark_not_created(part)
                raise
            batch = None
            with suppress(RequestFailed):
                batch = self._find(part)
            if batch is None:
                error.hint = (
                    "o3.jobs() has the job: .wait() looks for its batch, and creates it if there "
                    "is none"
                )
                raise
        return self.store.mark_created(part, batch.id, batch.status)

    def _enter(self, part: BatchPart, hold: int | None) -> OpenEntry:
        """The ledger entry of a part. Raises OverBudget where its budget is not reserved yet."""
        attempt, budgets, labels = self._attempt(part), self.budgets, self.labels
        if hold is not None or not budgets:
            return self.ledger.enter(attempt, hold=hold, budgets=budgets)
        hold = self.ledger.hold(part.worst_nano_usd, budgets, labels.session, labels.notebook)
        try:
            return self.ledger.enter(attempt, hold=hold, budgets=budgets)
        finally:
            self.ledger.release(hold)

    def _find(self, part: BatchPart) -> BatchState | None:
        """The batch of a part in the provider's list, looked for twice because the list may lag."""
        batch = self._search(part)
        if batch is None:
            self.sleep(LIST_LAG_S)
            batch = self._search(part)
        return batch

    def _search(self, part: BatchPart) -> BatchState | None:
        metadata = self.spec.metadata(part)
        since_s = part.changed_ms / 1000 - CLOCK_SKEW_S
        for batch in self.files.batches():  # the newest first
            if batch.created_s is not None and batch.created_s < since_s:
                return None
            if metadata.items() <= (batch.metadata or {}).items():
                return batch
        return None

    def open_entry(self, part: BatchPart) -> OpenEntry:
        """The ledger entry of a part; a new one where this ledger has none."""
        ledger = self.ledger.ledger
        attempt = self._attempt(part)
        is_known = part.entry and any(
            entry.id == part.entry and entry.kind == attempt.kind
            for entry in ledger.entries(session=part.session)
        )
        if is_known:
            return OpenEntry(ledger, part.entry, attempt)
        return self.ledger.enter(attempt)

    def _attempt(self, part: BatchPart) -> Attempt:
        source: AnswerSource = "simulated" if self.files.provider.embedded else "live"
        return self.spec.build_attempt(self.labels, source, part.worst_nano_usd)
