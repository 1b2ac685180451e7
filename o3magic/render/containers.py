"""What a line stands in: block quotes and list items, and how far it is indented there."""

import re
from typing import NamedTuple

DEEPEST = 18  # columns before code; nbconvert gives up beyond 20 levels of nesting
MARKERS = 8  # of one line

_MARKER = re.compile(
    r"(?P<indent> *)(?:(?P<quote>>) ?|(?P<bullet>[-+*]|\d{1,9}[.)])(?P<spaces> +|$))"
)
_LEADING = re.compile(r"(?:[ \t>]|[-+*](?=[ \t])|\d{1,9}[.)](?=[ \t]))*+")
_RULE = re.compile(r" *+([-*_])(?: *+\1){2,}+ *$")
_STARTS = re.compile(r"#{1,6}(?:[ \t]|$)|`{3,}+[^`]*$|~{3}")
_WHITE = re.compile(r"[ \t]*+")
_MARK = re.compile("[^ >]")


class Line(NamedTuple):
    """A line taken apart."""

    start: str  # what the line begins with: markers and indent
    margin: str  # what a further line of the same block begins with
    rest: str
    indent: int  # of the rest, from the innermost quotation's edge
    base: int  # where the text of the innermost list item begins
    marked: bool  # it begins a list item

    @property
    def edge(self) -> str:
        """The margin without the indent beyond the list item."""
        return self.margin[: self.margin.rfind("> ") + 2 if self.quotes else 0] + " " * self.base

    @property
    def quotes(self) -> int:
        """How many block quotes it is in."""
        return self.margin.count(">")

    @property
    def indented(self) -> bool:
        """As far as code that has no fence."""
        return self.indent - self.base >= 4


class Lists:
    """Reads the lines of a document in order, and remembers which list they are in."""

    def __init__(self) -> None:
        self._levels: list[list[int]] = [[]]  # by quotation: where the text of open items begins
        self._shift = 0  # columns by which the rest of a left list moves to the margin

    def read(self, raw: str, *, lazy: bool) -> Line:
        """The next line; `lazy` if a paragraph is open, which it may continue."""
        rest = _spaced(self._moved(raw) if self._shift else raw)
        start, column, depth, marked = "", 0, 0, False
        for _ in range(MARKERS):
            match = _MARKER.match(rest)
            if match is None or self._is_text(match, column, depth, lazy=lazy or marked):
                break
            rest = rest[match.end() :]
            if match["quote"]:
                start, column, depth = f"{start}{match['indent']}> ", 0, depth + 1
                if depth == len(self._levels):
                    self._levels.append([])
            else:
                spaces = len(match["spaces"]) if 1 <= len(match["spaces"]) <= 4 else 1
                item = match["indent"] + match["bullet"] + " " * spaces
                self._close_beyond(column + len(match["indent"]), depth)
                start, column, marked = start + item, column + len(item), True
                self._levels[depth].append(column)
        text = rest.lstrip(" ")
        lazy = lazy and not (_STARTS.match(text) or _RULE.match(text))
        if text and not lazy and not marked:
            self._close_beyond(column + len(rest) - len(text), depth)
        if not marked:
            start, column = start + rest[: -len(text) or None], column + len(rest) - len(text)
        margin = _MARK.sub(" ", start) if marked else start
        return Line(start, margin, text, column, self._base(depth), marked)

    def words(self, *, lazy: bool) -> None:
        """The next line begins with a letter at the margin: it is in no list, unless `lazy`."""
        self._shift = 0
        if not lazy:
            self._levels = [[]]

    def settled(self, line: Line) -> Line:
        """`line`, which continues no paragraph after all, where it then stands."""
        self._close_beyond(line.indent, line.quotes)
        line = line._replace(base=self._base(line.quotes))
        return line._replace(start=line.edge, margin=line.edge) if line.indented else line

    def inside(self, raw: str, margin: str) -> str | None:
        """What `raw` holds within the block that has this margin; None where the block ends."""
        if not margin and not self._shift:
            return raw
        quotes = margin.count(">")
        width = len(margin) + self._shift
        if quotes:
            marks = re.match(rf"(?:[ \t]*+>){{{quotes}}} ?", raw)
            if marks is None:
                return None
            raw, width = raw[marks.end() :], len(margin) - margin.rfind(">") - 2
        white = _WHITE.match(raw)
        lead = white[0] if white else ""
        if "\t" in lead[:width]:
            raw = lead.expandtabs(4) + raw[len(lead) :]
            lead = lead.expandtabs(4)
        return raw[min(width, len(lead)) :]

    def leave(self) -> None:
        """Code was moved out of its list: what follows in the list moves after it."""
        if len(self._levels) == 1:
            self._shift += max(self._levels[0], default=0)
        self._levels = [[]]

    def _moved(self, raw: str) -> str:
        if not raw.strip():
            return raw
        white = _WHITE.match(raw)
        lead = white[0].expandtabs(4) if white else ""
        if len(lead) < self._shift:
            self._shift = 0
            return raw
        return lead[self._shift :] + raw.lstrip(" \t")

    def _is_text(self, match: re.Match[str], column: int, depth: int, *, lazy: bool) -> bool:
        """Whether what looks like a marker is a rule, an underline, code, or words."""
        items = self._levels[depth]
        if match["bullet"]:
            empty = lazy and not items and not match.string[match.end() :].strip(" ")
            if empty or _RULE.match(match.string):
                return True
        column += len(match["indent"])
        if column < 4:
            return False
        return column - max((item for item in items if item <= column), default=0) >= 4

    def _base(self, depth: int) -> int:
        """Where the text of the innermost item begins, within so many quotations."""
        items = self._levels[depth]  # in rising order
        return items[-1] if items else 0

    def _close_beyond(self, column: int, depth: int) -> None:
        """Close what a line at `column` within so many quotations is not in."""
        del self._levels[depth + 1 :]
        items = self._levels[depth]
        while items and items[-1] > column:
            items.pop()


def _spaced(raw: str) -> str:
    """`raw` without tabs before its words."""
    if "\t" not in raw:
        return raw
    leading = _LEADING.match(raw)
    end = leading.end() if leading else 0
    return raw[:end].expandtabs(4) + raw[end:]
