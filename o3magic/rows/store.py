"""Jobs and their rows in a SQLite file: claimed before they are asked, kept as they are answered.

Nothing secret is in it, and no prompt of a row: only the template, keys, answers and their costs.
All methods may be called from any thread, and raise LedgerUnavailable where the file fails them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from o3magic.config import ledger_file
from o3magic.cost.database import MEMORY, Database, DatabaseKind
from o3magic.cost.ledger import now_ms
from o3magic.cost.process import ProcessOwner
from o3magic.errors import BadOption, did_you_mean
from o3magic.rows.migrations import ANSWERED, APPLICATION_ID, CLAIMED, MIGRATIONS, OPEN
from o3magic.rows.records import (
    COLUMNS,
    JOB,
    ClaimOutcome,
    ClaimRequest,
    Job,
    RowOutcome,
    StoredRow,
    parse_job,
)

if TYPE_CHECKING:
    from sqlite3 import Connection

KIND = DatabaseKind(APPLICATION_ID, "file of jobs", "O3MAGIC_JOBS")
PAGE_ROWS = 500  # SQLite takes at least 999 parameters

CREATE_JOB = """
INSERT INTO jobs (digest, kind, name, created_ms, changed_ms, notebook, provider, model, spec)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING
"""
CLAIM = """
INSERT INTO rows (job, key, place, state, at_ms, host, pid, started, run, held_nano_usd)
VALUES (?, ?, ?, 'claimed', ?, ?, ?, ?, ?, ?)
ON CONFLICT (job, key) DO UPDATE SET
    lost = lost + (state = 'claimed'), state = 'claimed', at_ms = excluded.at_ms,
    host = excluded.host, pid = excluded.pid, started = excluded.started, run = excluded.run,
    held_nano_usd = held_nano_usd + excluded.held_nano_usd
"""
END = """
UPDATE rows
SET state = ?, at_ms = ?, answer = ?, error = ?, error_kind = ?, source = ?, input_tokens = ?,
    cached_tokens = ?, output_tokens = ?, reasoning_tokens = ?,
    cost_nano_usd = CASE WHEN cost_nano_usd IS NULL THEN ? ELSE cost_nano_usd + ifnull(?, 0) END,
    held_nano_usd = max(0, held_nano_usd - ?), attempts = attempts + ?, entry = ?
