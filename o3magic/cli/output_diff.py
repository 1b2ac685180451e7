"""Whether a cell gave the same outputs again, and where it did not.

What says nothing is evened out: counts, colours, object addresses, widget ids, how printed text
was cut into pieces, the body of a traceback. Numbers, dates and words are compared as they are,
and an answer with a cassette's key to its last character.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

from o3magic.render.markdown.escape import plain_text

ORDER = ("stdout", "stderr")
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def without_colours(text: str) -> str:
    """A text without the escape sequences of a terminal."""
    return ESCAPES.sub("", text)


def as_left(text: str) -> str:
    """What is left of a text on a screen: a carriage return begins its line anew."""
    if "\r" not in text and "\b" not in text:
        return text
    return "\n".join(map(line_left, text.replace("\r\n", "\n").split("\n")))


def line_left(line: str) -> str:
    """One line of it."""
    line = line.rstrip("\r").rpartition("\r")[2]
    kept: list[str] = []
    for sign in line:
        if sign != "\b":
            kept.append(sign)
        elif kept:
            kept.pop()
    return "".join(kept)


def settle(outputs: Iterable[Any]) -> list[Any]:
    """The outputs of a cell, the streams between two displays as one each, stdout first.

    A kernel cuts what is printed where it likes, and the two streams race.
    """
    settled: list[Any] = []
    printed: dict[str, Any] = {}

    def flush() -> None:
        for name in sorted(printed, key=(*ORDER, *printed).index):
            printed[name]["text"] = as_left(printed[name]["text"])
            settled.append(printed[name])
        printed.clear()

    for output in outputs:
        if output.output_type != "stream":
            flush()
            settled.append(output)
        elif output.name in printed:
            printed[output.name]["text"] += output.text
        else:
            printed[output.name] = copy(output)
    flush()
    return settled


WIDGET = "application/vnd.jupyter.widget-view+json"
LINK = "o3magic"  # in an output's metadata: which entry of the cassette it shows
ADDRESS = re.compile(r"(?<= at )0x[0-9a-fA-F]{6,}")
CELL_FILE = re.compile(r"[\\/]ipykernel_\d+[\\/]\d+\.py")
TEXTUAL = ("text/", "application/javascript", "image/svg+xml")
AROUND = 2  # equal lines shown around a difference
MOST_COMPARED = 400  # lines of either side that are laid side by side
MOST_SHOWN = 24
WIDEST = 140


def same(stored: Sequence[Any], new: Sequence[Any]) -> bool:
    """Whether two lists of outputs say the same."""
    return plain(stored) == plain(new)


def plain(outputs: Sequence[Any]) -> list[str]:
    """Outputs as lines that can be compared and read."""
    lines: list[str] = []
    printed: dict[str, list[str]] = {}
    for output in settle(outputs):
        if output.output_type != "stream":
            lines += lines_of(output)
            continue
        printed.setdefault(output.name, []).append(output.text)
    for name in sorted(printed, key=(*ORDER, *printed).index):
        lines += [f"[{name}]", *evened("".join(printed[name])).split("\n")]
    return lines


def lines_of(output: Any) -> Iterator[str]:
    """One output that is no stream."""
    if output.output_type == "error":
        yield "[error]"
        yield from evened(f"{output.ename}: {output.evalue}").split("\n")
        return
    kind = "result" if output.output_type == "execute_result" else "display"
    metadata = dict(output.get("metadata", {}))
    recorded = metadata.pop(LINK, None) is not None
    for mime, content in sorted(output.get("data", {}).items()):
        yield f"[{kind} {mime}]"
        yield from content_lines(mime, content, recorded)
    if metadata:
        yield f"[{kind} metadata]"
        yield from as_json(metadata)


def content_lines(mime: str, content: Any, recorded: bool) -> Iterator[str]:
    """What a display holds of one MIME type. recorded: it is an answer out of a cassette."""
    if mime == WIDGET and isinstance(content, Mapping):
        content = {**content, "model_id": "..."}
    if not isinstance(content, str):
        yield from as_json(content)
    elif not mime.startswith(TEXTUAL):
        # Front ends break base64 into lines, or not.
        digest = hashlib.sha256("".join(content.split()).encode("utf-8", "replace"))
        yield f"sha256 {digest.hexdigest()[:16]}"
    else:
        yield from (unix(content) if recorded else evened(content)).split("\n")


def as_json(value: Any) -> list[str]:
    """A value as lines; the file sorts the names in it, so their order says nothing."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).split("\n")


def unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def evened(text: str) -> str:
    """A text without what differs from run to run and says nothing."""
    text = ADDRESS.sub("0x...", without_colours(unix(text)))
    *before, last = CELL_FILE.split(text)
    return "".join([f"{without_last_word(each)}<cell>" for each in before] + [last])


def without_last_word(text: str) -> str:
    """A text up to its last word: the folder of a cell's file is another each time."""
    return text[: 1 + max(text.rfind(" "), text.rfind("\n"), text.rfind("\t"))]


def difference(stored: Sequence[Any], new: Sequence[Any]) -> list[str]:
    """The lines that differ, `-` as stored and `+` as they came now, cut where there are many."""
    before, after = plain(stored), plain(new)
    start = shared(before, after)
    end = shared(before[start:][::-1], after[start:][::-1])
    before, after = before[: len(before) - end or None], after[: len(after) - end or None]
    first = max(0, start - AROUND)
    # The heading of what differs says what it is, however far above it stands.
    heading = next((line for line in before[:start][::-1] if line.startswith("[")), "")
    left, right = before[first:][:MOST_COMPARED], after[first:][:MOST_COMPARED]
    lines = [] if not heading or heading in before[first:start] else [f"  {heading}"]
    lines += merged(left, right)
    if len(lines) > MOST_SHOWN:
        lines = [*lines[:MOST_SHOWN], f"  ... {len(lines) - MOST_SHOWN} more lines"]
    return lines


def shared(left: Sequence[str], right: Sequence[str]) -> int:
    """How many lines two lists begin with alike."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def merged(left: Sequence[str], right: Sequence[str]) -> Iterator[str]:
    """Two lists of lines as one, marked."""
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            yield from (f"  {cut(line)}" for line in left[a:b])
            continue
        old, new = left[a:b], right[c:d]
        pairs = list(zip_longest(old, new, fillvalue=""))
        offsets = [far(x, y) for x, y in pairs]
        yield from (f"- {cut(line, at)}" for line, at in zip(old, offsets, strict=False))
        yield from (f"+ {cut(line, at)}" for line, at in zip(new, offsets, strict=False))


def far(left: str, right: str) -> int:
    """Where two lines begin to differ."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def cut(line: str, differs_at: int = 0) -> str:
    """A line as a terminal may show it; of a long one the part that counts."""
    if len(line) > WIDEST:
        start = max(0, min(differs_at - WIDEST // 3, len(line) - WIDEST))
        tail = "..." if start + WIDEST < len(line) else ""
        line = f"{'...' if start else ''}{line[start : start + WIDEST]}{tail}"
    return plain_text(line).replace("\n", " ")
