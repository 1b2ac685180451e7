"""A job of `o3.map` as it is kept: shown, gone on with, forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from o3magic.cost.store import MEMORY
from o3magic.errors import BadOption
from o3magic.jobs.mapping import Wish, map_rows
from o3magic.jobs.progress import Progress, Show
from o3magic.jobs.rows import Handle, Job
from o3magic.jobs.source import Source
from o3magic.jobs.store import JobStore, jobs_file
from o3magic.jobs.table import Table
from o3magic.schemas.lookup import AnswerType, resolve
from o3magic.talk.session import Session

KIND = "map"
MOST_SHOWN = 100_000
# What a later call must say again, for it to be the same job.
AGAIN = (
    *("model", "effort", "provider", "api", "developer", "max_output_tokens", "repairs"),
    *("verbosity", "param", "tier"),
)


def store_of(session: Session) -> JobStore:
    """The jobs of a session: those in memory last as long as it does, a file is to be closed."""
    path = jobs_file(session.environment)
    if path != MEMORY:
        return JobStore(path)
    kept: JobStore = session.kept.setdefault("jobs_in_memory", JobStore(MEMORY))
    return kept


@contextmanager
def jobs_of(session: Session) -> Iterator[JobStore]:
    """The same for one piece of work, behind which a file is let go of."""
    store = store_of(session)
    try:
        yield store
    finally:
        let_go(store)


def let_go(store: JobStore) -> None:
    """Let go of a file of jobs; what is in memory stays."""
    if str(store.store.path) != MEMORY:
        store.close()


def map_in(session: Session, rows: Any, prompt: str, options: Mapping[str, Any], show: Show) -> Any:
    """What `o3.map` gives: `options` are those of a wish, of a profile, `schema` and `names`."""
    wish, rest = Wish.among(options)
    with jobs_of(session) as store:
        return map_rows(session, store, rows, prompt, wish=wish, show=show, **rest)


class MapJob(Handle):
    """A job of `o3.map`. `results()` is what there is so far, `resume(rows)` goes on with it."""

    def __init__(self, session: Session, store: JobStore, job: Job) -> None:
        super().__init__(job)
        self._session, self._store = session, store

    def __repr__(self) -> str:
        """One line."""
        job = self.now
        named = f" {job.name}" if job.name else ""
        return f"MapJob({job.id}{named}, {self.words()})"

    @property
    def now(self) -> Job:
        """How it stands."""
        return self._store.job(self._job.id)

    def words(self) -> str:
        """How it stands, in a line."""
        job, store = self.now, self._store
        over, failed = job.done_rows + job.invalid_rows, job.failed_rows
        shown = Progress(
            rows=over + failed,
            made_up={"simulated": store.simulated(job.id)},
            spent_nano_usd=job.spent_nano_usd,
            unknown=store.unknown(job.id),
        )
        of = f" of {job.total:,}" if job.total else ""
        said = [job.state, f"{over:,}{of} rows"]
        if errors := job.invalid_rows + failed:
            said.append(f"{errors:,} error{'s' * (errors != 1)}")
        said += [*shown.labels(), shown.money()]
        if job.lost_calls:
            said.append(f"{job.lost_calls:,} calls lost, their cost unknown")
        return " · ".join(said)

    def results(self, names: Mapping[str, Any] | None = None) -> Any:
        """The answers so far, in the order of their rows; identical rows are one here."""
        table = Table(self._wanted(names or {}), flatten=bool(self._job.spec.get("flatten")))
        for row in self._store.first(self._job.id, MOST_SHOWN):
            error = f"{row.error_kind}: {row.error}" if row.error else None
            table.add(row, error if row.paid or error else "not asked", charged=True)
        return table.result(Source(iter(()), ()))

    def resume(
        self,
        rows: Any,
        *,
        schema: Any = None,
        names: Mapping[str, Any] | None = None,
        show: Show | None = None,
        wish: Wish | None = None,
        **options: Any,
    ) -> Any:
        """Go on with these rows, as the call that began it did; gives its table.

        schema: the type of the answers, where it is not among `names`. Raises BadOption where
        that would be another job.
        """
        spec = self._job.spec
        said = {name: spec[name] for name in AGAIN if name in spec} | options
        flatten = bool(spec.get("flatten"))
        wish = replace(wish or Wish(), name=self._job.name, flatten=flatten)
        asked: dict[str, Any] = {"schema": schema or spec.get("schema") or None, "names": names}
        return map_rows(
            self._session,
            self._store,
            rows,
            str(spec["prompt"]),
            wish=wish,
            show=show,
            expected=self._job.digest,
            **asked,
            **said,
        )

    def delete(self) -> None:
        """Forget it and its answers; what it cost stays in the ledger."""
        self._store.delete(self._job.id)

    def _wanted(self, names: Mapping[str, Any]) -> AnswerType | None:
        schema = self._job.spec.get("schema")
        if not schema:
            return None
        try:
            return resolve(str(schema), names, self._session.schemas)
        except Exception:  # its class is not here any more: the columns are those of the answers
            return AnswerType(str(schema), dict)


def map_job(session: Session, store: JobStore, named: int | str) -> MapJob:
    """The map job of a number or a name. Raises BadOption."""
    job = store.job(named)
    if job.kind != KIND:
        raise BadOption(f"job {job.id} is a {job.kind}", hint="o3.job(...) gives it")
    return MapJob(session, store, job)


def map_jobs(session: Session, store: JobStore) -> list[MapJob]:
    """All map jobs, the last one first."""
    return [MapJob(session, store, job) for job in store.jobs(KIND)]
