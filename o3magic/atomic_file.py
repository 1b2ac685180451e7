"""Write a file whole or not at all, and lock it against other writers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

LOCK_POLL_S = 0.005


def write_atomically(path: Path, data: bytes, mode: int | None = None) -> os.stat_result:
    """Replace the content of a file: a reader sees the old bytes or the new ones, never a part.

    mode: the permissions; None keeps those of the present file. A symbolic link stays one. Returns
    the stat of the new file. Raises OSError; the file is then as it was.
    """
    target = path.resolve()
    if mode is None:
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(target.stat().st_mode)
    part = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
    create_mode = 0o666 if mode is None else mode
    try:
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, create_mode)) as file:
            if mode is not None:
                os.chmod(part, mode)  # the umask may have taken some of it
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            status = os.fstat(file.fileno())
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return status


@contextmanager
def lock_file(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock of a file, `NAME.lock` beside it, while the block runs.

    The system frees the lock when its process dies; a lock file that is left over holds nobody up.
    Raises TimeoutError where another holds the lock for longer than `wait_s`, else OSError.
    """
    from filelock import FileLock

    lock_path = path.with_name(f"{path.name}.lock")
    with FileLock(lock_path, timeout=wait_s, poll_interval=LOCK_POLL_S):
        try:
            for part in path.parent.glob(f".{escape(path.name)}.*.part"):  # its writer died
                part.unlink(missing_ok=True)
            yield
        finally:
            # Removed while it is held: whoever waits for this file sees that it is gone and makes
            # a new one. Windows removes no open file; there filelock does it after the release.
            if os.name == "posix":
                with suppress(OSError):
                    lock_path.unlink()
