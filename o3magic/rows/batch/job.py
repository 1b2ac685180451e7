"""A job at the provider's Batch API: half the price, within a day, with or without a kernel.

The job store has what is needed to return to it: its parts, the ids of their batches and the keys
of its rows. It does not have the prompts; those are in the files that were uploaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from o3magic.client.retry import is_retryable
from o3magic.errors import BadOption, Interrupted, NoKey, RequestFailed, RequestRefused
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.parts import is_broken
from o3magic.rows.batch.recorded_job import BatchRecorder, explain_not_recorded
from o3magic.rows.batch.results import ask_rows, build_results, find_unanswered_rows
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

FIRST_POLLS = 8  # the first wait is this part of poll_s: a batch that is refused is refused at once
POLL_GROWTH = 1.5
MAX_WAIT_S = 600.0


def get_sent_jobs(session: Session) -> dict[int, BatchJob]:
    """The jobs that a session has sent or resumed, by number: they still have their rows."""
    jobs: dict[int, BatchJob] = session.kept.setdefault("sent_batches", {})
    return jobs


class BatchJob(JobHandle):
    """A job of one or more batches. It outlives the kernel: `o3.jobs()` lists it again.

    wanted: the type of the answers, where it is known; else they are validated with the JSON Schema
    that was sent. given: the rows, where they are still here. recorder: the notebook's cassette.
    """

    def __init__(
        self,
        context: BatchContext,
        job: Job,
        wanted: AnswerType | None = None,
        given: Any = None,
        prompt: str = "",
        recorder: BatchRecorder | None = None,
    ) -> None:
        super().__init__(job)
        self._context = context
        self._known, self._given, self._prompt = wanted, given, prompt
        self._recorder = recorder
        self._store = BatchStore(context.store)
        self._last_uploader: Uploader | None = None
        self._show: ProgressDisplay = NoProgress()

    def __repr__(self) -> str:
        """Its title and its last known status; no request is sent."""
        with self._context.opened():
            return self._describe(self._build_status())

    @property
    def batch_ids(self) -> list[str]:
        """The provider's ids of its batches."""
        with self._context.opened():
            return [part.batch_id for part in self._store.parts(self.id) if part.batch_id]

    @property
    def now(self) -> Job:
        """Its current row in the job store."""
        with self._context.opened():
            return self._context.store.job(self.id)

    @cached_property
    def spec(self) -> UploadSpec:
        """What its batches share."""
        return UploadSpec(**self._job.spec)

    def status(self) -> BatchStatus:
        """Its status now; batches that are over are downloaded. Raises RequestFailed and NoKey."""
        with self._context.opened():
            return self._poll()

    def wait(self, poll_s: float = 30.0) -> Any:
        """Wait until all of it is over, and return its results as a DataFrame.

        poll_s: seconds between two status requests, once it has run for a while. An interrupt
        leaves the batch running. Raises RequestFailed for errors that a retry cannot solve.
        """
        with self._context.opened():
            try:
                self._show = self._context.show()
                self.resume()
                status = self._wait(poll_s)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"{format_title(self.name, self.id)} goes on at {self.spec.provider} "
                    "without you",
                    hint=f"o3.job({self.id}).wait() comes back to it, .cancel() ends it",
                ) from None
            table, note = self._build_results()
            note = "; ".join(filter(None, (self.spec.which_model, note)))
            self._show.update(build_progress(self.name, self._describe(status), status, note))
            return table

    def results(self, *, look: bool = True) -> Any:
        """The results so far, as `wait` returns them; a row without an answer has an error.

        look: False for the results that are stored here, without a request.
        """
        with self._context.opened():
            status = self._poll() if look else self._build_status()
            table, note = self._build_results()
            if note:
                progress = build_progress(self.name, self._describe(status), status, note)
                self._context.show().update(progress)
            return table

    def cancel(self) -> BatchStatus:
        """Ask the provider to cancel it; rows that were answered are kept, and paid for."""
        with self._context.opened():
            self._recover()
            for part in self._store.parts(self.id):
                if part.step == CREATED:
                    with suppress(
                        RequestRefused
                    ):  # it has ended meanwhile, which the poll will see
                        batch = self._sending.files.cancel(part.batch_id)
                        self._store.update_status(part, batch.status, 0, 0)
                elif part.step in (PLANNED, UPLOADED):
                    self._context.fetching(self._sending, self._wanted, None).abandon(part)
            return self._poll()

    def delete(self, *, force: bool = False) -> str:
        """Forget it and its answers. Returns a remark, or "". Its cost stays in the ledger.

        Raises BadOption where it still runs at the provider. force: it is cancelled there, as far
        as the provider can be reached, and forgotten.
        """
        with self._context.opened():
            remark = self._end(force=force)
            self._context.store.delete(self.id)
            get_sent_jobs(self._context.session).pop(self.id, None)
        return remark

    def _end(self, *, force: bool) -> str:
        """Check that no batch is running, or cancel it. Returns a remark. Raises BadOption."""
        running = self._parts_at(CREATING, CREATED)
        if not running:
            return ""
        provider = self.spec.provider
        try:
            self._recover()
            if self._parts_at(CREATING):
                raise BadOption(
                    f"another kernel is sending job {self.id} at this moment",
                    hint="wait until it has, or stop it there",
                )
            self._poll()
            if not self._parts_at(CREATED):
                return ""
            if not force:
                raise BadOption(
                    f"job {self.id} still runs at {provider}, where it would go on and be paid for",
                    hint=f"%o3_jobs cancel {self.id} ends it; %o3_jobs delete {self.id} --force "
                    "ends and forgets it",
                )
            self.cancel()
            if self._parts_at(CREATED):
                return f"{provider} is cancelling it: what it answers until then is paid for"
            return f"it was cancelled at {provider}"
        except (RequestFailed, NoKey) as error:
            ids = ", ".join(part.batch_id for part in running if part.batch_id)
            where = f"its batch there is {ids}" if ids else "it may have been sent there"
            if not force:
                raise BadOption(
                    f"job {self.id} may still run at {provider}, which cannot be asked now: "
                    f"{error}",
                    hint=f"again later; or cancel it on the provider's site ({where}), and then "
                    f"%o3_jobs delete {self.id} --force",
                ) from None
            return f"{provider} could not be asked ({error}): cancel it on its site, {where}"

    def failed_rows(self, rows: Any = None) -> list[dict[str, Any]]:
        """The rows that have no valid answer, as they were given.

        rows: those the job was made of; needed after a restart, because it does not store them.
        """
        with self._context.opened():
            self._job = self._context.store.job(self.id)
            left = find_unanswered_rows(self._rows(), rows, self._given, self._job.total)
            return [*left.values()]

    def retry(self, rows: Any = None, **options: Any) -> Any:
        """Ask the rows that have no valid answer again, by `o3.map`. Returns the results.

        rows: as for `failed_rows`. The other options are those of `o3.map`.
        """
        context, spec = self._context, self.spec
        left = self.failed_rows(rows)
        with context.opened():
            if left:
                schema = {"schema": self._wanted} if self._wanted else {}
                name = {"name": f"{self.name or 'batch'} {self.id}, once more"}
                map_options = {**spec.options, **schema, **name, **options}
                prompt, show = self._prompt or spec.template, context.show()
                other = ask_rows(context.session, context.store, left, prompt, map_options, show)
                self._store.copy_answers(self.id, other)
            return self._build_results()[0]

    def send(self, parts: Sequence[tuple[BatchPart, Any]], hold: int | None) -> None:
        """Upload parts that were just written, and create their batches."""
        self._sending.send(parts, hold)

    def resume(self) -> None:
        """Create the batches whose creation was interrupted, here or in a kernel that died."""
        for part in self._store.parts(self.id):
            if part.step not in (CREATED, ENDED):
                self._sending.resume(part)

    def _recover(self) -> None:
        """Look for batches that were created without a response. Raises RequestFailed and NoKey."""
        for part in self._parts_at(CREATING):
            self._sending.recover(part)

    def _parts_at(self, *steps: str) -> list[BatchPart]:
        return [part for part in self._store.parts(self.id) if part.step in steps]

    def _wait(self, poll_s: float) -> BatchStatus:
        """Poll and show the status until it is over."""
        wait_s = min(poll_s / FIRST_POLLS, poll_s)
        while True:
            try:
                status = self._poll()
            except RequestFailed as error:
                if not is_retryable(error):
                    raise
                message = f"{self.spec.provider} does not answer ({error}); asking again"
                title = format_title(self.name, self.id)
                self._show.update(build_progress(self.name, f"{title} {message}"))
                wait_s = min(wait_s * 2, MAX_WAIT_S)
            else:
                if status.over:
                    return status
                self._show.update(build_progress(self.name, self._describe(status), status))
                wait_s = min(wait_s * POLL_GROWTH, poll_s)
            self._context.sleep(wait_s)

    def _poll(self) -> BatchStatus:
        """Request the status of each batch, and download those that are over."""
        for part in self._parts_at(CREATED):
            state = self._sending.files.batch(part.batch_id)
            if state.over:
                created_s = state.created_s
                self._context.fetching(self._sending, self._wanted, created_s).fetch(part, state)
            else:
                completed, failed = state.completed or 0, state.failed or 0
                self._store.update_status(part, state.status, completed, failed)
        status = self._build_status()
        state_name = "done" if status.over else "running"
        self._context.store.change(self.id, state=state_name, said=status.said)
        return status

    def _build_status(self) -> BatchStatus:
        store = self._context.store
        job = self._job = store.job(self.id)
        latest = self._store.latest_parts(self.id)
        status = build_status(
            [part for part in self._store.parts(self.id) if part.part in latest],
            self.spec.provider,
            total=self._store.count_rows(self.id),
            done=job.done_rows + job.invalid_rows,
            failed=job.failed_rows,
        )
        if self._recorder is not None and status.over:
            rows = self._rows()
            if all(row.state in ANSWERED or is_broken(i, row.key) for i, row in rows.items()):
                return build_finished_status(rows)
        simulated = store.simulated(self.id)
        sums = RowSums({"simulated": simulated} if simulated else {}, job.spent_nano_usd)
        sums.unknown = store.unknown(self.id) if status.over else 0
        return status.add_labels(sums)

    def _describe(self, status: BatchStatus) -> str:
        """Its title and its status; without its number where that is stored in a notebook."""
        is_recorded = self._recorder is not None and status.over
        return f"{format_title(self.name, None if is_recorded else self.id)} {status.said}"

    def _rows(self) -> Mapping[int, StoredRow | RowOutcome]:
        """Its rows by index, those that were on the cassette included."""
        rows: dict[int, StoredRow | RowOutcome] = {**dict(self._store.rows(self.id))}
        if self._recorder is not None:
            rows |= self._recorder.outcomes
        return dict(sorted(rows.items()))

    def _build_results(self) -> tuple[Any, str]:
        """The table, and a note about the cassette."""
        rows = self._rows()
        if self._recorder is not None:
            stored = (row for row in rows.values() if isinstance(row, StoredRow))
            note = self._recorder.replay.keep(stored)
        else:
            note = "" if self._given is not None else explain_not_recorded(self._context)
        table = build_results(rows.items(), self._wanted, self._given, flatten=self.spec.flatten)
        return table, note

    @cached_property
    def _wanted(self) -> AnswerType | None:
        """The type of the answers, or its JSON Schema."""
        spec = self.spec
        if self._known is not None or spec.answer is None:
            return self._known
        return StoredAnswerType(spec.schema, Any, spec.answer)

    @property
    def _sending(self) -> Uploader:
        """Its uploader; a new one where the session was closed meanwhile."""
        client = self._context.session.client
        if self._last_uploader is None or self._last_uploader.files.client is not client:
            self._last_uploader = self._context.sending(self.spec)
        return self._last_uploader
