"""What workers and the caller of a job say to each other. The scheduler passes it on unread.

A letter holds rows' keys, calls and answers, never a key of a provider: each worker has its own.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

from o3magic.cost.entries import Attempt, Outcome
from o3magic.rows.records import ClaimRequest, RowOutcome, StoredRow
from o3magic.session.plan import Plan


class JobSpec(NamedTuple):
    """What a worker must know of a job. The plan's call is without its key.

    prompt, folder: for rows that are rendered where they are. providers: the user's own tables.
    """

    plan: Plan
    width: int
    prompt: str
    folder: str
    place: tuple[str, str, str]
    providers: Mapping[str, Mapping[str, Any]]
    system_certificates: bool
    stop_at_error: bool
    flatten: bool


class OpenRun(NamedTuple):
    """A run of rows begins on a worker."""

    run: int


class CloseRun(NamedTuple):
    """A run is over: whatever it still has is lost."""

    run: int


class BeginRow(NamedTuple):
    """A row wants to be asked. Answered by `Granted`, a claim, OverBudget or LedgerUnavailable.

    Where a budget lacks the money until others land, the answer is `PARKED`; the other one comes
    later, under that number.
    """

    id: int
    later: int
    run: int
    wanted: ClaimRequest
    attempt: Attempt
    again: bool


PARKED = "parked"


class RowGranted(NamedTuple):
    """A row may be asked, and its call is in the ledger under this number."""

    entry: int


class EndRow(NamedTuple):
    """A row is over, and so is its last call, where it had one that is not told yet."""

    run: int
    ending: RowOutcome
    outcome: Outcome | None


class SettleRow(NamedTuple):
    """A call is over, its row is not."""

    run: int
    key: str
    outcome: Outcome


class CancelClaim(NamedTuple):
    """A row was granted to somebody who had left, or is not to be any more: nothing was sent.

    again: it was asked before, and ends by itself.
    """

    run: int
    key: str
    again: bool = False


class DaskTask(NamedTuple):
    """A task of Dask: its key, the collection that is computed, and its number there.

    A part of a collection that is computed alone is another one, with other numbers.
    """

    key: str
    collection: str
    number: int

    @classmethod
    def of(cls, key: Any) -> DaskTask:
        """The task of a key, which is a text, or a pair for one of many."""
        name, number = key[:2] if isinstance(key, tuple) and len(key) > 1 else (key, 0)
        return cls(str(key), str(name), number if isinstance(number, int) else 0)


class ReadRows(NamedTuple):
    """Which of these rows are answered, and which of them cost something here.

    A row that stands in several partitions of a collection is charged in one of them.
    """

    id: int
    run: int
    keys: tuple[str, ...]
    task: DaskTask | None = None


class KnownRows(NamedTuple):
    """The answer to `Read`."""

    rows: list[StoredRow]
    charged: set[str]


class GetSpec(NamedTuple):
    """What is the job? Answered by a `Spec` in bytes."""

    id: int


Message = OpenRun | CloseRun | BeginRow | EndRow | SettleRow | CancelClaim | ReadRows | GetSpec


def pack(value: Any) -> bytes:
    """A value in bytes."""
    return pickle.dumps(value, protocol=5)


def unpack(said: bytes) -> Any:
    """The value in bytes that another process of the same user packed."""
    return pickle.loads(said)
