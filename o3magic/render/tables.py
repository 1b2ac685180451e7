"""Tables in a model's text, with every row as long as the head: else nbconvert shows none."""

import re

from o3magic.render.inline import inline

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


class Table:
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


def begun(head: str, below: str) -> Table | None:
    """The table that begins with these two lines, if they begin one."""
    if not _DELIMITER.match(below) or not ("|" in below or ":" in below):
        return None
    delimiter = cells(below, 0)
    names = cells(head, len(delimiter))
    return Table(names, delimiter) if len(names) == len(delimiter) <= WIDEST else None


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
