"""Token counts as providers write them, and what is odd about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from o3magic.events import Usage
from o3magic.wire.json_access import count, section

# Tokens of an answer that are neither reasoning nor visible: 1 to 14 in recordings of 2025-26.
HIDDEN_TOKENS = 64


def usage_of(counts: Any, kind: str) -> Usage | None:
    """The usage in an answer; `kind` is the API it came by: "responses" or "chat".

    None where the answer holds none. A count that is no whole number is not known.
    """
    if not isinstance(counts, Mapping):
        return None
    into, out = ("prompt", "completion") if kind == "chat" else ("input", "output")
    of_input = section(counts, f"{into}_tokens_details")
    of_output = section(counts, f"{out}_tokens_details")
    usage = Usage(
        input_tokens=count(counts, f"{into}_tokens"),
        cached_tokens=count(of_input, "cached_tokens"),
        output_tokens=count(counts, f"{out}_tokens"),
        reasoning_tokens=count(of_output, "reasoning_tokens"),
        cache_write_tokens=count(of_input, "cache_write_tokens"),
        total_tokens=count(counts, "total_tokens"),
    )
    return None if usage == Usage() else usage


def oddities(usage: Usage, visible_bytes: int, max_output_tokens: int | None) -> tuple[str, ...]:
    """What cannot be right in a usage, one sentence each.

    visible_bytes: UTF-8 bytes of all that was answered; a token is at least one byte.
    """
    into, out = usage.input_tokens, usage.output_tokens
    cached, reasoning = usage.cached_tokens or 0, usage.reasoning_tokens or 0
    said = []
    if out is not None and reasoning > out:
        said.append(f"{reasoning:,} reasoning tokens are more than the {out:,} of the output")
    elif out is not None and out - reasoning > visible_bytes + HIDDEN_TOKENS:
        said.append(
            f"{out - reasoning:,} output tokens besides reasoning, for an answer of "
            f"{visible_bytes:,} bytes"
        )
    if out is not None and max_output_tokens is not None and out > max_output_tokens:
        said.append(f"{out:,} output tokens are over the limit of {max_output_tokens:,}")
    if into is not None and cached > into:
        said.append(f"{cached:,} cached tokens are more than the {into:,} of the input")
    if None not in (into, out, usage.total_tokens) and usage.total_tokens != (into or 0) + (
        out or 0
    ):
        said.append(f"the total of {usage.total_tokens:,} is not input plus output")
    return tuple(f"odd usage from the provider: {each}" for each in said)
