"""Cells that IPython would not take as they are meant, written anew before it looks at them.

`%o3 Why is the sky blue?`: it takes a line that ends in `?` for a request for help, and a question
does end so. `%%o3 --file prompt.md`: it refuses a cell magic without a body, and the file is one.
"""

from __future__ import annotations

import re

FROM_FILE = re.compile(r"%(?P<line>%o3[ \t].*?--file\b.*)\n?")
QUESTION = re.compile(r"^(?P<before>\s*(?:[^\W\d]\w*\s*=\s*)?)%o3[ \t]+(?P<rest>.*\?)\s*$")


def as_calls(lines: list[str]) -> list[str]:
    """The lines of a cell, each `%o3` question as the call it stands for.

    `%o3?` itself is a request for help, and the lines of a cell magic are left alone.
    """
    if lines and lines[0].lstrip().startswith("%%"):
        alone = FROM_FILE.fullmatch(lines[0].lstrip()) if len(lines) == 1 else None
        return [as_call(f"{alone['line']}\n")] if alone else lines
    return [as_call(line) for line in lines]


def as_call(line: str) -> str:
    """One line."""
    found = QUESTION.match(line) if "%o3" in line else None
    if found is None:
        return line
    return f"{found['before']}get_ipython().run_line_magic('o3', {found['rest']!r})\n"
