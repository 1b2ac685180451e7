"""A job at the provider's Batch API: half the price, within a day, whether the kernel lives or not.

Everything that is needed to come back to it is in the file of jobs: its parts, the ids of their
batches and the keys of its rows. The prompts are not; they are at the provider, in the files that
were uploaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from o3magic.client.files import Files
from o3magic.client.retry import hopeful
from o3magic.errors import Interrupted, RequestFailed
from o3magic.jobs.batch_check import KeptType
from o3magic.jobs.batch_fetch import Fetching
from o3magic.jobs.batch_read import Reading
from o3magic.jobs.batch_schema import CREATED, ENDED, PLANNED, UPLOADED
from o3magic.jobs.batch_send import Sending, Spec
from o3magic.jobs.batch_store import BatchStore, Part
from o3magic.jobs.batch_words import BatchProgress, Status, status
from o3magic.jobs.progress import Show, Silent
from o3magic.jobs.rows import Job
from o3magic.jobs.store import JobStore
from o3magic.messages import Api
from o3magic.schemas.lookup import AnswerType
from o3magic.talk.books import Place
from o3magic.talk.forecast import budgets_of
from o3magic.talk.session import Session

FIRST_PAUSE = 8  # the first looks are closer together: what is refused is refused at once
GROWTH = 1.5
MOST_PAUSE_S = 600.0


@dataclass(frozen=True)
class Room:
    """Where a job is worked on: whose settings and books, which file of jobs.

    close_after: nobody else uses the session; it is opened again when it is needed.
    show: makes the place where a wait is shown.
    """

    session: Session
    store: JobStore
    close_after: bool = False
    sleep: Callable[[float], None] = time.sleep
    show: Callable[[], Show] = Silent

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Work that may open connections, and closes them where they are its own."""
        try:
            yield
        finally:
            if self.close_after:
                self.session.close()
                self.store.close()


