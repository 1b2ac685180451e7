"""The file format of cassettes: parse, upgrade, write, merge."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from o3magic.cassettes.entry import EntryFields
from o3magic.cassettes.request_key import compute_key
from o3magic.errors import CassetteError

NAME = "o3magic-cassette"
VERSION = 1
FORMAT = f"{NAME}/{VERSION}"
# Functions that upgrade a document from one format version to the next; none is needed yet.
Migration = Callable[[dict[str, Any]], dict[str, Any]]
MIGRATIONS: Mapping[int, Migration] = {}
MERGE = "o3magic cassettes merge"
BACK = "restore it from git, or move it away and record again"
MARKER = re.compile(r"^(?:<{7}|>{7})(?: |$)", re.MULTILINE)
SURROGATE = re.compile("[\ud800-\udfff]")

EntryKey = tuple[str, int]


@dataclass(frozen=True)
class CassetteData:
    """The content of a file. head: all keys but `entries`. places: the key of each entry."""

    head: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[Mapping[str, Any], ...] = ()
    places: tuple[EntryKey, ...] = ()

    @cached_property
    def index(self) -> dict[EntryKey, int]:
        """Position of each entry."""
        return {place: index for index, place in enumerate(self.places)}

    def put(self, key: EntryKey, entry: Mapping[str, Any], after: EntryKey | None) -> CassetteData:
        """Replace the entry with the same key, or insert it behind `after`, or at the end."""
        return self.put_all([(key, entry)], after)

    def put_all(
        self, items: Sequence[tuple[EntryKey, Mapping[str, Any]]], after: EntryKey | None
    ) -> CassetteData:
        """Replace the entries with the same keys, and insert the others behind `after`."""
        entries, places = list(self.entries), list(self.places)
        added: dict[EntryKey, Mapping[str, Any]] = {}
        for key, entry in items:
            index = self.index.get(key)
            if index is None:
                added[key] = entry
            else:
                entries[index] = entry
        position = len(places) if after is None else self.index.get(after, len(places) - 1) + 1
        entries[position:position] = added.values()
        places[position:position] = added
        return CassetteData(self.head, tuple(entries), tuple(places))

    def only(self, keep: Callable[[EntryKey], bool]) -> CassetteData:
        """Return the content with only the entries whose key `keep` accepts."""
        indices = [index for index, key in enumerate(self.places) if keep(key)]
        entries, places = self.entries, self.places
        return CassetteData(
            self.head,
            tuple(entries[index] for index in indices),
            tuple(places[index] for index in indices),
        )


def parse_cassette(
    data: bytes,
    name: str,
    *,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    newest_of_two: bool = False,
) -> CassetteData:
    """Parse the bytes of a file. Raises CassetteError with a hint how to repair it.

    newest_of_two: of two entries with the same key and number, use the later recorded one.
    """
    document = upgrade(load(data, name), name, migrations)
    entries = document.pop("entries", [])
    if not isinstance(entries, list):
        raise CassetteError(f"{name}: its entries are not a list", hint=BACK)
    entries_by_key: dict[EntryKey, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries, 1):
        key = parse_entry_key(entry, f"{name}, entry {number}", entries_by_key)
        if key in entries_by_key and not newest_of_two:
            raise CassetteError(
                f"{name}: entry {number} has the same key {key[0]} and number {key[1]} "
                f"as entry {[*entries_by_key].index(key) + 1}",
                hint=f"`{MERGE} {name}` keeps the later one",
            )
        if key not in entries_by_key or recorded_at(entry) >= recorded_at(entries_by_key[key]):
            entries_by_key[key] = entry
    return CassetteData(document, tuple(entries_by_key.values()), tuple(entries_by_key))


def load(data: bytes, name: str) -> dict[str, Any]:
    """Decode the JSON object of a file. Raises CassetteError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CassetteError(f"{name} is not UTF-8 text", hint=BACK) from None
    if not text or text.isspace():
        raise CassetteError(f"{name} is empty", hint=f"delete it, or {BACK}")
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if MARKER.search(text):
            raise CassetteError(f"{name} has a merge conflict", hint=f"{MERGE} {name}") from None
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        problem = "is cut off" if cut else f"is not JSON: {error.msg}"
        raise CassetteError(f"{name} {problem} (line {error.lineno})", hint=BACK) from None
    except (ValueError, RecursionError):
        raise CassetteError(f"{name} is not readable JSON", hint=BACK) from None
    if not isinstance(document, dict) or not str(document.get("format", "")).startswith(f"{NAME}/"):
        raise CassetteError(
            f"{name} is not a cassette: it has no format",
            hint=f'the first key of a cassette is "format": "{FORMAT}"',
        )
    return document


def upgrade(
    document: dict[str, Any], name: str, migrations: Mapping[int, Migration]
) -> dict[str, Any]:
    """Upgrade a document to this format version. Raises CassetteError for a newer one."""
    version = str(document["format"]).removeprefix(f"{NAME}/")
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 6 else -1
    if number > VERSION:
        raise CassetteError(
            f"{name} is of format {number}, newer than this o3magic's {VERSION}",
            hint="update o3magic: %pip install -U o3magic",
        )
    while number < VERSION:
        if number not in migrations:
            raise CassetteError(f"{name} has an unknown format: {NAME}/{version[:20]}")
        document = migrations[number](document)
        number += 1
    return document | {"format": FORMAT}


def parse_entry_key(entry: Any, where: str, used_keys: Mapping[EntryKey, Any]) -> EntryKey:
    """Key and number of an entry. An entry written by hand may lack both."""
    try:
        fields = EntryFields(entry, "it")
        key = fields.word("key") or compute_key(fields.section("request").raw)
        number = fields.count("n", at_least=1)
    except CassetteError as error:
        raise CassetteError(f"{where}: {error}", hint=error.hint) from None
    if number is None:
        number = 1
        while (key, number) in used_keys:
            number += 1
    return key, number


