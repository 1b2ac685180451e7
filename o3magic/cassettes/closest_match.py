"""For a question that was never recorded: the recorded one nearest to it, and what differs.

All work is bounded: a cassette may have a thousand entries, a prompt a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

from o3magic.cassettes.entry import Recording, words_of
from o3magic.cassettes.format import EntryKey
from o3magic.cassettes.request_key import FIRST_DEFAULT, CanonicalRequest
from o3magic.cassettes.scrub import scrubbed

MOST_LINES = 15
MOST_COMPARED_LINES = 400
CANDIDATES = 8
WIDTH = 96
SCANNED_CHARS = 4000
COMPARED_CHARS = 300
PAIRED_CHARS = 200
TOO_FAR = 0.25
# An entry that was not used in this run is the likelier one to be meant.
UNUSED_BONUS = 0.2
FIELDS = (
    *("model", "effort", "api", "summary", "max_output_tokens", "sample"),
    *("schema_name", "tier", "options"),
)
WORDS = {"schema_name": "schema", "max_output_tokens": "output limit"}
UNSAID = {"api": "auto", "sample": 1}


def explained(
    question: CanonicalRequest, n: int, takes: Sequence[Recording], used: Collection[EntryKey] = ()
) -> list[str]:
    """What to tell of a question that has no take: at most 15 lines."""
    same = [take.n for take in takes if take.key in question.keys]
    if same:
        times = "once" if len(same) == 1 else f"{len(same)} times"
        return [f"this question is recorded {times}, and one cell asks it {n} times"]
    take = nearest(question, takes, used)
    if take is None:
        return [f"none of the {len(takes)} recorded questions is near" if takes else EMPTY]
    return difference(take, question)


EMPTY = "nothing is recorded yet"


def nearest(
    question: CanonicalRequest, takes: Sequence[Recording], used: Collection[EntryKey] = ()
) -> Recording | None:
    """The take whose question is nearest, or None where none is near."""
    canonical = question.canonical()
    asked = said(canonical)
    known = words(asked)
    some = sorted(takes, key=lambda take: -overlap(known, words(said(take.request))))[:CANDIDATES]
    best, best_score = None, 0.0
    for take in some:
        similar = similarity(asked, said(take.request))
        unused = take.place not in used
        likely = similar + UNUSED_BONUS * unused - 0.01 * len(differing(take, canonical))
        if similar >= TOO_FAR and likely > best_score:
            best, best_score = take, likely
    return best


def difference(take: Recording, question: CanonicalRequest) -> list[str]:
    """What differs between a take's question and another, as lines for people."""
    recorded, asked = dict(take.request), question.canonical()
    names = differing(take, asked)
    if not question.model and recorded.get("model") == FIRST_DEFAULT:
        names = [name for name in names if name != "model"]
    changes = [
        f"{WORDS.get(name, name)} {spoken(name, recorded)} -> {spoken(name, asked)}"
        for name in names
    ]
    if recorded.get("schema") != asked.get("schema") and "schema_name" not in names:
        changes.append("the schema has changed")
    if recorded.get("tools") != asked.get("tools"):
        changes.append("the tools have changed")
    rows = list(diff(rows_of(recorded), rows_of(asked)))
    where = f"nearest recorded question ({take.key}): "
    told = ", ".join(changes) or ("it was said otherwise" if rows else "the pictures differ")
    lines = [where + told, *rows]
    if len(lines) > MOST_LINES:
        left = len(lines) - MOST_LINES + 1
        lines = [*lines[: MOST_LINES - 1], f"... and {left} more lines"]
    return [scrubbed(line) for line in lines]


def differing(take: Recording, canonical: Mapping[str, Any]) -> list[str]:
    """The names of the fields in which a take's question is another."""
    if not take.request:
        return []
    return [
        name
        for name in FIELDS
        if take.request.get(name, UNSAID.get(name)) != canonical.get(name, UNSAID.get(name))
    ]


def spoken(name: str, request: Mapping[str, Any]) -> str:
    """A field's value as a person would say it."""
    value = request.get(name, UNSAID.get(name))
    return "not said" if value is None else str(value)[:60]


def said(request: Mapping[str, Any]) -> str:
    """All that was said in a request."""
    return "\n".join(words_of(message) for message in request.get("messages", ()))


def rows_of(request: Mapping[str, Any]) -> list[str]:
    """The lines of all messages, those of others than the user with their role."""
    rows = []
    for message in request.get("messages", ()):
        role = "" if message["role"] == "user" else f"{message['role']}: "
        rows += [role + line for line in words_of(message).splitlines()]
    return rows


def words(text: str) -> frozenset[str]:
    """The words at both ends of a text, and its first pairs of characters.

    Not every language has blanks between its words.
    """
    half = SCANNED_CHARS // 2
    ends = text if len(text) <= SCANNED_CHARS else f"{text[:half]} {text[-half:]}"
    pairs = map("".join, pairwise(text[:PAIRED_CHARS].lower()))
    return frozenset(ends.lower().split()).union(pairs)


def overlap(one: frozenset[str], two: frozenset[str]) -> float:
    """How many of the words of both are words of each."""
    return len(one & two) / (len(one | two) or 1)


def similarity(one: str, two: str) -> float:
    """From 0 for nothing in common to 1 for the same: by characters, between the equal ends."""
    if one == two:
        return 1.0
    whole = len(one) + len(two)
    start = shared(one, two)
    one, two = one[start:], two[start:]
    end = shared(one[::-1], two[::-1])
    one, two = one[: len(one) - end], two[: len(two) - end]
    inner = len(one) + len(two)
    first: Sequence[str] = one[:COMPARED_CHARS]
    second: Sequence[str] = two[:COMPARED_CHARS]
    if inner > 2 * COMPARED_CHARS:  # by words, and only those of the beginning
        first, second = (re.findall(r"\w+|\W", each)[:COMPARED_CHARS] for each in (one, two))
    middle = SequenceMatcher(None, first, second, autojunk=False).ratio()
    return (2 * (start + end) + inner * middle) / whole


def shared(one: str, two: str) -> int:
    """How many characters two texts begin with alike."""
    shorter = min(len(one), len(two))
    if one[:shorter] == two[:shorter]:
        return shorter
    return next(at for at in range(shorter) if one[at] != two[at])


def diff(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """The lines that went and those that came, with -, + and, in long ones, only what differs."""
    one, two = before[:MOST_COMPARED_LINES], after[:MOST_COMPARED_LINES]
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        old, new = one[i1:i2], two[j1:j2]
        at = [shared(*pair) for pair in zip(old, new, strict=False)]
        yield from (f"- {window(line, at, place)}" for place, line in enumerate(old))
        yield from (f"+ {window(line, at, place)}" for place, line in enumerate(new))
    if one == two and before != after:
        yield f"(the first {MOST_COMPARED_LINES} lines are the same)"


def window(line: str, differs_at: Sequence[int], place: int) -> str:
    """A line, or of a long one the part around its first difference."""
    if len(line) <= WIDTH:
        return line
    middle = differs_at[place] if place < len(differs_at) else 0
    start = max(min(middle - WIDTH // 2, len(line) - WIDTH), 0)
    cut = line[start : start + WIDTH]
    return f"{'...' * (start > 0)}{cut}{'...' * (start + WIDTH < len(line))}"
