"""What a cell printed, as it stands at the end: pieces joined, overwritten lines gone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import copy
from typing import Any

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
