"""The inside of a paragraph, heading or cell: code, mathematics and links kept, the rest escaped.

Whatever is kept stands on one line, so that no reader can find half of it in another block.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple
from urllib.parse import quote

from o3magic.render.markdown.escape import (
    DOLLAR,
    JOINER,
    MATH_DOLLAR,
    as_entity,
    character,
    literal,
    unescaped,
)
from o3magic.render.markdown.tex import Formulas

LIMIT = 2000  # characters of an address

_DESTINATION = re.compile(
    r"""\([ \t]*\n?[ \t]*
    (?:<(?P<angled>[^<>\n]{0,2000})>
      |(?P<bare>(?:[^\s()\\<>]++|\\.|\((?:[^\s()\\<>]++|\\.)*+\))*+))
    (?:\s{1,9}(?:"[^"]{0,500}"|'[^']{0,500}'|\([^()]{0,500}\)))?
    \s{0,9}\)""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
# JupyterLab takes `http://@/lab` and `http://:/lab` for addresses of its own server.
_ALLOWED = re.compile(
    r"https?://[\w-]+(?:\.[\w-]+)*\.?(?::\d{1,5})?(?=[/?#]|$)|mailto:[^@]+@[^@]+$", re.IGNORECASE
)
_FORBIDDEN = re.compile(r"[\s\x00-\x20\x7f-\x9f]")
_MAIL = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,200}\.[A-Za-z]{2,20}")
_TRAILING = ".,;:!?_~&"


class LinkTarget(NamedTuple):
    """What a link leads to: the address as Markdown (empty: nowhere), and as it was written."""

    url: str
    written: str
    end: int


def target_at(text: str, start: int) -> LinkTarget | None:
    """The `(..)` behind a link's text which begins at `start`, if there is one."""
    match = _DESTINATION.match(text, start)
    if match is None:
        return None
    written = match["angled"] if match["angled"] is not None else match["bare"]
    written = unescaped(_ESCAPE.sub(r"\1", written)).strip()
    return LinkTarget(safe_address(written), written, match.end())


def safe_address(written: str) -> str:
    """`written` as a link's destination in Markdown, empty unless it is http, https or mail.

    Percent signs stand for all that could end an attribute or begin mathematics there.
    """
    if len(written) > LIMIT or _FORBIDDEN.search(written) or not _ALLOWED.match(written):
        return ""
    scheme, colon, rest = written.partition(":")
    safe = scheme.lower() + colon + quote(rest, safe="/:?#@!&+,;=%-._~", errors="replace")
    return safe.replace("@@", "%40%40").replace("~~", "%7E%7E").replace("&", "&amp;")


def mail_address(written: str) -> str:
    """The address of `<someone@example.org>`, if it is one."""
    return safe_address(f"mailto:{written}") if _MAIL.fullmatch(written) else ""


def bare_address(written: str) -> str:
    """As much of `written` as belongs to an address in running text."""
    written = re.split("&(?:lt|gt|quot);", written, maxsplit=1)[0]
    end, unmatched = len(written), written.count(")") - written.count("(")
    while end and (written[end - 1] in _TRAILING or (written[end - 1] == ")" and unmatched > 0)):
        end -= 1
        unmatched -= written[end] == ")"
    return written[:end]


_LINE_END = re.compile(r"[ \t]*+\n[ \t]*+")
_BACKTICKS = re.compile("`+")
# Where nbconvert would look for mathematics or struck words before code: it is cut there.
_FOUND_FIRST = re.compile(r"(?<=~)(?=~)|(?<=\$)(?=\$)|(?<=\\)(?=\\[()\[\]])|(?<=\\)(?=begin\{)")
# What marked looks for first in code that holds a backtick, as it does not see that it is code.
_MARKS = re.compile(r"[*_~<\[]")
_ESCAPED_BAR = re.compile(r"(?<=\\)(?=\|)")
_SIGNS = re.compile(r"[~$\\|]")  # without one of these nothing is cut


