"""Files and source code that a prompt may quote."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path
from typing import Any, Final

from o3magic.errors import TemplateError
from o3magic.prompts.jsonable import cut_words, short_repr

MOST_FILE_BYTES: Final = 400_000


def file_within(folder: Path, said: Any) -> Path:
    """The file that is meant, inside `folder`. Raises TemplateError where there is none.

    A path may come out of data, so none leads out of the notebook's folder, and none to a
    hidden file: keys are kept there.
    """
    if not isinstance(said, str | Path) or "\0" in str(said):
        raise TemplateError(f"{short_repr(said, 60)} is no path", hint='{{ "notes.txt" | file }}')
    try:
        root = folder.resolve()
        found = (root / said).resolve()
        inside = found.relative_to(root).parts
    except (ValueError, OSError, RuntimeError):
        hint = "read it in a cell, and use the name it is read into"
        raise TemplateError(f"{said} is outside the notebook's folder", hint=hint) from None
    if any(part.startswith(".") for part in inside):
        raise TemplateError(f"{said} is hidden, and hidden files often hold keys")
    if not found.is_file():
        raise TemplateError(f"there is no file {said}", hint="a path from the notebook's folder")
    return found


def text_of_file(path: Path) -> tuple[str, tuple[str, ...]]:
    """The text of a file and what was left out of it. Raises TemplateError for what is no text."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_FILE_BYTES + 1)
        size = max(path.stat().st_size, len(data))
    except OSError as error:
        raise TemplateError(f"{path.name} cannot be read: {error.strerror}") from None
    cut = len(data) > MOST_FILE_BYTES
    data = data[:MOST_FILE_BYTES]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not cut or error.start < len(data) - 3:  # else the cut went through a character
            raise _no_text(path) from None
        text = data[: error.start].decode("utf-8-sig")
    if "\0" in text:
        raise _no_text(path)
    if not cut:
        return text, ()
    note = cut_words(MOST_FILE_BYTES, size, "bytes")
    return f"{text}\n{note}", (f"{path.name}: {note.strip('[.] ')}",)


def _no_text(path: Path) -> TemplateError:
    return TemplateError(f"{path.name} is no UTF-8 text", hint="a picture goes in by | image")


def code_of(value: Any) -> str:
    """The source of a function or class. Raises TemplateError where there is none."""
    value = getattr(value, "function", value)  # a tool of ours holds its function
    try:
        return textwrap.dedent(inspect.getsource(value)).rstrip("\n")
    except (TypeError, OSError):
        what = short_repr(value, 60)
        hint = "a function or a class of a cell or a module"
        raise TemplateError(f"the source of {what} is not known", hint=hint) from None
