"""`%o3_insert`: a fenced block of the last answer as a new cell below. Nothing of it runs here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from o3magic.errors import BadOption
from o3magic.events import Answer
from o3magic.render.markdown.sanitize import plain_text

FENCE = re.compile(
    r"(?P<margin>[ \t]*)(?:[-*+][ \t]+|\d{1,9}[.)][ \t]+)?(?P<run>`{3,}|~{3,})(?P<info>.*)"
)
PYTHON = ("python", "py", "python3", "py3", "ipython", "ipython3", "pycon")


@dataclass(frozen=True)
class CodeBlock:
    """Code between fences, and the language that is said of it."""

    language: str
    code: str

    @property
    def kind(self) -> str:
        """The language in a word."""
        return self.language or "text"


def blocks(text: str) -> list[CodeBlock]:
    """The fenced blocks of a Markdown text, in order; one that never ends goes to the end."""
    found: list[CodeBlock] = []
    open_run, margin, language, code = "", 0, "", list[str]()
    for each in text.splitlines():
        match = FENCE.fullmatch(each)
        if open_run:
            closing = each.strip()
            if closing.startswith(open_run) and not closing.strip(open_run[0]):
                found.append(CodeBlock(language, "\n".join(code)))
                open_run = ""
            else:
                code.append(without_margin(each, margin))
        elif match and not (match["run"][0] == "`" and "`" in match["info"]):
            open_run, margin, code = match["run"], match.start("run"), []
            language = (re.findall(r"[\w+#.-]+", match["info"]) or [""])[0].lower()
    if open_run:
        found.append(CodeBlock(language, "\n".join(code)))
    return found


def without_margin(text: str, margin: int) -> str:
    """A line of a block without the blanks that the fence has before it."""
    blanks = len(text) - len(text.lstrip(" \t"))
    return text[min(blanks, margin) :]


def chosen(answer: Answer | None, word: str) -> str:
    """The code of the n-th block, or of the first one in Python. Raises BadOption."""
    if answer is None:
        raise BadOption("there is no answer yet", hint="ask with %%o3, then %o3_insert")
    found = blocks(answer.text)
    if not found:
        raise BadOption("the last answer has no block of code", hint="ask for one in a fence")
    if not word:
        python = [each for each in found if each.language in PYTHON]
        if not python:
            has = ", ".join(f"{n} {each.kind}" for n, each in enumerate(found, 1))
            raise BadOption(
                "the last answer has no block of Python", hint=f"%o3_insert N; it has {has}"
            )
        return code_of(python[0])
    if not word.isdecimal() or not 1 <= int(word) <= len(found):
        raise BadOption(f"the last answer has no block {word[:20]!r}", hint=f"1 to {len(found)}")
    return code_of(found[int(word) - 1])


def code_of(block: CodeBlock) -> str:
    """The code as a cell: nothing in it that a reader would not see."""
    return plain_text(block.code)


def insert(shell: Any, answer: Answer | None, line: str) -> str:
    """Put a block below the running cell, or on the next line of a terminal; gives its code."""
    code = chosen(answer, line.strip())
    shell.set_next_input(code)
    return code
