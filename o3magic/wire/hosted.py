"""What is billed besides tokens: tools that the provider ran, and the cost that it reports."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from o3magic.events import HostedUse
from o3magic.wire.json_access import get_count, get_object, get_text, iter_objects

# Calls that the provider does not run, or that cost only tokens.
# Source: OpenAI's pricing page and API specification (2026-10).
NOT_CHARGED = frozenset(
    {
        *("function", "custom_tool", "computer", "local_shell", "apply_patch"),
        *("mcp", "tool_search", "program"),
    }
)
CALL = re.compile(r"([a-z][a-z0-9_]{0,39})_call")
MOST_USD = Decimal(1_000_000)  # the limit of the ledger
COST_HEADER = "x-litellm-response-cost"


def count_hosted_tools(answer: Mapping[str, Any]) -> tuple[HostedUse, ...]:
    """Count the tools that the provider ran for an answer of the Responses API.

    Of web searches only the action `search` is billed, not opening a page or searching in one; a
    call without an action counts (OpenAI's web search guide, 2026-10). The number in `tool_usage`,
    if present, is what is billed.
    """
    counts: Counter[str] = Counter()
    for item in iter_objects(answer, "output"):
        match = CALL.fullmatch(get_text(item, "type"))
        if match and match[1] not in NOT_CHARGED and item.get("status") != "failed":
            action = get_text(get_object(item, "action"), "type")
            counts[match[1]] += match[1] != "web_search" or action in ("", "search")
    billed = get_count(get_object(get_object(answer, "tool_usage"), "web_search"), "num_requests")
    if billed:
        counts["web_search"] = billed
    if any(
        get_text(tool, "type").startswith("web_search_preview")
        for tool in iter_objects(answer, "tools")
    ):
        counts["web_search_preview"] = counts.pop("web_search", 0)  # it has prices of its own
    return tuple(HostedUse(kind, calls) for kind, calls in sorted(counts.items()) if calls)


def parse_cost_usd(usage: Any) -> Decimal | None:
    """Parse the cost in a gateway's usage, in US dollars; None if absent.

    Source: OpenRouter's usage accounting and LiteLLM's streams (2026-10). With the user's
    own key (`is_byok`) the maker of the model bills separately.
    """
    if not isinstance(usage, Mapping) or usage.get("cost") is None:
        return None
    cost = parse_usd(usage["cost"])
    if usage.get("is_byok") and cost is not None:
        upstream = parse_usd(get_object(usage, "cost_details").get("upstream_inference_cost"))
        return None if upstream is None else cost + upstream
    return cost


def parse_cost_header(text: str | None) -> Decimal | None:
    """Parse LiteLLM's header `x-litellm-response-cost`.

    It sends zero for models without a price (LiteLLM's issues 38230 and 42161).
    """
    try:
        return parse_usd(Decimal(text)) or None if text else None
    except InvalidOperation:
        return None


def parse_usd(value: Any) -> Decimal | None:
    """Parse a number as an exact amount of US dollars, or None."""
    if type(value) not in (int, float, Decimal):
        return None
    usd = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return usd if usd.is_finite() and 0 <= usd <= MOST_USD else None
