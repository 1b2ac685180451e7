"""One question in the books: what it may cost is held until it is over, each attempt is entered."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date

from o3magic.client.request import HttpRequest
from o3magic.cost.budgets import OF, Budget, BudgetStatus, over
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import FallbackLedger, OpenEntry
from o3magic.errors import LedgerUnavailable, OverBudget
from o3magic.events import AnswerSource, Usage
from o3magic.session.estimate import WorstCase, budgets_of, cost_of, hosted_once, price_asked, worst
from o3magic.session.plan import CUSTOM_KEY, Plan

LEAST_TOKENS = 500  # fewer are not worth asking for: reasoning alone takes more


@dataclass(frozen=True, slots=True)
class LedgerContext:
    """Where a question is asked: the names its entries in the ledger get."""

    session: str
    notebook: str = ""
    cell_key: str = ""
    conversation: str = ""


class CallAccounting:
    """The books of one question. `notes` is what its reader should know of them, when closed."""

    def __init__(self, keeping: FallbackLedger, place: LedgerContext) -> None:
        self._keeping = keeping
        self._place = place
        self._hold: int | None = None
        self._spent_nano_usd = 0
        self._in_tools = False
        self._unpriced = False
        self.notes: list[str] = []

    def open(self, plan: Plan) -> None:
        """Hold what the whole question may cost. Raises OverBudget where a budget lacks it."""
        budgets = counted_budgets(plan)
        if not budgets:
            return
        most = worst(plan)
        if most is None:
            raise unknown_price(plan)
        place = self._place
        try:
            self._hold = self._keeping.hold(
                most.all_nano_usd, budgets, place.session, place.notebook
            )
        except OverBudget as error:
            error.hint = way_on(error, plan, most)
            raise

    def hold_again(self, plan: Plan) -> None:
        """Another model is asked: hold what that may cost instead. Raises OverBudget."""
        if self._hold is not None:
            self._keeping.release(self._hold)
            self._hold = None
        self.open(plan)

    def enter(self, plan: Plan, call: HttpRequest, kind: str, source: AnswerSource) -> OpenEntry:
        """A row for one attempt, before its request leaves. Raises OverBudget."""
        # By what leaves now: a question grows with the results of its tools.
        most = worst(replace(plan, call=call)) if source == "live" else None
        place = self._place
        attempt = Attempt(
            session=place.session,
            provider=call.provider.name,
            model=call.request.model,
            effort=plan.effort or "",
            service_tier=call.request.tier or "",
            schema_name=plan.profile.schema,
            notebook=place.notebook,
            cell_key=place.cell_key,
            source=source,
            kind=kind,
            conversation=place.conversation,
            worst_nano_usd=most.attempt_nano_usd if most else 0,
        )
        budgets = counted_budgets(plan) if source == "live" else []
        self._in_tools = self._in_tools or kind == "tool"
        if self._in_tools and budgets:
            self._check_call(budgets, attempt.worst_nano_usd)
        return self._keeping.enter(attempt, hold=self._hold, budgets=budgets)

    def _check_call(self, budgets: list[Budget], nano_usd: int) -> None:
        """Raise OverBudget where one more turn of tools may break the budget of the question.

        How many turns follow is the model's to say: they are not held back, but looked at each.
        """
        for budget in budgets:
            stands = BudgetStatus(budget, self._spent_nano_usd)
            if budget.scope == "call" and stands.left_nano_usd < nano_usd:
                raise over(nano_usd, stands)

    def settle(self, ticket: OpenEntry, outcome: Outcome) -> None:
        """What became of it."""
        if ticket.attempt.source == "live":
            cost, usage = outcome.cost_nano_usd, outcome.usage
            if cost is None and None not in (usage.input_tokens, usage.output_tokens):
                self._unpriced = True
            self._spent_nano_usd += ticket.attempt.worst_nano_usd if cost is None else cost
        self._keeping.settle(ticket, outcome)

    def close(self, plan: Plan) -> None:
        """The question is over: give back what it did not spend, and say how the budgets stand."""
        if self._hold is not None:
            self._keeping.release(self._hold)
            self._hold = None
            self.notes += self._warnings(plan)
        if self._unpriced and plan.priced.price(date.today()) is None and not free(plan):
            told = how_priced(plan)
            self.notes += [told] if self._keeping.is_new(told) else []
        if trouble := self._keeping.news():
            self.notes.append(trouble)

    def _warnings(self, plan: Plan) -> list[str]:
        """The budgets of which more is gone than the user wants to be told of."""
        place = self._place
        try:
            stands = self._keeping.standing(counted_budgets(plan), place.session, place.notebook)
        except LedgerUnavailable:
            return []  # told by itself
        share = plan.profile.budget_warn
        return [f"budget of {each}" for each in stands if each.share >= share]


def free(plan: Plan) -> bool:
    """Whether it costs nothing: the simulator, and a server of the user's own."""
    provider = plan.call.provider
    bills = provider.list_prices or plan.priced.prices
    return provider.embedded or (provider.local and not bills)


