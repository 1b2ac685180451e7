"""The values of jobs: a job as it stands, a row to be asked, and what became of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

from o3magic.events import AnswerSource, Usage
from o3magic.rows.migrations import ANSWERED

# mine: to be asked now. theirs: another process is at it. budget: the job may not spend as much.
ClaimOutcome = Literal["mine", "theirs", "answered", "budget"]
RowState = Literal["claimed", "open", "done", "invalid", "failed"]


class ClaimRequest(NamedTuple):
    """A row to be asked: its key, where it stands in the input, the most it can cost."""

    key: str
    place: int
    worst_nano_usd: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. Sums are those of its rows; `total` is None where nobody counted.

    state: new, running, stopped, done. said: how it ended, for people.
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
    """A job as it is handed out: what of it never changes."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def id(self) -> int:
        """Its number in the file of jobs."""
        return self._job.id

    @property
    def name(self) -> str:
        """The name it was given, or ""."""
        return self._job.name

    @property
    def digest(self) -> str:
        """What it is the job of."""
        return self._job.digest


JOB = ", ".join(each.name for each in fields(Job))


def parse_job(row: tuple[Any, ...]) -> Job:
    """A row of the table of jobs as a value."""
    values = dict(zip((each.name for each in fields(Job)), row, strict=True))
    return Job(**values | {"spec": json.loads(values["spec"])})


class StoredRow(NamedTuple):
    """A row of a job as it is kept. `answer` is JSON: see `Ending`."""

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
        """Whether an answer came, so that it is never asked again."""
        return self.state in ANSWERED

    @property
    def said(self) -> dict[str, Any]:
        """What is in the answer."""
        found: dict[str, Any] = json.loads(self.answer) if self.answer else {}
        return found

    @property
    def made_by(self) -> str:
        """Who answered: live or simulated. What was replayed is kept in no file."""
        return self.source


COLUMNS = ", ".join(StoredRow._fields)


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What became of a claimed row.

    answer         what came: text, data (a structured answer as JSON), refusal, finish, model, ...
    cost_nano_usd  of all attempts that are known; None where no cost is known
    settled_nano_usd  what is not held any more: the worst case of the attempts with a known cost
    entry          the ledger's number of the last attempt, where that is not settled there yet
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
        """Who answered, now or when it was recorded: live, simulated or hand."""
        if self.source != "replayed":
            return self.source
        return str((self.answer or {}).get("made_by", "live"))

    def row(self, now_ms: int, job: int, run: str) -> tuple[Any, ...]:
        """The parameters of the statement that keeps it."""
        said = None
        if self.answer is not None:
            # Half of a surrogate pair, which SQLite has not, becomes U+FFFD.
            text = json.dumps(self.answer, ensure_ascii=False, separators=(",", ":"))
            said = text.encode("utf-8", "replace").decode()
        usage = self.usage
        return (
            self.state,
            now_ms,
            said,
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
