"""llama.cpp's server in a process of its own: one at a time, from its first use to the end."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from o3magic.errors import Interrupted, LocalModelError
from o3magic.local import weights

PACKAGE = "xllamacpp"
PROCESS = Path(__file__).with_name("server_process.py")
CONTEXT_TOKENS = 8_192  # of all answers at once; more would take memory that a laptop may lack
SLOTS = 4
LOOK_S = 0.05
END_S = 5.0
KILLED = -9
# What a file takes in memory besides itself: its context, and what is computed in.
SHARE, MORE_BYTES = 1.25, 300_000_000
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
LOG_LINE = re.compile(r"^[\d.]+ E (?:\w+ +)?\w+: (?:error loading model: )?")


def is_installed() -> bool:
    """Whether what the server is made of is there; it is not loaded to find out."""
    return find_spec(PACKAGE) is not None


def check_installed() -> None:
    """Raise LocalModelError where the extra is missing."""
    if not is_installed():
        raise LocalModelError(
            f"a model on this machine needs {PACKAGE}, which is not installed",
            hint=f"{weights.INSTALL}, then {weights.FETCH}",
        )


def check_memory(file: Path) -> None:
    """Raise LocalModelError where a model is larger than the memory there is."""
    have = available_bytes()
    needed = int(file.stat().st_size * SHARE) + MORE_BYTES
    if have is not None and needed > have:
        raise LocalModelError(
            f"{weights.name_of(file.name)} needs about {gigabytes(needed)} of memory, but "
            f"only {gigabytes(have)} is free",
            hint="choose a smaller model with -m, or a more strongly quantized file",
        )


def available_bytes() -> int | None:
    """The memory that is free, or all of it where the system does not say; None where unknown."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    for name in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max" is not a number
            found.append(int(Path(name).read_text("ascii")))
    if not found:
        with suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def gigabytes(size_bytes: int) -> str:
    """A size for people."""
    return f"{size_bytes / 1e9:,.1f} GB"


