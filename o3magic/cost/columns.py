"""Tables of names and numbers, as Markdown and as aligned text. Pure.

Names come from servers and files and may hold anything: every way out cleans them in its own way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

LONGEST_NAME = 60
# All of ASCII's punctuation that can mean something in Markdown, HTML or TeX, inside a table: a
# point too, since "www." makes a link, but not the one of a number.
MARKUP = re.compile(r"[!-'*+/:-@\[-`{-~]|(?<![0-9])\.|\.(?![0-9])")


@dataclass(frozen=True, slots=True)
class Columns:
    """A head and rows of cells; the first `words` columns are words, the others numbers.

    sums: rows that stand out, as a total does. No cell is trusted; none is shortened.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    sums: frozenset[int] = field(default_factory=frozenset)

    def markdown(self) -> str:
        """The table as Markdown, with everything in it escaped."""
        rule = "".join(" --- |" if i < self.words else " ---: |" for i in range(len(self.head)))
        lines = [line([escaped(visible(name)) for name in self.head]), f"|{rule}"]
        for number, row in enumerate(self.rows):
            cells = [escaped(visible(cell)) for cell in row]
            if number in self.sums:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append(line(cells))
        return "\n".join(lines)

    def text(self, rule: bool = True) -> str:
        """The same in aligned plain text, a rule below the head."""
        table = [[visible(cell) for cell in row] for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [self._aligned(cells, widths) for cells in table]
        if rule:
            lines.insert(1, "-" * len(lines[0]))
        return "\n".join(lines)

    def without(self, names: Sequence[str]) -> Columns:
        """The same without some columns of numbers."""
        kept = [i for i, name in enumerate(self.head) if i < self.words or name not in names]
        rows = [[row[i] for i in kept] for row in self.rows]
        return Columns([self.head[i] for i in kept], rows, self.words, self.sums)

    def _aligned(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        sides = (str.ljust if i < self.words else str.rjust for i in range(len(cells)))
        texts = (side(c, w) for side, c, w in zip(sides, cells, widths, strict=True))
        return "  ".join(texts).rstrip()


def visible(name: str) -> str:
    """A name on one line of printable characters: no control codes, no marks that turn a line."""
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())


def plain(name: str) -> str:
    """A name as people see it: visible, and not too long for a table."""
    whole = visible(name)
    return whole if len(whole) <= LONGEST_NAME else f"{whole[: LONGEST_NAME - 1]}…"


def escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)


def line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