def counted_budgets(plan: Plan) -> list[Budget]:
    """The budgets that count for a question."""
    budgets = budgets_of(plan.profile)
    return budgets if budgets and not free(plan) else []


def unknown_price(plan: Plan) -> OverBudget:
    """A budget is set, and nobody knows what the question costs."""
    name, provider, tier = plan.card.id, plan.call.provider.name, plan.call.request.tier
    if price_asked(plan) and cost_of(hosted_once(plan), plan.call.provider) is None:
        name = " and ".join(use.type for use in hosted_once(plan))
        return OverBudget(
            f"not sent: what {name} costs at {provider} is not known, so no budget can be kept",
            hint=f"give its price in [providers.{provider}.hosted_tools], or lift the budget",
        )
    hint = f"give its price in [models.{name}] of your settings, or lift the budget"
    if not plan.call.provider.list_prices:
        hint = f"`list_prices = true` in [providers.{provider}] if it bills so, or lift the budget"
    elif tier and plan.card.price(date.today()):
        hint = f"another --tier, or {hint}"
    served = f" in the {tier} tier" if tier else ""
    return OverBudget(
        f"not sent: what {name} costs at {provider}{served} is not known, so no budget can be kept",
        hint=hint,
    )


def how_priced(plan: Plan) -> str:
    """How to make a cost known that is not, told once a session."""
    name, provider = plan.call.request.model, plan.call.provider
    if provider.list_prices:
        return f"cost unknown: add the price of {name} under [models.{name}] in your settings"
    if provider.key_env == CUSTOM_KEY:
        return (
            "cost unknown: no prices are known for a bare address; a [providers.NAME] table in "
            "your settings with this `base_url` can hold them, or `list_prices = true`"
        )
    return (
        f"cost unknown: `list_prices = true` in [providers.{provider.name}] of your settings if it "
        f"bills OpenAI's prices, or its own in [providers.{provider.name}.prices.{key(name)}]"
    )


def key(name: str) -> str:
    """A name as a key of TOML."""
    bare = name.replace("-", "").replace("_", "")
    return name if bare.isascii() and bare.isalnum() else json.dumps(name)


def way_on(error: OverBudget, plan: Plan, most: WorstCase) -> str:
    """How to go on: the output limit that would fit, where one does, and the budget's name."""
    raised = f"raise budget_{error.scope} ({OF[error.scope]})"
    price = price_asked(plan)
    if price is None or not most.all_nano_usd:
        return raised
    share = error.left_nano_usd * most.attempt_nano_usd // most.all_nano_usd
    given = price.nano_usd(Usage(most.input_tokens, 0, 0)) or 0
    a_million = price.nano_usd(Usage(0, 0, 1_000_000)) or 1
    fits = (share - given) * 1_000_000 // a_million // 100 * 100
    return f"--max-output-tokens {fits}, or {raised}" if fits >= LEAST_TOKENS else raised
