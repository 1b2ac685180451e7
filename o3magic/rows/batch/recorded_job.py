"""A batch that is on the cassette: complete at once, and the same as when it was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from o3magic.events import LABELS
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.parts import WrittenParts
from o3magic.rows.batch.results import build_results, rows_without_answer
from o3magic.rows.batch.status import (
    BatchStatus,
    build_finished_status,
    build_progress,
    format_title,
)
from o3magic.rows.batch.upload import UploadSpec
from o3magic.rows.map_job import MapOptions, map_rows, tape_of
from o3magic.rows.records import Job, RowOutcome, StoredRow
from o3magic.rows.replay import RowReplay, left_out
from o3magic.rows.sweep.rows import ScoredTable
from o3magic.schemas.lookup import AnswerType
from o3magic.session.session import Session

UNRECORDED = (
    "not recorded: a job that is opened again does not have its rows; the same o3.batch(...) puts "
    "its answers on the cassette"
)


@dataclass(frozen=True)
class BatchRecorder:
    """Where its answers are recorded. endings: rows that were on the cassette, by place."""

    replaying: RowReplay
    endings: Mapping[int, RowOutcome]


def explain_not_recorded(room: BatchContext) -> str:
    """What is said where a job that was opened again would be recorded, or ""."""
    tape = tape_of(room.session, room.session.layers.profile())
    return UNRECORDED if tape is not None and tape.records else ""


@dataclass(frozen=True)
class BatchInput:
    """What a call of `o3.batch` gave: name, prompt, the type of the answers, the rows."""

    name: str
    prompt: str
    wanted: AnswerType | None
    rows: Any


class RecordedBatch:
    """A job of `o3.batch` whose rows are on the cassette. It asks nobody, and is in no file.

    It has the methods of a job at the provider, which is over. digest: what it is the job of.
    """

    def __init__(
        self,
        room: BatchContext,
        number: int,
        spec: UploadSpec,
        given: BatchInput,
        rows: Mapping[int, RowOutcome],
        digest: str,
    ) -> None:
        self._room, self._number, self._given = room, number, given
        self.spec, self.digest = spec, digest
        self._rows: dict[int, StoredRow | RowOutcome] = dict(rows)

    @property
    def id(self) -> int:
        """Its number, below 0: the file of jobs does not have it."""
        return self._number

    @property
    def name(self) -> str:
        """The name it was given, or ""."""
        return self._given.name

    @property
    def batch_ids(self) -> list[str]:
        """None: no batch was made for it here."""
        return []

    @property
    def now(self) -> Job:
        """How it stands, as a job of the file is told."""
        states = Counter(row.state for row in {r.key: r for r in self._rows.values()}.values())
        return Job(
            id=self.id,
            digest=self.digest,
            kind="batch",
            name=self.name,
            state="replayed",
            created_ms=0,
            changed_ms=0,
            notebook=self._room.session.notebook,
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
        """How many of its rows no model answered, by who did: simulated, hand."""
        unique = {row.key: row.made_by for row in self._rows.values()}
        return Counter(by for by in unique.values() if by in LABELS)

    def __repr__(self) -> str:
        """One line."""
        return f"{format_title(self.name)} {self.status().said}"

    def status(self) -> BatchStatus:
        """How it stands: over."""
        return build_finished_status(self._rows)

    def wait(self, poll_s: float = 30.0) -> Any:
        """Its results, as a DataFrame. poll_s: nothing is waited for."""
        stands = self.status()
        missed = sum(row.error_kind == "CassetteMiss" for row in self._rows.values())
        note = "; ".join(filter(None, (self.spec.which_model, left_out(missed))))
        shown = build_progress(self.name, repr(self), stands, note)
        self._room.show().update(shown)
        return self.results()

    def results(self, *, look: bool = True) -> Any:
        """The same, and nothing is shown. look: there is nobody to look at."""
        given = self._given
        return build_results(
            self._rows.items(), given.wanted, given.rows, flatten=self.spec.flatten
        )

    def cancel(self) -> BatchStatus:
        """How it stands: what is over is not cancelled."""
        return self.status()

    def delete(self, *, force: bool = False) -> str:
        """Forget it; the cassette stays as it is. force: it runs nowhere."""
        taped_in(self._room.session).pop(self.digest, None)
        return ""

    def failed_rows(self, rows: Any = None) -> list[dict[str, Any]]:
        """The rows that have no answer, as they were given."""
        left = rows_without_answer(self._rows, rows, self._given.rows, len(self._rows))
        return [*left.values()]

    def retry(self, rows: Any = None, **options: Any) -> Any:
        """Ask the rows that have no answer by `o3.map`, which may have recorded them."""
        given, room = self._given, self._room
        left = rows_without_answer(self._rows, rows, given.rows, len(self._rows))
        if left:
            with room.opened():
                found = map_rows(
                    room.session,
                    room.store,
                    [*left.values()],
                    given.prompt,
                    schema=given.wanted,
                    wish=MapOptions(name=f"{self.name or 'batch'}, once more"),
                    show=room.show(),
                    kind=ScoredTable,
                    **{**self.spec.options, **options},
                )
            for place, (row, _, _) in zip(left, found.rows, strict=True):
                if row is not None and row.state == "done":
                    self._rows[place] = row
        return self.results()


def taped_in(session: Session) -> dict[str, RecordedBatch]:
    """The jobs that a session made from its cassettes, in their order, by what they are of."""
    kept: dict[str, RecordedBatch] = session.kept.setdefault("taped_batches", {})
    return kept


def build_recorded_batch(
    room: BatchContext, spec: UploadSpec, given: BatchInput, written: WrittenParts, digest: str
) -> RecordedBatch:
    """The job of rows that are all on the cassette. The same call again gives the same job."""
    rows = dict(written.taped)
    for draft in written.broken:
        error, kind = draft.error, draft.error_kind
        rows[draft.place] = RowOutcome(draft.key, "failed", error=error, error_kind=kind)
    known = taped_in(room.session)
    number = known[digest].id if digest in known else min([0, *(j.id for j in known.values())]) - 1
    known[digest] = RecordedBatch(room, number, spec, given, dict(sorted(rows.items())), digest)
    return known[digest]
