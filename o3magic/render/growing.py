"""A structured answer while it grows: what is whole of it so far, as a table.

The text is read again only when it has grown by a tenth, so that all readings together cost a
fixed number of times the last one, however small the pieces are. Only the first rows are shown, and
of what is in a field only how much it is: the table goes out again and again, and a page renders
it anew each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from o3magic.render.table import as_markdown

GROWTH = 1.1
LEAST_CHARS = 24
ROWS = 20
CELL = 100  # characters


class Growing:
    """Takes pieces of JSON. `read` gives what the beginning of a text says, or None for nothing."""

    def __init__(self, read: Callable[[str], Any], name: str) -> None:
        self._read, self._name = read, name
        self._pieces: list[str] = []
        self._chars = 0
        self._next_chars = LEAST_CHARS
        self._shown = ""

    def feed(self, text: str) -> None:
        """Take the next piece."""
        self._pieces.append(text)
        self._chars += len(text)

    def shown(self) -> str:
        """The answer so far as a Markdown table; "" where there is nothing to see yet."""
        if self._chars >= self._next_chars:
            self._next_chars = int(self._chars * GROWTH) + LEAST_CHARS
            whole = "".join(self._pieces)
            self._pieces = [whole]
            data = self._read(whole)
            if data not in (None, {}, [], ""):
                self._shown = as_markdown(data, self._name, rows=ROWS, cell=CELL, brief=True)
        return self._shown
