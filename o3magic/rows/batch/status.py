"""How a batch stands, in one clear sentence for each state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from o3magic.redaction import redact
from o3magic.rows.batch.store import BatchPart
from o3magic.rows.context import RowSums
from o3magic.rows.migrations import ANSWERED, CREATING, ENDED, PLANNED, UPLOADED
from o3magic.rows.progress import JobProgress
from o3magic.rows.records import RowOutcome, StoredRow

UNSENT = "unsent"
# Of several parts the state named first is the one of the whole.
GOING_ON = ("validating", "in_progress", "finalizing", "cancelling")
OVER = ("cancelled", "expired", "failed", "completed")


@dataclass(frozen=True)
class BatchStatus:
    """How a job stands: its state, its rows, and in `said` a sentence about it.

    state: unsent, or the provider's word: validating, in_progress, finalizing, completed, failed,
    expired, cancelling, cancelled. done, failed: rows; total: rows that are asked, each once.
    """

    state: str
    total: int
    done: int
    failed: int
    said: str
    over: bool

    def __str__(self) -> str:
        """The sentence."""
        return self.said

    __repr__ = __str__

    def labelled(self, sums: RowSums, *, taped: bool = False) -> BatchStatus:
        """The same with who answered, where no model did, and what it cost."""
        shown = JobProgress(
            rows=self.total,
            made_up=sums.made_up,
            spent_nano_usd=sums.cost_nano_usd,
            unknown=sums.unknown,
            taped=taped,
        )
        money = [shown.money()] if self.over and self.done else []
        return replace(self, said=" · ".join([self.said, *shown.labels(), *money]))


@dataclass(frozen=True, slots=True)
class BatchProgress(JobProgress):
    """How far a batch is: its state in words, for it has no rate."""

    sentence: str = ""

    def words(self) -> str:
        """The sentence of its state."""
        return self.sentence


def format_title(name: str, number: int | None = None) -> str:
    """What a job is called. Without a number it is the same in a replay as when it was recorded."""
    said = ["batch job", "" if number is None else str(number), repr(name) if name else ""]
    return " ".join(filter(None, said))


def build_progress(
    name: str, words: str, stands: BatchStatus | None = None, note: str = ""
) -> BatchProgress:
    """What is shown of a job. words: its title and how it stands."""
    total, done, failed = (stands.total, stands.done, stands.failed) if stands else (0, 0, 0)
    return BatchProgress(
        name=name,
        total=total or None,
        rows=done + failed,
        errors=failed,
        over=stands is not None and stands.over,
        said=note,
        sentence=words,
    )


def build_finished_status(rows: Mapping[int, StoredRow | RowOutcome]) -> BatchStatus:
    """How a job on a cassette stands at its end: nothing is in it but what its rows have."""
    unique = {row.key: row for row in rows.values()}
    sums = RowSums()
    for row in unique.values():
        if row.source:
            sums.add(row, charged=True)
    done = sum(row.state in ANSWERED for row in unique.values())
    failed = len(unique) - done
    said = format_sentence("completed", "", total=len(unique), done=done, failed=failed, told="")
    return BatchStatus("completed", len(unique), done, failed, said, True).labelled(
        sums, taped=True
    )


def build_status(
    parts: Sequence[BatchPart], provider: str, *, total: int, done: int, failed: int
) -> BatchStatus:
    """How the parts stand together. done, failed: rows whose end is kept here."""
    running = [part for part in parts if part.step != ENDED]
    state = combine_states(parts, running)
    if state in OVER and done == total:
        state = "completed"  # what one batch left another has answered
    done += sum(part.completed for part in running)
    failed += sum(part.failed for part in running)
    told = next((redact(part.said) for part in parts if part.said), "")
    said = format_sentence(state, provider, total=total, done=done, failed=failed, told=told)
    if running and len(parts) > 1:
        said += f" ({len(parts) - len(running)} of {len(parts)} batches are over)"
    return BatchStatus(state, total, done, failed, said, not running)


def combine_states(parts: Sequence[BatchPart], running: Sequence[BatchPart]) -> str:
    """The state of all parts together."""
    if not parts or any(part.step in (PLANNED, UPLOADED, CREATING) for part in parts):
        return UNSENT
    if running:
        said = [part.status for part in running]
        return next((state for state in GOING_ON if state in said), said[0] or GOING_ON[0])
    said = [part.status for part in parts]
    return next((state for state in OVER if state in said), "completed")


def format_sentence(
    state: str, provider: str, *, total: int, done: int, failed: int, told: str
) -> str:
    """One sentence on a state."""
    rows = f"{done:,} of {total:,} rows"
    wrong = f", {failed:,} failed" if failed else ""
    why = f": {told}" if told else ""
    match state:
        case "unsent":
            return "is not sent whole: the same o3.batch(...) again, or .wait(), goes on with it"
        case "validating":
            return f"is being checked by {provider}; nothing has run yet"
        case "in_progress":
            return f"is running at {provider}: {rows} done{wrong}"
        case "finalizing":
            return f"has run at {provider}, which writes its files now: {rows} done{wrong}"
        case "completed":
            more = f" ({told})" if told else ""
            return f"is done: {rows} answered{wrong}{more}"
        case "failed":
            return f"was refused by {provider} before it ran, and cost nothing{why}"
        case "expired":
            return f"ran out of its 24 hours: {rows} were answered; the others cost nothing"
        case "cancelling":
            return f"is being cancelled, which may take ten minutes: {rows} done so far"
        case "cancelled":
            return f"was cancelled: {rows} were answered; the others cost nothing"
    return f"is {redact(state)[:40]!r} at {provider}: {rows} done{wrong}"
