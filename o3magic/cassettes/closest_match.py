"""The recorded request nearest to one that has no recording, and what differs.

All work is bounded: a cassette may have a thousand entries, and a prompt a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

from o3magic.cassettes.entry import Recording, message_text
from o3magic.cassettes.format import EntryKey
from o3magic.cassettes.request_key import FIRST_DEFAULT, CanonicalRequest
from o3magic.cassettes.scrub import scrub_text

MOST_LINES = 15
MOST_COMPARED_LINES = 400
CANDIDATES = 8
WIDTH = 96
SCANNED_CHARS = 4000
COMPARED_CHARS = 300
PAIRED_CHARS = 200
TOO_FAR = 0.25
# An entry that this run did not use is the more likely match.
UNUSED_BONUS = 0.2
FIELDS = (
    *("model", "effort", "api", "summary", "max_output_tokens", "sample"),
    *("schema_name", "tier", "options"),
)
WORDS = {"schema_name": "schema", "max_output_tokens": "output limit"}
UNSAID = {"api": "auto", "sample": 1}


def describe_miss(
    question: CanonicalRequest,
    n: int,
    recordings: Sequence[Recording],
    used: Collection[EntryKey] = (),
) -> list[str]:
    """Explain in at most 15 lines why a request has no recording."""
    same = [recording.n for recording in recordings if recording.key in question.keys]
    if same:
        times = "once" if len(same) == 1 else f"{len(same)} times"
        return [f"this question is recorded {times}, and one cell asks it {n} times"]
    recording = find_nearest(question, recordings, used)
    if recording is None:
        return [
            f"none of the {len(recordings)} recorded questions is near" if recordings else EMPTY
        ]
    return describe_difference(recording, question)


EMPTY = "nothing is recorded yet"


def find_nearest(
    question: CanonicalRequest, recordings: Sequence[Recording], used: Collection[EntryKey] = ()
) -> Recording | None:
    """Find the recording with the most similar request, or None."""
    canonical = question.canonical()
    asked = request_text(canonical)
    asked_words = word_set(asked)
    candidates = sorted(
        recordings,
        key=lambda recording: (
            -measure_overlap(asked_words, word_set(request_text(recording.request)))
        ),
    )[:CANDIDATES]
    best, best_score = None, 0.0
    for recording in candidates:
        similarity = measure_similarity(asked, request_text(recording.request))
        unused = recording.place not in used
        score = (
            similarity
            + UNUSED_BONUS * unused
            - 0.01 * len(find_changed_fields(recording, canonical))
        )
        if similarity >= TOO_FAR and score > best_score:
            best, best_score = recording, score
    return best


def describe_difference(recording: Recording, question: CanonicalRequest) -> list[str]:
    """Describe how a recorded request differs from another, line by line."""
    recorded, asked = dict(recording.request), question.canonical()
    names = find_changed_fields(recording, asked)
    if not question.model and recorded.get("model") == FIRST_DEFAULT:
        names = [name for name in names if name != "model"]
    changes = [
        f"{WORDS.get(name, name)} {format_field(name, recorded)} -> {format_field(name, asked)}"
        for name in names
    ]
    if recorded.get("schema") != asked.get("schema") and "schema_name" not in names:
        changes.append("the schema has changed")
    if recorded.get("tools") != asked.get("tools"):
        changes.append("the tools have changed")
    rows = list(diff_lines(message_lines(recorded), message_lines(asked)))
    prefix = f"nearest recorded question ({recording.key}): "
    summary = ", ".join(changes) or ("the text differs" if rows else "the images differ")
    lines = [prefix + summary, *rows]
    if len(lines) > MOST_LINES:
        left = len(lines) - MOST_LINES + 1
        lines = [*lines[: MOST_LINES - 1], f"... and {left} more lines"]
    return [scrub_text(line) for line in lines]


def find_changed_fields(recording: Recording, canonical: Mapping[str, Any]) -> list[str]:
    """Names of the request fields that differ."""
    if not recording.request:
        return []
    return [
        name
        for name in FIELDS
        if recording.request.get(name, UNSAID.get(name)) != canonical.get(name, UNSAID.get(name))
    ]


def format_field(name: str, request: Mapping[str, Any]) -> str:
    value = request.get(name, UNSAID.get(name))
    return "not set" if value is None else str(value)[:60]


def request_text(request: Mapping[str, Any]) -> str:
    return "\n".join(message_text(message) for message in request.get("messages", ()))


def message_lines(request: Mapping[str, Any]) -> list[str]:
    """Lines of all messages; messages of other roles than `user` begin with the role."""
    rows = []
    for message in request.get("messages", ()):
        role = "" if message["role"] == "user" else f"{message['role']}: "
        rows += [role + line for line in message_text(message).splitlines()]
    return rows


def word_set(text: str) -> frozenset[str]:
    """Words at both ends of a text, and its first pairs of characters.

    The pairs serve languages that have no blanks between words.
    """
    half = SCANNED_CHARS // 2
    ends = text if len(text) <= SCANNED_CHARS else f"{text[:half]} {text[-half:]}"
    pairs = map("".join, pairwise(text[:PAIRED_CHARS].lower()))
    return frozenset(ends.lower().split()).union(pairs)


def measure_overlap(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard index: the share of common words, from 0 to 1."""
    return len(first & second) / (len(first | second) or 1)