def recorded_at(entry: Mapping[str, Any]) -> str:
    """Time of recording as ISO text; "" if unknown, which sorts first."""
    return str(entry.get("recorded") or "")


def dump(head: Mapping[str, Any], notebook: str, entry_texts: Sequence[str]) -> bytes:
    """Encode a file. Equal content gives equal bytes."""
    top = {"format": FORMAT, "notebook": notebook} | dict(head)
    rows = [
        f"{format_json(name)}: {indent_value(value)}," for name, value in top.items() if value != ""
    ]
    texts = ",\n".join(f"  {text}" for text in entry_texts)
    rows.append(f'"entries": [\n{texts}\n ]' if texts else '"entries": []')
    body = "\n ".join(rows)
    return f"{{\n {body}\n}}\n".encode()


def indent_value(value: Any) -> str:
    """JSON text of a value, indented by one level."""
    return format_json(value).replace("\n", "\n ")


def format_entry(entry: Mapping[str, Any]) -> str:
    """JSON text of an entry, indented as in the file."""
    return format_json(entry).replace("\n", "\n  ")  # no text in JSON holds a line end itself


def format_json(value: Any) -> str:
    """Readable JSON: not ASCII only, but a lone surrogate is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


CONFLICT = re.compile(
    r"^<{7}(?: [^\n]*)?\n(?P<ours>(?:(?![|=]{7})[^\n]*\n)*+)"
    r"(?:\|{7}(?: [^\n]*)?\n(?P<base>(?:(?!={7})[^\n]*\n)*+))?"
    r"={7}\n(?P<theirs>(?:(?!>{7})[^\n]*\n)*+)>{7}(?: [^\n]*)?(?:\n|\Z)",
    re.MULTILINE,
)


def merge_cassettes(
    ours: CassetteData,
    theirs: CassetteData,
    base: CassetteData | None = None,
    *,
    ours_wins: bool = False,
) -> tuple[CassetteData, list[str]]:
    """Merge two cassettes; return the result and notes about conflicts.

    base: the common ancestor. An entry that one side removed and the other did not change is
    removed. ours_wins: of two answers to a request ours is used, else the later recorded one.
    """
    ancestor = base or CassetteData()
    result, notes = CassetteData({**theirs.head, **ours.head}), []
    for key, entry in zip(ours.places, ours.entries, strict=True):
        other = find_entry(theirs, key)
        if other is None and find_entry(ancestor, key) == entry:
            continue  # they removed it
        chosen, why = (
            (entry, "") if ours_wins else choose_entry(entry, other, find_entry(ancestor, key))
        )
        notes += [f"{key[0]} {key[1]}: {why}"] if why else []
        result = result.put(key, chosen, None)
    return add_theirs(result, ours, theirs, ancestor), notes


def add_theirs(
    result: CassetteData, ours: CassetteData, theirs: CassetteData, ancestor: CassetteData
) -> CassetteData:
    """Add the entries that only the other side has, each behind its neighbour there."""
    previous: EntryKey | None = None
    for key, entry in zip(theirs.places, theirs.entries, strict=True):
        removed = key not in ours.index and find_entry(ancestor, key) == entry
        if key not in result.index and not removed:
            result = insert_after(result, key, entry, previous, theirs)
        if key in result.index:
            previous = key
    return result


def insert_after(
    data: CassetteData,
    key: EntryKey,
    entry: Mapping[str, Any],
    previous: EntryKey | None,
    theirs: CassetteData,
) -> CassetteData:
    """Insert an entry behind `previous` and the entries that only our side has behind it."""
    index = -1 if previous is None else data.index[previous]
    while index + 1 < len(data.places) and data.places[index + 1] not in theirs.index:
        index += 1
    if index >= 0:
        return data.put(key, entry, data.places[index])
    return CassetteData(data.head, (entry, *data.entries), (key, *data.places))


def choose_entry(
    ours: Mapping[str, Any], theirs: Mapping[str, Any] | None, base: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], str]:
    """Choose between two entries with the same key; also return why, if both sides changed it."""
    if theirs is None or theirs in (ours, base):
        return ours, ""
    if ours == base:
        return theirs, ""
    newer = theirs if recorded_at(theirs) > recorded_at(ours) else ours
    side = "theirs" if newer is theirs else "ours"
    if ours.get("response") == theirs.get("response"):
        return newer, ""
    return (
        newer,
        f"two answers; {side} stays, recorded {recorded_at(newer) or 'at an unknown time'}",
    )


def find_entry(data: CassetteData, key: EntryKey) -> Mapping[str, Any] | None:
    index = data.index.get(key)
    return None if index is None else data.entries[index]


def resolve_conflict(data: bytes, name: str) -> tuple[CassetteData, list[str]]:
    """Parse a file that has git's conflict markers or several entries with the same key."""
    text = data.decode("utf-8-sig", "replace")
    if not MARKER.search(text):
        return parse_cassette(data, name, newest_of_two=True), []
    sides = [CONFLICT.sub(rf"\g<{side}>", text) for side in ("ours", "theirs")]
    if any(MARKER.search(side) for side in sides):
        raise CassetteError(f"{name} has a conflict marker without its others", hint=BACK)
    try:
        ours, theirs = (parse_cassette(side.encode(), name, newest_of_two=True) for side in sides)
    except CassetteError as error:
        raise CassetteError(f"one side of the conflict is damaged: {error}", hint=BACK) from None
    return merge_cassettes(ours, theirs)
