"""What is billed besides tokens: tools that the provider ran, and a cost that it says itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from o3magic.events import HostedUse
from o3magic.wire.json_access import count, objects, section, word

# Calls that the provider does not run, or that cost nothing but their tokens.
# Source: OpenAI's pricing page and API specification (2026-10).
NOT_CHARGED = frozenset(
    {
        *("function", "custom_tool", "computer", "local_shell", "apply_patch"),
        *("mcp", "tool_search", "program"),
    }
)
CALL = re.compile(r"([a-z][a-z0-9_]{0,39})_call")
MOST_USD = Decimal(1_000_000)  # what a ledger takes
COST_HEADER = "x-litellm-response-cost"


def hosted_in(answer: Mapping[str, Any]) -> tuple[HostedUse, ...]:
    """The tools that the provider ran itself for an answer of Responses.

    Of web searches only the action `search` is charged for, not the opening of a page or a search
    within one; where the action is not said, it counts (OpenAI's web search guide, 2026-10). What
    `tool_usage` says of their number is what is billed.
    """
    found: Counter[str] = Counter()
    for item in objects(answer, "output"):
        said = CALL.fullmatch(word(item, "type"))
        if said and said[1] not in NOT_CHARGED and item.get("status") != "failed":
            action = word(section(item, "action"), "type")
            found[said[1]] += said[1] != "web_search" or action in ("", "search")
    billed = count(section(section(answer, "tool_usage"), "web_search"), "num_requests")
    if billed:
        found["web_search"] = billed
    if any(
        word(tool, "type").startswith("web_search_preview") for tool in objects(answer, "tools")
    ):
        found["web_search_preview"] = found.pop("web_search", 0)  # it has prices of its own
    return tuple(HostedUse(kind, calls) for kind, calls in sorted(found.items()) if calls)


def said_cost_usd(usage: Any) -> Decimal | None:
    """What a gateway says in its usage that an answer cost, in US dollars; None for no amount.

    Source: OpenRouter's usage accounting and LiteLLM's streams (2026-10). With a key of one's own
    (`is_byok`) the model's maker sends a bill besides.
    """
    if not isinstance(usage, Mapping) or usage.get("cost") is None:
        return None
    cost = amount(usage["cost"])
    if usage.get("is_byok") and cost is not None:
        upstream = amount(section(usage, "cost_details").get("upstream_inference_cost"))
        return None if upstream is None else cost + upstream
    return cost


def cost_in_header(said: str | None) -> Decimal | None:
    """The same of LiteLLM's header `x-litellm-response-cost`.

    Its zero is what it says of models without a price (LiteLLM's issues 38230 and 42161).
    """
    try:
        return amount(Decimal(said)) or None if said else None
    except InvalidOperation:
        return None


def amount(said: Any) -> Decimal | None:
    """A sum of US dollars as it was written, or None for what is none."""
    if type(said) not in (int, float, Decimal):
        return None
    usd = Decimal(repr(said)) if isinstance(said, float) else Decimal(said)
    return usd if usd.is_finite() and 0 <= usd <= MOST_USD else None
