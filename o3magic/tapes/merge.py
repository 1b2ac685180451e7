"""Two cassettes as one: what is in either, in the order of the notebook.

Git cannot do it: two entries recorded at the same place of a notebook are a conflict to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from o3magic.errors import CassetteError
from o3magic.tapes import layout
from o3magic.tapes.layout import Place, Tape, recorded

CONFLICT = re.compile(
    r"^<{7}(?: [^\n]*)?\n(?P<ours>(?:(?![|=]{7})[^\n]*\n)*+)"
    r"(?:\|{7}(?: [^\n]*)?\n(?P<base>(?:(?!={7})[^\n]*\n)*+))?"
    r"={7}\n(?P<theirs>(?:(?!>{7})[^\n]*\n)*+)>{7}(?: [^\n]*)?(?:\n|\Z)",
    re.MULTILINE,
)


def merged(
    ours: Tape, theirs: Tape, base: Tape | None = None, *, ours_wins: bool = False
) -> tuple[Tape, list[str]]:
    """The union of two tapes, and what a reader should know about it.

    With their common ancestor, what one side removed and the other left alone is removed.
    ours_wins: of two answers to a question ours stays, else the one that was recorded later.
    """
    old = base or Tape()
    result, told = Tape({**theirs.head, **ours.head}), []
    for place, entry in zip(ours.places, ours.entries, strict=True):
        other = entry_at(theirs, place)
        if other is None and entry_at(old, place) == entry:
            continue  # they removed it
        chosen, why = (entry, "") if ours_wins else chosen_of(entry, other, entry_at(old, place))
        told += [f"{place[0]} {place[1]}: {why}"] if why else []
        result = result.put(place, chosen, None)
    return with_theirs(result, ours, theirs, old), told


def with_theirs(result: Tape, ours: Tape, theirs: Tape, old: Tape) -> Tape:
    """The tape with the entries that only the other side has, each behind its neighbour there."""
    before: Place | None = None
    for place, entry in zip(theirs.places, theirs.entries, strict=True):
        removed = place not in ours.index and entry_at(old, place) == entry
        if place not in result.index and not removed:
            result = put_behind(result, place, entry, before, theirs)
        if place in result.index:
            before = place
    return result


def put_behind(
    tape: Tape, place: Place, entry: Mapping[str, Any], before: Place | None, theirs: Tape
) -> Tape:
    """The tape with an entry behind `before` and what only our side has behind that."""
    at = -1 if before is None else tape.index[before]
    while at + 1 < len(tape.places) and tape.places[at + 1] not in theirs.index:
        at += 1
    if at >= 0:
        return tape.put(place, entry, tape.places[at])
    return Tape(tape.head, (entry, *tape.entries), (place, *tape.places))


def chosen_of(
    ours: Mapping[str, Any], theirs: Mapping[str, Any] | None, base: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], str]:
    """Which of two entries of one place stays, and why, where both sides have changed it."""
    if theirs is None or theirs in (ours, base):
        return ours, ""
    if ours == base:
        return theirs, ""
    newer = theirs if recorded(theirs) > recorded(ours) else ours
    side = "theirs" if newer is theirs else "ours"
    if ours.get("response") == theirs.get("response"):
        return newer, ""
    return newer, f"two answers; {side} stays, recorded {recorded(newer) or 'at an unknown time'}"


def entry_at(tape: Tape, place: Place) -> Mapping[str, Any] | None:
    """The entry of a place, or None."""
    at = tape.index.get(place)
    return None if at is None else tape.entries[at]


def resolved(data: bytes, name: str) -> tuple[Tape, list[str]]:
    """The tape of a file with git's conflict markers or with entries of the same key in it."""
    text = data.decode("utf-8-sig", "replace")
    if not layout.MARKER.search(text):
        return layout.read(data, name, newest_of_two=True), []
    sides = [CONFLICT.sub(rf"\g<{side}>", text) for side in ("ours", "theirs")]
    if any(layout.MARKER.search(side) for side in sides):
        raise CassetteError(f"{name} has a conflict marker without its others", hint=layout.BACK)
    try:
        ours, theirs = (layout.read(side.encode(), name, newest_of_two=True) for side in sides)
    except CassetteError as error:
        raise CassetteError(
            f"one side of the conflict is damaged: {error}", hint=layout.BACK
        ) from None
    return merged(ours, theirs)
