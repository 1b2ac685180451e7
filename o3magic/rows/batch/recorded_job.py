"""A batch job whose answers are on the cassette: over at once, as when it was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from o3magic.events import LABELS
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.parts import WrittenParts
from o3magic.rows.batch.results import build_results, find_unanswered_rows
from o3magic.rows.batch.status import (
    BatchStatus,
    build_finished_status,
    build_progress,
    format_title,
)
from o3magic.rows.batch.upload import UploadSpec
from o3magic.rows.map_job import MapOptions, map_rows, open_cassette
from o3magic.rows.records import Job, RowOutcome, StoredRow
from o3magic.rows.replay import RowReplay, format_unrecorded
from o3magic.rows.sweep.rows import ScoredTable
from o3magic.schemas.lookup import AnswerType
from o3magic.session.session import Session

NOT_RECORDED = (
    "not recorded: a job that is opened again does not have its rows; the same o3.batch(...) puts "
    "its answers on the cassette"
)


@dataclass(frozen=True)
class BatchRecorder:
    """Records the answers of a job. outcomes: rows that were on the cassette, by index."""

    replay: RowReplay
    outcomes: Mapping[int, RowOutcome]


def explain_not_recorded(context: BatchContext) -> str:
    """Why a job that was opened again is not recorded, or "" where there is no recording."""
    cassette = open_cassette(context.session, context.session.layers.profile())
    return NOT_RECORDED if cassette is not None and cassette.records else ""


@dataclass(frozen=True)
class BatchInput:
    """The arguments of an `o3.batch` call: name, prompt, type of the answers, rows."""

    name: str
    prompt: str
    wanted: AnswerType | None
    rows: Any


class RecordedBatch:
    """A job of `o3.batch` whose rows are on the cassette. It sends nothing, and is in no job store.

    It has the methods of `BatchJob`. digest: identifies the same call.
    """

    def __init__(
        self,
        context: BatchContext,
        number: int,
        spec: UploadSpec,
        given: BatchInput,
        rows: Mapping[int, RowOutcome],
        digest: str,
    ) -> None:
        self._context, self._number, self._given = context, number, given
        self.spec, self.digest = spec, digest
        self._rows: dict[int, StoredRow | RowOutcome] = dict(rows)

    @property
    def id(self) -> int:
        """Its number, below 0: it is not in the job store."""
        return self._number

    @property
    def name(self) -> str:
        """The name it was given, or ""."""
        return self._given.name

    @property
    def batch_ids(self) -> list[str]:
        """Empty: no batch was created."""
        return []

    @property
    def now(self) -> Job:
        """It as a row of the job store."""
        states = Counter(row.state for row in {r.key: r for r in self._rows.values()}.values())
        return Job(
            id=self.id,
            digest=self.digest,
            kind="batch",
            name=self.name,
            state="replayed",
            created_ms=0,
            changed_ms=0,
            notebook=self._context.session.notebook,
            provider=self.spec.provider,
            model=self.spec.model,
            total=len(self._rows),
            spec=asdict(self.spec),
            said="",
            done_rows=states["done"],
            invalid_rows=states["invalid"],
            failed_rows=states["failed"],
            claimed_rows=0,
            lost_calls=0,
            spent_nano_usd=0,
            held_nano_usd=0,
        )

    @property
    def made_up(self) -> Mapping[str, int]:
        """The number of rows that no model answered, by source: simulated, hand."""
        sources = {row.key: row.made_by for row in self._rows.values()}
        return Counter(source for source in sources.values() if source in LABELS)

    def __repr__(self) -> str:
        return f"{format_title(self.name)} {self.status().said}"

    def status(self) -> BatchStatus:
        """Its status: over."""
        return build_finished_status(self._rows)

    def wait(self, poll_s: float = 30.0) -> Any:
        """Show its status, and return its results as a DataFrame, at once."""
        missed = sum(row.error_kind == "CassetteMiss" for row in self._rows.values())
        note = "; ".join(filter(None, (self.spec.which_model, format_unrecorded(missed))))
        progress = build_progress(self.name, repr(self), self.status(), note)
        self._context.show().update(progress)
        return self.results()

    def results(self, *, look: bool = True) -> Any:
        """Its results as a DataFrame."""
        given = self._given
        return build_results(
            self._rows.items(), given.wanted, given.rows, flatten=self.spec.flatten
        )

    def cancel(self) -> BatchStatus:
        """Its status: it is over."""
        return self.status()

    def delete(self, *, force: bool = False) -> str:
        """Forget it; the cassette stays as it is."""
        get_recorded_jobs(self._context.session).pop(self.digest, None)
        return ""

    def failed_rows(self, rows: Any = None) -> list[dict[str, Any]]:
        """The rows that have no valid answer, as they were given."""
        return [*self._rows_left(rows).values()]

    def _rows_left(self, rows: Any) -> dict[int, dict[str, Any]]:
        return find_unanswered_rows(self._rows, rows, self._given.rows, len(self._rows))

    def retry(self, rows: Any = None, **options: Any) -> Any:
        """Ask the rows that have no valid answer by `o3.map`, which may have recorded them."""
        given, context = self._given, self._context
        left = self._rows_left(rows)
        if left:
            with context.opened():
                table = map_rows(
                    context.session,
                    context.store,
                    [*left.values()],
                    given.prompt,
                    schema=given.wanted,
                    wish=MapOptions(name=f"{self.name or 'batch'}, once more"),
                    show=context.show(),
                    kind=ScoredTable,
                    **{**self.spec.options, **options},
                )
            for index, (row, _, _) in zip(left, table.rows, strict=True):
                if row is not None and row.state == "done":
                    self._rows[index] = row
        return self.results()


def get_recorded_jobs(session: Session) -> dict[str, RecordedBatch]:
    """The jobs that a session has built from its cassettes, by digest, in their order."""
    jobs: dict[str, RecordedBatch] = session.kept.setdefault("taped_batches", {})
    return jobs


def build_recorded_batch(
    context: BatchContext, spec: UploadSpec, given: BatchInput, written: WrittenParts, digest: str
) -> RecordedBatch:
    """The job of rows that are all on the cassette. The same call again has the same number."""
    rows = dict(written.recorded)
    for row in written.broken:
        rows[row.position] = RowOutcome(
            row.key, "failed", error=row.error, error_kind=row.error_kind
        )
    jobs = get_recorded_jobs(context.session)
    number = jobs[digest].id if digest in jobs else min([0, *(j.id for j in jobs.values())]) - 1
    jobs[digest] = RecordedBatch(context, number, spec, given, dict(sorted(rows.items())), digest)
    return jobs[digest]
