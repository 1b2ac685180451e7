"""Values of the job store: a job, a claim, a stored row, the outcome of a row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

from o3magic.events import AnswerSource, Usage
from o3magic.rows.migrations import ANSWERED

# mine: claimed by this run. theirs: claimed by another process. budget: above the job's budget.
ClaimOutcome = Literal["mine", "theirs", "answered", "budget"]
RowState = Literal["claimed", "open", "done", "invalid", "failed"]


class ClaimRequest(NamedTuple):
    """A row to claim: its key, its index in the input, its highest possible cost."""

    key: str
    place: int
    worst_nano_usd: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job with the sums of its rows. The fields are the columns of the table `jobs`.

    total: None while the number of rows is unknown. state: new, running, stopped, done.
    said: the message about its end.
    """

    id: int
    digest: str
    kind: str
    name: str
    state: str
    created_ms: int
    changed_ms: int
    notebook: str
    provider: str
    model: str
    total: int | None
    spec: Mapping[str, Any]
    said: str
    done_rows: int
    invalid_rows: int
    failed_rows: int
    claimed_rows: int
    lost_calls: int
    spent_nano_usd: int
    held_nano_usd: int


class JobHandle:
    """Base of the job objects that users get: the attributes that never change."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def id(self) -> int:
        """The number of the job in the job store."""
        return self._job.id

    @property
    def name(self) -> str:
        """The user's name for the job, or ""."""
        return self._job.name

    @property
    def digest(self) -> str:
        """The hash of name, provider, request and prompt."""
        return self._job.digest


JOB_COLUMNS = ", ".join(field.name for field in fields(Job))


def parse_job(row: tuple[Any, ...]) -> Job:
    """Parse a row of the table `jobs`, its columns in the order of JOB."""
    values = dict(zip((column.name for column in fields(Job)), row, strict=True))
    return Job(**values | {"spec": json.loads(values["spec"])})


class StoredRow(NamedTuple):
    """A row of the table `rows`; the fields are its columns. answer: JSON, as in RowOutcome."""

    key: str
    place: int
    state: RowState
    answer: str | None
    error: str
    error_kind: str
    source: str
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cost_nano_usd: int | None
    attempts: int
    lost: int

    @property
    def paid(self) -> bool:
        """Whether the row has an answer, so that it is not sent again."""
        return self.state in ANSWERED

    @property
    def said(self) -> dict[str, Any]:
        """The decoded answer, or {}."""
        content: dict[str, Any] = json.loads(self.answer) if self.answer else {}
        return content

    @property
    def made_by(self) -> str:
        """The source of the answer: live or simulated. Replayed answers are not stored."""
        return self.source


ROW_COLUMNS = ", ".join(StoredRow._fields)


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The outcome of a claimed row.

    answer         text, data (a structured answer as JSON), refusal, finish, model, ...
    cost_nano_usd  sum over the attempts of known cost; None where the last has none
    settled_nano_usd  the reservation to release: that of the attempts of known cost
    entry          the ledger entry of the last attempt, while that is not settled
    """

    key: str
    state: RowState
    answer: Mapping[str, Any] | None = None
    error: str = ""
    error_kind: str = ""
    source: AnswerSource | Literal[""] = ""
    usage: Usage = field(default_factory=Usage)
    cost_nano_usd: int | None = None
    settled_nano_usd: int = 0
    attempts: int = 1
    entry: int | None = None

    @property
    def made_by(self) -> str:
        """The source of the answer, or of its recording: live, simulated or hand."""
        if self.source != "replayed":
            return self.source
        return str((self.answer or {}).get("made_by", "live"))

    def row(self, now_ms: int, job: int, run: str) -> tuple[Any, ...]:
        """Build the parameters of the statement END."""
        answer = None
        if self.answer is not None:
            # SQLite has no lone surrogates: they become U+FFFD.
            text = json.dumps(self.answer, ensure_ascii=False, separators=(",", ":"))
            answer = text.encode("utf-8", "replace").decode()
        usage = self.usage
        return (
            self.state,
            now_ms,
            answer,
            self.error.encode("utf-8", "replace").decode(),
            self.error_kind,
            self.source,
            usage.input_tokens,
            usage.cached_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
            self.cost_nano_usd,
            self.cost_nano_usd,
            self.settled_nano_usd,
            self.attempts,
            self.entry,
            job,
            self.key,
            run,
        )
