"""`%o3 Why is the sky blue?`: IPython takes a line that ends in `?` for a request for help.

A question to a model does end so, and is written anew before IPython looks at it.
"""

from __future__ import annotations

import re

QUESTION = re.compile(r"^(?P<before>\s*(?:[^\W\d]\w*\s*=\s*)?)%o3[ \t]+(?P<rest>.*\?)\s*$")


def as_calls(lines: list[str]) -> list[str]:
    """The lines of a cell, each `%o3` question as the call it stands for.

    `%o3?` itself is a request for help, and the lines of a cell magic are left alone.
    """
    if lines and lines[0].lstrip().startswith("%%"):
        return lines
    return [as_call(line) for line in lines]


def as_call(line: str) -> str:
    """One line."""
    found = QUESTION.match(line) if "%o3" in line else None
    if found is None:
        return line
    return f"{found['before']}get_ipython().run_line_magic('o3', {found['rest']!r})\n"
