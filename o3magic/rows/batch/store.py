"""What is kept of batches, in the file of jobs: see `batch_schema`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from o3magic.cost.ledger import now_ms
from o3magic.cost.process import ProcessOwner
from o3magic.errors import BadOption
from o3magic.rows.migrations import ANSWERED, CREATED, CREATING, ENDED, PLANNED, UPLOADED
from o3magic.rows.records import COLUMNS, RowOutcome, StoredRow
from o3magic.rows.store import JobStore

NEW_ROW = """
INSERT INTO rows (job, key, place, state, at_ms, held_nano_usd, part, error, error_kind)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job, key) DO UPDATE SET
    state = excluded.state, at_ms = excluded.at_ms, part = excluded.part,
    held_nano_usd = held_nano_usd + excluded.held_nano_usd, error = '', error_kind = ''
"""
# An answer that is there already stands: a file may be read twice.
KEEP = f"""
UPDATE rows
SET state = ?, at_ms = ?, answer = ?, error = ?, error_kind = ?, source = ?, input_tokens = ?,
    cached_tokens = ?, output_tokens = ?, reasoning_tokens = ?,
    cost_nano_usd = CASE WHEN cost_nano_usd IS NULL THEN ? ELSE cost_nano_usd + ifnull(?, 0) END,
    held_nano_usd = iif(?, held_nano_usd, 0), attempts = attempts + ?
WHERE job = ? AND key = ? AND part = ? AND state NOT IN {ANSWERED}
"""


# Rows that are answered, or in a part whose end is still to come.
TAKEN = f"""
SELECT key FROM rows LEFT JOIN batches USING (job, part)
WHERE job = ? AND (state IN {ANSWERED} OR (step IS NOT NULL AND step <> 'ended'))
"""
# What the rows of a part used, of those that were answered at all.
USED = """
SELECT count(*), count(*) - count(cost_nano_usd), ifnull(sum(cost_nano_usd), 0),
       count(*) - count(input_tokens), ifnull(sum(input_tokens), 0), ifnull(sum(cached_tokens), 0),
       ifnull(sum(output_tokens), 0), ifnull(sum(reasoning_tokens), 0)
FROM rows WHERE job = ? AND part = ? AND source <> ''
"""


# Answers that came by another job to the same questions.
ADOPT = """
UPDATE rows SET (state, at_ms, answer, error, error_kind, source, input_tokens, cached_tokens,
                 output_tokens, reasoning_tokens, cost_nano_usd, attempts) =
    (SELECT state, at_ms, answer, error, error_kind, source, input_tokens, cached_tokens,
            output_tokens, reasoning_tokens, cost_nano_usd, rows.attempts + attempts
     FROM rows AS other WHERE other.job = :other AND other.key = rows.key)
WHERE job = :job AND state <> 'done'
  AND key IN (SELECT key FROM rows WHERE job = :other AND state = 'done')
"""


class PartUsage(NamedTuple):
    """What the answered rows of a part used together."""

    rows: int
    unknown_cost_rows: int
    cost_nano_usd: int
    unknown_tokens_rows: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int


class BatchPart(NamedTuple):
    """One batch of a job as it stands. `status` is the provider's word, "" before it has one."""

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
        """The process that was at it last."""
        return ProcessOwner(self.host, self.pid, self.started)


class NewRow(NamedTuple):
    """A row that is to be asked: its key, where it stands first, the most it can cost."""

    key: str
    place: int
    worst_nano_usd: int = 0
    error: str = ""
    error_kind: str = ""