WHERE job = ? AND key = ? AND state = 'claimed' AND run = ?
"""
MARK_LOST = """
UPDATE rows SET state = 'open', lost = lost + 1, run = ''
WHERE job = ? AND key = ? AND state = 'claimed' AND run = ?
"""
MARK_SETTLED = "UPDATE rows SET entry = NULL WHERE job = ? AND key = ?"


def jobs_file(environment: Mapping[str, str]) -> Path | str:
    """Where jobs are kept: O3MAGIC_JOBS, or beside the ledger, or in memory where that is."""
    if own := environment.get("O3MAGIC_JOBS"):
        return own if own == MEMORY else Path(own).expanduser()
    ledger = ledger_file(environment)
    return MEMORY if ledger == MEMORY else Path(ledger).with_name("jobs.sqlite3")


class JobStore:
    """The jobs of one file, or of one memory. Making one touches no file; its first use does."""

    def __init__(
        self,
        path: Path | str,
        *,
        busy_timeout_s: float = 5.0,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
    ) -> None:
        self.store = Database(path, migrations, busy_timeout_s, KIND)
        self._owner: ProcessOwner | None = None

    def begin(
        self,
        kind: str,
        digest: str,
        *,
        name: str = "",
        spec: Mapping[str, Any] | None = None,
        notebook: str = "",
        provider: str = "",
        model: str = "",
    ) -> Job:
        """The job of this digest, made where there is none. `spec` may hold no secret."""
        now = now_ms()
        said = json.dumps(spec or {}, ensure_ascii=False)
        row = (digest, kind, name, now, now, notebook, provider, model, said)
        with self.store.write() as connection:
            connection.execute(CREATE_JOB, row)
            found = connection.execute(f"SELECT {JOB} FROM jobs WHERE digest = ?", (digest,))
            return parse_job(found.fetchone())

    def change(
        self, job: int, *, state: str | None = None, total: int | None = None, said: str = ""
    ) -> None:
        """A job's new state, its number of rows, and a line about how it ended."""
        with self.store.write() as connection:
            connection.execute(
                """UPDATE jobs SET state = ifnull(?, state), total = ifnull(?, total), said = ?,
                   changed_ms = ? WHERE id = ?""",
                (state, total, said, now_ms(), job),
            )

    def jobs(self, kind: str | None = None) -> list[Job]:
        """All jobs, the last one first."""
        where, given = ("WHERE kind = ?", (kind,)) if kind else ("", ())
        query = f"SELECT {JOB} FROM jobs {where} ORDER BY changed_ms DESC, id DESC"
        return [parse_job(row) for row in self.store.read(query, given)]

    def job(self, named: int | str) -> Job:
        """The job of an id or a name, the last one of that name. Raises BadOption."""
        word = str(named).strip().removeprefix("#")
        column, value = ("id", int(word)) if word.isdecimal() else ("name", word)
        query = f"SELECT {JOB} FROM jobs WHERE {column} = ? ORDER BY id DESC LIMIT 1"
        if found := self.store.read(query, (value,)):
            return parse_job(found[0])
        names = [job.name for job in self.jobs() if job.name]
        hint = did_you_mean(word, names, "%o3_jobs lists them")
        raise BadOption(f"there is no job {word!r}", hint=hint)

    def delete(self, job: int) -> None:
        """Forget a job and its answers; what it cost stays in the ledger."""
        with self.store.write() as connection:
            connection.execute("DELETE FROM rows WHERE job = ?", (job,))
            connection.execute("DELETE FROM jobs WHERE id = ?", (job,))

    def answered(self, job: int) -> set[str]:
        """The keys of all rows that were answered and paid for."""
        query = "SELECT key FROM rows WHERE job = ? AND state IN (?, ?)"
        return {key for (key,) in self.store.read(query, (job, *ANSWERED))}

    def claim(
        self, job: int, run: str, wanted: Sequence[ClaimRequest], budget_nano_usd: int | None = None
    ) -> list[ClaimOutcome]:
        """Take rows for this run, each with the most it can cost held of the job's budget.

        What comes of each, in their order: mine, theirs (another process is at it), answered, or
        budget (it has not as much left). A row of a process that died is mine, and counted as
        lost: what it was asked may have been paid for.
        """
        here = self._here()
        with self.store.write() as connection:
            known = self._known(connection, job, [each.key for each in wanted])
            left = self._left(connection, job, budget_nano_usd)
            said: list[ClaimOutcome] = []
            for each in wanted:
                state, owner, its_run = known.get(each.key, (OPEN, None, ""))
                if state in ANSWERED:
                    said.append("answered")
                elif state == CLAIMED and (its_run == run or lives(owner)):
                    said.append("theirs")
                elif left is not None and each.worst_nano_usd > left:
                    said.append("budget")
                else:
                    left = None if left is None else left - each.worst_nano_usd
                    row = (job, each.key, each.place, now_ms(), *here, run, each.worst_nano_usd)
                    connection.execute(CLAIM, row)
                    known[each.key] = (CLAIMED, here, run)
                    said.append("mine")
            return said

    def _known(
        self, connection: Connection, job: int, keys: Sequence[str]
    ) -> dict[str, tuple[str, ProcessOwner | None, str]]:
        """State, owner and run of the rows of these keys."""
        found: dict[str, tuple[str, ProcessOwner | None, str]] = {}
        for some in paginate(keys):
            marks = ",".join("?" * len(some))
            rows = connection.execute(
                f"""SELECT key, state, run, host, pid, started FROM rows
                    WHERE job = ? AND key IN ({marks})""",
                (job, *some),
            )
            for key, state, run, host, pid, started in rows:
                found[key] = (state, ProcessOwner(host, pid, started), run)
        return found

    def _left(self, connection: Connection, job: int, budget_nano_usd: int | None) -> int | None:
        """What a job may still spend, or None where it has no budget."""
        if budget_nano_usd is None:
            return None
        query = "SELECT spent_nano_usd + held_nano_usd FROM jobs WHERE id = ?"
        gone = connection.execute(query, (job,)).fetchone()
        return max(0, budget_nano_usd - (gone[0] if gone else 0))

    def hold(self, job: int, key: str, nano_usd: int, budget_nano_usd: int | None = None) -> bool:
        """Hold more for a row that is asked once more; False where the budget lacks it."""
        with self.store.write() as connection:
            left = self._left(connection, job, budget_nano_usd)
            if left is not None and nano_usd > left:
                return False
            connection.execute(
                "UPDATE rows SET held_nano_usd = held_nano_usd + ? WHERE job = ? AND key = ?",
                (nano_usd, job, key),
            )
            return True

    def end(
        self, job: int, run: str, endings: Iterable[RowOutcome], settled: Iterable[str] = ()
    ) -> None:
        """Keep what became of rows of this run. settled: keys of those the ledger has by now."""
        now = now_ms()
        with self.store.write() as connection:
            connection.executemany(END, (each.row(now, job, run) for each in endings))
            connection.executemany(MARK_SETTLED, ((job, key) for key in settled))

    def unsettled_rows(self, job: int) -> list[tuple[ProcessOwner, int, StoredRow]]:
        """Rows whose process died before the ledger had their cost: whose, the entry, the row."""
        query = f"""SELECT host, pid, started, entry, {COLUMNS} FROM rows
                    WHERE job = ? AND entry IS NOT NULL"""
        rows = self.store.read(query, (job,))
        found = [(ProcessOwner(*row[:3]), int(row[3]), StoredRow(*row[4:])) for row in rows]
        return [each for each in found if each[0].alive() is False]

    def lose(self, job: int, run: str, keys: Iterable[str]) -> None:
        """Give up rows of this run whose answers come no more: what was asked may be paid for."""
        with self.store.write() as connection:
            connection.executemany(MARK_LOST, ((job, key, run) for key in keys))

    def release(self, job: int, run: str) -> int:
        """Let go of all rows this run still has; gives how many those were."""
        with self.store.write() as connection:
            query = "UPDATE rows SET state = ?, run = '' WHERE job = ? AND run = ? AND state = ?"
            return connection.execute(query, (OPEN, job, run, CLAIMED)).rowcount

    def running(self, job: int, run: str) -> int:
        """How many rows other processes that live are at now."""
        query = """SELECT host, pid, started, count(*) FROM rows
                   WHERE job = ? AND state = ? AND run <> ? GROUP BY host, pid, started"""
        rows = self.store.read(query, (job, CLAIMED, run))
        return sum(count for *owner, count in rows if ProcessOwner(*owner).alive() is not False)

    def read(self, job: int, keys: Sequence[str]) -> Iterator[StoredRow]:
        """The rows of these keys as far as they are there, in no order, read page by page."""
        for some in paginate(keys):
            marks = ",".join("?" * len(some))
            query = f"SELECT {COLUMNS} FROM rows WHERE job = ? AND key IN ({marks})"
            yield from (StoredRow(*row) for row in self.store.read(query, (job, *some)))

    def first(self, job: int, most: int) -> list[StoredRow]:
        """The first rows of a job, in the order of their places."""
        query = f"SELECT {COLUMNS} FROM rows WHERE job = ? ORDER BY place LIMIT ?"
        return [StoredRow(*row) for row in self.store.read(query, (job, most))]

    def simulated(self, job: int) -> int:
        """How many rows of a job the simulator answered."""
        query = "SELECT count(*) FROM rows WHERE job = ? AND source = 'simulated'"
        return int(self.store.read(query, (job,))[0][0])

    def unknown(self, job: int) -> int:
        """How many rows of a job were asked, and nobody knows at what cost."""
        query = """SELECT count(*) FROM rows
                   WHERE job = ? AND source = 'live' AND cost_nano_usd IS NULL"""
        return int(self.store.read(query, (job,))[0][0])

    def close(self) -> None:
        """Let go of the file; a later call opens it again. What was in memory is gone."""
        self.store.close()

    def _here(self) -> ProcessOwner:
        if self._owner is None or not self._owner.current():
            self._owner = ProcessOwner.here()  # again after a fork: that is another process
        return self._owner


def paginate(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Keys in portions that fit into one query."""
    for start in range(0, len(keys), PAGE_ROWS):
        yield keys[start : start + PAGE_ROWS]


def lives(owner: ProcessOwner | None) -> bool:
    """Whether a process may still be there."""
    return owner is not None and owner.alive() is not False
