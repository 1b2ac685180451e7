"""Which cell of which notebook is running, as far as the front end says it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

# Jupyter Server sets this for the kernels it starts; VS Code puts a name into the notebook.
SERVER = "JPY_SESSION_NAME"
VS_CODE = "__vsc_ipynb_file__"


def cell_key(shell: InteractiveShell, text: str) -> str:
    """The cell's own id where the front end sends it, else a hash of its text."""
    parent: Mapping[str, Any] = getattr(shell, "get_parent", dict)() or {}
    cell_id = parent.get("metadata", {}).get("cellId")
    if isinstance(cell_id, str) and cell_id:
        return cell_id
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12] if text else ""


def notebook_path(shell: InteractiveShell, environment: Mapping[str, str]) -> str:
    """The notebook's file, or "" where nobody says it."""
    named = shell.user_ns.get(VS_CODE) or environment.get(SERVER, "")
    return str(named) if PurePath(str(named)).suffix == ".ipynb" else ""
