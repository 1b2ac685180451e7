"""Record modes (live, replay, auto, record, refresh) and the path of a cassette."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from o3magic.errors import BadOption, did_you_mean

Mode = Literal["live", "replay", "auto", "record", "refresh"]
MODES: tuple[Mode, ...] = get_args(Mode)
SUFFIX = ".o3.json"
SOURCES = (".ipynb", ".py", ".md", ".qmd", ".Rmd")
FALSE_WORDS = ("", "0", "false", "no", "off")


def choose_mode(
    mode: str | None, environment: Mapping[str, str], cassette_exists: bool, have_key: bool
) -> Mode | None:
    """Choose the record mode; None if there is neither a key nor a cassette.

    live     send; the cassette is neither read nor written
    replay   never send
    auto     replay recorded requests, send and record the others
    record   send, and replace recordings
    refresh  as record, but into a second file that the user compares and accepts

    The environment variable O3MAGIC_MODE overrides `mode`. Raises BadOption.
    """
    if name := environment.get("O3MAGIC_MODE") or mode:
        return parse_mode(name)
    in_ci = environment.get("CI", "").strip().lower() not in FALSE_WORDS
    if cassette_exists and (in_ci or not have_key):
        return "replay"
    if not have_key:
        return None
    return "auto" if cassette_exists else "live"


def parse_mode(name: str) -> Mode:
    for mode in MODES:
        if mode == name:
            return mode
    hint = did_you_mean(name, MODES, f"one of {', '.join(MODES)}")
    raise BadOption(f"there is no mode {name!r}", hint=hint)


def get_cassette_path(notebook: Path | str, environment: Mapping[str, str]) -> Path:
    """Path of a notebook's cassette: beside it, or in the folder of O3MAGIC_CASSETTES."""
    path = Path(notebook)
    name = path.name
    if not name.endswith(SUFFIX):
        stem = path.stem if path.suffix in SOURCES else name
        name = f"{stem}{SUFFIX}"
    if folder := environment.get("O3MAGIC_CASSETTES"):
        return Path(folder).expanduser() / name
    return path.with_name(name)


def get_refresh_path(cassette: Path) -> Path:
    """Path of the second file that mode `refresh` writes, until it is accepted."""
    return cassette.with_name(f"{cassette.name}.new")
