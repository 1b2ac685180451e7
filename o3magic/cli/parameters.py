"""Parameters of a notebook: read from the command line, put into a cell of their own.

As papermill has them: they follow the cell tagged `parameters` in one tagged
`injected-parameters`, which the next run replaces.
"""

from __future__ import annotations

import ast
import json
import keyword
import math
from collections.abc import Mapping
from typing import Any

import nbformat

from o3magic.errors import BadOption

WORDS = {"true": True, "false": False, "null": None, "none": None, "~": None}
TAG, INJECTED = "parameters", "injected-parameters"


def value_of(word: str) -> Any:
    """A word as a number, a truth, None, a list or dict of them, else as the text it is."""
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(word)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if is_plain(value):
            return value
    return word


def is_plain(value: Any) -> bool:
    """Whether a value has a literal that gives it back."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def check_name(name: str) -> str:
    """A name that can be assigned. Raises BadOption."""
    if not name.isidentifier() or keyword.iskeyword(name):
        hint = "-p name value, the name as in Python"
        raise BadOption(f"{name!r} cannot be the name of a parameter", hint=hint)
    return name


def inject(notebook: Any, values: Mapping[str, Any]) -> None:
    """Put the values into the notebook, behind its own."""
    if not values:
        return
    lines = [f"{check_name(name)} = {value!r}" for name, value in values.items()]
    source = "\n".join(["# Parameters", *lines])
    for cell in notebook.cells:
        if INJECTED in cell.metadata.get("tags", []):
            cell["source"] = source
            return
    places = [i for i, c in enumerate(notebook.cells) if TAG in c.metadata.get("tags", [])]
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": [INJECTED]}, id=INJECTED)
    notebook.cells.insert(places[0] + 1 if places else 0, cell)


def declared(notebook: Any) -> set[str] | None:
    """The names its `parameters` cell sets, or None where there is no such cell."""
    for cell in notebook.cells:
        if TAG in cell.metadata.get("tags", []):
            try:
                tree = ast.parse(cell.source)
            except SyntaxError:
                return None
            names = (n for n in ast.walk(tree) if isinstance(n, ast.Name))
            return {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return None
