"""A model's text as Markdown that is safe, and right, in JupyterLab, Notebook and nbconvert.

A kernel's own output is trusted there: it is not sanitised, so `<script>` in it runs. The text is
therefore read here, and written anew in the few forms which all readers take alike: no HTML, code
in fences between blank lines, whatever is inline on one line, all other signs as entities.
What is written is a fixed point: making it safe again changes nothing.
"""

import re

from o3magic.render import tables
from o3magic.render.containers import DEEPEST, Line, Lists
from o3magic.render.inline import inline
from o3magic.render.literal import literal, page_text, plain_text, with_dollars
from o3magic.render.spans import code_text
from o3magic.render.tex import opens_block

__all__ = ["code_span", "plain_text", "safe_markdown", "table_cell"]

MATH_LINES = 200  # of one formula

_FENCE = re.compile(r"(?P<run>`{3,}|~{3,})(?P<info>.*)")
_HEADING = re.compile(r"#{1,6}(?=[ \t]|$)")
_RULE = re.compile(r"([-*_])(?:[ \t]*+\1){2,}+[ \t]*$")
_UNDERLINE = re.compile(r"(=+|-+)[ \t]*$")
_FENCES = re.compile(r"`{3,}")
_TASK = re.compile(r"\[[ xX]\] (?=\S)")
_LANGUAGE = re.compile(r"[\s{.]*([A-Za-z0-9_+#-]{1,30})")
_DRAWN = re.compile(r"mermaid|vega|plantuml|dot$|graphviz|geojson|topojson|stl$|math$|svg|html-")
# In Lab only a fence at the margin keeps its dollar signs from being mathematics.
_TEX_IN_NESTED_CODE = re.compile(r"\$[^$]*\$|\\\\[(\[]|\\begin\{|@@\d+@@")


def safe_markdown(text: str) -> str:
    """`text`, whoever wrote it, as Markdown to be shown in a notebook."""
    return with_dollars(_Document(page_text(text)).rendered())


def table_cell(text: str, limit: int = 200) -> str:
    """`text` as one cell of a Markdown table, character by character, shortened to `limit`."""
    text = " ".join(page_text(text).split())
    if len(text) > limit:
        text = text[: max(limit - 1, 0)] + "\u2026"
    return with_dollars(literal(text))


def code_span(text: str) -> str:
    """`text` as code within a line, also within a table's cell."""
    text = " ".join(page_text(text).split())
    return code_text(text, cell=True) if text else ""


