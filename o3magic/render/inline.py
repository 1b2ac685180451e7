"""The inside of a paragraph, heading or cell: code, mathematics and links kept, the rest escaped.

Whatever is kept stands on one line, so that no reader can find half of it in another block.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence

from o3magic.render.literal import JOINER, MATH_DOLLAR, as_entity, literal
from o3magic.render.pieces import Piece, Pieces

_NEWLINE = re.compile("\n")
# Without one of these there is nothing to be read in a line, and nothing to be escaped.
_SPECIAL = re.compile(r"[\\`$&<>\[\]~@:.](?:(?<![@:.])|(?<=@)(?=@)|(?<=:)(?=//)|(?<=[wW]{3}\.))")
_STRUCTURE = re.compile(
    r"(?:(?P<digits>\d{1,9})(?P<point>[.)])(?=[ \t]|$))|[#>=+|:-]|~{3,}|[*](?=[ \t]|$)"
    r"|[*_](?=[ \t*_]*$)"
)


class _Lines:
    """The lines that a run of text becomes."""

    def __init__(self, text: str, margins: Sequence[str]) -> None:
        self._newlines: list[int] = []
        if margins and "\n" in text:
            self._newlines = [match.start() for match in _NEWLINE.finditer(text)]
        self._margins = margins
        self._lines: list[str] = []
        self._margin = ""
        self._line: list[str] = []
        self._link_end = -1

    def rendered(self, pieces: list[Piece | str]) -> str:
        """All pieces as Markdown."""
        for index, piece in enumerate(pieces):
            if isinstance(piece, str):
                self._say(piece)
            elif piece.kind in ("newline", "break"):
                self._end_line(piece)
            elif piece.kind in ("open", "close"):
                self._bracket(index, piece)
            elif piece.kind in ("math", "code"):
                self._keep_apart(piece)
            elif piece.target and self._link_end < 0:
                self._before_link()
                self._line.append(f"[{piece.text}]({piece.target.url})")
            else:
                self._say(piece.text)
        self._finish("")
        return "\n".join(self._lines).rstrip(" ")

    def _end_line(self, piece: Piece) -> None:
        if self._link_end >= 0 or not self._margins:
            self._line.append(" ")
            return
        self._finish(piece.text)
        if self._lines:  # else the next line takes the place of this empty one
            self._margin = self._margins[bisect_left(self._newlines, piece.at + 1)]

    def _finish(self, hard_break: str) -> None:
        body = "".join(self._line).strip(" \t")
        if self._margins:
            body = _begun(body)
        if body:
            self._lines.append(self._margin + body + hard_break)
        self._line.clear()

    def _say(self, text: str) -> None:
        if text[:1].isdigit() and self._line and self._line[-1].endswith(MATH_DOLLAR):
            self._line.append(JOINER)  # `$x$1` is taken for money
        if self._link_end >= 0:
            text = text.replace("~", as_entity("~"))  # nbconvert strikes out past a link's end
        self._line.append(text)

    def _keep_apart(self, piece: Piece) -> None:
        """A formula or code, where no reader can take its signs with those before it."""
        before = next((part for part in reversed(self._line) if part), "")
        # marked takes `~` and a backtick for one text; Lab hides a dollar sign before code too
        close = before.endswith(("`", "~", MATH_DOLLAR))
        if piece.kind == "math":
            word = before[-1:].isascii() and before[-1:].isalnum()
            close = close or word or before.endswith("&#92;")
        if close:
            self._line.append(JOINER)
        self._line.append(piece.text)

    def _bracket(self, index: int, piece: Piece) -> None:
        target = piece.target
        if target is None:
            self._say(piece.text)
        elif piece.kind == "open":
            if target.url and self._link_end < 0:
                self._before_link()
                self._link_end = piece.partner
                self._line.append("[")
            elif not target.url:
                self._keep_words_apart()
            if piece.partner == index + 1 and target.url:
                self._say(literal(_shortened(target.written)))
        elif index == self._link_end:
            self._line.append(f"]({target.url})")
            self._link_end = -1
        elif not target.url:
            self._line.append(f" ({literal(_shortened(target.written))})")

    def _keep_words_apart(self) -> None:
        """What stood on both sides of a bracket that goes must not become one word, or address."""
        before = next((part for part in reversed(self._line) if part), " ")
        if not before[-1].isspace():
            self._line.append(JOINER)

    def _before_link(self) -> None:
        """See to it that what is before a link makes no image of it, and no formula."""
        before = self._line[-1] if self._line else ""
        if before.endswith("!"):
            self._line[-1] = before[:-1] + as_entity("!")
        elif before.endswith("&#92;"):
            self._line.append(JOINER)


def inline(text: str, margins: Sequence[str] = (), *, cell: bool = False) -> str:
    """`text` as safe Markdown.

    `margins` holds what every line of `text` but the first is to begin with, and first what a
    line begins with that is made by a break in the first; without it there is one line.
    """
    if not _SPECIAL.search(text) and not (cell and "|" in text):
        if "\n" not in text:
            body = text.strip(" \t")
            return _begun(body) if margins else body
        if margins:
            return _words(text, margins)
    return _Lines(text, margins).rendered(Pieces(text, cell=cell).found)


def _words(text: str, margins: Sequence[str]) -> str:
    """The same for lines in which nothing is special."""
    shown: list[str] = []
    for line, margin in zip(text.split("\n"), margins, strict=True):
        if body := _begun(line.strip(" \t")):
            kept = "  " if line.endswith("  ") else ""
            shown.append((margin if shown else "") + body + kept)
    return "\n".join(shown).rstrip(" ")


def _begun(line: str) -> str:
    """`line` with nothing at its beginning that would begin a block."""
    return _STRUCTURE.sub(_as_text, line, count=1) if _STRUCTURE.match(line) else line


def _as_text(match: re.Match[str]) -> str:
    if match["digits"]:
        return match["digits"] + as_entity(match["point"])
    return "".join(map(as_entity, match[0]))


def _shortened(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"
