"""What the threads of tools print, kept apart from what the cell prints."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO, cast

MOST_CHARS: Final = 100_000
_LOCK: Final = threading.Lock()


class Printed:
    """What one tool printed, up to a limit: a tool may print without end."""

    def __init__(self) -> None:
        self._made = io.StringIO()
        self._cut = False

    def write(self, text: str) -> None:
        """Take what is printed."""
        room = MOST_CHARS - self._made.tell()
        self._made.write(text[: max(room, 0)])
        self._cut = self._cut or len(text) > room

    def __str__(self) -> str:
        """All of it, and a word where it was cut."""
        return self._made.getvalue() + ("\n[... what followed is cut]" if self._cut else "")


class Crossing:
    """Stands in for `sys.stdout`: threads that have a place of their own print there."""

    def __init__(self, beyond: TextIO) -> None:
        self.beyond = beyond
        self.users = 0
        self.places: dict[int, Printed] = {}

    def write(self, text: str) -> int:
        """Print, here or there."""
        place = self.places.get(threading.get_ident())
        if place is None:
            return self.beyond.write(text)
        place.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what is flushed."""
        if threading.get_ident() not in self.places:
            self.beyond.flush()

    def __getattr__(self, name: str) -> Any:
        """Everything else is as it was: encoding, buffer, what a kernel adds."""
        return getattr(self.beyond, name)


@contextmanager
def kept_apart() -> Iterator[Crossing]:
    """While inside, threads may print to places of their own; several may be inside at once."""
    with _LOCK:
        found = sys.stdout
        crossing = found if type(found) is Crossing else Crossing(found)
        crossing.users += 1
        sys.stdout = cast(TextIO, crossing)
    try:
        yield crossing
    finally:
        with _LOCK:
            crossing.users -= 1
            if not crossing.users and cast(Any, sys.stdout) is crossing:
                sys.stdout = crossing.beyond