class BatchStore:
    """The parts of jobs, and the rows in them. Raises LedgerUnavailable where the file fails."""

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
        """Keep rows and the parts they are asked in, behind those that are there already.

        broken: rows that cannot be asked. copies: (place, key) of rows that repeat another.
        """
        now, here = now_ms(), ProcessOwner.here()
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
                connection.executemany(
                    NEW_ROW,
                    (
                        (job, row.key, row.place, "open", now, row.worst_nano_usd, number, "", "")
                        for row in rows
                    ),
                )
            connection.executemany(
                NEW_ROW,
                (
                    (job, row.key, row.place, "failed", now, 0, None, row.error, row.error_kind)
                    for row in broken
                ),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO copies (job, place, key) VALUES (?, ?, ?)",
                ((job, place, key) for place, key in copies),
            )
        return [part for part in self.parts(job) if part.part >= first]

    def parts(self, job: int) -> list[BatchPart]:
        """The parts of a job, in their order."""
        query = f"SELECT {', '.join(BatchPart._fields)} FROM batches WHERE job = ? ORDER BY part"
        return [BatchPart(*row) for row in self._store.read(query, (job,))]

    def part(self, part: BatchPart) -> BatchPart:
        """The same part as it stands now."""
        return next(each for each in self.parts(part.job) if each.part == part.part)

    def taken(self, job: int) -> set[str]:
        """The keys of rows that are answered or on their way."""
        return {key for (key,) in self._store.read(TAKEN, (job,))}

    def used(self, part: BatchPart) -> PartUsage:
        """What the rows of a part used, as far as it is known."""
        return PartUsage(*self._store.read(USED, part[:2])[0])

    def asked_in(self, job: int) -> set[int]:
        """The parts in which rows were asked last: later ones take over from others."""
        query = "SELECT DISTINCT part FROM rows WHERE job = ? AND part IS NOT NULL"
        return {part for (part,) in self._store.read(query, (job,))}

    def total(self, job: int) -> int:
        """How many rows a job asks, each once."""
        return int(self._store.read("SELECT count(*) FROM rows WHERE job = ?", (job,))[0][0])

    def uploaded(self, part: BatchPart, file_id: str) -> BatchPart:
        """Its file is at the provider."""
        return self._move(part, UPLOADED, file_id=file_id)

    def creating(self, part: BatchPart) -> bool:
        """It is about to be made, by this process; False where another one was faster."""
        with self._store.write() as connection:
            moved = connection.execute(
                """UPDATE batches SET step = ?, changed_ms = ?, host = ?, pid = ?, started = ?
                   WHERE job = ? AND part = ? AND step = ?""",
                (CREATING, now_ms(), *ProcessOwner.here(), *part[:2], UPLOADED),
            )
            return moved.rowcount == 1

    def entered(self, part: BatchPart, session: str, entry: int) -> BatchPart:
        """It is in the ledger."""
        return self._move(part, CREATING, session=session, entry=entry)

    def not_created(self, part: BatchPart) -> BatchPart:
        """It was refused: it may be made again."""
        return self._move(part, UPLOADED)

    def created(self, part: BatchPart, batch_id: str, status: str) -> BatchPart:
        """It is there."""
        return self._move(part, CREATED, batch_id=batch_id, status=status)

    def stands(
        self, part: BatchPart, status: str, completed: int, failed: int, said: str
    ) -> BatchPart:
        """How it stands at the provider."""
        return self._move(
            part, part.step, status=status, completed=completed, failed=failed, said=said
        )

    def ended(self, part: BatchPart) -> BatchPart:
        """All that came of it is kept."""
        return self._move(part, ENDED)

    def dropped(self, part: BatchPart) -> BatchPart:
        """It was planned and never sent."""
        with self._store.write() as connection:
            connection.execute(
                "UPDATE rows SET part = NULL, held_nano_usd = 0 WHERE job = ? AND part = ?",
                part[:2],
            )
            connection.execute(
                "DELETE FROM batches WHERE job = ? AND part = ? AND step = ?", (*part[:2], PLANNED)
            )
        return part

    def _move(self, part: BatchPart, step: str, **values: Any) -> BatchPart:
        said = {"step": step, "changed_ms": now_ms(), **values}
        names = ", ".join(f"{name} = ?" for name in said)
        with self._store.write() as connection:
            connection.execute(
                f"UPDATE batches SET {names} WHERE job = ? AND part = ?",
                (*said.values(), *part[:2]),
            )
        return part._replace(**said)

    def waiting(self, part: BatchPart) -> set[str]:
        """The keys of the rows of a part that have no answer yet."""
        query = f"SELECT key FROM rows WHERE job = ? AND part = ? AND state NOT IN {ANSWERED}"
        return {key for (key,) in self._store.read(query, part[:2])}

    def untold(self, part: BatchPart) -> list[str]:
        """The keys of the rows of a part of which nothing was said yet."""
        query = "SELECT key FROM rows WHERE job = ? AND part = ? AND state = 'open'"
        return [key for (key,) in self._store.read(query, part[:2])]

    def keep(self, part: BatchPart, endings: Iterable[RowOutcome]) -> None:
        """What became of rows of a part."""
        now = now_ms()
        rows = (build_parameters(each, part, now) for each in endings)
        with self._store.write() as connection:
            connection.executemany(KEEP, rows)

    def adopt(self, job: int, other: int) -> None:
        """Take over what another job has answered of the questions that are open here."""
        with self._store.write() as connection:
            connection.execute(ADOPT, {"job": job, "other": other})

    def rows(self, job: int) -> Iterator[tuple[int, StoredRow]]:
        """All rows of a job with their places, copies too, in the order they came in."""
        copies = self._store.read(
            "SELECT place, key FROM copies WHERE job = ? ORDER BY place", (job,)
        )
        query = f"SELECT {COLUMNS} FROM rows WHERE job = ? ORDER BY place"
        found = [StoredRow(*row) for row in self._store.read(query, (job,))]
        by_key = {row.key: row for row in found}
        every = [(row.place, row) for row in found]
        every += [(place, by_key[key]) for place, key in copies if key in by_key]
        return iter(sorted(every, key=lambda each: each[0]))


def build_parameters(ending: RowOutcome, part: BatchPart, now: int) -> tuple[Any, ...]:
    """An ending as the parameters of `KEEP`."""
    said = None
    if ending.answer is not None:
        # Half of a surrogate pair, which SQLite has not, becomes U+FFFD.
        text = json.dumps(ending.answer, ensure_ascii=False, separators=(",", ":"))
        said = text.encode("utf-8", "replace").decode()
    usage = ending.usage
    return (
        ending.state,
        now,
        said,
        ending.error.encode("utf-8", "replace").decode(),
        ending.error_kind,
        ending.source,
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        ending.cost_nano_usd,
        ending.cost_nano_usd,
        ending.cost_nano_usd is None,
        ending.attempts,
        *(part.job, ending.key, part.part),
    )
