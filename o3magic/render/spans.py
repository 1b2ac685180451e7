"""Code within a line, which every reader of Markdown takes for code."""

import re
from itertools import zip_longest

from o3magic.render.literal import JOINER, as_entity

_LINE_END = re.compile(r"[ \t]*+\n[ \t]*+")
_RUN = re.compile("`+")
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
        parts = _RUN.split(content)
        between = [as_entity("`") * len(run) for run in _RUN.findall(content)]
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
    fence = "`" * (max(map(len, _RUN.findall(content))) + 1) if "`" in content else "`"
    edges = content[:1] + content[-1:]
    # marked takes a backslash before the last backtick for an escape when it looks for emphasis.
    padded = "`" in edges or edges.endswith("\\") or (edges == "  " and content.strip(" "))
    return f"{fence} {content} {fence}" if padded else f"{fence}{content}{fence}"
