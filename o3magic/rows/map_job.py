"""`o3.map`: one prompt over many rows, from the arguments to the table of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from o3magic.cassettes.scrub import scrub_text
from o3magic.cost.database import MEMORY
from o3magic.cost.entries import Outcome
from o3magic.errors import BadOption, EmptyPrompt, Interrupted, NoKey, O3Error, OverBudget
from o3magic.events import Usage
from o3magic.money import show_usd
from o3magic.redaction import redact
from o3magic.rows.context import RowSums, RunOptions, Stores
from o3magic.rows.progress import JobProgress, NoProgress, ProgressDisplay
from o3magic.rows.rate_limiter import MAX_OUTAGE_S
from o3magic.rows.records import Job, JobHandle, StoredRow
from o3magic.rows.replay import RowReplay
from o3magic.rows.results import ResultTable, fill_table, read_stored_rows
from o3magic.rows.row_template import PLACEHOLDER, PromptTemplate, RequestTemplate
from o3magic.rows.runner import RowRunner, RunInput
from o3magic.rows.sources import RowSource, read_source
from o3magic.rows.store import JobStore, jobs_file
from o3magic.schemas.lookup import AnswerType, answer_type, resolve_answer_type
from o3magic.session.estimate import to_nano_usd
from o3magic.session.prompt_input import load_prompt_file
from o3magic.session.session import Session
from o3magic.session.spending import LedgerContext, find_budgets, unknown_price_error
from o3magic.settings import Settings

KIND = "map"
POLL_S = 0.1
MAX_CONCURRENCY = 1024
MAX_RESULT_ROWS = 100_000
UNSUPPORTED_OPTIONS = ("conversation", "tools", "background", "compare", "dry_run")
SPEC_OPTIONS = (
    *("model", "effort", "schema", "provider", "api", "developer", "max_output_tokens", "repairs"),
    *("verbosity", "param", "tier"),
)
# Options that a resumed call repeats, so that it is the same job.
RESUME_OPTIONS = tuple(name for name in SPEC_OPTIONS if name != "schema")
OnError = Literal["keep", "raise"]

# Builds the runner of a job: `RowRunner` for this process, or that of a cluster.
RunnerFactory = Callable[[RunInput, Stores], RowRunner]


@dataclass(frozen=True)
class MapOptions:
    """Options of `o3.map` besides the settings. concurrency: None for that of the settings."""

    concurrency: int | None = None
    budget: Any = None
    on_error: str = "keep"
    name: str = ""
    flatten: bool = False
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    most_down_s: float = MAX_OUTAGE_S
    rows_name: str = ""

    @classmethod
    def among(cls, options: Mapping[str, Any]) -> tuple[MapOptions, dict[str, Any]]:
        """Split options into those of this class and the rest."""
        own = {field.name for field in fields(cls)}
        wish = cls(**{name: value for name, value in options.items() if name in own})
        return wish, {name: value for name, value in options.items() if name not in own}

    def checked(self) -> MapOptions:
        """Check the values and return self. Raises BadOption."""
        width = 1 if self.concurrency is None else self.concurrency
        if not isinstance(width, int) or not 1 <= width <= MAX_CONCURRENCY:
            raise BadOption(f"concurrency={self.concurrency}: from 1 to {MAX_CONCURRENCY:,}")
        if self.on_error not in get_args(OnError):
            raise BadOption(f"on_error={self.on_error!r}: keep or raise")
        for name in ("requests_per_min", "tokens_per_min"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise BadOption(f"{name}={limit}: more than 0")
        return self

    @property
    def budget_nano_usd(self) -> int | None:
        """The budget of the job in nano-dollars, or None. Raises BadOption."""
        if self.budget is None:
            return None
        try:
            limit = Decimal(str(self.budget))
        except InvalidOperation:
            limit = Decimal("nan")
        if not (limit.is_finite() and 0 <= limit <= 1_000_000):
            raise BadOption(f"budget={self.budget}: US dollars, from 0 to 1,000,000")
        return to_nano_usd(limit)


def map_with_session(
    session: Session, rows: Any, prompt: str, options: Mapping[str, Any], show: ProgressDisplay
) -> Any:
    """Run `o3.map` in a session. options: those of MapOptions, settings, `schema` and `names`."""
    wish, rest = MapOptions.among(options)
    with use_job_store(session) as store:
        return map_rows(session, store, rows, prompt, wish=wish, show=show, **rest)


def map_rows(
    session: Session,
    store: JobStore,
    rows: Any,
    prompt: str,
    /,
    *,
    schema: Any = None,
    names: Mapping[str, Any] | None = None,
    wish: MapOptions | None = None,
    show: ProgressDisplay | None = None,
    expected: str = "",
    kind: Any = ResultTable,
    runs: Callable[[], RunnerFactory] | None = None,
    **options: Any,
) -> Any:
    """Send a prompt for each row; return the table of answers, in the order of the rows.

    expected: the digest that the job must have. kind: the class of the table. runs: returns the
    factory of another runner than that of this process; not called where a cassette has all rows.
    Raises TemplateError, BadOption and the errors of a plan before anything is sent; OverBudget
    where no row fits; Interrupted, and the error that stopped the job, with the table so far in
    `.answer`.
    """
    wish = (wish or MapOptions()).checked()
    ready = prepare_job(
        session, store, read_source(rows), prompt, schema, names, wish, options, expected, runs
    )
    shown = NoProgress() if show is None else show
    try:
        return MapRun(session, ready, shown).table(kind, flatten=wish.flatten)
    finally:
        if ready.store is not store:
            ready.store.close()


class PreparedJob(NamedTuple):
    """A job that is ready to run. text: the prompt with the text of `--file`."""

    store: JobStore
    work: RunInput
    runs: RunnerFactory
    text: str


def prepare_job(
    session: Session,
    store: JobStore,
    source: RowSource,
    prompt: str,
    schema: Any,
    names: Mapping[str, Any] | None,
    wish: MapOptions,
    options: Mapping[str, Any],
    expected: str = "",
    runs: Callable[[], RunnerFactory] | None = None,
) -> PreparedJob:
    """Check the input and create the job. Raises the errors of `map_rows` before a request."""
    profile, wanted = resolve_settings(session, schema, names, options)
    folder = notebook_folder(session, profile)
    text = load_prompt_file(prompt, profile.file, folder) if profile.file else prompt
    filling = build_prompt_template(text, source, profile, folder)
    if source.columns:
        source = check_columns(source, filling)
    form = build_request_template(
        session, replace(profile, file=""), wanted, keyless=runs is not None
    )
    budget = wish.budget_nano_usd
    if not form.priced and not form.free and (budget is not None or find_budgets(form.plan)):
        raise unknown_price_error(form.plan)
    replaying, tape = None, open_cassette(session, profile, can_ask=runs is not None)
    if tape is not None:
        replaying = RowReplay(form, tape)
        if tape.mode == "replay":
            store = JobStore(":memory:")  # rows of a cassette belong to no job in the file
            runs = None
    if runs is not None and form.plan.call.provider.managed:
        raise BadOption(
            "a model that is started on this machine cannot be asked by a cluster",
            hint="leave client= out, or name a provider that every worker can reach",
        )
    who = RowRunner if runs is None else runs()
    digest = compute_digest(form, text, wish, profile)
    if expected not in ("", digest):
        raise BadOption(
            "that would be another job: its prompt, schema, model or provider is not the same",
            hint="make the call that began it again",
        )
    job = store.begin(
        "map",
        digest,
        name=wish.name,
        spec=build_spec(profile, text, wish, wanted),
        notebook=session.notebook,
        provider=form.plan.call.provider.name,
        model=form.plan.call.request.model,
    )
    chosen = build_run_options(wish, source, form, profile)
    work = RunInput(job, form, source, filling, chosen, replaying, session.reach)
    return PreparedJob(store, work, who, text)


def resolve_settings(
    session: Session, schema: Any, names: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> tuple[Settings, AnswerType | None]:
    """Build the settings of all rows and the type of their answers. Raises BadOption."""
    chosen = dict(options)
    wanted: AnswerType | None = None
    if isinstance(schema, str):
        chosen["schema"] = schema
    elif schema is not None:
        wanted = answer_type(schema)
        chosen["schema"] = wanted.name
    profile = session.layers.profile(chosen)
    if wanted is None and profile.schema:
        wanted = resolve_answer_type(profile.schema, names or {}, session.schemas)
    for name in UNSUPPORTED_OPTIONS:
        if getattr(profile, name):
            raise BadOption(f"rows cannot be mapped with {name}", hint="leave it out")
    return profile, wanted


def notebook_folder(session: Session, profile: Settings) -> Path:
    """Return the folder of the notebook."""
    return session.folder(profile)


def build_prompt_template(
    text: str, source: RowSource, profile: Settings, folder: Path
) -> PromptTemplate:
    """Parse the prompt. Raises TemplateError and EmptyPrompt."""
    if not text.strip():
        raise EmptyPrompt("there is no prompt")
    if not profile.template:
        return PromptTemplate.plain(text, folder)
    return PromptTemplate(text, source.columns, folder)


def check_columns(source: RowSource, filling: PromptTemplate) -> RowSource:
    """Check the columns of the first row; return the whole source. Raises TemplateError."""
    first = next(source.rows, None)
    if first is None:
        return source
    filling.check(first)

    def all_rows() -> Any:
        yield first
        yield from source.rows

    return replace(source, rows=all_rows())


def build_request_template(
    session: Session, profile: Settings, wanted: AnswerType | None, *, keyless: bool = False
) -> RequestTemplate:
    """Plan the request that all rows share. Raises the errors of a plan.

    keyless: no API key is needed here, as the workers have their own.
    """
    try:
        return RequestTemplate(session.plan(PLACEHOLDER, profile, None, wanted))
    except NoKey:
        if not keyless:
            raise
        planned = session.plan(
            PLACEHOLDER, replace(profile, dry_run=True, exact=False), None, wanted
        )
        return RequestTemplate(replace(planned, profile=profile))


def open_cassette(session: Session, profile: Settings, *, can_ask: bool = False) -> Any:
    """Open the cassette of the notebook, or return None where none is used.

    can_ask: True where it is known that requests can be sent.
    """
    can_ask = can_ask or session.reach.can_ask(profile)
    mode = session.decks.mode(profile, session.notebook, can_ask=can_ask)
    return session.decks.tape(profile, session.notebook, mode)


def compute_digest(form: RequestTemplate, text: str, wish: MapOptions, profile: Settings) -> str:
    """Hash what identifies a job: name, provider, request and prompt, but not the rows."""
    provider = form.plan.call.provider
    host = "" if provider.embedded else provider.host
    parts = [wish.name, provider.name, host, form.digest, text, str(profile.template)]
    if not form.plan.choice.named:  # a later default model is another job
        parts.append(form.plan.choice.model)
    return sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:24]


def build_spec(
    profile: Settings, text: str, wish: MapOptions, wanted: AnswerType | None
) -> dict[str, Any]:
    """Build the stored description of a job, without secrets."""
    spec = {name: getattr(profile, name) for name in SPEC_OPTIONS}
    spec = {name: value for name, value in spec.items() if value not in (None, "")}
    spec = {n: scrub_text(v) if isinstance(v, str) else v for n, v in spec.items()}
    spec |= {"prompt": scrub_text(text), "rows": wish.rows_name, "flatten": wish.flatten}
    if profile.base_url:
        spec["base_url"] = redact(profile.base_url)
    if wanted is not None:
        spec["answer"] = wanted.schema
    return spec


def build_run_options(
    wish: MapOptions, source: RowSource, form: RequestTemplate, profile: Settings
) -> RunOptions:
    width = wish.concurrency or profile.concurrency
    return RunOptions(
        width=min(width, max(1, source.total or width)),
        budget_nano_usd=None if form.free else wish.budget_nano_usd,
        budgets=tuple(find_budgets(form.plan)),
        stop_at_error=wish.on_error == "raise",
        requests_per_min=wish.requests_per_min,
        tokens_per_min=wish.tokens_per_min,
        most_down_s=wish.most_down_s,
        system_certificates=profile.certificates == "system",
    )


class MapRun:
    """One run of a job: runner, progress, cassette, final state and table."""

    def __init__(self, session: Session, ready: PreparedJob, show: ProgressDisplay) -> None:
        self._session, self._show = session, show
        self._store, work, runs, _ = ready
        self._job, self._source, self._replaying = work.job, work.source, work.replaying
        self._ledgers = open_stores(session, self._store, work.chosen)
        self._run = runs(work, self._ledgers)

    def table(self, kind: type[ResultTable] = ResultTable, *, flatten: bool) -> Any:
        """Run the job and return its table. Raises the errors of `map_rows`."""
        settle_dead_calls(self._session, self._store, self._job)
        lost_before = self._job.lost_calls
        self._store.change(self._job.id, state="running")
        interrupted = False
        try:
            interrupted = self._wait()
        finally:
            if self._ledgers.hold is not None:
                self._session.keeping.release(self._ledgers.hold)
            self._store.release(self._job.id, self._run.id)
        run = self._run
        if run.failed is not None:
            raise run.failed
        why = run.halt.why if run.halt else ""
        if self._source.total is not None or why == "budget":
            run.drain()
        empty, sums = kind(run.form.plan.answer_type, flatten=flatten), RowSums()
        table = fill_table(run, self._store, empty, sums)
        lost = self._store.job(self._job.id).lost_calls - lost_before
        message = self._finish(lost)
        result = table.result(self._source)
        if isinstance(getattr(result, "attrs", None), dict):
            result.attrs["o3magic"] = self._build_summary(message)
        self._show.update(self._build_last_progress(table.errors, message, sums))
        if interrupted or why == "interrupted":
            raise Interrupted(
                f"stopped by you: {self._format_count()}",
                hint="the same call goes on from there; the rows so far are in .answer",
                answer=result,
            )
        if run.halt and why in ("error", "failed"):
            error = run.halt.error or O3Error("the job stopped")
            if isinstance(error, O3Error):
                error.answer = result
            raise error
        if why == "budget" and run.halt and not run.tally.asked and not run.tally.before:
            raise run.halt.error or OverBudget(
                "not sent: not one row fits into the budget",
                hint="a larger budget=, or a lower max_output_tokens=",
            )
        return result

    def _build_last_progress(self, errors: int, message: str, sums: RowSums) -> JobProgress:
        """Build the final progress; with a cassette it is the same when it is replayed."""
        last = replace(
            self._run.progress, over=True, errors=errors, said=message, made_up=sums.made_up
        )
        if self._replaying is None:
            return last
        cost, unknown = sums.cost_nano_usd, sums.unknown
        return replace(last, taped=True, spent_nano_usd=cost, unknown=unknown)

    def _wait(self) -> bool:
        """Run and show the progress; return whether it was interrupted."""
        run = self._run
        try:
            self._start()
            while not run.done.wait(POLL_S):
                self._show.update(run.progress)
        except KeyboardInterrupt:
            run.stop()
            run.done.wait()  # GRACE_S at most; a second interrupt returns at once
            return True
        return False

    def _start(self) -> None:
        """Start the run. A replay needs no thread, so that it works in Pyodide too."""
        try:
            self._run.start()
        except RuntimeError:
            if self._replaying is None or self._replaying.cassette.mode != "replay":
                raise
            self._run.replay()

    def _finish(self, lost: int) -> str:
        """Record the answers, save the state of the job, and return the message about its end."""
        run, messages = self._run, []
        choice = run.form.plan.choice
        if choice.reason:  # the same in a recording and its replay
            messages.append(f"asked {choice.model}, {choice.reason}")
        if self._replaying is not None:
            if run.desk is not None:
                self._replaying.enter(self._session.keeping, run.desk)
            messages.append(self._replaying.keep(read_stored_rows(run, self._store)))
        why = run.halt.why if run.halt else ""
        if why == "budget":
            error = f": {run.halt.error}" if run.halt and run.halt.error else ""
            messages.append(f"stopped by a budget{error}; rows that were not asked say so")
        if lost:
            calls = "1 call was" if lost == 1 else f"{lost:,} calls were"
            messages.append(
                f"{calls} on their way when a {run.mortal} died: their cost is unknown, and "
                "their rows were asked again"
            )
        if trouble := self._session.keeping.news():
            messages.append(trouble)
        text = "; ".join(filter(None, messages))
        state = "stopped" if why else "done"
        self._store.change(self._job.id, state=state, total=len(run.tally.keys), said=text)
        return text

    def _format_count(self) -> str:
        progress = self._run.progress
        of = f" of {progress.total:,}" if progress.total is not None else ""
        return f"{progress.rows:,}{of} rows are done"

    def _build_summary(self, message: str) -> dict[str, Any]:
        """Build the description of the run for `DataFrame.attrs`."""
        progress = self._run.progress
        return {
            "job": self._job.id,
            "asked": progress.asked,
            "before": progress.before,
            "spent_usd": show_usd(progress.spent_nano_usd),
            "said": message,
        }


def open_stores(session: Session, store: JobStore, chosen: RunOptions) -> Stores:
    """Open the databases of a run. Raises OverBudget and LedgerUnavailable."""
    place = LedgerContext(session.id, session.notebook, session.cell_key)
    ledgers = Stores(store, session.keeping, place)
    if chosen.budgets:
        # Reserves nothing itself: the budgets are checked at each call.
        ledgers.hold = session.keeping.hold(0, chosen.budgets, session.id, session.notebook)
    return ledgers


def settle_dead_calls(session: Session, store: JobStore, job: Job) -> None:
    """Settle calls of kernels that died between saving an answer and settling its call."""
    for owner, entry, row in store.unsettled_rows(job.id):
        session.ledger.settle_for(owner, [(entry, build_outcome(row))])
        store.end(job.id, "", (), [row.key])


def build_outcome(row: StoredRow) -> Outcome:
    """Build the ledger outcome of the last call of a stored row."""
    content = row.said
    last = content.get("last")
    usage = Usage(row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens)
    cost = row.cost_nano_usd
    if last:
        usage, cost = Usage(*last[:4]), last[4]
    return Outcome(
        status="ok" if content.get("finish") == "stop" else content.get("finish", "error"),
        usage=usage,
        cost_nano_usd=cost,
        model_served=content.get("model", ""),
        service_tier=content.get("tier", ""),
        response_id=content.get("id", ""),
        elapsed_s=content.get("elapsed_ms", 0) / 1000,
        source=row.source or None,  # type: ignore[arg-type]
        error=row.error_kind,
    )


class MapJob(JobHandle):
    """A job of `o3.map`: `results()` are the answers so far, `resume(rows)` continues it."""

    def __init__(self, session: Session, store: JobStore, job: Job) -> None:
        super().__init__(job)
        self._session, self._store = session, store

    def __repr__(self) -> str:
        job = self.now
        named = f" {job.name}" if job.name else ""
        return f"MapJob({job.id}{named}, {self.words()})"

    @property
    def now(self) -> Job:
        """The job as it is stored now."""
        return self._store.job(self._job.id)

    def words(self) -> str:
        """Format state, rows, errors and cost on one line."""
        job, store = self.now, self._store
        answered, failed = job.done_rows + job.invalid_rows, job.failed_rows
        progress = JobProgress(
            rows=answered + failed,
            made_up={"simulated": store.simulated(job.id)},
            spent_nano_usd=job.spent_nano_usd,
            unknown=store.unknown(job.id),
        )
        of = f" of {job.total:,}" if job.total else ""
        parts = [job.state, f"{answered:,}{of} rows"]
        if errors := job.invalid_rows + failed:
            parts.append(f"{errors:,} error{'s' * (errors != 1)}")
        parts += [*progress.labels(), progress.money()]
        if job.lost_calls:
            parts.append(f"{job.lost_calls:,} calls lost, their cost unknown")
        return " · ".join(parts)

    def results(self, names: Mapping[str, Any] | None = None) -> Any:
        """Return the answers so far, in the order of the rows; identical rows appear once."""
        table = ResultTable(
            self._resolve_type(names or {}), flatten=bool(self._job.spec.get("flatten"))
        )
        for row in self._store.first(self._job.id, MAX_RESULT_ROWS):
            error = f"{row.error_kind}: {row.error}" if row.error else None
            table.add(row, error if row.paid or error else "not asked", charged=True)
        return table.result(RowSource(iter(()), ()))

    def resume(
        self,
        rows: Any,
        *,
        schema: Any = None,
        names: Mapping[str, Any] | None = None,
        show: ProgressDisplay | None = None,
        wish: MapOptions | None = None,
        **options: Any,
    ) -> Any:
        """Continue the job with these rows and its own options; return the table.

        schema: the type of the answers, where it is not among `names`. Raises BadOption where
        the options make another job.
        """
        spec = self._job.spec
        repeated = {name: spec[name] for name in RESUME_OPTIONS if name in spec} | options
        flatten = bool(spec.get("flatten"))
        wish = replace(wish or MapOptions(), name=self._job.name, flatten=flatten)
        return map_rows(
            self._session,
            self._store,
            rows,
            str(spec["prompt"]),
            wish=wish,
            show=show,
            expected=self._job.digest,
            schema=schema or spec.get("schema") or None,
            names=names,
            **repeated,
        )

    def delete(self) -> None:
        """Delete the job and its answers; its costs stay in the ledger."""
        self._store.delete(self._job.id)

    def _resolve_type(self, names: Mapping[str, Any]) -> AnswerType | None:
        schema = self._job.spec.get("schema")
        if not schema:
            return None
        try:
            return resolve_answer_type(str(schema), names, self._session.schemas)
        except Exception:  # the class is gone: take the columns from the answers
            return AnswerType(str(schema), dict)


def find_map_job(session: Session, store: JobStore, named: int | str) -> MapJob:
    """Return the map job of a number or a name. Raises BadOption."""
    job = store.job(named)
    if job.kind != KIND:
        raise BadOption(f"job {job.id} is a {job.kind}", hint="o3.job(...) gives it")
    return MapJob(session, store, job)


def list_map_jobs(session: Session, store: JobStore) -> list[MapJob]:
    """Return all map jobs, the latest first."""
    return [MapJob(session, store, job) for job in store.jobs(KIND)]


def open_job_store(session: Session) -> JobStore:
    """Open the job store of a session; a store in memory lives as long as the session."""
    path = jobs_file(session.environment)
    if path != MEMORY:
        return JobStore(path)
    in_memory: JobStore = session.kept.setdefault("jobs_in_memory", JobStore(MEMORY))
    return in_memory


@contextmanager
def use_job_store(session: Session) -> Iterator[JobStore]:
    """Open the job store of a session for a with block."""
    store = open_job_store(session)
    try:
        yield store
    finally:
        close_job_store(store)


def close_job_store(store: JobStore) -> None:
    """Close a file of jobs; a store in memory stays open."""
    if str(store.store.path) != MEMORY:
        store.close()
