"""What a batch may hold, where it is sent and what it may cost."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final

from o3magic.client.call import Call
from o3magic.cost.budgets import Budget
from o3magic.errors import BadOption, OverBudget
from o3magic.jobs.filling import Filled
from o3magic.jobs.form import Form
from o3magic.money import show_usd
from o3magic.profile import Profile
from o3magic.providers import Provider
from o3magic.talk.forecast import worst_nano_usd
from o3magic.talk.plan import Plan
from o3magic.wire.dialects import DIALECTS

TIER: Final = "batch"


def worst_row_nano_usd(form: Form, prompt: Filled) -> int | None:
    """The most one row can cost at batch prices, or None where nobody knows."""
    planned = form.plan
    card, request = planned.priced, planned.call.request
    price = card.price(date.today(), TIER)
    out = request.max_output_tokens or card.max_output_tokens or card.window_tokens
    if price is None or out is None:
        return None
    return worst_nano_usd(card, price, form.tokens(prompt), out)


def endpoint(call: Call) -> str:
    """What a line of this API is sent to. Azure's has no /v1 for chat (its Global Batch page)."""
    if call.api == "chat" and is_azure(call.provider):
        return "/chat/completions"
    return f"/v1{DIALECTS[call.api].path}"


def is_azure(provider: Provider) -> bool:
    """Whether it is Azure: nobody else takes its key that way."""
    return provider.auth in ("api-key", "entra")


def check_can_batch(planned: Plan) -> None:
    """Raise BadOption where the provider or the model has no Batch API."""
    provider, card = planned.call.provider, planned.card
    if "batch" not in provider.endpoints:
        raise BadOption(
            f"{provider.name} has no Batch API",
            hint="o3.map asks the rows one by one; openai and azure have batches",
        )
    known = planned.catalog.find(card.id) is not None
    if known and "batch" not in card.endpoints:
        raise BadOption(
            f"{card.id} is not served by the Batch API", hint="o3.map, or choose another model"
        )


def check_tier(profile: Profile) -> None:
    """Raise BadOption where a tier is asked for: a batch is one by itself."""
    if profile.tier is not None:
        raise BadOption(
            f"a batch has no tier {profile.tier}: the Batch API is a tier of its own",
            hint="tier=None here; o3.map(..., tier='flex') asks at once for the price of a batch",
        )


def check_call_budget(dearest_nano_usd: int, budgets: Iterable[Budget]) -> None:
    """Raise OverBudget where one row may cost more than one question is allowed to."""
    for scope, limit in budgets:
        if scope == "call" and dearest_nano_usd > limit:
            raise OverBudget(
                f"not sent: one row may cost up to {show_usd(dearest_nano_usd)}, and the "
                f"budget of one question is {show_usd(limit)}",
                hint="lower max_output_tokens, or raise budget_call",
                left_nano_usd=limit,
                scope="call",
            )
