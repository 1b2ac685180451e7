"""The job store: jobs and their rows in SQLite, claimed before they are sent, saved when answered.

It holds templates, keys, answers and costs, but no secrets and no prompts of rows. All methods are
thread-safe, and raise LedgerUnavailable where the file cannot be read or written.
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
    JOB_COLUMNS,
    ROW_COLUMNS,
    ClaimOutcome,
    ClaimRequest,
    Job,
    RowOutcome,
    StoredRow,
    parse_job,
)

if TYPE_CHECKING:
    from sqlite3 import Connection

DATABASE_KIND = DatabaseKind(APPLICATION_ID, "file of jobs", "O3MAGIC_JOBS")
PAGE_ROWS = 500  # the least limit of SQLite is 999 parameters

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
SAVE_OUTCOME = """
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
    """Return the path of the job store: O3MAGIC_JOBS, else beside the ledger or in memory too."""
    if own := environment.get("O3MAGIC_JOBS"):
        return own if own == MEMORY else Path(own).expanduser()
    ledger = ledger_file(environment)
    return MEMORY if ledger == MEMORY else Path(ledger).with_name("jobs.sqlite3")


class JobStore:
    """The jobs of one file or in memory. The file is opened at the first use."""

    def __init__(
        self,
        path: Path | str,
        *,
        busy_timeout_s: float = 5.0,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
    ) -> None:
        self.store = Database(path, migrations, busy_timeout_s, DATABASE_KIND)
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
        """Return the job of this digest, created if there is none. spec: without secrets."""
        now = now_ms()
        spec_json = json.dumps(spec or {}, ensure_ascii=False)
        row = (digest, kind, name, now, now, notebook, provider, model, spec_json)
        with self.store.write() as connection:
            connection.execute(CREATE_JOB, row)
            rows = connection.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE digest = ?", (digest,))
            return parse_job(rows.fetchone())

    def change(
        self, job: int, *, state: str | None = None, total: int | None = None, said: str = ""
    ) -> None:
        """Update the state of a job, its number of rows, and the message about its end."""
        with self.store.write() as connection:
            connection.execute(
                """UPDATE jobs SET state = ifnull(?, state), total = ifnull(?, total), said = ?,
                   changed_ms = ? WHERE id = ?""",
                (state, total, said, now_ms(), job),
            )

    def jobs(self, kind: str | None = None) -> list[Job]:
        """Return all jobs, the latest first."""
        where, parameters = ("WHERE kind = ?", (kind,)) if kind else ("", ())
        query = f"SELECT {JOB_COLUMNS} FROM jobs {where} ORDER BY changed_ms DESC, id DESC"
        return [parse_job(row) for row in self.store.read(query, parameters)]

    def job(self, named: int | str) -> Job:
        """Return the job of an id, or the latest of a name. Raises BadOption."""
        word = str(named).strip().removeprefix("#")
        column, value = ("id", int(word)) if word.isdecimal() else ("name", word)
        query = f"SELECT {JOB_COLUMNS} FROM jobs WHERE {column} = ? ORDER BY id DESC LIMIT 1"
        if rows := self.store.read(query, (value,)):
            return parse_job(rows[0])
        names = [job.name for job in self.jobs() if job.name]
        hint = did_you_mean(word, names, "%o3_jobs lists them")
        raise BadOption(f"there is no job {word!r}", hint=hint)

    def delete(self, job: int) -> None:
        """Delete a job and its answers; its costs stay in the ledger."""
        with self.store.write() as connection:
            connection.execute("DELETE FROM rows WHERE job = ?", (job,))
            connection.execute("DELETE FROM jobs WHERE id = ?", (job,))

    def answered(self, job: int) -> set[str]:
        """Return the keys of all answered rows."""
        query = "SELECT key FROM rows WHERE job = ? AND state IN (?, ?)"
        return {key for (key,) in self.store.read(query, (job, *ANSWERED))}

    def claim(
        self, job: int, run: str, wanted: Sequence[ClaimRequest], budget_nano_usd: int | None = None
    ) -> list[ClaimOutcome]:
        """Claim rows for this run, and reserve the highest possible cost of each.

        Returns the result of each, in their order: mine, theirs (claimed by another process),
        answered, or budget (the job's budget does not cover it). A row of a process that died can
        be claimed, and its call counts as lost, as it may have been billed.
        """
        here = self._here()
        with self.store.write() as connection:
            known = self._read_claims(connection, job, [request.key for request in wanted])
            left = self._left(connection, job, budget_nano_usd)
            outcomes: list[ClaimOutcome] = []
            for request in wanted:
                state, owner, its_run = known.get(request.key, (OPEN, None, ""))
                if state in ANSWERED:
                    outcomes.append("answered")
                elif state == CLAIMED and (its_run == run or may_be_alive(owner)):
                    outcomes.append("theirs")
                elif left is not None and request.worst_nano_usd > left:
                    outcomes.append("budget")
                else:
                    left = None if left is None else left - request.worst_nano_usd
                    row = (
                        job,
                        request.key,
                        request.place,
                        now_ms(),
                        *here,
                        run,
                        request.worst_nano_usd,
                    )
                    connection.execute(CLAIM, row)
                    known[request.key] = (CLAIMED, here, run)
                    outcomes.append("mine")
            return outcomes

    def _read_claims(
        self, connection: Connection, job: int, keys: Sequence[str]
    ) -> dict[str, tuple[str, ProcessOwner | None, str]]:
        """Return state, owner and run of the rows of these keys."""
        claims: dict[str, tuple[str, ProcessOwner | None, str]] = {}
        for page in paginate(keys):
            marks = ",".join("?" * len(page))
            rows = connection.execute(
                f"""SELECT key, state, run, host, pid, started FROM rows
                    WHERE job = ? AND key IN ({marks})""",
                (job, *page),
            )
            for key, state, run, host, pid, started in rows:
                claims[key] = (state, ProcessOwner(host, pid, started), run)
        return claims

    def _left(self, connection: Connection, job: int, budget_nano_usd: int | None) -> int | None:
        """Return what is left of a job's budget, or None where there is none."""
        if budget_nano_usd is None:
            return None
        query = "SELECT spent_nano_usd + held_nano_usd FROM jobs WHERE id = ?"
        row = connection.execute(query, (job,)).fetchone()
        return max(0, budget_nano_usd - (row[0] if row else 0))

    def hold(self, job: int, key: str, nano_usd: int, budget_nano_usd: int | None = None) -> bool:
        """Reserve more for a further call of a row; return False where the budget is too small."""
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
        """Save outcomes of rows of this run. settled: keys of rows whose last call is settled."""
        now = now_ms()
        with self.store.write() as connection:
            connection.executemany(
                SAVE_OUTCOME, (outcome.row(now, job, run) for outcome in endings)
            )
            connection.executemany(MARK_SETTLED, ((job, key) for key in settled))

    def unsettled_rows(self, job: int) -> list[tuple[ProcessOwner, int, StoredRow]]:
        """Return (owner, ledger entry, row) of the calls that a process left unsettled."""
        query = f"""SELECT host, pid, started, entry, {ROW_COLUMNS} FROM rows
                    WHERE job = ? AND entry IS NOT NULL"""
        rows = self.store.read(query, (job,))
        unsettled = [(ProcessOwner(*row[:3]), int(row[3]), StoredRow(*row[4:])) for row in rows]
        return [item for item in unsettled if item[0].alive() is False]

    def lose(self, job: int, run: str, keys: Iterable[str]) -> None:
        """Release rows of this run whose calls are lost; these may have been billed."""
        with self.store.write() as connection:
            connection.executemany(MARK_LOST, ((job, key, run) for key in keys))

    def release(self, job: int, run: str) -> int:
        """Release all rows that this run has claimed; return how many."""
        with self.store.write() as connection:
            query = "UPDATE rows SET state = ?, run = '' WHERE job = ? AND run = ? AND state = ?"
            return connection.execute(query, (OPEN, job, run, CLAIMED)).rowcount

    def running(self, job: int, run: str) -> int:
        """Count the rows that other living processes have claimed."""
        query = """SELECT host, pid, started, count(*) FROM rows
                   WHERE job = ? AND state = ? AND run <> ? GROUP BY host, pid, started"""
        rows = self.store.read(query, (job, CLAIMED, run))
        return sum(count for *owner, count in rows if ProcessOwner(*owner).alive() is not False)

    def read(self, job: int, keys: Sequence[str]) -> Iterator[StoredRow]:
        """Read the stored rows of these keys, in no order, page by page."""
        for page in paginate(keys):
            marks = ",".join("?" * len(page))
            query = f"SELECT {ROW_COLUMNS} FROM rows WHERE job = ? AND key IN ({marks})"
            yield from (StoredRow(*row) for row in self.store.read(query, (job, *page)))

    def first(self, job: int, most: int) -> list[StoredRow]:
        """Return the first rows of a job, in the order of the input."""
        query = f"SELECT {ROW_COLUMNS} FROM rows WHERE job = ? ORDER BY place LIMIT ?"
        return [StoredRow(*row) for row in self.store.read(query, (job, most))]

    def simulated(self, job: int) -> int:
        """Count the rows of a job that the simulator answered."""
        query = "SELECT count(*) FROM rows WHERE job = ? AND source = 'simulated'"
        return int(self.store.read(query, (job,))[0][0])

    def unknown(self, job: int) -> int:
        """Count the rows of a job of unknown cost."""
        query = """SELECT count(*) FROM rows
                   WHERE job = ? AND source = 'live' AND cost_nano_usd IS NULL"""
        return int(self.store.read(query, (job,))[0][0])

    def close(self) -> None:
        """Close the file; a later call opens it again. A store in memory is deleted."""
        self.store.close()

    def _here(self) -> ProcessOwner:
        if self._owner is None or not self._owner.current():
            self._owner = ProcessOwner.here()  # after a fork this is another process
        return self._owner


def paginate(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split keys into portions that fit into one query."""
    for start in range(0, len(keys), PAGE_ROWS):
        yield keys[start : start + PAGE_ROWS]


def may_be_alive(owner: ProcessOwner | None) -> bool:
    """Return whether a process may still run."""
    return owner is not None and owner.alive() is not False
