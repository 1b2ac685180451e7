"""A model's text as Markdown that is safe, and right, in JupyterLab, Notebook and nbconvert.

A kernel's own output is trusted there: it is not sanitised, so `<script>` in it runs. The text is
therefore read here, and written anew in the few forms which all readers take alike: no HTML, code
in fences between blank lines, whatever is inline on one line, all other signs as entities.
What is written is a fixed point: making it safe again changes nothing.
"""

import re
from typing import NamedTuple

from o3magic.render.markdown.escape import literal, page_text, plain_text, with_dollars
from o3magic.render.markdown.inline import code_text, inline
from o3magic.render.markdown.tex import opens_block

DEEPEST = 18  # columns before code; nbconvert gives up beyond 20 levels of nesting
MARKERS = 8  # of one line

_MARKER = re.compile(
    r"(?P<indent> *)(?:(?P<quote>>) ?|(?P<bullet>[-+*]|\d{1,9}[.)])(?P<spaces> +|$))"
)
_LEADING = re.compile(r"(?:[ \t>]|[-+*](?=[ \t])|\d{1,9}[.)](?=[ \t]))*+")
_RULE_LINE = re.compile(r" *+([-*_])(?: *+\1){2,}+ *$")
_STARTS = re.compile(r"#{1,6}(?:[ \t]|$)|`{3,}+[^`]*$|~{3}")
_WHITE = re.compile(r"[ \t]*+")
_MARK = re.compile("[^ >]")


class MarkdownLine(NamedTuple):
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


class ListContext:
    """Reads the lines of a document in order, and remembers which list they are in."""

    def __init__(self) -> None:
        self._levels: list[list[int]] = [[]]  # by quotation: where the text of open items begins
        self._shift = 0  # columns by which the rest of a left list moves to the margin

    def read(self, raw: str, *, lazy: bool) -> MarkdownLine:
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
        lazy = lazy and not (_STARTS.match(text) or _RULE_LINE.match(text))
        if text and not lazy and not marked:
            self._close_beyond(column + len(rest) - len(text), depth)
        if not marked:
            start, column = start + rest[: -len(text) or None], column + len(rest) - len(text)
        margin = _MARK.sub(" ", start) if marked else start
        return MarkdownLine(start, margin, text, column, self._base(depth), marked)

    def words(self, *, lazy: bool) -> None:
        """The next line begins with a letter at the margin: it is in no list, unless `lazy`."""
        self._shift = 0
        if not lazy:
            self._levels = [[]]

    def settled(self, line: MarkdownLine) -> MarkdownLine:
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
            if empty or _RULE_LINE.match(match.string):
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


WIDEST = 64  # columns

_DELIMITER = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*+\|?[ \t]*$")
_ESCAPE = re.compile(r"\\.")
# A bar in code or mathematics is none of the table's, if the number of cells says so.
_BARS = [
    re.compile(r"\\.|(`+)[^`]+\1(?!`)|\$[^$\s][^$`]*\$|\|"),
    re.compile(r"\\.|(`+)[^`]+\1(?!`)|\|"),
    re.compile(r"\\.|\|"),
]
_SIGNS = re.compile(r"[\\`$]")
_OTHER_BLOCK = re.compile(r"[ \t]*(?:```|~~~|#{1,6}\s|>|[-+*]\s|\d{1,9}[.)]\s)")


class TableReader:
    """The rows of one table, the head and its delimiter first."""

    def __init__(self, head: list[str], delimiter: list[str]) -> None:
        self._columns = len(head)
        self.rows = [_row(head), f"| {' | '.join(_dashes(each) for each in delimiter)} |"]

    def add(self, line: str) -> bool:
        """Take `line` as the next row, if it is one."""
        if "|" not in line or _OTHER_BLOCK.match(line):
            return False
        found = cells(line, self._columns)
        if len(found) * 4 < self._columns:  # what is missing is written out: no room for a bomb
            return False
        found = [*found, *[""] * self._columns][: self._columns]
        self.rows.append(_row(found))
        return True


def begun(head: str, below: str) -> TableReader | None:
    """The table that begins with these two lines, if they begin one."""
    if not _DELIMITER.match(below) or not ("|" in below or ":" in below):
        return None
    delimiter = cells(below, 0)
    names = cells(head, len(delimiter))
    return TableReader(names, delimiter) if len(names) == len(delimiter) <= WIDEST else None


def cells(line: str, columns: int) -> list[str]:
    """The cells of a row, `columns` of them if it can be read so; escaped bars in them as bars."""
    line = line.strip(" \t")
    if not _SIGNS.search(line):
        return _parted(line)
    found: list[str] = []
    for bars in _BARS:
        found = _split(line, bars)
        if len(found) == columns:
            break
    return [_ESCAPE.sub(lambda m: "|" if m[0] == r"\|" else m[0], each) for each in found]


def _parted(line: str) -> list[str]:
    """The cells of a row in which every bar is the table's."""
    found = [cell.strip(" \t") for cell in line.split("|")]
    if line.endswith("|") or not line:
        found.pop()
    return found[1:] if line.startswith("|") else found


def _split(line: str, bars: re.Pattern[str]) -> list[str]:
    found, start = [], 0
    for match in bars.finditer(line):
        if match[0] == "|":
            found.append(line[start : match.start()].strip(" \t"))
            start = match.end()
    if start < len(line):
        found.append(line[start:].strip(" \t"))
    return found[1:] if line.startswith("|") else found


def _row(found: list[str]) -> str:
    return f"| {' | '.join(inline(each, cell=True) for each in found)} |"


def _dashes(cell: str) -> str:
    return f"{':' * cell.startswith(':')}---{':' * cell.endswith(':')}"


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
        self._lists = ListContext()

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

    def _block(self, line: MarkdownLine) -> bool:
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

    def _text(self, line: MarkdownLine) -> None:
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

    def _fenced(self, line: MarkdownLine, fence: re.Match[str]) -> None:
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

    def _indented(self, line: MarkdownLine) -> None:
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

    def _write_code(self, line: MarkdownLine, language: str, code: list[str]) -> None:
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

    def _table(self, line: MarkdownLine) -> bool:
        """Write the table whose head is `line`, if it is one."""
        if line.marked or "|" not in line.rest or self._at + 1 >= len(self._lines):
            return False
        below = self._lists.inside(self._lines[self._at + 1], line.margin)
        table = begun(line.rest, below or "")
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
