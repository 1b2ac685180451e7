"""Budgets: what may be spent in a session, a notebook, a day, a month, and what is spent of it.

A budget holds because the most a question can cost is held back before it leaves, in the same
transaction that looks at what is left: two kernels, or a thousand threads, share it safely.
What counts as spent: known costs; for calls whose cost nobody knows, the most they can have cost;
and what is held for questions on their way. Days and months are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from o3magic.cost.process import ProcessOwner
from o3magic.errors import OverBudget
from o3magic.money import show_usd

if TYPE_CHECKING:
    from sqlite3 import Connection

Scope = Literal["call", "session", "notebook", "day", "month"]
SPENT: dict[Scope, str] = {
    "session": "totals WHERE source = 'live' AND session = :session",
    "notebook": "totals WHERE source = 'live' AND notebook = :notebook",
    "day": "days WHERE day = :day",
    "month": "days WHERE day BETWEEN :month || '-01' AND :month || '-31'",
}
# Everything that is held is held today, whoever holds it.
HELD: dict[Scope, str] = {"session": "session = :session", "notebook": "notebook = :notebook"}
OF: dict[str, str] = {
    "call": "one question",
    "session": "this session",
    "notebook": "this notebook",
    "day": "today (UTC)",
    "month": "this month (UTC)",
}


class Budget(NamedTuple):
    """A limit in nano-dollars for everything within a scope."""

    scope: Scope
    limit_nano_usd: int


class BudgetStatus(NamedTuple):
    """How a budget stands: what is spent for certain, and what may be, at most, besides."""

    budget: Budget
    spent_nano_usd: int
    held_nano_usd: int = 0

    @property
    def left_nano_usd(self) -> int:
        """What may still be spent; never below zero."""
        return max(0, self.budget.limit_nano_usd - self.spent_nano_usd - self.held_nano_usd)

    @property
    def share(self) -> float:
        """How much of it is gone, 1.0 for all of it; more where it was lowered since."""
        gone = self.spent_nano_usd + self.held_nano_usd
        limit = self.budget.limit_nano_usd
        return gone / limit if limit else float("inf") if gone else 1.0

    def __str__(self) -> str:
        """One line: `today: $0.31 of $1.00 spent, up to $0.44 more on its way`."""
        scope, limit = self.budget
        held = self.held_nano_usd
        more = f", up to {show_usd(held)} more on its way or unknown" if held else ""
        return f"{OF[scope]}: {show_usd(self.spent_nano_usd)} of {show_usd(limit)} spent{more}"


def standing(connection: Connection, budget: Budget, names: Mapping[str, Any]) -> BudgetStatus:
    """How a budget stands now. names: session, notebook, day and month."""
    scope = budget.scope
    if scope == "call":
        return BudgetStatus(budget, 0)
    [(spent, unknown)] = connection.execute(
        f"""SELECT ifnull(sum(cost_nano_usd), 0), ifnull(sum(held_nano_usd), 0)
            FROM {SPENT[scope]}""",
        names,
    )
    [(held,)] = connection.execute(
        f"SELECT ifnull(sum(nano_usd), 0) FROM holds WHERE {HELD.get(scope, 'true')}", names
    )
    return BudgetStatus(budget, spent, unknown + held)


def check(
    connection: Connection,
    amount_nano_usd: int,
    budgets: Sequence[Budget],
    names: Mapping[str, Any],
) -> None:
    """Raise OverBudget where this much more would not fit into every budget."""
    for again in (False, True):
        stands = [standing(connection, budget, names) for budget in budgets]
        short = [each for each in stands if each.left_nano_usd < amount_nano_usd]
        if not short:
            return
        # What a kernel held when it died is free again; its calls are in the books by themselves.
        if again or not forget_the_dead(connection):
            break
    raise over(amount_nano_usd, min(short, key=lambda each: each.left_nano_usd))


def forget_the_dead(connection: Connection) -> int:
    """Free what processes that are gone were holding; gives how many holds that were."""
    held = connection.execute("SELECT id, host, pid, started FROM holds").fetchall()
    gone = [(hold,) for hold, *owner in held if ProcessOwner(*owner).alive() is False]
    connection.executemany("DELETE FROM holds WHERE id = ?", gone)
    return len(gone)


def over(amount_nano_usd: int, short: BudgetStatus) -> OverBudget:
    """What to tell the user."""
    scope, limit = short.budget
    left = "" if scope == "call" else f", and {show_usd(short.left_nano_usd)} of it is left"
    return OverBudget(
        f"not sent: it may cost up to {show_usd(amount_nano_usd)}; the budget of {OF[scope]} is "
        f"{show_usd(limit)}{left}",
        hint=f"raise budget_{scope}, or lower --max-output-tokens or --effort",
        left_nano_usd=short.left_nano_usd,
        scope=scope,
    )
