"""Which answers of a cassette a notebook still uses, and which of them no model gave."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path

from o3magic.tapes.cassette import Cassette
from o3magic.tapes.layout import Place
from o3magic.tapes.mode import cassette_path
from o3magic.tapes.take import Take

# Asked in the kernel: not every answer that is used is shown in an output.
USED = (
    "(lambda magics: __import__('json').dumps("
    "magics.opened.session.decks.used() if magics and magics.opened else {}))"
    "(get_ipython().magics_manager.registry.get('O3Magics'))"
)


def places(path: Path, said: str) -> set[Place] | None:
    """Keys and numbers of the takes in use, out of what the kernel said; None if it did not."""
    if not said:
        return None
    by_path = json.loads(said)
    used = by_path.get(str(cassette_path(path.absolute(), os.environ).absolute()), ())
    return {(key, n) for key, n in used}


def cassette_of(path: Path) -> Cassette:
    """The cassette of a notebook."""
    return Cassette(cassette_path(path, os.environ))


def findings(path: Path, used: Collection[Place]) -> list[str]:
    """What a strict check does not let pass."""
    cassette = cassette_of(path)
    if not cassette.exists:
        return []
    found = [f"not in use: {told(take)}" for take in cassette.unused(used)]
    for take in cassette.entries:
        if take.place in used and take.source == "hand":
            found.append(f"written by hand: {told(take)}")
        elif take.place in used and take.edited:
            found.append(f"edited by hand: {told(take)}")
    return found


def prune(path: Path, used: Collection[Place]) -> list[str]:
    """Delete the takes that are not in use, and tell which."""
    cassette = cassette_of(path)
    if not cassette.exists or not cassette.unused(used):
        return []
    return [f"deleted from the cassette: {told(take)}" for take in cassette.prune(used)]


def told(take: Take) -> str:
    """A take in one line."""
    return f"{take.key} n={take.n}, recorded {take.recorded or 'on an unknown day'}"
