"""Which process a row belongs to, and whether that one still lives."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple


class ProcessOwner(NamedTuple):
    """A process, told from a later one of the same number by when it started ("" if unknown)."""

    host: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> ProcessOwner:
        """This process."""
        pid = os.getpid()
        return cls(platform.node(), pid, started(pid) or "")

    def current(self) -> bool:
        """Whether it is this process."""
        return self.pid == os.getpid()

    def alive(self) -> bool | None:
        """Whether it still runs, or None where that cannot be told from here."""
        # On Windows, os.kill(pid, 0) is no question: it sends the process a Ctrl-C.
        if self.host != platform.node() or os.name != "posix":
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # another user's, but it is there
        now = started(self.pid)
        return now is None or now == self.started or not self.started


def started(pid: int) -> str | None:
    """When a process started, as boot and clock tick; "dead" for a zombie, None if unknown."""
    try:
        # The name in brackets may hold anything, brackets and spaces included.
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        state, *numbers = stat.rpartition(")")[2].split()
        return "dead" if state in "ZX" else f"{boot}/{numbers[18]}"
    except (OSError, IndexError, ValueError):
        return None
