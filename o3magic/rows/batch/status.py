"""The status of a batch job: its state, its rows, and a sentence about them."""

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
# The state of several parts is the first of these that one of them has.
RUNNING_STATES = ("validating", "in_progress", "finalizing", "cancelling")
FINAL_STATES = ("cancelled", "expired", "failed", "completed")


@dataclass(frozen=True)
class BatchStatus:
    """The status of a job; `said` is a sentence about it.

    state: unsent, or the provider's status: validating, in_progress, finalizing, completed, failed,
    expired, cancelling, cancelled. done, failed, total: rows, identical ones counted once.
    """

    state: str
    total: int
    done: int
    failed: int
    said: str
    over: bool

    def __str__(self) -> str:
        return self.said

    __repr__ = __str__

    def add_labels(self, sums: RowSums, *, recorded: bool = False) -> BatchStatus:
        """The same with who answered, where no model did, and with the cost once it is over."""
        shown = JobProgress(
            rows=self.total,
            made_up=sums.made_up,
            spent_nano_usd=sums.cost_nano_usd,
            unknown=sums.unknown,
            taped=recorded,
        )
        cost = [shown.money()] if self.over and self.done else []
        return replace(self, said=" · ".join([self.said, *shown.labels(), *cost]))


@dataclass(frozen=True, slots=True)
class BatchProgress(JobProgress):
    """The progress of a batch: a sentence, because it has no rate."""

    sentence: str = ""

    def words(self) -> str:
        return self.sentence


def format_title(name: str, number: int | None = None) -> str:
    """The title of a job. A recorded one has no number: that differs in a replay."""
    words = ["batch job", "" if number is None else str(number), repr(name) if name else ""]
    return " ".join(filter(None, words))


def build_progress(
    name: str, sentence: str, status: BatchStatus | None = None, note: str = ""
) -> BatchProgress:
    """The progress of a job. sentence: its title and its status."""
    total, done, failed = (status.total, status.done, status.failed) if status else (0, 0, 0)
    return BatchProgress(
        name=name,
        total=total or None,
        rows=done + failed,
        errors=failed,
        over=status is not None and status.over,
        said=note,
        sentence=sentence,
    )


def build_finished_status(rows: Mapping[int, StoredRow | RowOutcome]) -> BatchStatus:
    """The final status of a job on a cassette, from its rows alone."""
    unique = {row.key: row for row in rows.values()}
    sums = RowSums()
    for row in unique.values():
        if row.source:
            sums.add(row, charged=True)
    done = sum(row.state in ANSWERED for row in unique.values())
    failed = len(unique) - done
    sentence = format_sentence("completed", "", total=len(unique), done=done, failed=failed)
    status = BatchStatus("completed", len(unique), done, failed, sentence, True)
    return status.add_labels(sums, recorded=True)


def build_status(
    parts: Sequence[BatchPart], provider: str, *, total: int, done: int, failed: int
) -> BatchStatus:
    """The status of all parts together. done, failed: rows whose outcome is stored."""
    running = [part for part in parts if part.step != ENDED]
    state = combine_states(parts, running)
    if state in FINAL_STATES and done == total:
        state = "completed"  # another batch has answered what one left
    done += sum(part.completed for part in running)
    failed += sum(part.failed for part in running)
    reason = next((redact(part.said) for part in parts if part.said), "")
    sentence = format_sentence(
        state, provider, total=total, done=done, failed=failed, reason=reason
    )
    if running and len(parts) > 1:
        sentence += f" ({len(parts) - len(running)} of {len(parts)} batches are over)"
    return BatchStatus(state, total, done, failed, sentence, not running)


def combine_states(parts: Sequence[BatchPart], running: Sequence[BatchPart]) -> str:
    """The state of all parts together."""
    if not parts or any(part.step in (PLANNED, UPLOADED, CREATING) for part in parts):
        return UNSENT
    if running:
        states = [part.status for part in running]
        return next((s for s in RUNNING_STATES if s in states), states[0] or RUNNING_STATES[0])
    states = [part.status for part in parts]
    return next((state for state in FINAL_STATES if state in states), "completed")


def format_sentence(
    state: str, provider: str, *, total: int, done: int, failed: int, reason: str = ""
) -> str:
    """A sentence about a state. reason: the first error that the provider gave."""
    rows = f"{done:,} of {total:,} rows"
    errors = f", {failed:,} failed" if failed else ""
    match state:
        case "unsent":
            hint = "the same o3.batch(...) again, or .wait(), goes on with it"
            return f"is not completely sent: {hint}"
        case "validating":
            return f"is being checked by {provider}; nothing has run yet"
        case "in_progress":
            return f"is running at {provider}: {rows} done{errors}"
        case "finalizing":
            return f"has run at {provider}, which writes its files now: {rows} done{errors}"
        case "completed":
            note = f" ({reason})" if reason else ""
            return f"is done: {rows} answered{errors}{note}"
        case "failed":
            why = f": {reason}" if reason else ""
            return f"was refused by {provider} before it ran, and cost nothing{why}"
        case "expired":
            return f"ran out of its 24 hours: {rows} were answered; the others cost nothing"
        case "cancelling":
            return f"is being cancelled, which may take ten minutes: {rows} done so far"
        case "cancelled":
            return f"was cancelled: {rows} were answered; the others cost nothing"
    return f"is {redact(state)[:40]!r} at {provider}: {rows} done{errors}"