class BatchJob:
    """A job of one or more batches. It survives the kernel: `o3.jobs()` lists it again.

    wanted: the type of the answers, where it is known; else they are checked against the JSON
    Schema they were asked with. given: the rows, where they are still here.
    """

    def __init__(
        self,
        room: Room,
        job: Job,
        wanted: AnswerType | None = None,
        given: Any = None,
        prompt: str = "",
    ) -> None:
        self._room, self._job = room, job
        self._known, self._given, self._prompt = wanted, given, prompt
        self._store = BatchStore(room.store)
        self._made: Sending | None = None
        self._show: Show = Silent()

    @property
    def id(self) -> int:
        """Its number in the file of jobs."""
        return self._job.id

    @property
    def name(self) -> str:
        """The name it was given, or ""."""
        return self._job.name

    @property
    def batch_ids(self) -> list[str]:
        """The provider's own ids, to be looked up on its site."""
        with self._room.opened():
            return [part.batch_id for part in self._store.parts(self.id) if part.batch_id]

    def __repr__(self) -> str:
        """One line, as it stood when it was last looked at; nobody is asked."""
        with self._room.opened():
            return f"{self._title} {self._status(self._store.parts(self.id)).said}"

    @property
    def _title(self) -> str:
        named = f" {self.name!r}" if self.name else ""
        return f"batch job {self.id}{named}"

    @cached_property
    def spec(self) -> Spec:
        """What its batches have in common."""
        return Spec(**self._job.spec)

    def status(self) -> Status:
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
                self._wait(poll_s)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"{self._title} goes on at {self.spec.provider} without you",
                    hint=f"o3.job({self.id}).wait() comes back to it, .cancel() ends it",
                ) from None
            return self._results()

    def results(self) -> Any:
        """What there is by now, as `wait` gives it; a row without an answer says why."""
        with self._room.opened():
            self._look()
            return self._results()

    def cancel(self) -> Status:
        """Ask the provider to end it; rows that were answered are kept, and paid for."""
        with self._room.opened():
            for part in map(self._sending.adopted, self._store.parts(self.id)):
                if part.step == CREATED:
                    self._stands(part, self._sending.files.cancel(part.batch_id).status)
                elif part.step in (PLANNED, UPLOADED):
                    self._fetching(None).never(part)
            return self._look()

    def failed_rows(self, rows: Any = None) -> list[dict[str, Any]]:
        """The rows that have no answer, as they were given.

        rows: those the job was made from; needed after a restart, for it keeps none.
        """
        from o3magic.jobs.batch_retry import rows_without_answer

        with self._room.opened():
            return rows_without_answer(self._store.rows(self.id), rows, self._given)

    def retry(self, rows: Any = None, **options: Any) -> Any:
        """Ask the rows that have no answer once more, now and by `o3.map`; gives its results.

        rows: as for `failed_rows`. The other options are those of `o3.map`.
        """
        from o3magic.jobs.batch_retry import ask_again

        room, spec = self._room, self.spec
        left = self.failed_rows(rows)
        with room.opened():
            if left:
                said = {**spec.options, **({"schema": self._wanted} if self._wanted else {})}
                prompt = self._prompt or spec.template
                said |= {"name": f"{self.name or 'batch'} {self.id}, once more", **options}
                asked = ask_again(room.session, room.store, left, prompt, said, room.show())
                self._store.adopt(self.id, asked)
            return self._results()

    def send(self, parts: Sequence[tuple[Part, Any]], hold: int | None) -> None:
        """Send parts that were just written."""
        self._sending.send(parts, hold)

    @cached_property
    def _wanted(self) -> AnswerType | None:
        """The type of the answers, or what is left of it."""
        spec = self.spec
        if self._known is not None or spec.answer is None:
            return self._known
        return KeptType(spec.schema, Any, spec.answer)

    def _wait(self, poll_s: float) -> None:
        pause_s = min(poll_s / FIRST_PAUSE, poll_s)
        while True:
            try:
                stands = self._look()
            except RequestFailed as error:
                if not hopeful(error):
                    raise
                self._tell(f"{self.spec.provider} does not answer ({error}); asking again")
                pause_s = min(pause_s * 2, MOST_PAUSE_S)
            else:
                self._tell(stands.said, stands)
                if stands.over:
                    return
                pause_s = min(pause_s * GROWTH, poll_s)
            self._room.sleep(pause_s)

    def _tell(self, said: str, stands: Status | None = None) -> None:
        """Show how it stands."""
        counts = (stands.total, stands.done, stands.failed) if stands else (0, 0, 0)
        total, done, failed = counts
        self._show.update(
            BatchProgress(
                name=self.name,
                total=total or None,
                rows=done + failed,
                errors=failed,
                over=stands is not None and stands.over,
                sentence=f"{self._title} {said}",
            )
        )

    def go_on(self) -> None:
        """Make what a kernel that died, or that was interrupted, was about to make."""
        for part in self._store.parts(self.id):
            if part.step not in (CREATED, ENDED):
                self._sending.go_on(part)

    def _look(self) -> Status:
        """Ask how each part stands, and fetch those that are over."""
        for part in self._store.parts(self.id):
            if part.step != CREATED:
                continue
            state = self._sending.files.batch(part.batch_id)
            if state.over:
                self._fetching(state.created_s).fetch(part, state)
            else:
                self._stands(part, state.status, state.completed or 0, state.failed or 0)
        stands = self._status(self._store.parts(self.id))
        word = "done" if stands.over else "running"
        self._room.store.change(self.id, state=word, said=stands.said)
        return stands

    def _stands(self, part: Part, said: str, completed: int = 0, failed: int = 0) -> None:
        self._store.stands(part, said, completed, failed, "")

    def _status(self, parts: Sequence[Part]) -> Status:
        self._job = self._room.store.job(self.id)
        job = self._job
        asked = self._store.asked_in(self.id)
        return status(
            [part for part in parts if part.part in asked],
            self.spec.provider,
            total=self._store.total(self.id),
            done=job.done_rows + job.invalid_rows,
            failed=job.failed_rows,
        )

    def _results(self) -> Any:
        from o3magic.jobs.batch_frame import results

        return results(
            self._store.rows(self.id), self._wanted, self._given, flatten=self.spec.flatten
        )

    @property
    def _sending(self) -> Sending:
        """Who sends its parts; made again where the session was closed meanwhile."""
        if self._made is None or self._made.files.client is not self._room.session.client:
            self._made = self._new_sending()
        return self._made

    def _new_sending(self) -> Sending:
        """The same with the key that is set now. Raises NoKey."""
        session, spec = self._room.session, self.spec
        profile = replace(session.layers.profile(), provider=spec.provider)
        provider = session.reach.provider(profile)
        files = Files(
            session.client,
            provider,
            session.reach.key(provider),
            retries=profile.retries,
            sleep=self._room.sleep,
        )
        place = Place(session.id, session.notebook, session.cell_key)
        free = provider.embedded or (provider.local and not provider.list_prices)
        budgets = [] if free else [each for each in budgets_of(profile) if each.scope != "call"]
        return Sending(self._store, files, session.keeping, place, spec, budgets, self._room.sleep)

    def _fetching(self, created_s: int | None) -> Fetching:
        spec, day = self.spec, datetime.now(UTC)
        if created_s is not None:
            day = datetime.fromtimestamp(created_s, UTC)
        api: Api = "chat" if spec.api == "chat" else "responses"
        reading = Reading(
            api,
            spec.model,
            self._sending.files.provider,
            self._room.session.catalog,
            self._wanted,
            day.date(),
        )
        return Fetching(self._sending, reading)
