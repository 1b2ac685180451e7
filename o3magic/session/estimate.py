"""The cost of a question before it is sent: tokens, the worst case, the likely cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal

from o3magic.cost.budgets import Budget, Scope
from o3magic.cost.pricing import hosted_nano_usd
from o3magic.events import HostedUse, Usage
from o3magic.messages import HostedTool, Image, Part, Request, Text
from o3magic.models import Card, Price
from o3magic.money import show_usd
from o3magic.providers import Provider
from o3magic.session.plan import Plan
from o3magic.settings import Settings

# Measured on recordings of o-series and gpt-5 models, exact on 17 of 18 (2026-11-20).
MESSAGE_TOKENS = 4
ANSWER_TOKENS = 2
# What a repair adds besides the answer it quotes: its instructions and the problems found.
REPAIR_TOKENS = 500
# No image has more tokens with any model here at detail "high". Source: OpenAI's guide to
# images and vision (2026-07-15): at most 2,690 for models that count patches, 1,275 for tiles.
MOST_IMAGE_TOKENS = 3_000


@dataclass(frozen=True, slots=True)
class TokenRange:
    """How many tokens a request has: about `likely`, never more than `most`.

    counted: "exactly" by the provider, "by tiktoken", or "about" by our own estimate.
    """

    likely: int
    most: int
    counted: str = "about"


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """The estimate of a question. Money is in nano-dollars, None where no price is known.

    window_tokens  the context window of the model, None where it is not known
    likely_nano_usd, likely_output_tokens   by the mean of `calls` answered before it; None for 0
    """

    tokens: TokenRange
    window_tokens: int | None
    worst: WorstCase | None
    likely_nano_usd: int | None = None
    likely_output_tokens: int | None = None
    calls: int = 0


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The most that a question can cost: one attempt, and all attempts with repairs."""

    input_tokens: int
    output_tokens: int
    attempt_nano_usd: int
    all_nano_usd: int


def estimate_worst_case(plan: Plan) -> WorstCase | None:
    """The worst case of a plan, or None where no price or no limit is known."""
    price = find_price(plan)
    if price is None:
        return None
    card, request = plan.priced, plan.call.request
    out = request.max_output_tokens or card.max_output_tokens or card.window_tokens
    hosted = sum_hosted_cost(list_hosted_calls(plan), plan.call.provider)
    if out is None or hosted is None:
        return None
    into = count_most_tokens(request)
    rounds = plan.profile.repairs + 1 if plan.answer_type is not None else 1
    # Each repair quotes the answer before it.
    inputs = [into + turn * (out + REPAIR_TOKENS) for turn in range(rounds)]
    if lacks_rates(card, price, inputs[-1]):
        return None
    turns = [compute_worst_nano_usd(card, price, tokens, out) + hosted for tokens in inputs]
    return WorstCase(into, out, turns[0], sum(turns))


def find_price(plan: Plan) -> Price | None:
    """The price at the tier of the request, or None where it is not known."""
    return plan.priced.dearest(date.today(), plan.call.request.tier)


def lacks_rates(card: Card, price: Price, input_tokens: int) -> bool:
    """Whether a tier's price lacks a rate that the standard price has."""
    usual = card.price(date.today())
    if usual is None or usual == price:
        return False
    long = price.long is None and usual.is_long(Usage(cap_input_tokens(card, input_tokens), 0, 0))
    return long or (usual.rates.cache_write is not None and price.rates.cache_write is None)


def cap_input_tokens(card: Card, input_tokens: int) -> int:
    """The input tokens, at most the window: a longer prompt is refused."""
    return min(input_tokens, card.max_input_tokens or card.window_tokens or input_tokens)


def list_hosted_calls(plan: Plan) -> tuple[HostedUse, ...]:
    """One call of each hosted tool; the model decides how many there will be."""
    tools = plan.call.request.tools
    return tuple(HostedUse(each.type, 1) for each in tools if isinstance(each, HostedTool))


def sum_hosted_cost(uses: Iterable[HostedUse], provider: Provider) -> int | None:
    """The cost of hosted tool calls in nano-dollars, None where it is not known."""
    costs = [hosted_nano_usd(provider, use) for use in uses]
    return None if None in costs else sum(cost or 0 for cost in costs)


def estimate_call(
    plan: Plan, tokens: TokenRange | None = None, history: tuple[int, int] = (0, 0)
) -> CallEstimate:
    """The estimate of a plan. history: the number of similar calls and their output tokens."""
    tokens = tokens or count(plan.call.request)
    card, most = plan.priced, estimate_worst_case(plan)
    price = find_price(plan)
    calls, output_tokens = history
    likely = output = None
    if calls:
        output = round(output_tokens / calls)
        if price is not None:
            likely = price.nano_usd(Usage(tokens.likely, 0, output), writes_cost=card.writes_cost)
    window = card.max_input_tokens or card.window_tokens
    return CallEstimate(tokens, window, most, likely, output, calls)


