"""One call of `map`: what is done before its rows are asked, while they are, and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from o3magic.cost.entries import Outcome
from o3magic.errors import Interrupted, O3Error, OverBudget
from o3magic.events import Usage
from o3magic.jobs.progress import Progress, Show
from o3magic.jobs.rows import Answered, Job
from o3magic.jobs.runner import Run, Work
from o3magic.jobs.store import JobStore
from o3magic.jobs.table import Table, rows_of, table_of
from o3magic.jobs.tally import Chosen, Ledgers, Sums
from o3magic.money import show_usd
from o3magic.talk.books import Place
from o3magic.talk.session import Session

LOOK_S = 0.1


# Who asks the rows of a job: `Run`, in this process, or another.
Runs = Callable[[Work, Ledgers], Run]


class Ready(NamedTuple):
    """A job whose rows may be asked now. text: the prompt, a file's text in it."""

    store: JobStore
    work: Work
    runs: Runs
    text: str


class Mapped:
    """One run of a job with all that is done before and after it."""

    def __init__(self, session: Session, ready: Ready, show: Show) -> None:
        self._session, self._show = session, show
        self._store, work, runs, _ = ready
        self._job, self._source, self._replaying = work.job, work.source, work.replaying
        self._ledgers = ledgers_of(session, self._store, work.chosen)
        self._run = runs(work, self._ledgers)

    def table(self, kind: type[Table] = Table, *, flatten: bool) -> Any:
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
        empty, sums = kind(run.form.plan.answer_type, flatten=flatten), Sums()
        made = table_of(run, self._store, empty, sums)
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

    def _last(self, errors: int, said: str, sums: Sums) -> Progress:
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
            if self._replaying is None or self._replaying.tape.mode != "replay":
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
            said.append(self._replaying.keep(rows_of(run, self._store)))
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


def ledgers_of(session: Session, store: JobStore, chosen: Chosen) -> Ledgers:
    """Where a run keeps its books. Raises OverBudget and LedgerUnavailable."""
    place = Place(session.id, session.notebook, session.cell_key)
    ledgers = Ledgers(store, session.keeping, place)
    if chosen.budgets:
        # Holds nothing itself: each call is looked at as it is entered.
        ledgers.hold = session.keeping.hold(0, chosen.budgets, session.id, session.notebook)
    return ledgers


def settle_the_dead(session: Session, store: JobStore, job: Job) -> None:
    """Tell the ledger of answers whose kernel died before it could."""
    for owner, entry, row in store.unsettled(job.id):
        session.ledger.settle_for(owner, [(entry, outcome_of(row))])
        store.end(job.id, "", (), [row.key])


def outcome_of(row: Answered) -> Outcome:
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