def code_text(content: str, *, cell: bool = False) -> str:
    """`content`, as it stands between its backticks, as code on one line.

    Cut where a reader which looks for mathematics or emphasis first would find some.
    """
    if "\n" in content:
        content = _LINE_END.sub(" ", content)
    if content.strip(" ") and content[0] == content[-1] == " ":
        content = content[1:-1]
    if "`" in content and _MARKS.search(content):
        parts = _BACKTICKS.split(content)
        between = [as_entity("`") * len(run) for run in _BACKTICKS.findall(content)]
        coded = [code_text(part, cell=cell) if part else "" for part in parts]
        return JOINER.join(
            piece for pair in zip_longest(coded, between, fillvalue="") for piece in pair if piece
        )
    if not _SIGNS.search(content):
        return _span(content)
    parts = _FOUND_FIRST.split(content)
    if cell:
        parts = [piece for part in parts for piece in _ESCAPED_BAR.split(part)]
    return JOINER.join(_span(part.replace("|", r"\|") if cell else part) for part in parts)


def _span(content: str) -> str:
    fence = "`" * (max(map(len, _BACKTICKS.findall(content))) + 1) if "`" in content else "`"
    edges = content[:1] + content[-1:]
    # marked takes a backslash before the last backtick for an escape when it looks for emphasis.
    padded = "`" in edges or edges.endswith("\\") or (edges == "  " and content.strip(" "))
    return f"{fence} {content} {fence}" if padded else f"{fence}{content}{fence}"


# Every branch begins with a character of its own: `re` then looks for these alone, which is fast.
_TOKENS = r"""
      \\(?:(?P<money>\\(?:\\?\$|&\#36;)) | (?P<bracket>[(\[]) | (?P<escape>[!-/:-@\[-`{-~])
        | (?P<environment>begin\{) | (?P<hard>\n[ \t]*+) | (?P<backslash>))
    | &(?:(?P<cash>\#92;(?:\\?\$|&\#36;))
        | (?P<entity>(?:\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});))
    | `(?P<code>`*+)
    | \$(?P<dollar>)
    | <(?:(?P<break>br\s{0,9}/?>) | (?P<auto>[^\s<>"'`$\\]{3,2000})>)
    | !(?P<image>\[)
    | \[(?P<open>\[*+)
    | \](?P<close>\]*+)
    | \n(?P<newline>[ \t]*+)
"""
_URL = r"| h(?<![A-Za-z0-9]h)(?P<url>ttps?://[^\s<>\"'`$\\|{}^\[\]*]{1,2000})"
_TOKEN = re.compile(_TOKENS, re.VERBOSE)
_TOKEN_OR_URL = re.compile(_TOKENS + _URL, re.VERBOSE)
_RUN = re.compile("`+")
_BRACKETS = re.compile(r"!?[\[\]]+")
_MARKUP = re.compile(
    r"""[<>&`\[\]\\@:.~](?:(?<![@:.~]) | (?<=@)(?=@) | (?<=:)(?=//) | (?<=[wW]{3}\.)
    | (?<=~)(?<!~~)(?:(?!~)|~~+))""",
    re.VERBOSE,
)


@dataclass(slots=True)
class InlinePiece:
    """A formula, code, a line end, an address, or one side of a link; mere text is a string."""

    kind: str
    text: str = ""
    at: int = 0
    target: LinkTarget | None = None
    partner: int = -1


class _Mark(NamedTuple):
    at: int  # in what was found
    image: bool


