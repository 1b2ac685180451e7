"""What a paragraph, heading or cell is made of: words with their signs escaped, code, formulas,
links and line ends.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from o3magic.render import links
from o3magic.render.literal import DOLLAR, as_entity, character, literal, unescaped
from o3magic.render.spans import code_text
from o3magic.render.tex import Formulas

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
class Piece:
    """A formula, code, a line end, an address, or one side of a link; mere text is a string."""

    kind: str
    text: str = ""
    at: int = 0
    target: links.Target | None = None
    partner: int = -1


class _Mark(NamedTuple):
    at: int  # in what was found
    image: bool


class Pieces:
    """The pieces of one run of text, found in time linear in it."""

    def __init__(self, text: str, *, cell: bool) -> None:
        self.found: list[Piece | str] = []
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
                self.found.append(Piece("break", "  ", match.end() - 1))
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
        self.found.append(Piece("newline", kept, match.end() - 1))
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
            self.found.append(Piece("math", found.markdown))
        else:
            code = code_text(self._text[start : found.end], cell=self._cell)
            self.found.append(Piece("code", code))
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
        self.found.append(Piece("code", code))
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
        target = links.target_at(self._text, match.end()) if mark else None
        if mark is None or target is None:
            self.found.append(as_entity("]"))
            return match.end()
        if not mark.image:
            self._open.clear()  # a link holds no link
        shown = str(self.found[mark.at])
        self.found[mark.at] = Piece("open", shown, target=target, partner=len(self.found))
        self.found.append(Piece("close", target=target))
        return target.end

    def _address(self, match: re.Match[str]) -> int:
        written = match["auto"] or links.bare(match[0])
        address = unescaped(written)
        url = links.address(address) or (links.mail(address) if match["auto"] else "")
        if not url:
            first = 1 if match["auto"] else 4
            self._plain(match[0][:first])
            return match.start() + first
        end = match.end() if match["auto"] else match.start() + len(written)
        self.found.append(Piece("address", literal(address), target=links.Target(url, "", end)))
        return end


def _entities(match: re.Match[str]) -> str:
    return "".join(map(as_entity, match[0]))
