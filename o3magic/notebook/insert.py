"""`%o3_insert`: a fenced block of the last answer as a new cell below. It is not run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from o3magic.errors import BadOption
from o3magic.events import Answer
from o3magic.render.markdown.sanitize import plain_text

FENCE = re.compile(
    r"(?P<margin>[ \t]*)(?:[-*+][ \t]+|\d{1,9}[.)][ \t]+)?(?P<run>`{3,}|~{3,})(?P<info>.*)"
)
PYTHON = ("python", "py", "python3", "py3", "ipython", "ipython3", "pycon")


@dataclass(frozen=True)
class CodeBlock:
    """Code between fences, and the language that the fence names."""

    language: str
    code: str


def choose_code(answer: Answer | None, word: str) -> str:
    """The code of the n-th block of an answer; without a word, of the first in Python.

    Nothing in it is invisible. Raises BadOption.
    """
    if answer is None:
        raise BadOption("there is no answer yet", hint="ask with %%o3, then %o3_insert")
    blocks = find_blocks(answer.text)
    if not blocks:
        raise BadOption("the last answer has no block of code", hint="ask for one in a fence")
    if word:
        if not word.isdecimal() or not 1 <= int(word) <= len(blocks):
            message = f"the last answer has no block {word[:20]!r}"
            raise BadOption(message, hint=f"1 to {len(blocks)}")
        return plain_text(blocks[int(word) - 1].code)
    for block in blocks:
        if block.language in PYTHON:
            return plain_text(block.code)
    languages = ", ".join(f"{n} {block.language or 'text'}" for n, block in enumerate(blocks, 1))
    raise BadOption(
        "the last answer has no block of Python", hint=f"%o3_insert N; it has {languages}"
    )


def find_blocks(text: str) -> list[CodeBlock]:
    """The fenced blocks of a Markdown text, in order. One without an end goes to the end."""
    blocks: list[CodeBlock] = []
    opening, margin, language, code = "", 0, "", list[str]()
    for line in text.splitlines():
        match = FENCE.fullmatch(line)
        if opening:
            closing = line.strip()
            if closing.startswith(opening) and not closing.strip(opening[0]):
                blocks.append(CodeBlock(language, "\n".join(code)))
                opening = ""
            else:
                blanks = len(line) - len(line.lstrip(" \t"))
                code.append(line[min(blanks, margin) :])  # the fence's own indentation is cut off
        elif match and not (match["run"][0] == "`" and "`" in match["info"]):
            opening, margin, code = match["run"], match.start("run"), []
            language = (re.findall(r"[\w+#.-]+", match["info"]) or [""])[0].lower()
    if opening:
        blocks.append(CodeBlock(language, "\n".join(code)))
    return blocks
