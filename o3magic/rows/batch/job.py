"""A job at the provider's Batch API: half the price, within a day, whether the kernel lives or not.

Everything that is needed to come back to it is in the file of jobs: its parts, the ids of their
batches and the keys of its rows. The prompts are not; they are at the provider, in the files that
were uploaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

from o3magic.client.retry import hopeful
from o3magic.errors import BadOption, Interrupted, NoKey, RequestFailed, RequestRefused
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.parts import is_broken
from o3magic.rows.batch.recorded_job import BatchRecorder, explain_not_recorded
from o3magic.rows.batch.results import ask_rows, build_results, rows_without_answer
from o3magic.rows.batch.status import (
    BatchStatus,
    build_finished_status,
    build_progress,
    build_status,
    format_title,
)
from o3magic.rows.batch.store import BatchPart, BatchStore
from o3magic.rows.batch.upload import Uploader, UploadSpec
from o3magic.rows.context import RowSums
from o3magic.rows.migrations import ANSWERED, CREATED, CREATING, ENDED, PLANNED, UPLOADED
from o3magic.rows.progress import NoProgress, ProgressDisplay
from o3magic.rows.records import Job, JobHandle, RowOutcome, StoredRow
from o3magic.schemas.lookup import AnswerType
from o3magic.schemas.stored_schema import StoredAnswerType
from o3magic.session.session import Session


class UnfinishedJob(Protocol):
    """What a job can be asked here; `BatchJob` says what each means."""

    @property
    def id(self) -> int: ...
    @property
    def spec(self) -> UploadSpec: ...
    def parts_in(self, *steps: str) -> Sequence[BatchPart]: ...
    def adopt(self) -> None: ...
    def status(self) -> BatchStatus: ...
    def cancel(self) -> BatchStatus: ...


def end_before_delete(job: UnfinishedJob, *, force: bool) -> str:
    """What is to be said of a job that may be forgotten now. Raises BadOption where it may not.

    force: it is cancelled at the provider, as far as that can be asked.
    """
    running = job.parts_in(CREATING, CREATED)
    if not running:
        return ""
    who, ids = job.spec.provider, ", ".join(part.batch_id for part in running if part.batch_id)
    try:
        job.adopt()
        if job.parts_in(CREATING):
            raise BadOption(
                f"another kernel is sending job {job.id} at this moment",
                hint="wait until it has, or stop it there",
            )
        job.status()
        if not job.parts_in(CREATED):
            return ""
        if not force:
            raise BadOption(
                f"job {job.id} still runs at {who}, where it would go on and be paid for",
                hint=f"%o3_jobs cancel {job.id} ends it; %o3_jobs delete {job.id} --force ends "
                "and forgets it",
            )
        job.cancel()
        if job.parts_in(CREATED):
            return f"{who} is cancelling it: what it answers until then is paid for"
        return f"it was cancelled at {who}"
    except (RequestFailed, NoKey) as error:
        where = f"its batch there is {ids}" if ids else "it may have been sent there"
        if not force:
            raise BadOption(
                f"job {job.id} may still run at {who}, which cannot be asked now: {error}",
                hint=f"again later; or cancel it on the provider's site ({where}), and then "
                f"%o3_jobs delete {job.id} --force",
            ) from None
        return f"{who} could not be asked ({error}): cancel it on its site, {where}"


FIRST_PAUSE = 8  # the first looks are closer together: what is refused is refused at once
GROWTH = 1.5
MOST_PAUSE_S = 600.0


def sent_here(session: Session) -> dict[int, BatchJob]:
    """The jobs that a session has sent or gone on with, by number: they still have their rows."""
    kept: dict[int, BatchJob] = session.kept.setdefault("sent_batches", {})
    return kept


class BatchJob(JobHandle):
    """A job of one or more batches. It survives the kernel: `o3.jobs()` lists it again.

    wanted: the type of the answers, where it is known; else they are checked against the JSON
    Schema they were asked with. given: the rows, where they are still here. taping: what it has to
    do with the notebook's cassette.
    """

    def __init__(
        self,
        room: BatchContext,
        job: Job,
        wanted: AnswerType | None = None,
        given: Any = None,
        prompt: str = "",
        taping: BatchRecorder | None = None,
    ) -> None:
        super().__init__(job)
        self._room = room
        self._known, self._given, self._prompt = wanted, given, prompt
        self._taping = taping
        self._store = BatchStore(room.store)
        self._made: Uploader | None = None
        self._show: ProgressDisplay = NoProgress()

    @property
    def batch_ids(self) -> list[str]:
        """The provider's own ids, to be looked up on its site."""
        with self._room.opened():
            return [part.batch_id for part in self._store.parts(self.id) if part.batch_id]

    @property
    def now(self) -> Job:
        """How it stands in the file of jobs."""
        with self._room.opened():
            return self._room.store.job(self.id)

    def __repr__(self) -> str:
        """One line, as it stood when it was last looked at; nobody is asked."""
        with self._room.opened():
            return self._words(self._status(self._store.parts(self.id)))

    @property
    def _title(self) -> str:
        return format_title(self.name, self.id)

    def _words(self, stands: BatchStatus) -> str:
        """Its title and how it stands."""
        lasting = self._taping is not None and stands.over
        return f"{format_title(self.name) if lasting else self._title} {stands.said}"

    @cached_property
    def spec(self) -> UploadSpec:
        """What its batches have in common."""
        return UploadSpec(**self._job.spec)

    def status(self) -> BatchStatus:
        """How it stands now; what is over is fetched and kept. Raises RequestFailed and NoKey."""
        with self._room.opened():
            return self._look()

    def wait(self, poll_s: float = 30.0) -> Any:
        """Wait until all of it is over, and give its results as a DataFrame.

        poll_s: seconds between two looks, once it has run for a while. An interrupt leaves the
        batch running. Raises RequestFailed where the provider says something that will not pass.
        """
        with self._room.opened():
            try:
                self._show = self._room.show()
                self.go_on()
                stands = self._wait(poll_s)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"{self._title} goes on at {self.spec.provider} without you",
                    hint=f"o3.job({self.id}).wait() comes back to it, .cancel() ends it",
                ) from None
            table, note = self._results()
            note = "; ".join(filter(None, (self.spec.which_model, note)))
            self._show.update(build_progress(self.name, self._words(stands), stands, note))
            return table

    def results(self, *, look: bool = True) -> Any:
        """What there is by now, as `wait` gives it; a row without an answer says why.

        look: False for what is kept here, without asking anybody.
        """
        with self._room.opened():
            stands = self._look() if look else self._status(self._store.parts(self.id))
            table, note = self._results()
            if note:
                self._room.show().update(
                    build_progress(self.name, self._words(stands), stands, note)
                )
            return table

    def cancel(self) -> BatchStatus:
        """Ask the provider to end it; rows that were answered are kept, and paid for."""
        with self._room.opened():
            self.adopt()
            for part in self._store.parts(self.id):
                if part.step == CREATED:
                    with suppress(RequestRefused):  # it is over meanwhile, which a look will tell
                        self._stands(part, self._sending.files.cancel(part.batch_id).status)
                elif part.step in (PLANNED, UPLOADED):
                    self._room.fetching(self._sending, self._wanted, None).never(part)
            return self._look()

    def delete(self, *, force: bool = False) -> str:
        """Forget it and its answers; gives what is to be said. What it cost stays in the ledger.

        Raises BadOption where it still runs at the provider. force: it is cancelled there, as far
        as the provider can be asked, and forgotten.
        """
        with self._room.opened():
            said = end_before_delete(self, force=force)
            self._room.store.delete(self.id)
            sent_here(self._room.session).pop(self.id, None)
        return said

    def failed_rows(self, rows: Any = None) -> list[dict[str, Any]]:
        """The rows that have no answer, as they were given.

        rows: those the job was made from; needed after a restart, for it keeps none.
        """
        with self._room.opened():
            self._job = self._room.store.job(self.id)
            left = rows_without_answer(self._rows(), rows, self._given, self._job.total)
            return [*left.values()]

    def retry(self, rows: Any = None, **options: Any) -> Any:
        """Ask the rows that have no answer once more, now and by `o3.map`; gives its results.

        rows: as for `failed_rows`. The other options are those of `o3.map`.
        """
        room, spec = self._room, self.spec
        left = self.failed_rows(rows)
        with room.opened():
            if left:
                said = {**spec.options, **({"schema": self._wanted} if self._wanted else {})}
                prompt = self._prompt or spec.template
                said |= {"name": f"{self.name or 'batch'} {self.id}, once more", **options}
                asked = ask_rows(room.session, room.store, left, prompt, said, room.show())
                self._store.adopt(self.id, asked)
            return self._results()[0]

    def send(self, parts: Sequence[tuple[BatchPart, Any]], hold: int | None) -> None:
        """Send parts that were just written."""
        self._sending.send(parts, hold)

    @cached_property
    def _wanted(self) -> AnswerType | None:
        """The type of the answers, or what is left of it."""
        spec = self.spec
        if self._known is not None or spec.answer is None:
            return self._known
        return StoredAnswerType(spec.schema, Any, spec.answer)

    def _wait(self, poll_s: float) -> BatchStatus:
        """Look until it is over, and show how it goes."""
        pause_s = min(poll_s / FIRST_PAUSE, poll_s)
        while True:
            try:
                stands = self._look()
            except RequestFailed as error:
                if not hopeful(error):
                    raise
                said = f"{self.spec.provider} does not answer ({error}); asking again"
                self._show.update(build_progress(self.name, f"{self._title} {said}"))
                pause_s = min(pause_s * 2, MOST_PAUSE_S)
            else:
                if stands.over:
                    return stands
                self._show.update(build_progress(self.name, self._words(stands), stands))
                pause_s = min(pause_s * GROWTH, poll_s)
            self._room.sleep(pause_s)

    def parts_in(self, *steps: str) -> list[BatchPart]:
        """Its parts that have come so far and no further, as the file of jobs has them."""
        return [part for part in self._store.parts(self.id) if part.step in steps]

    def adopt(self) -> None:
        """Look for batches that were made and never heard of. Raises RequestFailed and NoKey."""
        for part in self.parts_in(CREATING):
            self._sending.adopted(part)

    def go_on(self) -> None:
        """Make what a kernel that died, or that was interrupted, was about to make."""
        for part in self._store.parts(self.id):
            if part.step not in (CREATED, ENDED):
                self._sending.go_on(part)

    def _look(self) -> BatchStatus:
        """Ask how each part stands, and fetch those that are over."""
        for part in self._store.parts(self.id):
            if part.step != CREATED:
                continue
            state = self._sending.files.batch(part.batch_id)
            if state.over:
                fetching = self._room.fetching(self._sending, self._wanted, state.created_s)
                fetching.fetch(part, state)
            else:
                self._stands(part, state.status, state.completed or 0, state.failed or 0)
        stands = self._status(self._store.parts(self.id))
        word = "done" if stands.over else "running"
        self._room.store.change(self.id, state=word, said=stands.said)
        return stands

    def _stands(self, part: BatchPart, said: str, completed: int = 0, failed: int = 0) -> None:
        self._store.stands(part, said, completed, failed, "")

    def _status(self, parts: Sequence[BatchPart]) -> BatchStatus:
        store = self._room.store
        job = self._job = store.job(self.id)
        asked = self._store.asked_in(self.id)
        stands = build_status(
            [part for part in parts if part.part in asked],
            self.spec.provider,
            total=self._store.total(self.id),
            done=job.done_rows + job.invalid_rows,
            failed=job.failed_rows,
        )
        if self._taping is not None and stands.over:
            rows = self._rows()
            if all(row.state in ANSWERED or is_broken(at, row.key) for at, row in rows.items()):
                return build_finished_status(rows)
        simulated = store.simulated(self.id)
        sums = RowSums({"simulated": simulated} if simulated else {}, job.spent_nano_usd)
        sums.unknown = store.unknown(self.id) if stands.over else 0
        return stands.labelled(sums)

    def _rows(self) -> Mapping[int, StoredRow | RowOutcome]:
        """Its rows by their places, those that the cassette had too."""
        found: dict[int, StoredRow | RowOutcome] = {**dict(self._store.rows(self.id))}
        if self._taping is not None:
            found |= self._taping.endings
        return dict(sorted(found.items()))

    def _results(self) -> tuple[Any, str]:
        """The table, and what is to be said of the cassette."""
        rows = self._rows()
        if self._taping is not None:
            note = self._taping.replaying.keep(
                row for row in rows.values() if isinstance(row, StoredRow)
            )
        else:
            note = "" if self._given is not None else explain_not_recorded(self._room)
        table = build_results(rows.items(), self._wanted, self._given, flatten=self.spec.flatten)
        return table, note

    @property
    def _sending(self) -> Uploader:
        """Who sends its parts; made again where the session was closed meanwhile."""
        if self._made is None or self._made.files.client is not self._room.session.client:
            self._made = self._room.sending(self.spec)
        return self._made
