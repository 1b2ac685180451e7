"""The inside of a paragraph, heading or cell: code, mathematics and links kept, the rest escaped.

Whatever is kept stands on one line, so that no reader can find half of it in another block.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from o3magic.render import links
from o3magic.render.literal import (
    DOLLAR,
    JOINER,
    MATH_DOLLAR,
    as_entity,
    character,
    literal,
    unescaped,
)
from o3magic.render.spans import code_text
from o3magic.render.tex import Formulas

_TOKEN = re.compile(
    r"""(?P<money>(?:\\\\|&\#92;)(?:\\?\$|&\#36;))
    | (?P<escape>\\[!-/:-@\[-`{-~])
    | (?P<code>`+)
    | (?P<dollar>\$)
    | (?P<environment>\\begin\{)
    | (?P<backslash>\\(?!\n))
    | (?P<entity>&(?:\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});)
    | (?P<break><br\s{0,9}/?>)
    | <(?P<auto>[^\s<>"'`$\\]{3,2000})>
    | (?P<url>(?<![A-Za-z0-9])https?://[^\s<>"'`$\\|{}^\[\]*]{1,2000})
    | (?P<open>!?\[)
    | (?P<close>\])
    | (?P<newline>(?:(?<![ \t])[ \t]*+\\?)?\n[ \t]*+)
    """,
    re.VERBOSE,
)
_RUN = re.compile("`+")
_MARKUP = re.compile(r"[<>&`\[\]\\]|@(?=@)|:(?=//)|(?<=[wW]{3})\.|(?<!~)~(?!~)|~{3,}")
_STRUCTURE = re.compile(
    r"(?:(?P<digits>\d{1,9})(?P<point>[.)])(?=[ \t]|$))|[#>=+|:-]|[*](?=[ \t]|$)|[*_](?=[ \t*_]*$)"
)


@dataclass
class _Piece:
    """Text, a formula, a line end, an address, or one side of a link."""

    kind: str
    text: str = ""
    at: int = 0
    target: links.Target | None = None
    partner: int = -1


class _Mark(NamedTuple):
    piece: int
    image: bool


class _Pieces:
    """The pieces of one run of text, found in time linear in it."""

    def __init__(self, text: str, *, cell: bool) -> None:
        self.found: list[_Piece] = []
        self._text = text
        self._cell = cell
        self._formulas = Formulas(text, cell=cell)
        self._open: list[_Mark] = []
        self._runs: dict[int, list[int]] = {}
        for run in reversed(list(_RUN.finditer(text))):
            self._runs.setdefault(len(run[0]), []).append(run.start())
        at = 0
        while match := _TOKEN.search(text, at):
            self._plain(text[at : match.start()])
            at = self._token(match)
        self._plain(text[at:])

    def _token(self, match: re.Match[str]) -> int:
        """Add what `match` begins; say where it ends."""
        kind = match.lastgroup or ""
        if kind in ("dollar", "environment") or match[0] in (r"\(", r"\["):
            return self._formula(match)
        if kind == "code":
            return self._code(match)
        if kind == "close":
            return self._close(match)
        if kind in ("auto", "url"):
            return self._address(match)
        if kind == "open":
            self._open.append(_Mark(len(self.found), match[0] == "!["))
            self._add("open", "".join(map(as_entity, match[0])))
        elif kind == "money":
            self._add("text", DOLLAR)
        elif kind == "entity":
            return self._entity(match)
        elif kind in ("escape", "backslash"):
            self._character(match[0][-1], match.end())
        else:
            hard = kind == "break" or "\\" in match[0] or match[0].partition("\n")[0][-2:] == "  "
            self._add(kind, "  " if hard else "", match.end() - 1)
        return match.end()

    def _add(self, kind: str, text: str, at: int = 0) -> None:
        self.found.append(_Piece(kind, text, at))

    def _plain(self, text: str) -> None:
        if text:
            shown = _MARKUP.sub(lambda m: "".join(map(as_entity, m[0])), text)
            self._add("text", shown.replace("|", "&#124;") if self._cell else shown)

    def _character(self, char: str, end: int) -> None:
        """An escaped character: never markup."""
        self._add("text", character(char, unescaped(self._text[end : end + 12])))

    def _entity(self, match: re.Match[str]) -> int:
        char = unescaped(match[0])
        if char == match[0]:  # it is none
            self._plain("&")
            return match.start() + 1
        self._character(char, match.end())
        return match.end()

    def _formula(self, match: re.Match[str]) -> int:
        start = match.start()
        found = self._formulas.at(start)
        if found is None:
            if match[0] == "$":
                self._add("text", DOLLAR)
            elif match.lastgroup == "environment":
                self._character("\\", start + 1)
                return start + 1
            else:
                self._character(match[0][-1], match.end())
            return match.end()
        if found.markdown:
            self._add("math", found.markdown)
        else:
            self._add("code", code_text(self._text[start : found.end], cell=self._cell))
        return found.end

    def _code(self, match: re.Match[str]) -> int:
        starts = self._runs.get(len(match[0]), [])
        while starts and starts[-1] < match.end():
            starts.pop()
        if not starts:
            self._add("text", "".join(map(as_entity, match[0])))
            return match.end()
        end = starts.pop()
        self._add("code", code_text(self._text[match.end() : end], cell=self._cell))
        return end + len(match[0])

    def _close(self, match: re.Match[str]) -> int:
        mark = self._open.pop() if self._open else None
        target = links.target_at(self._text, match.end()) if mark else None
        if mark is None or target is None:
            self._add("text", as_entity("]"))
            return match.end()
        if not mark.image:
            self._open.clear()  # a link holds no link
        opened = self.found[mark.piece]
        opened.target, opened.partner = target, len(self.found)
        self.found.append(_Piece("close", target=target, partner=mark.piece))
        return target.end

    def _address(self, match: re.Match[str]) -> int:
        written = match["auto"] or links.bare(match["url"])
        address = unescaped(written)
        url = links.address(address) or (links.mail(address) if match["auto"] else "")
        if not url:
            first = 1 if match["auto"] else 4
            self._plain(match[0][:first])
            return match.start() + first
        end = match.end() if match["auto"] else match.start() + len(written)
        self.found.append(_Piece("address", literal(address), target=links.Target(url, "", end)))
        return end


class _Lines:
    """The lines that a run of text becomes."""

    def __init__(self, text: str, margins: Sequence[str]) -> None:
        self._newlines = [match.start() for match in re.finditer("\n", text)] if margins else []
        self._margins = margins
        self._lines: list[str] = []
        self._margin = ""
        self._line: list[str] = []
        self._link_end = -1

    def rendered(self, pieces: list[_Piece]) -> str:
        """All pieces as Markdown."""
        for index, piece in enumerate(pieces):
            if piece.kind in ("newline", "break"):
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

    def _end_line(self, piece: _Piece) -> None:
        if self._link_end >= 0 or not self._margins:
            self._line.append(" ")
            return
        self._finish(piece.text)
        if self._lines:  # else the next line takes the place of this empty one
            self._margin = self._margins[bisect_left(self._newlines, piece.at + 1)]

    def _finish(self, hard_break: str) -> None:
        body = "".join(self._line).strip(" \t")
        if self._margins:
            body = _STRUCTURE.sub(_as_text, body, count=1) if _STRUCTURE.match(body) else body
        if body:
            self._lines.append(self._margin + body + hard_break)
        self._line.clear()

    def _say(self, text: str) -> None:
        if text[:1].isdigit() and self._line and self._line[-1].endswith(MATH_DOLLAR):
            self._line.append(JOINER)  # `$x$1` is taken for money
        self._line.append(text)

    def _keep_apart(self, piece: _Piece) -> None:
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

    def _bracket(self, index: int, piece: _Piece) -> None:
        target = piece.target
        if target is None:
            self._say(piece.text)
        elif piece.kind == "open":
            if target.url and self._link_end < 0:
                self._before_link()
                self._link_end = piece.partner
                self._line.append("[")
            if piece.partner == index + 1 and target.url:
                self._say(literal(_shortened(target.written)))
        elif index == self._link_end:
            self._line.append(f"]({target.url})")
            self._link_end = -1
        elif not target.url:
            self._line.append(f" ({literal(_shortened(target.written))})")

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
    return _Lines(text, margins).rendered(_Pieces(text, cell=cell).found)


def _as_text(match: re.Match[str]) -> str:
    if match["digits"]:
        return match["digits"] + as_entity(match["point"])
    return as_entity(match[0])


def _shortened(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"