class ModelServer:
    """One server on loopback, for one model at a time. Its key is random and only in memory.

    Nothing is started before the first lease. Another model takes the place of the one before as
    soon as nobody uses that.
    """

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(32)
        self._changed = threading.Condition()
        self._running: RunningServer | None = None
        self._users: list[int] = []  # the threads that hold a lease
        self._starting = False

    def __reduce__(self) -> Any:
        """Refuse to be pickled: it holds a key. Raises TypeError."""
        raise TypeError("a ModelServer belongs to one process")

    def has(self, file: str) -> bool:
        """Whether the server of this model runs."""
        running = self._running
        return running is not None and running.file == file and running.is_alive

    @contextmanager
    def lease(self, file: str, stopped: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """The address of a server of this model, `http://127.0.0.1:PORT/v1`, for as long as it
        is used. Starts it, and waits until it has loaded and until another model is not used.

        Raises LocalModelError, and Interrupted once `stopped` says so.
        """
        address = self._acquire(file, stopped)
        thread = threading.get_ident()
        try:
            yield address
        finally:
            with self._changed:
                self._users.remove(thread if thread in self._users else self._users[0])
                self._changed.notify_all()

    def _acquire(self, file: str, stopped: Callable[[], bool]) -> str:
        """Become a user of the server of this model."""
        thread = threading.get_ident()
        with self._changed:
            while True:
                if self._running is not None and not self._starting and self.has(file):
                    self._users.append(thread)
                    return self._running.address
                if not self._starting and not self._users:
                    self._starting = True
                    break
                if thread in self._users and not self._starting:
                    # It would wait for itself.
                    raise LocalModelError(
                        "another model is still answering, and only one runs at a time",
                        hint="end that answer first: close its iterator",
                    )
                if stopped():
                    raise Interrupted("stopped by you")
                self._changed.wait(LOOK_S)
        try:
            self._end()
            running = RunningServer(file, self.key, stopped)
        except BaseException:
            with self._changed:
                self._starting = False
                self._changed.notify_all()
            raise
        with self._changed:
            self._running, self._starting = running, False
            self._users.append(thread)
            self._changed.notify_all()
        return running.address

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.end()

    def close(self) -> None:
        """End the server; asked again, another one is started."""
        self._end()


class RunningServer:
    """A server that has loaded its model. Raises as `ModelServer.lease`."""

    def __init__(self, file: str, key: str, stopped: Callable[[], bool]) -> None:
        self.file = file
        path = Path(file)
        name = weights.name_of(path.name)
        check_installed()
        check_memory(path)
        # What it has to say goes into a file that has no name: a pipe would have to be read.
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = started(self._log)
        except OSError as error:
            self._log.close()
            raise LocalModelError(
                f"the server of {name} cannot be started: {error.strerror or error}"
            ) from None
        # Also where nobody closes it: at the end of the process, and never in a fork of it.
        self._finalizer = weakref.finalize(self, end, self._process, self._log, os.getpid())
        try:
            self.address = f"{self._ready(asked(path, name, key), name, stopped)}/v1"
        except BaseException:
            self.end()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it, and wait until it has."""
        self._finalizer()

    def _ready(self, said: dict[str, Any], name: str, stopped: Callable[[], bool]) -> str:
        """Tell it what to serve, and wait for its address."""
        lines: list[bytes] = []
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(OSError):  # it died already: what it said is told below
            stdin.write(json.dumps(said).encode() + b"\n")
            stdin.flush()  # and it stays open: its end is the child's
        reading = threading.Thread(
            target=lambda: lines.append(stdout.readline()), name="o3magic-local", daemon=True
        )
        reading.start()
        while reading.is_alive():
            reading.join(LOOK_S)
            if stopped():
                raise Interrupted("stopped by you")
        if lines and lines[0].endswith(b"\n"):
            return str(json.loads(lines[0])["address"])
        raise self._failure(name)

    def _failure(self, name: str) -> LocalModelError:
        """What to say of a server that ended before it had loaded its model."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._log.seek(0)
        why = last_words(self._log.read().decode("utf-8", "replace"))
        code = self._process.returncode or 0
        if code == KILLED:
            why = "the system killed it, as it does where memory is short"
        elif code < 0:
            why = f"{why} (signal {-code})"
        hint = "-m with another model file; this one may be damaged, or newer than xllamacpp knows"
        return LocalModelError(f"{name} could not be loaded: {why}", hint=hint)


def asked(file: Path, name: str, key: str) -> dict[str, Any]:
    """What a server is told to do."""
    known = weights.known(name)
    said: dict[str, Any] = {"file": str(file), "name": name, "key": key}
    said |= {"context_tokens": CONTEXT_TOKENS, "slots": SLOTS, "sampling": {}}
    if known is not None:
        # Its threads wait for one another at every step: with a thread on each core it is ten times
        # as slow as soon as something else runs (seen on two cores: 10 tokens/s, and 60 with one).
        threads = max(1, min(known.most_threads, (os.cpu_count() or 1) // 2))
        said |= {"sampling": known.sampling, "threads": threads}
    return said


def started(log: IO[bytes]) -> subprocess.Popen[bytes]:
    """The process. What it needs to know goes through a pipe, so that no list shows its key."""
    own: dict[str, Any] = {}
    # An interrupt is for the cell, not for the server.
    if sys.platform == "win32":
        own["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    else:
        own["start_new_session"] = True
    return subprocess.Popen(
        [sys.executable, "-P", str(PROCESS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        **own,
    )


def end(process: subprocess.Popen[bytes], log: IO[bytes], owner: int) -> None:
    """End a server and wait for it."""
    if os.getpid() != owner:
        return
    with suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    until_s = time.monotonic() + END_S
    while process.poll() is None and time.monotonic() < until_s:
        time.sleep(LOOK_S / 5)
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
    log.close()


def last_words(log: str) -> str:
    """The line of a log that says why: llama.cpp's first error, or else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    why = next((line for line in lines if LOG_LINE.match(line)), lines[-1] if lines else "")
    return LOG_LINE.sub("", why) or "it said nothing"
