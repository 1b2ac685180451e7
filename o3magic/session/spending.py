"""The ledger entries of one question: its budget hold and a row for each attempt."""

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
from o3magic.session.estimate import (
    WorstCase,
    build_budgets,
    estimate_worst_case,
    find_price,
    list_hosted_calls,
    sum_hosted_cost,
)
from o3magic.session.plan import CUSTOM_KEY, Plan

LEAST_TOKENS = 500  # a smaller limit is no help: reasoning alone takes more


@dataclass(frozen=True, slots=True)
class LedgerContext:
    """The session, notebook, cell and conversation that the rows of a question name."""

    session: str
    notebook: str = ""
    cell_key: str = ""
    conversation: str = ""

    def attempt(
        self,
        provider: str,
        model: str,
        *,
        effort: str,
        tier: str,
        schema: str,
        source: AnswerSource,
        kind: str,
        worst_nano_usd: int = 0,
    ) -> Attempt:
        """Build the ledger entry of one call that is made here."""
        return Attempt(
            session=self.session,
            provider=provider,
            model=model,
            effort=effort,
            service_tier=tier,
            schema_name=schema,
            notebook=self.notebook,
            cell_key=self.cell_key,
            source=source,
            kind=kind,
            conversation=self.conversation,
            worst_nano_usd=worst_nano_usd,
        )


class CallAccounting:
    """The budget hold and the ledger rows of one question. `notes` are complete after `close`."""

    def __init__(self, ledger: FallbackLedger, context: LedgerContext) -> None:
        self._ledger = ledger
        self._context = context
        self._hold: int | None = None
        self._spent_nano_usd = 0
        self._in_tools = False
        self._unpriced = False
        self.notes: list[str] = []

    def open(self, plan: Plan) -> None:
        """Reserve the worst-case cost. Raises OverBudget where a budget has less left."""
        budgets = find_budgets(plan)
        if not budgets:
            return
        most = estimate_worst_case(plan)
        if most is None:
            raise unknown_price_error(plan)
        context = self._context
        try:
            self._hold = self._ledger.hold(
                most.all_nano_usd, budgets, context.session, context.notebook
            )
        except OverBudget as error:
            error.hint = build_budget_hint(error, plan, most)
            raise

    def hold_again(self, plan: Plan) -> None:
        """Replace the reservation after a change of the model. Raises OverBudget."""
        if self._hold is not None:
            self._ledger.release(self._hold)
            self._hold = None
        self.open(plan)

    def enter(self, plan: Plan, call: HttpRequest, kind: str, source: AnswerSource) -> OpenEntry:
        """Write a row for one attempt, before its request is sent. Raises OverBudget."""
        # By this call: a question grows with the results of its tools.
        most = estimate_worst_case(replace(plan, call=call)) if source == "live" else None
        attempt = self._context.attempt(
            call.provider.name,
            call.request.model,
            effort=plan.effort or "",
            tier=call.request.tier or "",
            schema=plan.profile.schema,
            source=source,
            kind=kind,
            worst_nano_usd=most.attempt_nano_usd if most else 0,
        )
        budgets = find_budgets(plan) if source == "live" else []
        self._in_tools = self._in_tools or kind == "tool"
        if self._in_tools and budgets:
            self._check_call(budgets, attempt.worst_nano_usd)
        return self._ledger.enter(attempt, hold=self._hold, budgets=budgets)

    def _check_call(self, budgets: list[Budget], nano_usd: int) -> None:
        """Raise OverBudget where one more turn of tools may break the budget of the question.

        The model decides how many turns follow: each is checked, none is reserved.
        """
        for budget in budgets:
            stands = BudgetStatus(budget, self._spent_nano_usd)
            if budget.scope == "call" and stands.left_nano_usd < nano_usd:
                raise over(nano_usd, stands)

    def settle(self, ticket: OpenEntry, outcome: Outcome) -> None:
        """Write the outcome into the row of an attempt."""
        if ticket.attempt.source == "live":
            cost, usage = outcome.cost_nano_usd, outcome.usage
            if cost is None and None not in (usage.input_tokens, usage.output_tokens):
                self._unpriced = True
            self._spent_nano_usd += ticket.attempt.worst_nano_usd if cost is None else cost
        self._ledger.settle(ticket, outcome)

    def close(self, plan: Plan) -> None:
        """Release the reservation, and note how the budgets stand."""
        if self._hold is not None:
            self._ledger.release(self._hold)
            self._hold = None
            self.notes += self._warnings(plan)
        if self._unpriced and plan.priced.price(date.today()) is None and not is_free(plan):
            note = format_price_hint(plan)
            self.notes += [note] if self._ledger.is_new(note) else []
        if trouble := self._ledger.news():
            self.notes.append(trouble)

    def _warnings(self, plan: Plan) -> list[str]:
        """A note for each budget that is used beyond `budget_warn`."""
        context = self._context
        try:
            stands = self._ledger.standing(find_budgets(plan), context.session, context.notebook)
        except LedgerUnavailable:
            return []  # the ledger has its own note about it
        share = plan.profile.budget_warn
        return [f"budget of {status}" for status in stands if status.share >= share]


def is_free(plan: Plan) -> bool:
    """Whether a call is free: the simulator, and a local server without prices."""
    provider = plan.call.provider
    bills = provider.list_prices or plan.priced.prices
    return provider.embedded or (provider.local and not bills)


def find_budgets(plan: Plan) -> list[Budget]:
    """The budgets that apply to a question."""
    budgets = build_budgets(plan.profile)
    return budgets if budgets and not is_free(plan) else []


def unknown_price_error(plan: Plan) -> OverBudget:
    """The error for a budget where the price of the question is not known."""
    name, provider, tier = plan.card.id, plan.call.provider.name, plan.call.request.tier
    if find_price(plan) and sum_hosted_cost(list_hosted_calls(plan), plan.call.provider) is None:
        name = " and ".join(use.type for use in list_hosted_calls(plan))
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


def format_price_hint(plan: Plan) -> str:
    """How to give a missing price; shown once in a session."""
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
        "bills OpenAI's prices, or its own in "
        f"[providers.{provider.name}.prices.{quote_toml_key(name)}]"
    )


def quote_toml_key(name: str) -> str:
    """A name as a TOML key."""
    bare = name.replace("-", "").replace("_", "")
    return name if bare.isascii() and bare.isalnum() else json.dumps(name)


def build_budget_hint(error: OverBudget, plan: Plan, most: WorstCase) -> str:
    """The output limit that would fit, if any, and the setting of the budget."""
    raised = f"raise budget_{error.scope} ({OF[error.scope]})"
    price = find_price(plan)
    if price is None or not most.all_nano_usd:
        return raised
    share = error.left_nano_usd * most.attempt_nano_usd // most.all_nano_usd
    given = price.nano_usd(Usage(most.input_tokens, 0, 0)) or 0
    a_million = price.nano_usd(Usage(0, 0, 1_000_000)) or 1
    fits = (share - given) * 1_000_000 // a_million // 100 * 100
    return f"--max-output-tokens {fits}, or {raised}" if fits >= LEAST_TOKENS else raised
