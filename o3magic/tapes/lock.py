"""One writer at a time: a lock file beside the file, left behind by nobody for long."""

from __future__ import annotations

import json
import os
import platform
import random
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from o3magic.errors import CassetteError

STALE_S = 60.0
UNSIGNED_S = 2.0  # a lock that does not say whose it is: its maker died before it could
WAIT_S = 90.0
TAKING_OVER_S = 5.0


class Lock:
    """Held while its block runs. Raises OSError where the folder cannot be written.

    A lock whose process is gone, or that is older than `stale_s`, is taken over.
    """

    def __init__(self, path: Path, *, stale_s: float = STALE_S, wait_s: float = WAIT_S) -> None:
        self.path = path
        self._stale_s = stale_s
        self._wait_s = wait_s
        owner = {"host": platform.node(), "pid": os.getpid(), "token": uuid4().hex}
        self._owner = json.dumps(owner)

    def __enter__(self) -> Lock:
        """Wait for it. Raises CassetteError where that takes too long."""
        until_s = time.monotonic() + self._wait_s
        while not created(self.path, self._owner):
            if self._stale():
                self._take_over()
            elif time.monotonic() > until_s:
                raise CassetteError(
                    f"{self.path.name} is held by another program",
                    hint=f"delete {self.path.name} if no other program is recording",
                )
            time.sleep(random.uniform(0.002, 0.01))
        return self

    def __exit__(self, *_: object) -> None:
        """Let go, unless somebody has taken it over."""
        if self.held:
            with suppress(OSError):
                self.path.unlink()

    @property
    def held(self) -> bool:
        """Whether it is still ours: a computer that sleeps may lose it."""
        return content(self.path) == self._owner

    def _stale(self) -> bool:
        """Whether its holder is gone."""
        try:
            age_s = time.time() - self.path.stat().st_mtime
        except OSError:
            return False  # it was let go meanwhile
        said = content(self.path)
        return age_s > (self._stale_s if said else min(self._stale_s, UNSIGNED_S)) or dead(said)

    def _take_over(self) -> None:
        """Remove a stale lock. Only one process at a time looks and removes, by a second lock."""
        guard = self.path.with_name(f"{self.path.name}.taken-over")
        if not created(guard, self._owner):
            with suppress(OSError):
                if time.time() - guard.stat().st_mtime > TAKING_OVER_S:
                    guard.unlink()
            return
        try:
            if self._stale():
                with suppress(FileNotFoundError):
                    self.path.unlink()
        finally:
            with suppress(OSError):
                guard.unlink()


def created(path: Path, text: str) -> bool:
    """Make a file, if there is none."""
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(file, text.encode())
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(file)
    return True


def content(path: Path) -> str:
    """What a lock says, or ""."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def dead(owner: str) -> bool:
    """Whether a process of this computer that is not there any more holds a lock."""
    try:
        said = json.loads(owner)
        host, pid = said["host"], int(said["pid"])
    except (ValueError, TypeError, KeyError):
        return False  # still being written, or cut off: its age decides
    # On Windows, os.kill(pid, 0) is no question: it sends the process a Ctrl-C.
    if host != platform.node() or os.name != "posix" or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False
