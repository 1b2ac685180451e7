"""The file: how it is made, migrated and locked, and what is said when it fails."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from o3magic.cost.database import Database
from o3magic.cost.ledger import Attempt, Ledger, Outcome
from o3magic.cost.schema import APPLICATION_ID, MIGRATIONS
from o3magic.errors import LedgerUnavailable
from o3magic.events import Usage

ASK = Attempt("s1", "openai", "o3-mini")
THIS = len(MIGRATIONS)
NEXT = (*MIGRATIONS, ("ALTER TABLE entries ADD COLUMN colour TEXT NOT NULL DEFAULT ''",))
BROKEN = (*MIGRATIONS, ("CREATE TABLE halfway (id)", "INSERT INTO nowhere VALUES (1)"))
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions, forks and limits")


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def refusal(path: Path, **options: float) -> LedgerUnavailable:
    """What using the ledger at that path ends with."""
    with closing(Ledger(path, **options)) as ledger, pytest.raises(LedgerUnavailable) as caught:
        ledger.enter(ASK)
    assert caught.value.hint
    assert len(caught.value.lines()) == 2
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def counter(path: Path) -> Iterator[Database]:
    with closing(Database(path, [["CREATE TABLE n (i INTEGER)"]], 1.0)) as store:
        yield store


def test_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "ledger.db"
    with closing(Ledger(path)) as ledger:
        ledger.enter(ASK)
    assert path.exists()


@POSIX
def test_the_file_and_what_lies_beside_it_are_for_their_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(Ledger(path)) as ledger:
            ledger.enter(ASK)
            modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm"], 0o600)


def test_the_file_is_a_numbered_ledger_in_wal_mode(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.enter(ASK)
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "user_version") == len(MIGRATIONS)
    assert pragma(path, "application_id") == APPLICATION_ID


def test_a_failed_or_interrupted_write_is_undone(counter: Database) -> None:
    def fail(error: type[BaseException]) -> None:
        with counter.write() as connection:
            connection.execute("INSERT INTO n VALUES (1)")
            raise error

    for error in (KeyboardInterrupt, ZeroDivisionError):
        with pytest.raises(error):
            fail(error)
    with counter.write() as connection:
        connection.execute("INSERT INTO n VALUES (2)")
    assert counter.read("SELECT i FROM n") == [(2,)]


def test_a_write_inside_a_write_of_the_same_thread_joins_it(counter: Database) -> None:
    with counter.write() as outer:
        outer.execute("INSERT INTO n VALUES (1)")
        with counter.write() as inner:
            inner.execute("INSERT INTO n VALUES (2)")
        with pytest.raises(LedgerUnavailable), counter.write() as inner:
            inner.execute("INSERT INTO nowhere VALUES (3)")
    counter.close()
    assert counter.read("SELECT i FROM n") == [(1,), (2,)]


@pytest.mark.parametrize("where", ["counts.sqlite3", ":memory:"])
def test_a_store_nobody_has_any_more_is_closed(tmp_path: Path, where: str) -> None:
    path = where if where == ":memory:" else tmp_path / where
    store = Database(path, [["CREATE TABLE n (i INTEGER)"]], 1.0)
    with store.write() as connection:
        connection.execute("INSERT INTO n VALUES (1)")
    del store
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_transaction_that_lost_its_rollback_is_undone_by_the_next(counter: Database) -> None:
    counter.read("BEGIN IMMEDIATE")
    counter.read("INSERT INTO n VALUES (1)")
    with counter.write() as connection:
        connection.execute("INSERT INTO n VALUES (2)")
    assert counter.read("SELECT i FROM n") == [(2,)]


@pytest.mark.parametrize("busy_timeout_s", [0.05, 5.0])
def test_a_new_file_that_another_is_just_making_is_waited_for(
    path: Path, busy_timeout_s: float
) -> None:
    with (
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
        closing(Ledger(path, busy_timeout_s=busy_timeout_s)) as ledger,
    ):
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        timer.start()
        try:
            if busy_timeout_s < 1:
                with pytest.raises(LedgerUnavailable, match="locked by another"):
                    ledger.enter(ASK)
            else:
                assert ledger.enter(ASK) == 1
        finally:
            timer.join()


@pytest.mark.parametrize("round_", range(8))
def test_many_may_make_the_file_at_the_same_moment(path: Path, round_: int) -> None:
    kernels = 12
    together = threading.Barrier(kernels)

    def use(_: int) -> None:
        with closing(Ledger(path)) as ledger:
            together.wait()
            ledger.enter(ASK)

    with ThreadPoolExecutor(kernels) as pool:
        [*pool.map(use, range(kernels))]
    with closing(Ledger(path)) as ledger:
        assert ledger.totals()[0].live.calls == kernels


def test_an_older_file_is_migrated_after_a_copy(path: Path) -> None:
    with closing(Ledger(path)) as older:
        row = older.enter(ASK)
        with closing(Ledger(path, migrations=NEXT)) as newer:
            newer.settle(row, Outcome("ok", Usage(1, 0, 1), 5))
            assert newer.totals()[0].live.cost_nano_usd == 5
    copy = path.with_name(f"ledger.db.bak-{THIS}")
    assert pragma(path, "user_version") == THIS + 1
    assert pragma(copy, "user_version") == THIS
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600 or os.name != "posix"
    with closing(Ledger(copy)) as kept:
        assert [(e.id, e.status) for e in kept.entries()] == [(row, "pending")]
    assert not [*path.parent.glob("*.part")]


def test_a_ledger_of_the_first_version_keeps_its_rows_and_sums(path: Path) -> None:
    with closing(Database(path, MIGRATIONS[:1], 1.0)) as first, first.write() as connection:
        connection.execute(
            """INSERT INTO entries (at_ms, session, provider, model, effort, service_tier,
               schema_name, notebook, cell_key, source, kind, cost_nano_usd, host, pid, started)
               VALUES (0, 's', 'openai', 'o3-mini', '', '', '', '', '', 'live', 'ask', 7, '', 1, '')
            """
        )
    with closing(Ledger(path)) as ledger:
        row = ledger.enter(replace(ASK, worst_nano_usd=50))
        [total] = ledger.totals(by=())
        assert (total.live.calls, total.live.cost_nano_usd, total.live.held_nano_usd) == (2, 7, 50)
        ledger.settle(row, Outcome("ok", Usage(1, 0, 1), 5))
        [total] = ledger.totals(by=())
        assert (total.live.cost_nano_usd, total.live.held_nano_usd) == (12, 0)
    assert path.with_name("ledger.db.bak-1").exists()


def test_a_ledger_of_the_second_version_gains_what_tools_of_the_provider_cost(path: Path) -> None:
    with closing(Database(path, MIGRATIONS[:2], 1.0)) as second, second.write() as connection:
        for status, cost, tokens in (("ok", 7, 40), ("pending", None, None), ("error", None, 3)):
            connection.execute(
                """INSERT INTO entries (at_ms, session, provider, model, effort, service_tier,
                   schema_name, notebook, cell_key, source, kind, cost_nano_usd, status,
                   input_tokens, output_tokens, worst_nano_usd, host, pid, started)
                   VALUES (0, 's', 'openai', 'o3-mini', '', '', '', '', '', 'live', 'ask', ?, ?,
                           1, ?, 50, '', 1, '')""",
                (cost, status, tokens),
            )
    with closing(Ledger(path)) as ledger:
        before = [(e.status, e.cost_nano_usd, e.hosted_calls) for e in ledger.entries()]
        assert before == [("ok", 7, 0), ("pending", None, 0), ("error", None, 0)]
        assert ledger.answered("o3-mini", "") == (1, 40)
        outcome = Outcome("ok", Usage(1, 0, 60), 12, hosted_calls=1, hosted_nano_usd=10)
        ledger.settle(2, outcome)
        [_, settled, _] = ledger.entries()
        assert (settled.hosted_calls, settled.hosted_nano_usd) == (1, 10)
        [total] = ledger.totals(by=())
        assert (total.live.cost_nano_usd, total.live.held_nano_usd) == (19, 50)
        assert ledger.answered("o3-mini", "") == (2, 100)
    assert path.with_name("ledger.db.bak-2").exists()


def test_an_empty_file_is_a_ledger_of_version_0_and_needs_no_copy(path: Path) -> None:
    path.touch()
    with closing(Ledger(path)) as ledger:
        ledger.enter(ASK)
    assert [f.name for f in path.parent.iterdir()] == ["ledger.db"]


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.enter(ASK)
    with closing(Ledger(path, migrations=BROKEN)) as broken, pytest.raises(LedgerUnavailable):
        broken.enter(ASK)
    assert pragma(path, "user_version") == THIS
    with closing(Ledger(path)) as ledger:
        assert len([*ledger.entries()]) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert not connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'halfway'"
        ).fetchall()


def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    with closing(Ledger(path, migrations=NEXT)) as newer:
        newer.enter(ASK)
    before = path.read_bytes()
    error = refusal(path)
    assert f"is of version {THIS + 1}, newer than this o3magic's {THIS}" in str(error)
    assert error.hint.startswith("update o3magic")
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", ["CREATE TABLE bookmarks (url)", "PRAGMA user_version = 1"])
def test_another_programs_database_is_refused_and_left_alone(path: Path, change: str) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(change)
        other.commit()
    before = path.read_bytes()
    assert "another program's database" in str(refusal(path))
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("my shopping list\n" * 100)
    assert "is no SQLite file" in str(refusal(path))
    assert path.read_text().startswith("my shopping list")


def test_a_damaged_file_is_told(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        for _ in range(50):
            ledger.enter(ASK)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    assert "is damaged" in str(refusal(path))


def test_a_path_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be made" in str(refusal(tmp_path / "file" / "ledger.db"))


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    assert "cannot be opened" in str(refusal(tmp_path))


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be made: Permission denied" in str(refusal(tmp_path / "ledger.db"))
    tmp_path.chmod(0o700)


def test_a_locked_file_is_told_after_the_timeout(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.enter(ASK)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        error = refusal(path, busy_timeout_s=0.05)
        assert "is locked by another program" in str(error)


@POSIX
def test_a_full_disk_is_told_and_the_ledger_works_again_when_there_is_room(path: Path) -> None:
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(Ledger(path)) as ledger:
        ledger.enter(ASK)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))
            with pytest.raises(LedgerUnavailable, match="cannot be read or written"):
                [ledger.enter(ASK) for _ in range(1000)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        before = len([*ledger.entries()])
        assert 1 < before < 1000
        ledger.enter(ASK)
        assert ledger.totals()[0].live.calls == len([*ledger.entries()]) == before + 1


@POSIX
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_uses_the_file_on_its_own(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.enter(ASK)
        child = os.fork()
        if child == 0:
            try:
                row = ledger.enter(ASK)
                ledger.settle(row, Outcome("ok", cost_nano_usd=1))
                ledger.close()
            finally:
                sys.stdout.flush()
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ledger.enter(ASK)
        owners = [e.pid for e in ledger.entries()]
        assert owners == [os.getpid(), child, os.getpid()]
        assert ledger.totals()[0].live.calls == 3