def compute_worst_nano_usd(card: Card, price: Price, input_tokens: int, output_tokens: int) -> int:
    """The most that one attempt costs: no cached input, and all of it written to a billed cache.

    Input is at most the window: a longer prompt is refused.
    """
    into = cap_input_tokens(card, input_tokens)
    ways = [Usage(into, 0, output_tokens)]
    if price.rates.cache_write is not None:
        ways.append(Usage(into, 0, output_tokens, cache_write_tokens=into))
    return max(price.nano_usd(way) or 0 for way in ways)


def count(request: Request, counter: Callable[[str], int] | None = None) -> TokenRange:
    """The tokens of a request, its schema and tools included; images by their upper bound."""
    said, around = collect_texts(request), count_overhead(request)
    if counter is not None:
        return TokenRange(
            sum(map(counter, said)) + around, count_most_tokens(request), "by tiktoken"
        )
    from o3magic.cost.token_estimates import estimate_tokens

    likely = sum(estimate_tokens(text).likely for text in said)
    return TokenRange(likely + around, count_most_tokens(request))


def count_most_tokens(request: Request) -> int:
    """A cheap upper bound of the input tokens: a token has at least one byte."""
    more = count_bytes(minify_json(request.params)) if request.params else 0
    return (
        sum(count_bytes(text) for text in collect_texts(request)) + more + count_overhead(request)
    )


def count_bytes(text: str) -> int:
    """Its bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def collect_texts(request: Request) -> list[str]:
    """Every text in a request that counts as tokens."""
    said = ["".join(map(read_text, message.parts)) for message in request.whole]
    if request.answer_schema is not None:
        said.append(minify_json(request.answer_schema.schema))
    return said + [minify_json(asdict(tool)) for tool in request.tools]


def read_text(part: Part) -> str:
    """The text of a part that counts as tokens."""
    if isinstance(part, Text):
        return part.text
    from o3magic.conversations.conversation import words_of

    return words_of(part)


def count_overhead(request: Request) -> int:
    """The tokens around the texts: messages, images, and reasoning that is sent back."""
    messages = request.whole
    pictures = sum(isinstance(p, Image) for message in messages for p in message.parts)
    around = MESSAGE_TOKENS * len(messages) + ANSWER_TOKENS
    hidden = request.kept.hidden_tokens if request.kept else 0
    return around + MOST_IMAGE_TOKENS * pictures + hidden


def minify_json(value: object) -> str:
    """JSON without spaces: about the form in which a schema or tool is billed."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


SCOPES: tuple[Scope, ...] = ("call", "session", "notebook", "day", "month")


def build_budgets(profile: Settings) -> list[Budget]:
    """The budgets a profile sets."""
    said = {scope: getattr(profile, f"budget_{scope}") for scope in SCOPES}
    return [Budget(scope, to_nano_usd(limit)) for scope, limit in said.items() if limit is not None]


def to_nano_usd(usd: Decimal) -> int:
    """Dollars as nano-dollars, rounded down."""
    return int(usd * 1_000_000_000)


def format_estimate(asked: CallEstimate, plan: Plan) -> list[tuple[str, str]]:
    """The estimate as text: (label, line) pairs."""
    into, window, most = asked.tokens, asked.window_tokens, asked.worst
    about = "about " if into.counted == "about" else ""
    how = {"about": f", at most {into.most:,}"}.get(into.counted, f", counted {into.counted}")
    part = into.likely / window if window else 0.0
    percent = f"{part:.1%}" if part >= 0.001 else "under 0.1%"
    share = f" · {percent} of its window of {window:,}" if window else ""
    effort = f" at effort {plan.effort}" if plan.effort else ""
    why = f"; {plan.choice.reason}" if plan.choice.reason else ""
    tier = f", tier {plan.call.request.tier}" if plan.call.request.tier else ""
    said = [
        ("asked", f"{plan.call.request.model}{effort}, by the {plan.call.api} API{tier}{why}"),
        ("input", f"{about}{into.likely:,} tokens{how}{share}"),
    ]
    if most is None:
        said.append(("worst case", "unknown: there is no price or no output limit to go by"))
    else:
        repairs = most.all_nano_usd != most.attempt_nano_usd
        whole = f", {show_usd(most.all_nano_usd)} with every repair" if repairs else ""
        one = show_usd(most.attempt_nano_usd)
        more = "; each turn of tools costs more than the one before" if plan.asked.toolbox else ""
        for use in list_hosted_calls(plan):
            each = show_usd(sum_hosted_cost([use], plan.call.provider))
            more += f"; with {use}, and {each} and what it reads for each more"
        said.append(("worst case", f"{one} for {most.output_tokens:,} output tokens{whole}{more}"))
    if asked.likely_output_tokens is None:
        likely = "unknown: no call like it in the ledger yet"
    else:
        calls = "the call" if asked.calls == 1 else f"the mean of {asked.calls:,} calls"
        out = f"{asked.likely_output_tokens:,} output tokens, {calls} like it so far"
        likely = f"{show_usd(asked.likely_nano_usd)} for {out}"
    return [*said, ("likely", likely)]
