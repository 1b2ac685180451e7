"""A prompt over the columns of rows: read once, filled in row by row.

`{{ column }}` is the column's value; anything else in braces is an expression of templates as in
every prompt. What is missing (None, NaN, NaT, NA) is an empty text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from o3magic.errors import TemplateError, did_you_mean
from o3magic.messages import Image, Text
from o3magic.prompts.rows import is_missing
from o3magic.prompts.showing import marked, shown
from o3magic.prompts.template import Expression, pieces, render

MOST_ROW_CHARS = 4_000_000
Filled = str | tuple[Text | Image, ...]


class Filling:
    """A template. `fill` gives a row's prompt, as text where there is no picture in it."""

    def __init__(self, text: str, columns: Sequence[str], folder: Path) -> None:
        self._folder = folder
        self._pieces: list[str | Expression] = [*pieces(text)] if "{{" in text else [text]
        self._columns = frozenset(columns)

    @classmethod
    def plain(cls, text: str, folder: Path) -> Filling:
        """A text in which braces are braces."""
        made = cls("", (), folder)
        made._pieces = [text]
        return made

    def check(self, row: Mapping[str, Any]) -> None:
        """Raise TemplateError, with near names, for a column that is not there."""
        for piece in self._pieces:
            if isinstance(piece, str) or piece.source in self._columns:
                continue
            if piece.source.isidentifier():
                raise undefined(piece.source, piece, self._columns)
            names = Asked({**dict.fromkeys(self._columns, ""), **cleaned(row)})
            try:
                render(f"{{{{ {piece.source} }}}}", names, folder=self._folder)
            except TemplateError:
                # Another fault may be one of this row alone.
                if names.missing:
                    raise undefined(names.missing[0], piece, self._columns) from None

    def fill(self, row: Mapping[str, Any]) -> Filled:
        """The prompt of a row. Raises TemplateError."""
        words: list[str] = []
        parts: list[Text | Image] = []
        for piece in self._pieces:
            if isinstance(piece, str):
                words.append(piece)
            elif piece.source in row:
                words.append(value_text(row[piece.source], piece))
            else:
                expression = f"{{{{ {piece.source} }}}}"
                for part in render(expression, cleaned(row), folder=self._folder).parts:
                    if isinstance(part, Text):
                        words.append(part.text)
                    else:
                        parts += [Text("".join(words)), part]
                        words.clear()
        text = "".join(words)
        if len(text) > MOST_ROW_CHARS:
            raise TemplateError(f"the row makes a prompt of {len(text):,} characters")
        if not parts:
            return text
        return tuple(each for each in (*parts, Text(text)) if each != Text(""))


class Asked(dict[str, Any]):
    """Names that remember which of them were looked for in vain."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        super().__init__(names)
        self.missing: list[str] = []

    def __contains__(self, name: object) -> bool:
        found = super().__contains__(name)
        if not found:
            self.missing.append(str(name))
        return found


def value_text(value: Any, piece: Expression) -> str:
    """A column's value as the prompt has it."""
    if type(value) is not str:
        if missing(value):
            return ""
        try:
            return marked(shown(value), piece.source)
        except TemplateError as error:
            said = f"line {piece.line} of the prompt, {{{{ {piece.source} }}}}: {error}"
            raise TemplateError(said, hint=error.hint) from None
    return marked(shown(value), piece.source)


def missing(value: Any) -> bool:
    """Whether nothing is there: None, NaN in any width, NaT, NA."""
    if value is None or is_missing(value):
        return True
    # A NaN is not equal to itself; an array says that of each element.
    kind = type(value).__name__
    return kind.startswith(("float", "Decimal")) and bool(value != value)


def cleaned(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with empty texts for what is missing."""
    return {name: "" if missing(value) else value for name, value in row.items()}


def undefined(name: str, piece: Expression, columns: frozenset[str]) -> TemplateError:
    """What to say of a column that is not there."""
    known = sorted(columns)
    hint = did_you_mean(name, known, f"the columns are {', '.join(known[:20])}")
    return TemplateError(
        f"line {piece.line} of the prompt, {{{{ {piece.source} }}}}: there is no column {name}",
        hint=hint,
    )
