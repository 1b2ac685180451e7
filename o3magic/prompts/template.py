"""A prompt with `{{ names }}` of the notebook in it.

Filled in once, from left to right: braces inside a value stay text. Everything else in a prompt is
as it was typed: single braces, `{% %}` and `{# #}`, LaTeX, JSON, and `\\{{`, which is no template.
`{{ "{{" }}` gives two braces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from o3magic.errors import TemplateError
from o3magic.messages import Image, Text

MOST_EXPRESSIONS: Final = 1_000
LONGEST_EXPRESSION: Final = 1_000
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt filled in: `parts` in order, the names that were used, what a reader should know."""

    parts: tuple[Text | Image, ...]
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The words, with a sign where a picture is."""
        return "".join(p.text if isinstance(p, Text) else "[picture]" for p in self.parts)

    @property
    def images(self) -> tuple[Image, ...]:
        """The pictures."""
        return tuple(part for part in self.parts if isinstance(part, Image))


@dataclass(frozen=True, slots=True)
class TemplateExpression:
    """What stands between `{{` and `}}`, and in which line of the prompt."""

    source: str
    line: int


def render(text: str, names: Mapping[str, Any], *, folder: Path) -> RenderedPrompt:
    """The prompt with the values of `names` in it. Raises TemplateError, before anything is sent.

    folder: where the notebook is, for `| file` and `| image`.
    """
    if "{{" not in text:
        return RenderedPrompt((Text(text),))
    # jinja2 is loaded where a prompt needs it, and not before.
    from o3magic.prompts.formatting import marked, shown
    from o3magic.prompts.sandbox import Sandbox, placed, short

    sandbox = Sandbox(names, folder)
    parts: list[Text | Image] = []
    notes: list[str] = []
    words: list[str] = []
    for piece in pieces(text):
        if isinstance(piece, str):
            words.append(piece)
            continue
        value = sandbox.value(piece.source, piece.line)
        if isinstance(value, Image):
            parts += [Text("".join(words)), value]
            words.clear()
            continue
        try:
            said = shown(value)
            words.append(marked(said, piece.source))
        except TemplateError as error:
            raise placed(error, piece.source, piece.line) from None
        except Exception as error:  # the value's own code
            raise placed(error, piece.source, piece.line) from None
        notes += (f"{short(piece.source)}: {note}" for note in said.notes)
    parts.append(Text("".join(words)))
    kept = tuple(part for part in parts if not (isinstance(part, Text) and not part.text))
    return RenderedPrompt(kept, tuple(sandbox.used), tuple(notes))


def pieces(text: str) -> Iterator[str | TemplateExpression]:
    """The prompt cut into text and expressions. Raises TemplateError for one without an end."""
    place, count = 0, 0
    line, counted = 1, 0
    begun = text.find("{{")
    while begun >= 0:
        if begun and text[begun - 1] == "\\":
            after = begun + 2
            yield text[place:after]
        else:
            yield text[place:begun]
            line, counted = line + text.count("\n", counted, begun), begun
            after = _end(text, begun + 2, line)
            yield from _expression(text[begun:after], line)
            count += 1
            if count > MOST_EXPRESSIONS:
                raise TemplateError(f"the prompt has more than {MOST_EXPRESSIONS:,} {{{{ }}}}")
        place = after
        begun = text.find("{{", place)
    yield text[place:]


def _expression(whole: str, line: int) -> Iterator[str | TemplateExpression]:
    source = whole[2:-2].strip()
    if not source or source.replace(".", "", 1).isdecimal():
        yield whole  # LaTeX: x^{{2}}, and {{}}
    else:
        yield TemplateExpression(source, line)


def _end(text: str, place: int, line: int) -> int:
    """Where an expression ends, behind its `}}`: not in a string, not in brackets of its own."""
    quote, begun = "", place
    waiting: list[str] = []
    while place < len(text) and place - begun <= LONGEST_EXPRESSION:
        char = text[place]
        if quote:
            if char == "\\":
                place += 1
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif not waiting and text.startswith("}}", place):
            return place + 2
        elif char in _CLOSING:
            waiting.append(_CLOSING[char])
        elif waiting and char == waiting[-1]:
            waiting.pop()
        place += 1
    first = text[begun : begun + 30].partition("\n")[0]
    raise TemplateError(
        f"line {line} of the prompt: {{{{{first} has no }}}}",
        hint='{{ "{{" }} gives two braces; --no-template sends the prompt as it is written',
    )