class InlineParser:
    """The pieces of one run of text, found in time linear in it."""

    def __init__(self, text: str, *, cell: bool) -> None:
        self.found: list[InlinePiece | str] = []
        self._text = text
        self._cell = cell
        self._formulas = Formulas(text, cell=cell)
        self._open: list[_Mark] = []
        self._last_link = text.rfind("](")
        self._runs: dict[int, list[int]] = {}
        if "`" in text:
            for run in reversed(list(_RUN.finditer(text))):
                self._runs.setdefault(len(run[0]), []).append(run.start())
        token = _TOKEN_OR_URL if "://" in text else _TOKEN
        at = 0
        while match := token.search(text, at):
            start = match.start()
            if match.lastgroup in ("newline", "hard"):
                at = self._newline(match, at)
                continue
            if at < start:
                self._plain(text[at:start])
            at = self._token(match)
        self._plain(text[at:])

    def _token(self, match: re.Match[str]) -> int:
        """Add what `match` begins; say where it ends."""
        match match.lastgroup:
            case "code":
                return self._code(match)
            case "dollar" | "environment" | "bracket":
                return self._formula(match)
            case "entity":
                return self._entity(match)
            case "escape" | "backslash":
                self._character(match[0][-1], match.end())
            case "close":
                return self._close(match)
            case "auto" | "url":
                return self._address(match)
            case "open" | "image" as kind:
                return self._brackets(match, image=kind == "image")
            case "money" | "cash":
                self.found.append(DOLLAR)
            case _:
                self.found.append(InlinePiece("break", "  ", match.end() - 1))
        return match.end()

    def _newline(self, match: re.Match[str], at: int) -> int:
        """A line end, with the white space before it, and perhaps a backslash before that."""
        start = match.start()
        before = self._text[at:start]
        hard = match.lastgroup == "hard"
        if hard and not before and self._text[start - 1 : start] in (" ", "\t"):
            self._plain("\\")  # all that is on its line
            return start + 1
        self._plain(before.rstrip(" \t"))
        kept = "  " if hard or before.endswith("  ") else ""
        self.found.append(InlinePiece("newline", kept, match.end() - 1))
        return match.end()

    def _plain(self, text: str) -> None:
        if text:
            shown = _MARKUP.sub(_entities, text)
            self.found.append(shown.replace("|", "&#124;") if self._cell else shown)

    def _character(self, char: str, end: int) -> None:
        """An escaped character: never markup."""
        self.found.append(character(char, unescaped(self._text[end : end + 12])))

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
                self.found.append(DOLLAR)
            elif match.lastgroup == "environment":
                self._character("\\", start + 1)
                return start + 1
            else:
                self._character(match[0][-1], match.end())
            return match.end()
        if found.markdown:
            self.found.append(InlinePiece("math", found.markdown))
        else:
            code = code_text(self._text[start : found.end], cell=self._cell)
            self.found.append(InlinePiece("code", code))
        return found.end

    def _code(self, match: re.Match[str]) -> int:
        starts = self._runs.get(len(match[0]), [])
        while starts and starts[-1] < match.end():
            starts.pop()
        if not starts:
            self.found.append("".join(map(as_entity, match[0])))
            return match.end()
        end = starts.pop()
        code = code_text(self._text[match.end() : end], cell=self._cell)
        self.found.append(InlinePiece("code", code))
        return end + len(match[0])

    def _brackets(self, match: re.Match[str], *, image: bool) -> int:
        """What may begin links, as text until one of them does."""
        if match.start() > self._last_link:
            return self._mere_brackets(match)
        at, count = len(self.found), 1 if image else len(match[0])
        self._open += [_Mark(at + n, image) for n in range(count)]
        self.found += [as_entity("!") + as_entity("[")] if image else [as_entity("[")] * count
        return match.end()

    def _mere_brackets(self, match: re.Match[str]) -> int:
        """Brackets below the last link."""
        row = _BRACKETS.match(self._text, match.start())
        end = row.end() if row else match.end()
        self.found.append("".join(map(as_entity, self._text[match.start() : end])))
        return end

    def _close(self, match: re.Match[str]) -> int:
        if match.end() - 1 > self._last_link:
            return self._mere_brackets(match)
        if passed := len(match["close"]):  # nothing but another one follows these
            del self._open[-passed:]
            self.found.append(as_entity("]") * passed)
        mark = self._open.pop() if self._open else None
        target = target_at(self._text, match.end()) if mark else None
        if mark is None or target is None:
            self.found.append(as_entity("]"))
            return match.end()
        if not mark.image:
            self._open.clear()  # a link holds no link
        shown = str(self.found[mark.at])
        self.found[mark.at] = InlinePiece("open", shown, target=target, partner=len(self.found))
        self.found.append(InlinePiece("close", target=target))
        return target.end

    def _address(self, match: re.Match[str]) -> int:
        written = match["auto"] or bare_address(match[0])
        address = unescaped(written)
        url = safe_address(address) or (mail_address(address) if match["auto"] else "")
        if not url:
            first = 1 if match["auto"] else 4
            self._plain(match[0][:first])
            return match.start() + first
        end = match.end() if match["auto"] else match.start() + len(written)
        self.found.append(InlinePiece("address", literal(address), target=LinkTarget(url, "", end)))
        return end


def _entities(match: re.Match[str]) -> str:
    return "".join(map(as_entity, match[0]))


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

    def rendered(self, pieces: list[InlinePiece | str]) -> str:
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

    def _end_line(self, piece: InlinePiece) -> None:
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

    def _keep_apart(self, piece: InlinePiece) -> None:
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

    def _bracket(self, index: int, piece: InlinePiece) -> None:
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
    return _Lines(text, margins).rendered(InlineParser(text, cell=cell).found)


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
