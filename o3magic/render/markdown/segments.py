"""A growing answer in segments: what is finished is sent once, only the open end is sent again.

Segments depend on the text alone, not on how it arrived. They grow with it, because a front end
shows only so many outputs.
"""

import re
from typing import NamedTuple

from o3magic.render.markdown.tex import opens_block

MOST = 45  # segments; JupyterLab shows 50 outputs
SMALL = 20  # the first so many grow slowly
LEAST = 900  # characters of a segment
LONGEST = 32_768  # characters of a segment that offers no place to cut
MATH_LINES = 200  # of one formula

_FENCE = re.compile(
    r"(?P<margin>[ \t>]*+(?:(?:[-+*]|\d{1,9}[.)])[ \t]++)*+)(?P<run>`{3,}|~{3,})(?P<info>.*)"
)
_MARKER = re.compile(r"(?:[-+*]|\d{1,9}[.)])(?:\s|$)")


class Segment(NamedTuple):
    """A closed segment, and what is added around it when it is shown by itself."""

    before: str
    text: str
    after: str

    @property
    def shown(self) -> str:
        """The segment as Markdown of its own."""
        return self.before + self.text + self.after


class _Fence(NamedTuple):
    opening: str
    closing: str
    end: re.Pattern[str]


class Segments:
    """Text in pieces in, segments out: `"".join(closed) + open` is the text."""

    def __init__(self) -> None:
        self._closed: list[Segment] = []
        self._sent = 0
        self._before = ""
        self._lines: list[str] = []  # whole lines of the open segment
        self._size = 0  # their characters
        self._line: list[str] = []  # the pieces of the line that is not whole
        self._line_size = 0
        self._torn = False  # the line began in the segment before
        self._fence: _Fence | None = None
        self._formula_end = ""
        self._formula_lines = 0
        self._blank = False  # the last whole line is
        self._block = ""  # what an indented line, or one of its kind, continues: list or quote

    @property
    def closed(self) -> list[str]:
        """The finished segments, as they were in the text."""
        return [segment.text for segment in self._closed]

    @property
    def open(self) -> str:
        """What comes after the finished segments."""
        return "".join([*self._lines, *self._line])

    def rendered(self) -> list[str]:
        """Every segment as Markdown of its own, the open one last; a fence cut in two is two."""
        shown = [segment.shown for segment in self._closed]
        if self._lines or self._line_size or not shown:
            shown.append(self._before + self.open)
        return shown

    def feed(self, text: str) -> None:
        """Take the next piece of the text."""
        *ends, rest = text.split("\n")
        for end in ends:
            self._extend(end)
            self._end_line("".join([*self._line, "\n"]))
            self._line, self._line_size, self._torn = [], 0, False
        if rest:
            self._extend(rest)

    def _extend(self, piece: str) -> None:
        """More of the line; a segment that is too long is closed before it, or within it."""
        self._line.append(piece)
        self._line_size += len(piece)
        while self._size + self._line_size > (longest := self._longest()):
            if self._lines:
                self._close()
                continue
            line = "".join(self._line)
            cut = line.rfind(" ", 1, longest) + 1 or longest
            self._lines = [line[:cut]]
            self._close()
            self._line, self._line_size, self._torn = [line[cut:]], len(line) - cut, True

    def _end_line(self, line: str) -> None:
        """A whole line: begin a new segment with it, if it begins a new block."""
        words = line.strip()
        if words and self._begins_block(line) and self._size >= self._least():
            self._close()
        self._lines.append(line)
        self._size += len(line)
        if not self._torn:
            self._follow(line, words)
        self._blank = not words

    def _begins_block(self, line: str) -> bool:
        if not self._blank or self._fence or self._formula_end or line[0] in " \t":
            return False
        return not self._block or _kind(line) != self._block

    def _follow(self, line: str, words: str) -> None:
        """Keep account of what is open after `line`."""
        if self._fence:
            self._fence = None if self._fence.end.match(line) else self._fence
            return
        if self._formula_end:
            self._formula_lines += 1
            if self._formula_end in line or self._formula_lines > MATH_LINES:
                self._formula_end = ""
            return
        self._fence = _opened(line)
        self._formula_end, self._formula_lines = opens_block(words), 0
        if kind := _kind(line):
            self._block = kind
        elif self._blank and words and line[0] not in " \t":
            self._block = ""

    def _close(self) -> None:
        text = "".join(self._lines)
        after = ""
        if self._fence:
            after = ("" if text.endswith("\n") else "\n") + self._fence.closing
        self._closed.append(Segment(self._before, text, after))
        self._before = self._fence.opening if self._fence else ""
        self._sent += len(text)
        self._lines, self._size, self._blank = [], 0, False

    def _least(self) -> float:
        """How long the open segment is to be at least."""
        count = len(self._closed)
        if count >= MOST - 1:
            return float("inf")
        return max(LEAST, self._sent / (20 if count < SMALL else 4.5))

    def _longest(self) -> int:
        """How long the open segment may be."""
        if len(self._closed) >= MOST - 1:
            return 1 << 62
        return max(LONGEST, int(2 * self._least()))


def _kind(line: str) -> str:
    """What a line of this kind continues across a blank line."""
    if line.startswith(">"):
        return "quote"
    return "list" if _MARKER.match(line.lstrip(" \t")) else ""


def _opened(line: str) -> _Fence | None:
    match = _FENCE.match(line)
    if match is None or (match["run"][0] == "`" and "`" in match["info"]):
        return None
    margin, run = re.sub(r"[^\s>]", " ", match["margin"]), match["run"]
    indent = len(margin.expandtabs(4)) + 3
    end = re.compile(rf"(?:[ \t]*>)* {{0,{indent}}}{re.escape(run)}{run[0]}*\s*$")
    return _Fence(f"{margin}{run}{match['info'].rstrip()}\n", f"{margin}{run}", end)
