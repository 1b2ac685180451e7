"""The parts and rows of batch jobs in jobs.sqlite3; `rows.migrations` has the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from o3magic.cost.ledger import now_ms
from o3magic.cost.process import ProcessOwner
from o3magic.errors import BadOption
from o3magic.rows.migrations import ANSWERED, CREATED, CREATING, ENDED, PLANNED, UPLOADED
from o3magic.rows.records import ROW_COLUMNS, RowOutcome, StoredRow
from o3magic.rows.store import JobStore

INSERT_ROW = """
INSERT INTO rows (job, key, place, state, at_ms, held_nano_usd, part, error, error_kind)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job, key) DO UPDATE SET
    state = excluded.state, at_ms = excluded.at_ms, part = excluded.part,
    held_nano_usd = held_nano_usd + excluded.held_nano_usd, error = '', error_kind = ''
"""
# A stored answer is not overwritten: a file may be read twice.
UPDATE_ROW = f"""
UPDATE rows
SET state = ?, at_ms = ?, answer = ?, error = ?, error_kind = ?, source = ?, input_tokens = ?,
    cached_tokens = ?, output_tokens = ?, reasoning_tokens = ?,
    cost_nano_usd = CASE WHEN cost_nano_usd IS NULL THEN ? ELSE cost_nano_usd + ifnull(?, 0) END,
    held_nano_usd = iif(?, held_nano_usd, 0), attempts = attempts + ?
WHERE job = ? AND key = ? AND part = ? AND state NOT IN {ANSWERED}
"""
# Rows that are answered, or in a part that has not ended.
TAKEN = f"""
SELECT key FROM rows LEFT JOIN batches USING (job, part)
WHERE job = ? AND (state IN {ANSWERED} OR (step IS NOT NULL AND step <> 'ended'))
"""
# The usage of the rows of a part that have an answer or an error of the provider.
USAGE = """
SELECT count(*), count(*) - count(cost_nano_usd), ifnull(sum(cost_nano_usd), 0),
       count(*) - count(input_tokens), ifnull(sum(input_tokens), 0), ifnull(sum(cached_tokens), 0),
       ifnull(sum(output_tokens), 0), ifnull(sum(reasoning_tokens), 0)
FROM rows WHERE job = ? AND part = ? AND source <> ''
"""
# Answers of another job to the same requests.
COPY_ANSWERS = """
UPDATE rows SET (state, at_ms, answer, error, error_kind, source, input_tokens, cached_tokens,
                 output_tokens, reasoning_tokens, cost_nano_usd, attempts) =
    (SELECT state, at_ms, answer, error, error_kind, source, input_tokens, cached_tokens,
            output_tokens, reasoning_tokens, cost_nano_usd, rows.attempts + attempts
     FROM rows AS other WHERE other.job = :other AND other.key = rows.key)
WHERE job = :job AND state <> 'done'
  AND key IN (SELECT key FROM rows WHERE job = :other AND state = 'done')
"""


class PartUsage(NamedTuple):
    """The sums of the usage of a part's rows."""

    rows: int
    unknown_cost_rows: int
    cost_nano_usd: int
    unknown_tokens_rows: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int


class BatchPart(NamedTuple):
    """One part of a job: a file and its batch. A row of the table `batches`.

    step: how far it is here (PLANNED, UPLOADED, CREATING, CREATED, ENDED)
    status: the provider's status of the batch, "" before there is one
    """

    job: int
    part: int
    step: str
    rows: int
    worst_nano_usd: int
    file_id: str
    batch_id: str
    status: str
    completed: int
    failed: int
    said: str
    session: str
    entry: int
    changed_ms: int
    host: str
    pid: int
    started: str

    @property
    def owner(self) -> ProcessOwner:
        """The process that last worked on it."""
        return ProcessOwner(self.host, self.pid, self.started)


class NewRow(NamedTuple):
    """A row to be asked: its key, its first position in the input, its worst-case cost."""

    key: str
    position: int
    worst_nano_usd: int = 0
    error: str = ""
    error_kind: str = ""


