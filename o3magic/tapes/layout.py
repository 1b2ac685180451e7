"""A cassette as text and back: the file's format, and what can be wrong with a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from o3magic.errors import CassetteError
from o3magic.tapes.canonical import key_of
from o3magic.tapes.fields import Fields

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

Place = tuple[str, int]


@dataclass(frozen=True)
class Tape:
    """What is in a file: `head`, all but the entries, and the entries as they stand there."""

    head: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[Mapping[str, Any], ...] = ()
    places: tuple[Place, ...] = ()

    @cached_property
    def index(self) -> dict[Place, int]:
        """Where each entry stands."""
        return {place: at for at, place in enumerate(self.places)}

    def put(self, place: Place, entry: Mapping[str, Any], after: Place | None) -> Tape:
        """The same with one entry: in place of its like, else behind `after`, else at the end."""
        return self.put_all([(place, entry)], after)

    def put_all(self, said: Sequence[tuple[Place, Mapping[str, Any]]], after: Place | None) -> Tape:
        """The same with several: each in place of its like, the others behind `after`."""
        entries, places = list(self.entries), list(self.places)
        fresh: dict[Place, Mapping[str, Any]] = {}
        for place, entry in said:
            at = self.index.get(place)
            if at is None:
                fresh[place] = entry
            else:
                entries[at] = entry
        behind = len(places) if after is None else self.index.get(after, len(places) - 1) + 1
        entries[behind:behind] = fresh.values()
        places[behind:behind] = fresh
        return Tape(self.head, tuple(entries), tuple(places))

    def only(self, kept: Callable[[Place], bool]) -> Tape:
        """The same without the entries that are not kept."""
        chosen = [at for at, place in enumerate(self.places) if kept(place)]
        entries, places = self.entries, self.places
        return Tape(self.head, tuple(entries[i] for i in chosen), tuple(places[i] for i in chosen))


def read(
    data: bytes,
    name: str,
    *,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    newest_of_two: bool = False,
) -> Tape:
    """The tape in a file's bytes. Raises CassetteError, with the way out, where there is none.

    newest_of_two: of entries with the same key and number, the later recorded one is taken.
    """
    value = upgraded(load(data, name), name, migrations)
    entries = value.pop("entries", [])
    if not isinstance(entries, list):
        raise CassetteError(f"{name}: its entries are no list", hint=BACK)
    kept: dict[Place, Mapping[str, Any]] = {}
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
    return Tape(value, tuple(kept.values()), tuple(kept))


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


def place_of(entry: Any, where: str, taken: Mapping[Place, Any]) -> Place:
    """The key and number of an entry; written by hand, it may lack both."""
    try:
        read = Fields(entry, "it")
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
