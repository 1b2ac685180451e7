"""Which cell of which notebook is running, as far as the front end says it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

# Jupyter Server sets this for the kernels it starts; VS Code puts a name into the notebook.
SERVER = "JPY_SESSION_NAME"
VS_CODE = "__vsc_ipynb_file__"


def cell_key(shell: InteractiveShell, text: str) -> str:
    """The cell's own id where the front end sends it, else a hash of its text."""
    if cell_id := sent_id(shell):
        return cell_id
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12] if text else ""


def sent_id(shell: InteractiveShell) -> str:
    """The running cell's id, or "" where the front end does not send it."""
    # In the browser the shell does not know what it runs, its kernel does.
    teller = shell if hasattr(shell, "get_parent") else getattr(shell, "kernel", None)
    parent: Mapping[str, Any] = getattr(teller, "get_parent", dict)() or {}
    cell_id = (parent.get("metadata") or {}).get("cellId")
    return cell_id if isinstance(cell_id, str) else ""


def notebook_path(shell: InteractiveShell, environment: Mapping[str, str], known: str = "") -> str:
    """The notebook's file, or "" where nobody says it. known: what it was a cell ago."""
    named = shell.user_ns.get(VS_CODE) or environment.get(SERVER, "")
    if not named and sys.platform == "emscripten":
        return known or holder(Path.cwd(), sent_id(shell))
    return str(named) if PurePath(str(named)).suffix == ".ipynb" else ""


def holder(folder: Path, cell_id: str) -> str:
    """The one notebook in a folder that holds this cell, or "".

    In a browser nobody names the notebook to its kernel, which starts in the notebook's folder.
    """
    if not cell_id:
        return ""
    found = []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            cells = json.loads(path.read_bytes()).get("cells", [])
            if any(cell.get("id") == cell_id for cell in cells):
                found.append(str(path))
        except (OSError, ValueError, AttributeError):
            continue  # a file that is no notebook is not the one that runs
    return found[0] if len(found) == 1 else ""
