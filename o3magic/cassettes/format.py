"""A cassette as text and back: the file's format, and what can be wrong with a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from o3magic.cassettes.entry import EntryFields
from o3magic.cassettes.request_key import key_of
from o3magic.errors import CassetteError

NAME = "o3magic-cassette"
VERSION = 1
FORMAT = f"{NAME}/{VERSION}"
# How a cassette of an older version becomes one of the next; there is none older yet.
Migration = Callable[[dict[str, Any]], dict[str, Any]]
MIGRATIONS: Mapping[int, Migration] = {}
MERGE = "o3magic cassettes merge"
BACK = "take it back from git, or move it away and record anew"
MARKER = re.compile(r"^(?:<{7}|>{7})(?: |$)", re.MULTILINE)
SURROGATE = re.compile("[\ud800-\udfff]")

EntryKey = tuple[str, int]


@dataclass(frozen=True)
class CassetteData:
    """What is in a file: `head`, all but the entries, and the entries as they stand there."""

    head: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[Mapping[str, Any], ...] = ()
    places: tuple[EntryKey, ...] = ()

    @cached_property
    def index(self) -> dict[EntryKey, int]:
        """Where each entry stands."""
        return {place: at for at, place in enumerate(self.places)}

    def put(
        self, place: EntryKey, entry: Mapping[str, Any], after: EntryKey | None
    ) -> CassetteData:
        """The same with one entry: in place of its like, else behind `after`, else at the end."""
        return self.put_all([(place, entry)], after)

    def put_all(
        self, said: Sequence[tuple[EntryKey, Mapping[str, Any]]], after: EntryKey | None
    ) -> CassetteData:
        """The same with several: each in place of its like, the others behind `after`."""
        entries, places = list(self.entries), list(self.places)
        fresh: dict[EntryKey, Mapping[str, Any]] = {}
        for place, entry in said:
            at = self.index.get(place)
            if at is None:
                fresh[place] = entry
            else:
                entries[at] = entry
        behind = len(places) if after is None else self.index.get(after, len(places) - 1) + 1
        entries[behind:behind] = fresh.values()
        places[behind:behind] = fresh
        return CassetteData(self.head, tuple(entries), tuple(places))

    def only(self, kept: Callable[[EntryKey], bool]) -> CassetteData:
        """The same without the entries that are not kept."""
        chosen = [at for at, place in enumerate(self.places) if kept(place)]
        entries, places = self.entries, self.places
        return CassetteData(
            self.head, tuple(entries[i] for i in chosen), tuple(places[i] for i in chosen)
        )


def read(
    data: bytes,
    name: str,
    *,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    newest_of_two: bool = False,
) -> CassetteData:
    """The tape in a file's bytes. Raises CassetteError, with the way out, where there is none.

    newest_of_two: of entries with the same key and number, the later recorded one is taken.
    """
    value = upgraded(load(data, name), name, migrations)
    entries = value.pop("entries", [])
    if not isinstance(entries, list):
        raise CassetteError(f"{name}: its entries are no list", hint=BACK)
    kept: dict[EntryKey, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries, 1):
        place = place_of(entry, f"{name}, entry {number}", kept)
        if place in kept and not newest_of_two:
            raise CassetteError(
                f"{name}: entry {number} has the same key {place[0]} and number {place[1]} "
                f"as entry {[*kept].index(place) + 1}",
                hint=f"`{MERGE} {name}` keeps the later one",
            )
        if place not in kept or recorded(entry) >= recorded(kept[place]):
            kept[place] = entry
    return CassetteData(value, tuple(kept.values()), tuple(kept))


def load(data: bytes, name: str) -> dict[str, Any]:
    """The object in a file's bytes."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CassetteError(f"{name} is no UTF-8 text", hint=BACK) from None
    if not text or text.isspace():
        raise CassetteError(f"{name} is empty", hint=f"delete it, or {BACK}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if MARKER.search(text):
            raise CassetteError(f"{name} has a merge conflict", hint=f"{MERGE} {name}") from None
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        what = "is cut off" if cut else f"is no JSON: {error.msg}"
        raise CassetteError(f"{name} {what} (line {error.lineno})", hint=BACK) from None
    except (ValueError, RecursionError):
        raise CassetteError(f"{name} is no JSON that can be read", hint=BACK) from None
    if not isinstance(value, dict) or not str(value.get("format", "")).startswith(f"{NAME}/"):
        raise CassetteError(
            f"{name} is no cassette: it does not begin with its format",
            hint=f'the first key of a cassette is "format": "{FORMAT}"',
        )
    return value


def upgraded(
    value: dict[str, Any], name: str, migrations: Mapping[int, Migration]
) -> dict[str, Any]:
    """A cassette of an older version as one of this version."""
    said = str(value["format"]).removeprefix(f"{NAME}/")
    number = int(said) if said.isascii() and said.isdigit() and len(said) < 6 else -1
    if number > VERSION:
        raise CassetteError(
            f"{name} is of format {number}, newer than this o3magic's {VERSION}",
            hint="update o3magic: %pip install -U o3magic",
        )
    while number < VERSION:
        if number not in migrations:
            raise CassetteError(f"{name} is of a format nobody knows: {NAME}/{said[:20]}")
        value = migrations[number](value)
        number += 1
    return value | {"format": FORMAT}


def place_of(entry: Any, where: str, taken: Mapping[EntryKey, Any]) -> EntryKey:
    """The key and number of an entry; written by hand, it may lack both."""
    try:
        read = EntryFields(entry, "it")
        key = read.word("key") or key_of(read.section("request").raw)
        number = read.count("n", at_least=1)
    except CassetteError as error:
        raise CassetteError(f"{where}: {error}", hint=error.hint) from None
    if number is None:
        number = 1
        while (key, number) in taken:
            number += 1
    return key, number


def recorded(entry: Mapping[str, Any]) -> str:
    """When an entry was recorded; what nobody dated is older than everything."""
    return str(entry.get("recorded") or "")


def dump(head: Mapping[str, Any], notebook: str, entry_texts: Sequence[str]) -> bytes:
    """The bytes of a file; the same tape always makes the same."""
    top = {"format": FORMAT, "notebook": notebook} | dict(head)
    rows = [f"{to_text(name)}: {indented(value)}," for name, value in top.items() if value != ""]
    texts = ",\n".join(f"  {text}" for text in entry_texts)
    rows.append(f'"entries": [\n{texts}\n ]' if texts else '"entries": []')
    body = "\n ".join(rows)
    return f"{{\n {body}\n}}\n".encode()


def indented(value: Any) -> str:
    """The text of a value one level down."""
    return to_text(value).replace("\n", "\n ")


def entry_text(entry: Mapping[str, Any]) -> str:
    """An entry's text, indented as it stands in the file."""
    return to_text(entry).replace("\n", "\n  ")  # no text in JSON holds a line end itself


def to_text(value: Any) -> str:
    """JSON for people: umlauts as they are, but half a character as an escape."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


CONFLICT = re.compile(
    r"^<{7}(?: [^\n]*)?\n(?P<ours>(?:(?![|=]{7})[^\n]*\n)*+)"
    r"(?:\|{7}(?: [^\n]*)?\n(?P<base>(?:(?!={7})[^\n]*\n)*+))?"
    r"={7}\n(?P<theirs>(?:(?!>{7})[^\n]*\n)*+)>{7}(?: [^\n]*)?(?:\n|\Z)",
    re.MULTILINE,
)


def merged(
    ours: CassetteData,
    theirs: CassetteData,
    base: CassetteData | None = None,
    *,
    ours_wins: bool = False,
) -> tuple[CassetteData, list[str]]:
    """The union of two tapes, and what a reader should know about it.

    With their common ancestor, what one side removed and the other left alone is removed.
    ours_wins: of two answers to a question ours stays, else the one that was recorded later.
    """
    old = base or CassetteData()
    result, told = CassetteData({**theirs.head, **ours.head}), []
    for place, entry in zip(ours.places, ours.entries, strict=True):
        other = entry_at(theirs, place)
        if other is None and entry_at(old, place) == entry:
            continue  # they removed it
        chosen, why = (entry, "") if ours_wins else chosen_of(entry, other, entry_at(old, place))
        told += [f"{place[0]} {place[1]}: {why}"] if why else []
        result = result.put(place, chosen, None)
    return with_theirs(result, ours, theirs, old), told


def with_theirs(
    result: CassetteData, ours: CassetteData, theirs: CassetteData, old: CassetteData
) -> CassetteData:
    """The tape with the entries that only the other side has, each behind its neighbour there."""
    before: EntryKey | None = None
    for place, entry in zip(theirs.places, theirs.entries, strict=True):
        removed = place not in ours.index and entry_at(old, place) == entry
        if place not in result.index and not removed:
            result = put_behind(result, place, entry, before, theirs)
        if place in result.index:
            before = place
    return result


def put_behind(
    tape: CassetteData,
    place: EntryKey,
    entry: Mapping[str, Any],
    before: EntryKey | None,
    theirs: CassetteData,
) -> CassetteData:
    """The tape with an entry behind `before` and what only our side has behind that."""
    at = -1 if before is None else tape.index[before]
    while at + 1 < len(tape.places) and tape.places[at + 1] not in theirs.index:
        at += 1
    if at >= 0:
        return tape.put(place, entry, tape.places[at])
    return CassetteData(tape.head, (entry, *tape.entries), (place, *tape.places))


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


def entry_at(tape: CassetteData, place: EntryKey) -> Mapping[str, Any] | None:
    """The entry of a place, or None."""
    at = tape.index.get(place)
    return None if at is None else tape.entries[at]


def resolved(data: bytes, name: str) -> tuple[CassetteData, list[str]]:
    """The tape of a file with git's conflict markers or with entries of the same key in it."""
    text = data.decode("utf-8-sig", "replace")
    if not MARKER.search(text):
        return read(data, name, newest_of_two=True), []
    sides = [CONFLICT.sub(rf"\g<{side}>", text) for side in ("ours", "theirs")]
    if any(MARKER.search(side) for side in sides):
        raise CassetteError(f"{name} has a conflict marker without its others", hint=BACK)
    try:
        ours, theirs = (read(side.encode(), name, newest_of_two=True) for side in sides)
    except CassetteError as error:
        raise CassetteError(f"one side of the conflict is damaged: {error}", hint=BACK) from None
    return merged(ours, theirs)
