"""Mathematics in a model's text: found, made harmless, and written the one way that all readers
agree on: `$..$` or `$$..$$` on one line.

JupyterLab takes mathematics out before Markdown is parsed and puts it back unescaped; nbconvert
looks for it while it parses. A formula which they would end at different places is no formula here.
"""

import re
from typing import NamedTuple

from o3magic.render.markdown.escape import JOINER, MATH_DOLLAR

LIMIT = 4000  # characters of one formula

_ENVIRONMENT = re.compile(
    r"(?:equation|align(?:ed|at)?|gather(?:ed)?|multline|eqnarray|flalign|split|cases|array"
    r"|[pbvBV]?matrix|smallmatrix)\*?"
)
# What makes links, attributes, styles or new commands, loads code, or paints outside its line.
_FORBIDDEN = re.compile(
    "href|url|class|style|cssId|data|unicode|require|html[A-Za-z]*|includegraphics|mmlToken"
    "|MMLToken|bbox|[egx]?def|let|futurelet|global|csname|catcode|(?:re|provide)?newcommand"
    "|renewcommand|(?:re)?newenvironment|newif|Declare[A-Za-z]+|Newextarrow|toggle|(?:math|text)tip"
    "|action|definecolor|[rR]ule|Space|raise|lower|moveleft|moveright|verb|begingroup|input|write"
    "|special"
)

_BODY = r"([^$\\`]*+(?:\\[^`][^$\\`]*+)*+)"
_BRACKETED = r"([^$\\`]*+(?:\\[^()\[\]`][^$\\`]*+)*+)"
_DOUBLE = re.compile(rf"\$\${_BODY}\$\$")
_SINGLE = re.compile(rf"\$(?=[^\s$]){_BODY}(?<!\s)\$(?!\d)")
_ROUND = re.compile(rf"\\\({_BRACKETED}\\\)")
_SQUARE = re.compile(rf"\\\[{_BRACKETED}\\\]")
_OPENERS = ("$$", r"\[", r"\begin{")
_BEGIN = re.compile(r"\\begin\{([a-z]+\*?)\}")

_TOKEN = re.compile(r"\\(?:begin|end)\{([^{}]*)\}|\\([A-Za-z]+)|\\.|[{}]", re.DOTALL)
_COMMENT = re.compile(r"(\\.)|%[^\n]*\n|%", re.DOTALL)
_LINE_END = re.compile(r"\s*\n\s*")
_LENGTH = r"\*?\[\s*-?[\d.]+\s*[a-z]{2}\s*\]"
_LINE_BREAK = re.compile(rf"(\\\\)(?:{_LENGTH} *|(?=[{{}}()\[\]$]))|\\.", re.DOTALL)
_BAR = re.compile(r"\\.|\|", re.DOTALL)
_IN_CELL = {"|": r"\vert ", r"\|": r"\Vert "}
_ENDS_IN_ESCAPE = re.compile(r"[\\$]$")  # nbconvert takes no `$` for the end behind one of these
# Tags and links, should a reader miss that it is mathematics; spaces do not count in it.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|\](?=[(\[:])|:(?=//)|@(?=@)|~(?=~)")
_TEX_MARKS = re.compile(r"[\\^_{}=+*/<>|]")
_WORD = re.compile(r"[A-Za-z]{2}")


class Formula(NamedTuple):
    """A formula as safe Markdown; empty if its commands are not harmless; and where it ends."""

    markdown: str
    end: int


