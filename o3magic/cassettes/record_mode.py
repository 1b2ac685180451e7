"""Whether a question is sent or replayed, and where its cassette lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from o3magic.errors import BadOption, did_you_mean

Mode = Literal["live", "replay", "auto", "record", "refresh"]
MODES: tuple[Mode, ...] = get_args(Mode)
SUFFIX = ".o3.json"
SOURCES = (".ipynb", ".py", ".md", ".qmd", ".Rmd")
NO = ("", "0", "false", "no", "off")


def rule(
    mode: str | None, environment: Mapping[str, str], cassette_exists: bool, have_key: bool
) -> Mode | None:
    """The mode that holds; None where there is nobody to ask and nothing to replay.

    live     ask; the cassette is neither read nor written
    replay   never ask
    auto     replay what is recorded, ask and record what is not
    record   ask, and record in place of what was recorded
    refresh  as record, into a second file, to be compared and accepted

    O3MAGIC_MODE is above what a notebook says: whoever checks it decides. Raises BadOption.
    """
    if said := environment.get("O3MAGIC_MODE") or mode:
        return mode_of(said)
    in_ci = environment.get("CI", "").strip().lower() not in NO
    if cassette_exists and (in_ci or not have_key):
        return "replay"
    if not have_key:
        return None
    return "auto" if cassette_exists else "live"


def mode_of(word: str) -> Mode:
    """A word as a mode. Raises BadOption."""
    for mode in MODES:
        if mode == word:
            return mode
    hint = did_you_mean(word, MODES, f"one of {', '.join(MODES)}")
    raise BadOption(f"there is no mode {word!r}", hint=hint)


def cassette_path(notebook: Path | str, environment: Mapping[str, str]) -> Path:
    """The cassette of a notebook: beside it, or in the folder that O3MAGIC_CASSETTES names."""
    path = Path(notebook)
    name = path.name
    if not name.endswith(SUFFIX):
        stem = path.stem if path.suffix in SOURCES else name
        name = f"{stem}{SUFFIX}"
    if folder := environment.get("O3MAGIC_CASSETTES"):
        return Path(folder).expanduser() / name
    return path.with_name(name)


def refresh_path(cassette: Path) -> Path:
    """Where a refresh writes, until it is accepted."""
    return cassette.with_name(f"{cassette.name}.new")