class BatchStore:
    """The parts of jobs, and their rows. The methods that change a part return the changed one.

    Every method raises LedgerUnavailable where the file cannot be read or written.
    """

    def __init__(self, jobs: JobStore) -> None:
        self.jobs = jobs
        self._store = jobs.store

    def plan(
        self,
        job: int,
        parts: Sequence[Sequence[NewRow]],
        broken: Iterable[NewRow] = (),
        copies: Iterable[tuple[int, str]] = (),
    ) -> list[BatchPart]:
        """Store rows and new parts, which follow the parts that are there already.

        broken: rows that cannot be asked. copies: (index, key) of rows that repeat another.
        Raises BadOption where another process is sending one of the rows.
        """
        now, here = now_ms(), ProcessOwner.here()

        def build_rows(
            rows: Iterable[NewRow], state: str, part: int | None
        ) -> Iterator[tuple[Any, ...]]:
            for row in rows:
                key, position, worst_nano_usd, *error = row
                yield (job, key, position, state, now, worst_nano_usd, part, *error)

        with self._store.write() as connection:
            taken = {key for (key,) in connection.execute(TAKEN, (job,))}
            if any(row.key in taken for part in parts for row in part):
                raise BadOption(
                    "another process is sending these rows at this moment",
                    hint="o3.jobs() lists what it sends",
                )
            [(first,)] = connection.execute(
                "SELECT ifnull(max(part) + 1, 0) FROM batches WHERE job = ?", (job,)
            )
            for number, rows in enumerate(parts, first):
                connection.execute(
                    """INSERT INTO batches (job, part, rows, worst_nano_usd, changed_ms,
                                            host, pid, started)
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                    (job, number, len(rows), sum(row.worst_nano_usd for row in rows), now, *here),
                )
                connection.executemany(INSERT_ROW, build_rows(rows, "open", number))
            connection.executemany(INSERT_ROW, build_rows(broken, "failed", None))
            connection.executemany(
                "INSERT OR IGNORE INTO copies (job, place, key) VALUES (?, ?, ?)",
                ((job, index, key) for index, key in copies),
            )
        return [part for part in self.parts(job) if part.part >= first]

    def parts(self, job: int) -> list[BatchPart]:
        query = f"SELECT {', '.join(BatchPart._fields)} FROM batches WHERE job = ? ORDER BY part"
        return [BatchPart(*row) for row in self._store.read(query, (job,))]

    def part(self, part: BatchPart) -> BatchPart:
        """A part as it is now."""
        return next(other for other in self.parts(part.job) if other.part == part.part)

    def taken_keys(self, job: int) -> set[str]:
        """The keys of rows that are answered, or in a part that has not ended."""
        return {key for (key,) in self._store.read(TAKEN, (job,))}

    def sum_usage(self, part: BatchPart) -> PartUsage:
        """The known usage of the rows of a part."""
        return PartUsage(*self._store.read(USAGE, part[:2])[0])

    def latest_parts(self, job: int) -> set[int]:
        """The parts in which rows were asked last: a later part may take over rows of another."""
        query = "SELECT DISTINCT part FROM rows WHERE job = ? AND part IS NOT NULL"
        return {part for (part,) in self._store.read(query, (job,))}

    def count_rows(self, job: int) -> int:
        """The number of rows of a job, identical ones counted once."""
        return int(self._store.read("SELECT count(*) FROM rows WHERE job = ?", (job,))[0][0])

    def mark_uploaded(self, part: BatchPart, file_id: str) -> BatchPart:
        return self._move(part, UPLOADED, file_id=file_id)

    def claim_creation(self, part: BatchPart) -> bool:
        """Reserve the creation of its batch for this process; False where another one has it."""
        with self._store.write() as connection:
            claim = connection.execute(
                """UPDATE batches SET step = ?, changed_ms = ?, host = ?, pid = ?, started = ?
                   WHERE job = ? AND part = ? AND step = ?""",
                (CREATING, now_ms(), *ProcessOwner.here(), *part[:2], UPLOADED),
            )
            return claim.rowcount == 1

    def set_entry(self, part: BatchPart, session: str, entry: int) -> BatchPart:
        """Store the id of its ledger entry."""
        return self._move(part, CREATING, session=session, entry=entry)

    def mark_not_created(self, part: BatchPart) -> BatchPart:
        """Its batch was refused; it may be created again."""
        return self._move(part, UPLOADED)

    def mark_created(self, part: BatchPart, batch_id: str, status: str) -> BatchPart:
        return self._move(part, CREATED, batch_id=batch_id, status=status)

    def update_status(
        self, part: BatchPart, status: str, completed: int, failed: int, said: str = ""
    ) -> BatchPart:
        """Store the provider's status. completed, failed: rows. said: its errors."""
        return self._move(
            part, part.step, status=status, completed=completed, failed=failed, said=said
        )

    def mark_ended(self, part: BatchPart) -> BatchPart:
        """All its outcomes are stored."""
        return self._move(part, ENDED)

    def drop(self, part: BatchPart) -> None:
        """Delete a part that was planned and never sent."""
        with self._store.write() as connection:
            connection.execute(
                "UPDATE rows SET part = NULL, held_nano_usd = 0 WHERE job = ? AND part = ?",
                part[:2],
            )
            connection.execute(
                "DELETE FROM batches WHERE job = ? AND part = ? AND step = ?", (*part[:2], PLANNED)
            )

    def _move(self, part: BatchPart, step: str, **values: Any) -> BatchPart:
        changes = {"step": step, "changed_ms": now_ms(), **values}
        names = ", ".join(f"{name} = ?" for name in changes)
        with self._store.write() as connection:
            connection.execute(
                f"UPDATE batches SET {names} WHERE job = ? AND part = ?",
                (*changes.values(), *part[:2]),
            )
        return part._replace(**changes)

    def unanswered_keys(self, part: BatchPart) -> set[str]:
        """The keys of the rows of a part that have no answer."""
        query = f"SELECT key FROM rows WHERE job = ? AND part = ? AND state NOT IN {ANSWERED}"
        return {key for (key,) in self._store.read(query, part[:2])}

    def open_keys(self, part: BatchPart) -> list[str]:
        """The keys of the rows of a part that have no outcome."""
        query = "SELECT key FROM rows WHERE job = ? AND part = ? AND state = 'open'"
        return [key for (key,) in self._store.read(query, part[:2])]

    def save_outcomes(self, part: BatchPart, outcomes: Iterable[RowOutcome]) -> None:
        """Store the outcomes of rows of a part."""
        now = now_ms()
        rows = (build_parameters(outcome, part, now) for outcome in outcomes)
        with self._store.write() as connection:
            connection.executemany(UPDATE_ROW, rows)

    def copy_answers(self, job: int, other: int) -> None:
        """Copy the answers of another job to the rows that have none in this one."""
        with self._store.write() as connection:
            connection.execute(COPY_ANSWERS, {"job": job, "other": other})

    def rows(self, job: int) -> Iterator[tuple[int, StoredRow]]:
        """All rows of a job with their indexes, copies included, in the order of the input."""
        copies = self._store.read(
            "SELECT place, key FROM copies WHERE job = ? ORDER BY place", (job,)
        )
        query = f"SELECT {ROW_COLUMNS} FROM rows WHERE job = ? ORDER BY place"
        unique = [StoredRow(*row) for row in self._store.read(query, (job,))]
        by_key = {row.key: row for row in unique}
        rows = [(row.place, row) for row in unique]
        rows += [(index, by_key[key]) for index, key in copies if key in by_key]
        return iter(sorted(rows, key=lambda pair: pair[0]))


def build_parameters(outcome: RowOutcome, part: BatchPart, now: int) -> tuple[Any, ...]:
    """The parameters of UPDATE_ROW."""
    answer = None
    if outcome.answer is not None:
        # Half a surrogate pair, which SQLite cannot store, becomes U+FFFD.
        text = json.dumps(outcome.answer, ensure_ascii=False, separators=(",", ":"))
        answer = text.encode("utf-8", "replace").decode()
    usage, cost = outcome.usage, outcome.cost_nano_usd
    return (
        *(outcome.state, now, answer, outcome.error.encode("utf-8", "replace").decode()),
        *(outcome.error_kind, outcome.source, usage.input_tokens, usage.cached_tokens),
        *(usage.output_tokens, usage.reasoning_tokens, cost, cost, cost is None),
        *(outcome.attempts, part.job, outcome.key, part.part),
    )
