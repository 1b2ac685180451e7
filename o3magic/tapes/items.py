"""What is kept of the output items of the Responses API: what an answer cites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from o3magic.tapes.canonical import plain


def cited_items(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages among output items, if they cite something, without the ids of one run.

    Encrypted reasoning and calls are not kept: the answer's own words and calls say enough.
    """
    if not any(
        isinstance(part, Mapping) and part.get("annotations")
        for item in items
        for part in listed_content(item)
    ):
        return []
    if any(item.get("type") == "function_call" for item in items):
        return []
    return [
        {name: plain(value) for name, value in item.items() if name not in ("id", "status")}
        for item in items
        if item.get("type") == "message"
    ]


def listed_content(item: Mapping[str, Any]) -> Sequence[Any]:
    """The parts of an output item."""
    content = item.get("content")
    return content if isinstance(content, list | tuple) else ()
