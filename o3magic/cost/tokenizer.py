"""Exact token counts where tiktoken and its vocabulary are at hand. The door of tiktoken.

Nothing is fetched: without the vocabulary's file tiktoken would go and get it, so the file is
looked for first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

# The name tiktoken keeps o200k_base under: the SHA-1 of its address. Source: tiktoken 0.14.0.
VOCABULARY = "fb374d419588a4632f3f557e76b4b70aebbca790"
FOLDERS = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")


def counter(environment: Mapping[str, str]) -> Callable[[str], int] | None:
    """What counts the tokens of a text by o200k_base, or None where that is not at hand."""
    return loaded() if vocabulary(environment).is_file() else None


def vocabulary(environment: Mapping[str, str]) -> Path:
    """Where tiktoken looks for its vocabulary."""
    own = next((environment[name] for name in FOLDERS if environment.get(name)), "")
    return Path(own or Path(tempfile.gettempdir()) / "data-gym-cache") / VOCABULARY


@cache
def loaded() -> Callable[[str], int] | None:
    """The counter, read once in a process: that takes about a second."""
    try:
        import tiktoken
    except ImportError:
        return None
    encoding = tiktoken.get_encoding("o200k_base")

    def count(text: str) -> int:
        # Ordinary: "<|endoftext|>" in a prompt is text, and no reason to raise.
        return len(encoding.encode_ordinary(text))

    return count
