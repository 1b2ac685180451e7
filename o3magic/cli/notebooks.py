"""Notebook files: found, read, given cell ids, and written back by fixed rules, all or nothing.

A door of nbformat. The same notebook is always written as the same bytes: ids in every cell, no
times, no widget states, no versions, one space of indent, a final newline.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from o3magic.atomic_file import write_atomically
from o3magic.errors import O3Error

SUFFIX = ".ipynb"
CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class UnreadableNotebook(O3Error):
    """A file that is no notebook, or cannot be run as one."""


class UnwritableNotebook(O3Error):
    """A file that must not or cannot be replaced."""


@dataclass(frozen=True)
class OpenedNotebook:
    """A notebook and the file it came from. major: the nbformat of the file, before upgrading."""

    path: Path
    notebook: Any
    major: int
    digest: bytes


def found(names: Iterable[str]) -> list[Path]:
    """The notebooks that are named; a folder stands for all that are in and below it."""
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if not path.is_dir():
            paths.append(path)
            continue
        inside = sorted(each for each in path.rglob(f"*{SUFFIX}") if not hidden(each, path))
        if not inside:
            raise UnreadableNotebook(f"there is no {SUFFIX} file in {path}")
        paths += inside
    return paths


def hidden(path: Path, folder: Path) -> bool:
    """Whether a path has a part with a dot below `folder`, as checkpoints have."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def read(path: Path) -> OpenedNotebook:
    """The notebook of a file, upgraded in memory to the newest format, with an id in each cell."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UnreadableNotebook(f"there is no file {path}") from None
    except OSError as error:
        raise UnreadableNotebook(f"{path} cannot be read: {error.strerror or error}") from None
    notebook, major = parse(data, str(path))
    upgrade(notebook)
    return OpenedNotebook(path, notebook, major, hashlib.sha256(data).digest())


def parse(data: bytes, name: str) -> tuple[Any, int]:
    """The notebook in a file's bytes, and the nbformat it is written in."""
    try:
        text = data.decode("utf-8-sig")
        said = json.loads(text)
    except UnicodeDecodeError:
        raise UnreadableNotebook(f"{name} is not a notebook: it is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "too deep"
        raise UnreadableNotebook(f"{name} is not a notebook: it is not JSON ({where})") from None
    major = said.get("nbformat") if isinstance(said, dict) else None
    if not isinstance(major, int):
        raise UnreadableNotebook(f"{name} is JSON, but not a notebook: it has no nbformat")
    if not 1 <= major <= nbformat.current_nbformat:
        raise UnreadableNotebook(f"{name} is in nbformat {major}, which is not known here")
    return checked(text, major, name), major


def checked(text: str, major: int, name: str) -> Any:
    """A notebook that holds to its format, in nbformat 4."""
    try:
        notebook = nbformat.reader.reads(text)
        if major < nbformat.current_nbformat:
            notebook = nbformat.convert(notebook, nbformat.current_nbformat)
            for cell in notebook.cells:
                cell.pop("id", None)  # made at random by the conversion
        if notebook.nbformat_minor >= 5:
            give_ids(notebook)
        nbformat.validate(notebook, relax_add_props=True)
    except nbformat.ValidationError as error:
        told = str(error).partition("\n")[0]
        raise UnreadableNotebook(f"{name} is not a valid notebook: {told}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UnreadableNotebook(f"{name} is not a valid notebook: {told}") from None
    return notebook


def give_ids(notebook: Any) -> None:
    """An id to each cell without one, or with one that is taken: out of its text, never random."""
    taken: set[str] = set()
    for cell in notebook.cells:
        given = cell.get("id")
        if isinstance(given, str) and CELL_ID.fullmatch(given) and given not in taken:
            taken.add(given)
            continue
        text = f"{cell.cell_type}\n{cell.source}".encode("utf-8", "surrogatepass")
        new = base = hashlib.sha256(text).hexdigest()[:8]
        count = 1
        while new in taken:
            count += 1
            new = f"{base}-{count}"
        cell["id"] = new
        taken.add(new)


def upgrade(notebook: Any) -> None:
    """Make it nbformat 4.5, the first with cell ids."""
    give_ids(notebook)
    notebook["nbformat_minor"] = max(5, notebook.nbformat_minor)


def tidy(notebook: Any) -> None:
    """Drop what differs from run to run and says nothing: times, widget states, versions."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("widgets", None)
    if language := notebook.metadata.get("language_info"):
        notebook.metadata["language_info"] = {"name": language.get("name", "python")}


def encoded(notebook: Any) -> bytes:
    """The bytes of a notebook."""
    text = nbformat.v4.writes(notebook, ensure_ascii=False, indent=1)
    # Half a surrogate pair has no UTF-8, but an escape in JSON.
    return f"{text.rstrip()}\n".encode("utf-8", "backslashreplace")


def save(opened: OpenedNotebook, notebook: Any) -> Path:
    """Write a notebook back into its file, and give the path.

    If somebody saved the file in the meantime, theirs stays and this goes beside it.
    """
    target = opened.path
    if digest_of(target) != opened.digest:
        target = next(each for each in beside(target) if not each.exists())
    replace(target, encoded(notebook))
    return target


def digest_of(path: Path) -> bytes | None:
    """What a file holds now, or None where there is none."""
    with suppress(OSError):
        return hashlib.sha256(path.read_bytes()).digest()
    return None


def beside(path: Path) -> Iterator[Path]:
    """Names for another version of a file."""
    count = 1
    while True:
        yield path.with_name(f"{path.stem}-ran{'' if count == 1 else count}{path.suffix}")
        count += 1


def check_replaceable(path: Path) -> None:
    """Raise UnwritableNotebook where `path` could not be written later."""
    if path.exists():
        # Replacing asks the folder alone: what the file says of itself is asked here.
        read_only = not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK)
        if path.is_dir() or read_only:
            what = "a folder" if path.is_dir() else "read-only"
            raise UnwritableNotebook(f"{path} is {what}", hint="--output ELSEWHERE.ipynb")
    elif not path.parent.is_dir():
        raise UnwritableNotebook(f"there is no folder {path.parent}")
    if not os.access(path.resolve().parent, os.W_OK):
        raise UnwritableNotebook(f"the folder of {path} is read-only")


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the place of a file at once: a reader sees the old or the new, never half."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UnwritableNotebook(f"{path} cannot be written: {error.strerror or error}") from None
