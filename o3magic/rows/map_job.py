"""One prompt over many rows: `o3.map`, from what the user gives to the table that comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from o3magic.cassettes.scrub import scrubbed
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
from o3magic.rows.sources import RowSource, source_of
from o3magic.rows.store import JobStore, jobs_file
from o3magic.schemas.lookup import AnswerType, answer_type, resolve
from o3magic.session.estimate import nano
from o3magic.session.prompt_input import with_file
from o3magic.session.session import Session
from o3magic.session.spending import LedgerContext, counted_budgets, unknown_price
from o3magic.settings import Settings

LOOK_S = 0.1


# Who asks the rows of a job: `Run`, in this process, or another.
RunnerFactory = Callable[[RunInput, Stores], RowRunner]


class PreparedJob(NamedTuple):
    """A job whose rows may be asked now. text: the prompt, a file's text in it."""

    store: JobStore
    work: RunInput
    runs: RunnerFactory
    text: str


class MapRun:
    """One run of a job with all that is done before and after it."""

    def __init__(self, session: Session, ready: PreparedJob, show: ProgressDisplay) -> None:
        self._session, self._show = session, show
        self._store, work, runs, _ = ready
        self._job, self._source, self._replaying = work.job, work.source, work.replaying
        self._ledgers = ledgers_of(session, self._store, work.chosen)
        self._run = runs(work, self._ledgers)

    def table(self, kind: type[ResultTable] = ResultTable, *, flatten: bool) -> Any:
        """Run it to its end, and give its table. Raises as `map_rows` does."""
        settle_the_dead(self._session, self._store, self._job)
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
        made = fill_table(run, self._store, empty, sums)
        lost = self._store.job(self._job.id).lost_calls - lost_before
        said = self._ended(made.errors, lost)
        result = made.result(self._source)
        if isinstance(getattr(result, "attrs", None), dict):
            result.attrs["o3magic"] = self._summary(said)
        self._show.update(self._last(made.errors, said, sums))
        if interrupted or why == "interrupted":
            raise Interrupted(
                f"stopped by you: {self._count()}",
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

    def _last(self, errors: int, said: str, sums: RowSums) -> JobProgress:
        """How it ended. With a cassette it is a function of the answers: a replay says the same."""
        last = replace(
            self._run.progress, over=True, errors=errors, said=said, made_up=sums.made_up
        )
        if self._replaying is None:
            return last
        cost, unknown = sums.cost_nano_usd, sums.unknown
        return replace(last, taped=True, spent_nano_usd=cost, unknown=unknown)

    def _wait(self) -> bool:
        """Wait for the run, and show it; gives whether it was interrupted."""
        run = self._run
        try:
            self._start()
            while not run.done.wait(LOOK_S):
                self._show.update(run.progress)
        except KeyboardInterrupt:
            run.stop()
            run.done.wait()  # seconds at most; a second interrupt leaves at once
            return True
        return False

    def _start(self) -> None:
        """Begin the run. What is only looked up needs no thread: a browser has none to give."""
        try:
            self._run.start()
        except RuntimeError:
            if self._replaying is None or self._replaying.cassette.mode != "replay":
                raise
            self._run.replay()

    def _ended(self, errors: int, lost: int) -> str:
        """Keep how it ended; what is said of it."""
        run, said = self._run, []
        choice = run.form.plan.choice
        if choice.reason:  # the same when it is recorded and when it is replayed
            said.append(f"asked {choice.model}, {choice.reason}")
        if self._replaying is not None:
            if run.desk is not None:
                self._replaying.enter(self._session.keeping, run.desk)
            said.append(self._replaying.keep(read_stored_rows(run, self._store)))
        why = run.halt.why if run.halt else ""
        if why == "budget":
            which = f": {run.halt.error}" if run.halt and run.halt.error else ""
            said.append(f"stopped by a budget{which}; rows that were not asked say so")
        if lost:
            calls = "1 call was" if lost == 1 else f"{lost:,} calls were"
            said.append(
                f"{calls} on their way when a {run.mortal} died: their cost is unknown, and "
                "their rows were asked again"
            )
        if trouble := self._session.keeping.news():
            said.append(trouble)
        text = "; ".join(filter(None, said))
        state = "stopped" if why else "done"
        self._store.change(self._job.id, state=state, total=len(run.tally.keys), said=text)
        return text

    def _count(self) -> str:
        shown = self._run.progress
        of = f" of {shown.total:,}" if shown.total is not None else ""
        return f"{shown.rows:,}{of} rows are done"

    def _summary(self, said: str) -> dict[str, Any]:
        """What a DataFrame tells of the run it is of."""
        shown = self._run.progress
        return {
            "job": self._job.id,
            "asked": shown.asked,
            "before": shown.before,
            "spent_usd": show_usd(shown.spent_nano_usd),
            "said": said,
        }


def ledgers_of(session: Session, store: JobStore, chosen: RunOptions) -> Stores:
    """Where a run keeps its books. Raises OverBudget and LedgerUnavailable."""
    place = LedgerContext(session.id, session.notebook, session.cell_key)
    ledgers = Stores(store, session.keeping, place)
    if chosen.budgets:
        # Holds nothing itself: each call is looked at as it is entered.
        ledgers.hold = session.keeping.hold(0, chosen.budgets, session.id, session.notebook)
    return ledgers


def settle_the_dead(session: Session, store: JobStore, job: Job) -> None:
    """Tell the ledger of answers whose kernel died before it could."""
    for owner, entry, row in store.unsettled_rows(job.id):
        session.ledger.settle_for(owner, [(entry, build_outcome(row))])
        store.end(job.id, "", (), [row.key])


def build_outcome(row: StoredRow) -> Outcome:
    """What the ledger is told of the last call of a row."""
    said = row.said
    last = said.get("last")
    usage = Usage(row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens)
    cost = row.cost_nano_usd
    if last:
        usage, cost = Usage(*last[:4]), last[4]
    return Outcome(
        status="ok" if said.get("finish") == "stop" else said.get("finish", "error"),
        usage=usage,
        cost_nano_usd=cost,
        model_served=said.get("model", ""),
        service_tier=said.get("tier", ""),
        response_id=said.get("id", ""),
        elapsed_s=said.get("elapsed_ms", 0) / 1000,
        source=row.source or None,  # type: ignore[arg-type]
        error=row.error_kind,
    )


OnError = Literal["keep", "raise"]
MAX_CONCURRENCY = 1024
UNSUPPORTED_OPTIONS = ("conversation", "tools", "background", "compare", "dry_run")
SPEC_OPTIONS = (
    *("model", "effort", "schema", "provider", "api", "developer", "max_output_tokens", "repairs"),
    *("verbosity", "param", "tier"),
)


@dataclass(frozen=True)
class MapOptions:
    """How rows are to be mapped. concurrency: None for that of the settings."""

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
        """What of some options is a wish, and the others."""
        own = {each.name for each in fields(cls)}
        wish = cls(**{name: value for name, value in options.items() if name in own})
        return wish, {name: value for name, value in options.items() if name not in own}

    def checked(self) -> MapOptions:
        """The same. Raises BadOption."""
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
        """The budget of the job. Raises BadOption."""
        if self.budget is None:
            return None
        try:
            limit = Decimal(str(self.budget))
        except InvalidOperation:
            limit = Decimal("nan")
        if not (limit.is_finite() and 0 <= limit <= 1_000_000):
            raise BadOption(f"budget={self.budget}: US dollars, from 0 to 1,000,000")
        return nano(limit)


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
    """Ask a prompt for each row, and give the table of answers, in the order of the rows.

    expected: the digest of the job that is meant. kind: what gathers the answers. runs: gives who
    asks the rows, where that is not this process; not called where a cassette has them all.
    Raises TemplateError, BadOption and every error of a plan before anything is sent; OverBudget
    where not one row fits; Interrupted, and what stopped the job, with the table so far in
    `.answer`.
    """
    wish = (wish or MapOptions()).checked()
    ready = prepared(
        session, store, source_of(rows), prompt, schema, names, wish, options, expected, runs
    )
    shown = NoProgress() if show is None else show
    try:
        return MapRun(session, ready, shown).table(kind, flatten=wish.flatten)
    finally:
        if ready.store is not store:
            ready.store.close()


def prepared(
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
    """A job, ready to be run. Raises as `map_rows` does before anything is sent."""
    profile, wanted = profile_of(session, schema, names, options)
    folder = folder_of(session, profile)
    text = with_file(prompt, profile.file, folder) if profile.file else prompt
    filling = filling_of(text, source, profile, folder)
    if source.columns:
        source = checked_source(source, filling)
    form = form_of(session, replace(profile, file=""), wanted, keyless=runs is not None)
    budget = wish.budget_nano_usd
    if not form.priced and not form.free and (budget is not None or counted_budgets(form.plan)):
        raise unknown_price(form.plan)
    replaying, tape = None, tape_of(session, profile, can_ask=runs is not None)
    if tape is not None:
        replaying = RowReplay(form, tape)
        if tape.mode == "replay":
            store = JobStore(":memory:")  # what is on a tape was asked by no job of this machine
            runs = None
    if runs is not None and form.plan.call.provider.managed:
        raise BadOption(
            "a model that is started on this machine cannot be asked by a cluster",
            hint="leave client= out, or name a provider that every worker can reach",
        )
    who = RowRunner if runs is None else runs()
    digest = digest_of(form, text, wish, profile)
    if expected not in ("", digest):
        raise BadOption(
            "that would be another job: its prompt, schema, model or provider is not the same",
            hint="make the call that began it again",
        )
    job = store.begin(
        "map",
        digest,
        name=wish.name,
        spec=spec_of(profile, text, wish, wanted),
        notebook=session.notebook,
        provider=form.plan.call.provider.name,
        model=form.plan.call.request.model,
    )
    chosen = build_run_options(wish, source, form, profile)
    work = RunInput(job, form, source, filling, chosen, replaying, session.reach)
    return PreparedJob(store, work, who, text)


def build_run_options(
    wish: MapOptions, source: RowSource, form: RequestTemplate, profile: Settings
) -> RunOptions:
    """How the run goes about it."""
    width = wish.concurrency or profile.concurrency
    return RunOptions(
        width=min(width, max(1, source.total or width)),
        budget_nano_usd=None if form.free else wish.budget_nano_usd,
        budgets=tuple(counted_budgets(form.plan)),
        stop_at_error=wish.on_error == "raise",
        requests_per_min=wish.requests_per_min,
        tokens_per_min=wish.tokens_per_min,
        most_down_s=wish.most_down_s,
        system_certificates=profile.certificates == "system",
    )


def profile_of(
    session: Session, schema: Any, names: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> tuple[Settings, AnswerType | None]:
    """The profile of all rows, and the type of their answers. Raises BadOption and the like."""
    chosen = dict(options)
    wanted: AnswerType | None = None
    if isinstance(schema, str):
        chosen["schema"] = schema
    elif schema is not None:
        wanted = answer_type(schema)
        chosen["schema"] = wanted.name
    profile = session.layers.profile(chosen)
    if wanted is None and profile.schema:
        wanted = resolve(profile.schema, names or {}, session.schemas)
    for name in UNSUPPORTED_OPTIONS:
        if getattr(profile, name):
            raise BadOption(f"rows cannot be mapped with {name}", hint="leave it out")
    return profile, wanted


def folder_of(session: Session, profile: Settings) -> Path:
    """Where the notebook is."""
    notebook = profile.notebook or session.notebook
    return Path(notebook).absolute().parent if notebook else Path.cwd()


def filling_of(text: str, source: RowSource, profile: Settings, folder: Path) -> PromptTemplate:
    """The template. Raises TemplateError and EmptyPrompt."""
    if not text.strip():
        raise EmptyPrompt("there is no prompt")
    if not profile.template:
        return PromptTemplate.plain(text, folder)
    return PromptTemplate(text, source.columns, folder)


def checked_source(source: RowSource, filling: PromptTemplate) -> RowSource:
    """The source, its first row looked at for columns that are not there. Raises TemplateError."""
    first = next(source.rows, None)
    if first is None:
        return source
    filling.check(first)

    def all_rows() -> Any:
        yield first
        yield from source.rows

    return replace(source, rows=all_rows())


def form_of(
    session: Session, profile: Settings, wanted: AnswerType | None, *, keyless: bool = False
) -> RequestTemplate:
    """What all rows share. keyless: who asks has a key of its own. Raises every error of a plan."""
    try:
        return RequestTemplate(session.plan(PLACEHOLDER, profile, None, wanted))
    except NoKey:
        if not keyless:
            raise
        planned = session.plan(
            PLACEHOLDER, replace(profile, dry_run=True, exact=False), None, wanted
        )
        return RequestTemplate(replace(planned, profile=profile))


def tape_of(session: Session, profile: Settings, *, can_ask: bool = False) -> Any:
    """The cassette of the notebook, or None where it is not used. can_ask: it is known already."""
    can_ask = can_ask or session.reach.can_ask(profile)
    mode = session.decks.mode(profile, session.notebook, can_ask=can_ask)
    return session.decks.tape(profile, session.notebook, mode)


def digest_of(form: RequestTemplate, text: str, wish: MapOptions, profile: Settings) -> str:
    """What makes two calls the same job: who is asked what, under which name. Not which rows."""
    provider = form.plan.call.provider
    host = "" if provider.embedded else provider.host
    said = [wish.name, provider.name, host, form.digest, text, str(profile.template)]
    if not form.plan.choice.named:  # a job is of one model, whatever the default is later
        said.append(form.plan.choice.model)
    return sha256("\0".join(said).encode("utf-8", "replace")).hexdigest()[:24]


def spec_of(
    profile: Settings, text: str, wish: MapOptions, wanted: AnswerType | None
) -> dict[str, Any]:
    """What a job keeps of how it was asked; secrets in it are taken out."""
    said = {name: getattr(profile, name) for name in SPEC_OPTIONS}
    said = {name: value for name, value in said.items() if value not in (None, "")}
    said = {n: scrubbed(v) if isinstance(v, str) else v for n, v in said.items()}
    said |= {"prompt": scrubbed(text), "rows": wish.rows_name, "flatten": wish.flatten}
    if profile.base_url:
        said["base_url"] = redact(profile.base_url)
    if wanted is not None:
        said["answer"] = wanted.schema
    return said


KIND = "map"
MAX_RESULT_ROWS = 100_000
# What a later call must say again, for it to be the same job.
RESUME_OPTIONS = (
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


def map_in(
    session: Session, rows: Any, prompt: str, options: Mapping[str, Any], show: ProgressDisplay
) -> Any:
    """What `o3.map` gives: `options` are those of a wish, of a profile, `schema` and `names`."""
    wish, rest = MapOptions.among(options)
    with jobs_of(session) as store:
        return map_rows(session, store, rows, prompt, wish=wish, show=show, **rest)


class MapJob(JobHandle):
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
        shown = JobProgress(
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
        table = ResultTable(self._wanted(names or {}), flatten=bool(self._job.spec.get("flatten")))
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
        """Go on with these rows, as the call that began it did; gives its table.

        schema: the type of the answers, where it is not among `names`. Raises BadOption where
        that would be another job.
        """
        spec = self._job.spec
        said = {name: spec[name] for name in RESUME_OPTIONS if name in spec} | options
        flatten = bool(spec.get("flatten"))
        wish = replace(wish or MapOptions(), name=self._job.name, flatten=flatten)
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
