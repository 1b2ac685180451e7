"""One prompt over many rows: `o3.map`, from what the user gives to the table that comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from o3magic.errors import BadOption, EmptyPrompt, NoKey
from o3magic.jobs.filling import Filling
from o3magic.jobs.form import STAND_IN, Form
from o3magic.jobs.mapped import Mapped, Ready, Runs
from o3magic.jobs.progress import Show, Silent
from o3magic.jobs.rate import MOST_DOWN_S
from o3magic.jobs.replaying import Replaying
from o3magic.jobs.runner import Run, Work
from o3magic.jobs.source import Source, source_of
from o3magic.jobs.store import JobStore
from o3magic.jobs.table import Table
from o3magic.jobs.tally import Chosen
from o3magic.profile import Profile
from o3magic.redaction import redact
from o3magic.schemas.lookup import AnswerType, answer_type, resolve
from o3magic.talk.asked import with_file
from o3magic.talk.books import counted_budgets, unknown_price
from o3magic.talk.forecast import nano
from o3magic.talk.session import Session
from o3magic.tapes.scrub import scrubbed

OnError = Literal["keep", "raise"]
MOST_WIDTH = 1024
NOT_WITH_ROWS = ("conversation", "tools", "background", "compare", "dry_run")
SPEC = (
    *("model", "effort", "schema", "provider", "api", "developer", "max_output_tokens", "repairs"),
    *("verbosity", "param", "tier"),
)


@dataclass(frozen=True)
class Wish:
    """How rows are to be mapped. concurrency: None for that of the settings."""

    concurrency: int | None = None
    budget: Any = None
    on_error: str = "keep"
    name: str = ""
    flatten: bool = False
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    most_down_s: float = MOST_DOWN_S
    rows_name: str = ""

    @classmethod
    def among(cls, options: Mapping[str, Any]) -> tuple[Wish, dict[str, Any]]:
        """What of some options is a wish, and the others."""
        own = {each.name for each in fields(cls)}
        wish = cls(**{name: value for name, value in options.items() if name in own})
        return wish, {name: value for name, value in options.items() if name not in own}

    def checked(self) -> Wish:
        """The same. Raises BadOption."""
        width = 1 if self.concurrency is None else self.concurrency
        if not isinstance(width, int) or not 1 <= width <= MOST_WIDTH:
            raise BadOption(f"concurrency={self.concurrency}: from 1 to {MOST_WIDTH:,}")
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
    wish: Wish | None = None,
    show: Show | None = None,
    expected: str = "",
    kind: Any = Table,
    runs: Callable[[], Runs] | None = None,
    **options: Any,
) -> Any:
    """Ask a prompt for each row, and give the table of answers, in the order of the rows.

    expected: the digest of the job that is meant. kind: what gathers the answers. runs: gives who
    asks the rows, where that is not this process; not called where a cassette has them all.
    Raises TemplateError, BadOption and every error of a plan before anything is sent; OverBudget
    where not one row fits; Interrupted, and what stopped the job, with the table so far in
    `.answer`.
    """
    wish = (wish or Wish()).checked()
    ready = prepared(
        session, store, source_of(rows), prompt, schema, names, wish, options, expected, runs
    )
    shown = Silent() if show is None else show
    try:
        return Mapped(session, ready, shown).table(kind, flatten=wish.flatten)
    finally:
        if ready.store is not store:
            ready.store.close()


def prepared(
    session: Session,
    store: JobStore,
    source: Source,
    prompt: str,
    schema: Any,
    names: Mapping[str, Any] | None,
    wish: Wish,
    options: Mapping[str, Any],
    expected: str = "",
    runs: Callable[[], Runs] | None = None,
) -> Ready:
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
        replaying = Replaying(form, tape)
        if tape.mode == "replay":
            store = JobStore(":memory:")  # what is on a tape was asked by no job of this machine
            runs = None
    if runs is not None and form.plan.call.provider.managed:
        raise BadOption(
            "a model that is started on this machine cannot be asked by a cluster",
            hint="leave client= out, or name a provider that every worker can reach",
        )
    who = Run if runs is None else runs()
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
    chosen = chosen_of(wish, source, form, profile)
    work = Work(job, form, source, filling, chosen, replaying, session.reach)
    return Ready(store, work, who, text)


def chosen_of(wish: Wish, source: Source, form: Form, profile: Profile) -> Chosen:
    """How the run goes about it."""
    width = wish.concurrency or profile.concurrency
    return Chosen(
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
) -> tuple[Profile, AnswerType | None]:
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
    for name in NOT_WITH_ROWS:
        if getattr(profile, name):
            raise BadOption(f"rows cannot be mapped with {name}", hint="leave it out")
    return profile, wanted


def folder_of(session: Session, profile: Profile) -> Path:
    """Where the notebook is."""
    notebook = profile.notebook or session.notebook
    return Path(notebook).absolute().parent if notebook else Path.cwd()


def filling_of(text: str, source: Source, profile: Profile, folder: Path) -> Filling:
    """The template. Raises TemplateError and EmptyPrompt."""
    if not text.strip():
        raise EmptyPrompt("there is no prompt")
    if not profile.template:
        return Filling.plain(text, folder)
    return Filling(text, source.columns, folder)


def checked_source(source: Source, filling: Filling) -> Source:
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
    session: Session, profile: Profile, wanted: AnswerType | None, *, keyless: bool = False
) -> Form:
    """What all rows share. keyless: who asks has a key of its own. Raises every error of a plan."""
    try:
        return Form(session.plan(STAND_IN, profile, None, wanted))
    except NoKey:
        if not keyless:
            raise
        planned = session.plan(STAND_IN, replace(profile, dry_run=True, exact=False), None, wanted)
        return Form(replace(planned, profile=profile))


def tape_of(session: Session, profile: Profile, *, can_ask: bool = False) -> Any:
    """The cassette of the notebook, or None where it is not used. can_ask: it is known already."""
    can_ask = can_ask or session.reach.can_ask(profile)
    mode = session.decks.mode(profile, session.notebook, can_ask=can_ask)
    return session.decks.tape(profile, session.notebook, mode)


def digest_of(form: Form, text: str, wish: Wish, profile: Profile) -> str:
    """What makes two calls the same job: who is asked what, under which name. Not which rows."""
    provider = form.plan.call.provider
    host = "" if provider.embedded else provider.host
    said = [wish.name, provider.name, host, form.digest, text, str(profile.template)]
    if not form.plan.choice.named:  # a job is of one model, whatever the default is later
        said.append(form.plan.choice.model)
    return sha256("\0".join(said).encode("utf-8", "replace")).hexdigest()[:24]


def spec_of(profile: Profile, text: str, wish: Wish, wanted: AnswerType | None) -> dict[str, Any]:
    """What a job keeps of how it was asked; secrets in it are taken out."""
    said = {name: getattr(profile, name) for name in SPEC}
    said = {name: value for name, value in said.items() if value not in (None, "")}
    said = {n: scrubbed(v) if isinstance(v, str) else v for n, v in said.items()}
    said |= {"prompt": scrubbed(text), "rows": wish.rows_name, "flatten": wish.flatten}
    if profile.base_url:
        said["base_url"] = redact(profile.base_url)
    if wanted is not None:
        said["answer"] = wanted.schema
    return said
