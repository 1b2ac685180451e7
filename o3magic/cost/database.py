"""SQLite's one door: a file that is opened late, migrated, written in whole transactions.

WAL with synchronous NORMAL loses no committed row when a process is killed, and at a power cut
at most the last ones, never the file. Every write begins IMMEDIATE: a deferred transaction that
turns from reading to writing fails at once under a second writer, whatever the busy timeout.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from weakref import finalize

from o3magic.cost.schema import APPLICATION_ID
from o3magic.errors import LedgerUnavailable

MEMORY = ":memory:"
# What to try where a file fails; `{elsewhere}` names the variable that says another one.
MOVE = "move it away (a new one is begun), or {elsewhere}"
WAIT = "close the program that holds it and run the cell again, or {elsewhere}"
WRITE = "check its permissions and those of its folder, or {elsewhere}"

# What to say for SQLite's primary result codes, and what to try.
FAILURES = {
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "free some space, or {elsewhere}"),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "check the disk, or {elsewhere}"),
    sqlite3.SQLITE_READONLY: ("cannot be written", WRITE),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", WRITE),
    sqlite3.SQLITE_PERM: ("cannot be opened", WRITE),
    sqlite3.SQLITE_NOTADB: ("is no SQLite file", MOVE),
    sqlite3.SQLITE_CORRUPT: ("is damaged", MOVE),
    sqlite3.SQLITE_BUSY: ("is locked by another program", WAIT),
    sqlite3.SQLITE_LOCKED: ("is locked by another program", WAIT),
    sqlite3.SQLITE_PROTOCOL: ("is locked by another program", WAIT),
}


class DatabaseKind(NamedTuple):
    """What a file is for: its mark among SQLite's files, its name, what says where it is."""

    application_id: int
    name: str
    variable: str

    @property
    def elsewhere(self) -> str:
        """How to have it elsewhere."""
        return f"set {self.variable} to another file, or to :memory:"


LEDGER = DatabaseKind(APPLICATION_ID, "ledger", "O3MAGIC_LEDGER")


class Database:
    """One file, or one memory, shared by all threads of this process. Opens at its first use."""

    def __init__(
        self,
        path: Path | str,
        migrations: Sequence[Sequence[str]],
        busy_timeout_s: float,
        kind: DatabaseKind = LEDGER,
    ) -> None:
        self.path = Path(path).expanduser()
        self._kind = kind
        self._migrations = migrations
        self._busy_timeout_s = busy_timeout_s
        self._connection: sqlite3.Connection | None = None
        self._end: finalize[..., Database] | None = None
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._writing = False

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed when the block ends, and undone if it fails."""
        with self._opened() as connection:
            if self._writing:
                # The collector may run a generator's `finally`, which settles its call, in the
                # middle of ours and on our thread: it joins the transaction it interrupted.
                yield connection
                return
            self._writing = True
            try:
                if connection.in_transaction:  # a Ctrl-C came between an error and its rollback
                    connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._writing = False

    def read(
        self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._opened() as connection:
            return connection.execute(sql, parameters).fetchall()

    @contextmanager
    def look(self) -> Iterator[sqlite3.Connection]:
        """The connection for several reads of one moment."""
        with self._opened() as connection:
            if self._writing or connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the file; a later call opens it again. What was in memory is gone."""
        if os.getpid() == self._pid:
            with self._lock:
                self._connection = None
                if self._end is not None:
                    self._end()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if os.getpid() != self._pid:
            self._leave_to_parent()
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                raise unavailable(self.path, error, self._kind) from error

    def _leave_to_parent(self) -> None:
        """After a fork: a file is opened anew. A connection must not even be closed by a child."""
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a thread that is not here any more may have held it
        self._writing = False
        if self._connection is not None and str(self.path) != MEMORY:
            self._connection = None  # what ends it keeps it, and knows whose it is

    def _open(self) -> sqlite3.Connection:
        if str(self.path) != MEMORY:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            create(self.path)
        connection = self._connect(self.path)
        # It goes with the store; not at exit, when a thread of ours may still be writing.
        self._end = finalize(self, end, connection, os.getpid())
        self._end.atexit = False
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            version = self._version(connection)
            self._use_wal(connection)
            if version < len(self._migrations):
                self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, path: Path) -> sqlite3.Connection:
        # Not `autocommit=`, which 3.11 lacks: None means that we alone begin and end.
        return sqlite3.connect(
            path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )

    def _version(self, connection: sqlite3.Connection) -> int:
        """How many migrations the file has seen; refuses newer files and other programs'."""
        # In one statement, hence of one moment: another process may be making the file.
        [(tables, version, owner)] = connection.execute(
            """SELECT (SELECT count(*) FROM sqlite_master), user_version, application_id
               FROM pragma_user_version, pragma_application_id"""
        )
        mark, name, elsewhere = self._kind.application_id, self._kind.name, self._kind.elsewhere
        if owner != mark and (owner or version or tables):
            raise LedgerUnavailable(
                f"{self.path} is another program's database, no {name}", hint=elsewhere
            )
        if version > len(self._migrations):
            raise LedgerUnavailable(
                f"the {name} {self.path} is of version {version}, newer than this o3magic's "
                f"{len(self._migrations)}",
                hint=f"update o3magic, or {elsewhere}",
            )
        return int(version)

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        until_s = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # Two processes that open a new file at once: here SQLite does not wait by itself.
                if code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                    raise
                time.sleep(0.01)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._version(connection)  # another process may have been faster
            if version:
                self._copy(version)
            for step in self._migrations[version:]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self._kind.application_id}")
            connection.execute(f"PRAGMA user_version = {len(self._migrations)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _copy(self, version: int) -> None:
        """Keep the file as it is beside it, as `.bak-N`, whole or not at all."""
        copy = self.path.with_name(f"{self.path.name}.bak-{version}")
        unfinished = copy.with_name(f"{copy.name}.part")
        unfinished.unlink(missing_ok=True)
        create(unfinished)
        with (
            closing(self._connect(self.path)) as source,
            closing(self._connect(unfinished)) as target,
        ):
            source.backup(target)
        unfinished.replace(copy)


def end(connection: sqlite3.Connection, pid: int) -> None:
    """Close a connection, where it was opened."""
    if os.getpid() == pid:
        connection.close()


def create(path: Path) -> None:
    """Make an empty file for its owner's eyes only, unless there is one already."""
    # SQLite gives its own files beside it (-wal, -shm) the same mode.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return


def code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, or 0 for an error that is not SQLite's own."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def unavailable(
    path: Path, error: sqlite3.Error | OSError, kind: DatabaseKind = LEDGER
) -> LedgerUnavailable:
    """What to tell the user."""
    if isinstance(error, OSError):
        return LedgerUnavailable(
            f"the {kind.name} {path} cannot be made: {error.strerror or type(error).__name__}",
            hint=kind.elsewhere,
        )
    what, hint = FAILURES.get(code(error), (f"failed: {error}", "{elsewhere}"))
    hint = hint.format(elsewhere=kind.elsewhere)
    return LedgerUnavailable(f"the {kind.name} {path} {what}", hint=hint)