class _Document:
    """One text, read line by line and written anew."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._at = 0
        self._out: list[str] = []
        self._paragraph: list[str] = []  # its lines without their margins
        self._margins: list[str] = []
        self._first = ""
        self._apart = False  # a blank line is due
        self._no_formula_before = 0
        self._lists = Lists()

    def rendered(self) -> str:
        """The whole text."""
        while self._at < len(self._lines):
            raw = self._lines[self._at]
            if not raw:
                self._blank("")
            elif raw[:1].isalpha() and "|" not in raw:
                self._plain(raw)
            else:
                line = self._lists.read(raw, lazy=bool(self._paragraph))
                if not line.rest and not line.marked:
                    self._blank(line.margin)
                elif not self._block(line):
                    self._text(line)
            self._at += 1
        self._end_paragraph()
        return "\n".join(self._out).strip("\n")

    def _block(self, line: Line) -> bool:
        """Write the block that begins with `line`, unless it is a paragraph's."""
        first = line.rest[:1]
        fence = _FENCE.match(line.rest) if first in "`~" else None
        if fence and not (first == "`" and "`" in fence["info"]):
            self._fenced(line, fence)
        elif line.indented:
            if self._paragraph:
                return False
            self._indented(line)
        elif first in "=-" and not line.marked and _UNDERLINE.match(line.rest) and self._words():
            self._end_paragraph()
            self._out.append(line.start + line.rest.strip())
        elif first in "-*_" and _RULE.match(line.rest):
            self._end_paragraph()
            self._write(line.start + line.rest.strip())
        elif first == "#" and (heading := _HEADING.match(line.rest)):
            title = _unclosed(line.rest[heading.end() :])
            self._end_paragraph()
            self._write(f"{line.start}{heading[0]} {inline(title)}")
        else:
            return self._table(line)
        return True

    def _blank(self, margin: str) -> None:
        self._end_paragraph()
        self._out.append("" if self._apart else margin.rstrip())
        self._apart = False

    def _write(self, text: str) -> None:
        """Lines of a block, below a blank one if one is due."""
        if self._apart and self._out and self._out[-1]:
            self._out.append("")
        self._apart = False
        self._out += text.rstrip(" ").split("\n")

    def _plain(self, line: str) -> None:
        """Take a line that begins with a letter at the margin: a paragraph's, and no other's."""
        self._lists.words(lazy=bool(self._paragraph))
        if not self._paragraph:
            self._first = ""
        self._paragraph.append(line)
        self._margins.append("")

    def _text(self, line: Line) -> None:
        """Take a line of a paragraph, and the lines of a formula which it begins."""
        rest = line.rest
        if line.marked or (self._paragraph and line.quotes > self._margins[-1].count(">")):
            self._end_paragraph()
        if not self._paragraph:
            self._first = line.start
            if line.marked and (task := _TASK.match(rest)):
                self._first += task[0]
                rest = rest[task.end() :]
        self._paragraph.append(rest)
        self._margins.append(line.margin)
        closer = opens_block(rest)
        if not closer or self._at < self._no_formula_before:
            return
        below = self._formula_lines(line.margin, closer)
        self._paragraph += below
        self._margins += [line.margin] * len(below)
        self._at += len(below)

    def _formula_lines(self, margin: str, closer: str) -> list[str]:
        """The lines below down to the one with `closer`: `- c` is no list's there."""
        below: list[str] = []
        for raw in self._lines[self._at + 1 : self._at + 1 + MATH_LINES]:
            inner = (self._lists.inside(raw, margin) or "").strip(" \t")
            if not inner:
                break
            below.append(inner)
            if closer in inner:
                return below
        self._no_formula_before = self._at + len(below)
        return []

    def _words(self) -> str:
        """What the open paragraph says."""
        return inline("\n".join(self._paragraph), self._margins) if self._paragraph else ""

    def _end_paragraph(self) -> None:
        if self._paragraph:
            text = self._words()
            self._paragraph, self._margins = [], []
            # A marker without words is none within a paragraph, so it stands apart.
            self._apart = self._apart or (not text and bool(self._first.strip()))
            self._write(self._first + text)

    def _fenced(self, line: Line, fence: re.Match[str]) -> None:
        """A fence, closed if it was not, with nothing but a language behind its opening."""
        closing = re.compile(rf" {{0,3}}{fence['run'][0]}{{{len(fence['run'])},}}[ \t]*$")
        if line.indented and not line.marked:
            line = line._replace(start=line.edge, margin=line.edge)
        code: list[str] = []
        while self._at + 1 < len(self._lines):
            inner = self._lists.inside(self._lines[self._at + 1], line.margin)
            if inner is None:
                break
            self._at += 1
            if closing.match(inner):
                break
            code.append(inner)
        else:
            if code and not code[-1]:
                code.pop()  # the line end at the end of the text
        self._write_code(line, _language(fence["info"]), code)

    def _indented(self, line: Line) -> None:
        """Code that is known by its indent, in a fence."""
        beyond = " " * 4
        line = line._replace(start=line.edge, margin=line.edge)
        code = [" " * (line.indent - line.base - 4) + line.rest]
        while self._at + 1 < len(self._lines):
            inner = self._lists.inside(self._lines[self._at + 1], line.margin + beyond)
            outer = self._lists.inside(self._lines[self._at + 1], line.margin)
            if inner is None or outer is None or (inner.strip() and len(outer) - len(inner) != 4):
                break
            self._at += 1
            code.append(inner)
        while len(code) > 1 and not code[-1].strip():
            code.pop()
            self._at -= 1
        self._write_code(line, "", code)

    def _write_code(self, line: Line, language: str, code: list[str]) -> None:
        body = "\n".join(code)
        start, margin = line.start, line.margin
        if margin and (len(margin) > DEEPEST or _TEX_IN_NESTED_CODE.search(body)):
            start = margin = ""
            self._lists.leave()
        longest = max(map(len, _FENCES.findall(body))) if "```" in body else 2
        fence = "`" * (longest + 1)
        self._end_paragraph()
        self._apart = True
        self._write(start + fence + language)
        self._out += [margin + each if each else margin.rstrip() for each in code]
        self._out.append(margin + fence)
        self._apart = True

    def _table(self, line: Line) -> bool:
        """Write the table whose head is `line`, if it is one."""
        if line.marked or "|" not in line.rest or self._at + 1 >= len(self._lines):
            return False
        below = self._lists.inside(self._lines[self._at + 1], line.margin)
        table = tables.begun(line.rest, below or "")
        if table is None:
            return False
        self._at += 1
        line = self._lists.settled(line)
        while self._at + 1 < len(self._lines):
            row = self._lists.inside(self._lines[self._at + 1], line.margin)
            if row is None or not table.add(row):
                break
            self._at += 1
        self._end_paragraph()
        if self._out and self._out[-1].strip(" >") and not self._apart:
            self._out.append(line.margin.rstrip())
        self._write("\n".join(line.margin + row for row in table.rows))
        self._apart = True
        return True


def _unclosed(title: str) -> str:
    """A heading's text without the signs that close it."""
    title = title.strip(" \t")
    kept = title.rstrip("#")
    return kept.rstrip(" \t") if not kept or kept[-1] in " \t" else title


def _language(info: str) -> str:
    """A word that names a language and nothing that is drawn or run."""
    match = _LANGUAGE.match(info)
    word = match[1] if match else ""
    return "text" if _DRAWN.match(word.lower()) else word
