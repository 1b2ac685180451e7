"""Parse token usage, and find inconsistent counts in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from o3magic.events import Usage
from o3magic.wire.json_access import get_count, get_object

# Tokens of an answer that are neither reasoning nor visible: 1 to 14 in recordings of 2025-26.
HIDDEN_TOKENS = 64


def parse_usage(counts: Any, kind: str) -> Usage | None:
    """Parse the usage of an answer. kind: its API, "responses" or "chat".

    None if the answer has none. A count that is not an integer is unknown.
    """
    if not isinstance(counts, Mapping):
        return None
    into, out = ("prompt", "completion") if kind == "chat" else ("input", "output")
    of_input = get_object(counts, f"{into}_tokens_details")
    of_output = get_object(counts, f"{out}_tokens_details")
    usage = Usage(
        input_tokens=get_count(counts, f"{into}_tokens"),
        cached_tokens=get_count(of_input, "cached_tokens"),
        output_tokens=get_count(counts, f"{out}_tokens"),
        reasoning_tokens=get_count(of_output, "reasoning_tokens"),
        cache_write_tokens=get_count(of_input, "cache_write_tokens"),
        total_tokens=get_count(counts, "total_tokens"),
    )
    return None if usage == Usage() else usage


def find_usage_problems(
    usage: Usage, visible_bytes: int, max_output_tokens: int | None
) -> tuple[str, ...]:
    """Describe impossible counts, one sentence each.

    visible_bytes: UTF-8 bytes of the answer; a token has at least one byte.
    """
    into, out = usage.input_tokens, usage.output_tokens
    cached, reasoning = usage.cached_tokens or 0, usage.reasoning_tokens or 0
    problems = []
    if out is not None and reasoning > out:
        problems.append(f"{reasoning:,} reasoning tokens are more than the {out:,} of the output")
    elif out is not None and out - reasoning > visible_bytes + HIDDEN_TOKENS:
        problems.append(
            f"{out - reasoning:,} output tokens besides reasoning, for an answer of "
            f"{visible_bytes:,} bytes"
        )
    if out is not None and max_output_tokens is not None and out > max_output_tokens:
        problems.append(f"{out:,} output tokens are over the limit of {max_output_tokens:,}")
    if into is not None and cached > into:
        problems.append(f"{cached:,} cached tokens are more than the {into:,} of the input")
    if None not in (into, out, usage.total_tokens) and usage.total_tokens != (into or 0) + (
        out or 0
    ):
        problems.append(f"the total of {usage.total_tokens:,} is not input plus output")
    return tuple(f"odd usage from the provider: {problem}" for problem in problems)