def measure_similarity(first_text: str, second_text: str) -> float:
    """Similarity of two texts from 0 to 1, compared between their equal ends."""
    if first_text == second_text:
        return 1.0
    whole = len(first_text) + len(second_text)
    start = count_common_prefix(first_text, second_text)
    first_text, second_text = first_text[start:], second_text[start:]
    end = count_common_prefix(first_text[::-1], second_text[::-1])
    first_text, second_text = (
        first_text[: len(first_text) - end],
        second_text[: len(second_text) - end],
    )
    inner = len(first_text) + len(second_text)
    first: Sequence[str] = first_text[:COMPARED_CHARS]
    second: Sequence[str] = second_text[:COMPARED_CHARS]
    if inner > 2 * COMPARED_CHARS:  # by words, and only those of the beginning
        first, second = (
            re.findall(r"\w+|\W", each)[:COMPARED_CHARS] for each in (first_text, second_text)
        )
    middle = SequenceMatcher(None, first, second, autojunk=False).ratio()
    return (2 * (start + end) + inner * middle) / whole


def count_common_prefix(first: str, second: str) -> int:
    """Number of equal characters at the beginning of two texts."""
    shorter = min(len(first), len(second))
    if first[:shorter] == second[:shorter]:
        return shorter
    return next(index for index in range(shorter) if first[index] != second[index])


def diff_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Yield removed lines with - and added ones with +; long lines are cut to what differs."""
    old_lines, new_lines = before[:MOST_COMPARED_LINES], after[:MOST_COMPARED_LINES]
    for kind, i1, i2, j1, j2 in SequenceMatcher(
        None, old_lines, new_lines, autojunk=False
    ).get_opcodes():
        if kind == "equal":
            continue
        old, new = old_lines[i1:i2], new_lines[j1:j2]
        differs_at = [count_common_prefix(*pair) for pair in zip(old, new, strict=False)]
        yield from (f"- {cut_around(line, differs_at, index)}" for index, line in enumerate(old))
        yield from (f"+ {cut_around(line, differs_at, index)}" for index, line in enumerate(new))
    if old_lines == new_lines and before != after:
        yield f"(the first {MOST_COMPARED_LINES} lines are the same)"


def cut_around(line: str, differs_at: Sequence[int], index: int) -> str:
    """Return a line, or the part of a long one around its first difference."""
    if len(line) <= WIDTH:
        return line
    middle = differs_at[index] if index < len(differs_at) else 0
    start = max(min(middle - WIDTH // 2, len(line) - WIDTH), 0)
    cut = line[start : start + WIDTH]
    return f"{'...' * (start > 0)}{cut}{'...' * (start + WIDTH < len(line))}"
