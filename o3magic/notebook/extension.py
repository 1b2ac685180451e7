"""Loading the extension into a shell, and unloading it: everything that is added is removed."""

from __future__ import annotations

import atexit
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from o3magic.notebook.magics import O3Magics

if TYPE_CHECKING:
    from o3magic.session.session import Session

NAME = O3Magics.__name__
MAGIC_LINE = re.compile(r"\s*(?:[^\W\d][\w, ]*=\s*)?[%!]")
CELL_MAGIC = re.compile(r"%%o3(?:\s|\?|$)")
# Opening triple quotes, a whole string of one line, or a comment.
STRING_OR_COMMENT = re.compile(
    r"""\"{3}|'{3}|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|\#.*""", re.VERBOSE
)
# What a cell ends with is displayed by us. By name: the modules are loaded with the first answer.
DISPLAYED = (
    ("o3magic.events", "Answer"),
    ("o3magic.session.comparison", "Comparison"),
    ("o3magic.notebook.background", "AnswerFuture"),
)
LINE_FROM_FILE = re.compile(r"%(?P<line>%o3[ \t].*?--file\b.*)\n?")
CELL_HELP = re.compile(r"%(?P<help>%o3\?\??)\s*")
LINE_QUESTION = re.compile(r"^(?P<before>\s*(?:[^\W\d]\w*\s*=\s*)?)%o3[ \t]+(?P<rest>.*\?)\s*$")


def load(shell: InteractiveShell) -> None:
    """Register the magics. Their session starts at the first use."""
    if NAME in shell.magics_manager.registry:
        unload(shell)
    magics = O3Magics(shell, os.environ, Path.cwd())
    shell.register_magics(magics)
    shell.events.register("pre_run_cell", magics.on_cell)
    for module, name in DISPLAYED:
        display_formatter(shell).for_type_by_name(module, name, magics.show)
    shell.Completer.custom_matchers.append(magics.complete)
    shell.input_transformers_cleanup.append(rewrite_lines)
    atexit.register(magics.close)


def unload(shell: InteractiveShell) -> None:
    """Remove the magics and close the session."""
    magics = shell.magics_manager.registry.pop(NAME, None)
    if magics is None:
        return
    for kind, names in magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.events.unregister("pre_run_cell", magics.on_cell)
    for module, name in DISPLAYED:
        display_formatter(shell).pop(f"{module}.{name}", None)
    shell.Completer.custom_matchers.remove(magics.complete)
    shell.input_transformers_cleanup.remove(rewrite_lines)
    atexit.unregister(magics.close)
    magics.close()


def display_formatter(shell: Any) -> Any:
    """The formatter for objects that display themselves."""
    return shell.display_formatter.ipython_display_formatter


def magics_of(shell: InteractiveShell) -> O3Magics:
    """The magics of a shell. The extension is loaded first where it is not."""
    if NAME not in shell.magics_manager.registry:
        load(shell)
    magics: O3Magics = shell.magics_manager.registry[NAME]
    return magics


def session_of(shell: InteractiveShell) -> Session:
    """The session of a shell. The extension is loaded first where it is not."""
    return magics_of(shell).actions.session


def rewrite_lines(lines: list[str]) -> list[str]:
    """The lines of a cell as IPython is to read them.

    A line `%o3 Why?` is a question, which IPython would take for a request for help on `%o3 Why`;
    `%o3?` is such a request. The lines below a cell magic stay as they are, but a line `%%o3?`
    alone need not wait for a blank line in a terminal, and `%%o3 --file FILE` needs no lines below.
    Comments above `%%o3` (Quarto's and nbdev's `#|` lines, say) are left out: IPython would read
    the prompt as Python.
    """
    lines = lines[count_comment_lines(lines) :]
    if not lines or not lines[0].lstrip().startswith("%%"):
        pairs = zip(lines, starts_in_string(lines), strict=True)
        return [line if within else rewrite_question(line) for line, within in pairs]
    first = lines[0].lstrip()
    if help_request := CELL_HELP.fullmatch(first):
        if not any(line.strip() for line in lines[1:]):
            return [f"{help_request['help']}\n"]
    elif len(lines) == 1 and (from_file := LINE_FROM_FILE.fullmatch(first)):
        return [rewrite_question(f"{from_file['line']}\n")]
    return lines


def count_comment_lines(lines: list[str]) -> int:
    """How many comments and blank lines stand above a `%%o3`; 0 above anything else."""
    for number, line in enumerate(lines):
        text = line.strip()
        if text and not text.startswith("#"):
            return number if CELL_MAGIC.match(text) else 0
    return 0


def starts_in_string(lines: list[str]) -> list[bool]:
    """For each line, whether it begins within a string of several lines. Magics are not code."""
    within, quotes = [], ""
    for line in lines:
        within.append(bool(quotes))
        if not quotes and MAGIC_LINE.match(line):
            continue
        position = 0
        while True:
            if quotes:
                end = line.find(quotes, position)
                if end < 0:
                    break
                position, quotes = end + 3, ""
            found = STRING_OR_COMMENT.search(line, position)
            if found is None:
                break
            position = found.end()
            if found[0] in ('"""', "'''"):
                quotes = found[0]
    return within


def rewrite_question(line: str) -> str:
    """`%o3 Why?` as a call, any other line as it is."""
    question = LINE_QUESTION.match(line) if "%o3" in line else None
    if question is None:
        return line
    return f"{question['before']}get_ipython().run_line_magic('o3', {question['rest']!r})\n"