class Formulas:
    """Finds the formulas of one text, in time linear in it."""

    def __init__(self, text: str, *, cell: bool) -> None:
        self._text = text
        self._cell = cell

    def at(self, start: int) -> Formula | None:
        """The formula that begins at `start`, if one does."""
        text = self._text
        if text.startswith("$", start):
            return self._delimited(_DOUBLE, "$$", start) or self._single(start)
        if text.startswith(r"\(", start):
            return self._delimited(_ROUND, "$", start)
        if text.startswith(r"\[", start):
            return self._delimited(_SQUARE, "$$", start)
        return self._environment(start)

    def _delimited(self, pattern: re.Pattern[str], mark: str, start: int) -> Formula | None:
        match = pattern.match(self._text, start)
        return self._formula(match[1], mark, match.end()) if match else None

    def _single(self, start: int) -> Formula | None:
        """`$..$`, where it is no money: `$5 and $10`."""
        before = self._text[start - 1 : start]
        match = _SINGLE.match(self._text, start)
        if match is None or (before.isascii() and before.isalnum()) or _is_money(match[1]):
            return None
        return self._formula(match[1], "$", match.end())

    def _environment(self, start: int) -> Formula | None:
        """`\\begin{align}..\\end{align}` which stands alone."""
        match = _BEGIN.match(self._text, start)
        if match is None or not _ENVIRONMENT.fullmatch(match[1]):
            return None
        closer = rf"\end{{{match[1]}}}"
        end = self._text.find(closer, start, start + LIMIT)
        body = self._text[start : end + len(closer)] if end > 0 else ""
        if body.count(match[0]) != 1 or re.search(r"[$`]", body):
            return None
        return self._formula(body, "$$", start + len(body))

    def _formula(self, body: str, mark: str, end: int) -> Formula | None:
        if not body.strip() or len(body) > LIMIT:
            return None
        body = one_line(body, cell=self._cell)
        verdict = _judged(body)
        if verdict is None or not body or len(body) > LIMIT:
            return None
        if mark == "$" and _is_money(body):
            body = "{}" + body
        delimiter = MATH_DOLLAR * len(mark)
        after = JOINER if self._text[end : end + 1].isdigit() else ""
        return Formula(delimiter + body + delimiter + after if verdict else "", end)


def opens_block(line: str) -> str:
    """What ends the display mathematics which begins with `line` and goes on below; else empty."""
    line = line.lstrip(" ")
    if not line.startswith(_OPENERS):
        return ""
    begin = _BEGIN.match(line)
    closer = ""
    if line.startswith("$$"):
        closer = "$$"
    elif line.startswith(r"\["):
        closer = r"\]"
    elif begin and _ENVIRONMENT.fullmatch(begin[1]):
        closer = rf"\end{{{begin[1]}}}"
    return "" if not closer or closer in line[2:] else closer


def one_line(body: str, *, cell: bool) -> str:
    """`body` on one line, without what HTML, Markdown or a table would take for theirs."""
    if "%" in body:
        body = _COMMENT.sub(lambda m: m[1] or ("\n" if m[0].endswith("\n") else r"\%"), body)
    if "\n" in body:
        body = _LINE_END.sub(" ", body)
    body = body.strip().replace("\t", " ")
    if r"\\" in body:
        body = _LINE_BREAK.sub(lambda m: m[1] + " " if m[1] else m[0], body).rstrip(" ")
    body = _MARKUP.sub(lambda m: m[0] + " ", body).replace('"', "\u201d")
    if cell:
        body = _BAR.sub(lambda m: _IN_CELL.get(m[0], m[0]), body).rstrip(" ")
    return body + " {}" if _ENDS_IN_ESCAPE.search(body) else body


def _is_money(body: str) -> bool:
    return body[:1].isdigit() and not _TEX_MARKS.search(body) and bool(_WORD.search(body))


def _judged(body: str) -> bool | None:
    """True: harmless; False: not; None: braces or environments do not match."""
    depth, opened, harmless = 0, list[str](), True
    for token in _TOKEN.finditer(body):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
        elif token[0].startswith(r"\begin{"):
            opened.append(token[1])
        elif token[0].startswith(r"\end{"):
            if not opened or opened.pop() != token[1]:
                return None
        elif token[2] and _FORBIDDEN.fullmatch(token[2]):
            harmless = False
        if depth < 0:
            return None
    return None if depth or opened else harmless
