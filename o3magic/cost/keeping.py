"""The books of one session: its ledger, and a ledger in memory where the file fails.

An answer that was paid for reaches its reader even where the disk is full, the file damaged or
held by another program; what it cost is kept in memory then, and can be exported from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from o3magic.cost.budgets import Budget, Standing
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import Ledger
from o3magic.cost.store import MEMORY
from o3magic.errors import LedgerUnavailable, OverBudget


@dataclass(frozen=True, slots=True)
class Ticket:
    """An entry that is not settled yet: which ledger has it, and what it says."""

    ledger: Ledger
    entry: int
    attempt: Attempt
    hold: int | None = None


class Keeping:
    """Keeps the books of a session. `trouble` says why they are in memory, "" if they are not."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.trouble = ""
        self._told = False
        self._looked = False
        self._said: set[str] = set()

    def hold(
        self, nano_usd: int, budgets: Sequence[Budget], session: str, notebook: str = ""
    ) -> int:
        """Keep back what a question can cost. Raises OverBudget, and LedgerUnavailable where the
        file fails: without it nobody knows what is left.
        """
        return self.ledger.hold(nano_usd, budgets, session, notebook)

    def enter(
        self, attempt: Attempt, *, hold: int | None = None, budgets: Sequence[Budget] = ()
    ) -> Ticket:
        """A row, before the request leaves. Raises OverBudget; with budgets LedgerUnavailable."""
        try:
            entry = self.ledger.enter(attempt, hold=hold, budgets=budgets)
        except LedgerUnavailable as error:
            if budgets:
                raise
            entry = self._in_memory(error).enter(attempt)
        return Ticket(self.ledger, entry, attempt, hold)

    def settle(self, ticket: Ticket, outcome: Outcome) -> None:
        """What became of it; in memory where the file does not take it any more."""
        try:
            ticket.ledger.settle(ticket.entry, outcome, hold=ticket.hold)
        except LedgerUnavailable as error:
            memory = self._in_memory(error)
            memory.settle(memory.enter(ticket.attempt), outcome)

    def enter_many(
        self,
        attempts: Sequence[Attempt],
        *,
        hold: int | None = None,
        budgets: Sequence[Budget] = (),
    ) -> list[Ticket | OverBudget]:
        """The same for several calls at once; an error stands in for a row that does not fit."""
        try:
            entered = self.ledger.enter_many(attempts, hold=hold, budgets=budgets)
        except LedgerUnavailable as error:
            if budgets:
                raise
            entered = self._in_memory(error).enter_many(attempts)
        ledger = self.ledger
        return [
            each if isinstance(each, OverBudget) else Ticket(ledger, each, attempt, None)
            for each, attempt in zip(entered, attempts, strict=True)
        ]

    def settle_many(self, settled: Sequence[tuple[Ticket, Outcome]]) -> None:
        """What became of several; all of these tickets are without a hold of their own."""
        mine = [(ticket.entry, outcome) for ticket, outcome in settled]
        try:
            for ledger in {id(ticket.ledger): ticket.ledger for ticket, _ in settled}.values():
                pairs = zip(mine, settled, strict=True)
                same = [each for each, (ticket, _) in pairs if ticket.ledger is ledger]
                ledger.settle_many(same)
        except LedgerUnavailable:
            for ticket, outcome in settled:
                self.settle(ticket, outcome)

    def release(self, hold: int) -> None:
        """Give back what was not spent. A file that fails is no reason to lose an answer."""
        try:
            self.ledger.release(hold)
        except LedgerUnavailable as error:
            self._in_memory(error)

    def standing(
        self, budgets: Sequence[Budget], session: str, notebook: str = ""
    ) -> list[Standing]:
        """How budgets stand now. Raises LedgerUnavailable."""
        return self.ledger.standing(budgets, session, notebook)

    def news(self) -> str:
        """What the user should know of the books and was not told yet, or ""."""
        if self.trouble:
            told, self._told = self._told, True
            return "" if told else f"{self.trouble}: %o3_cost --csv FILE keeps them"
        if self._looked:
            return ""
        self._looked = True
        try:
            lost = sum(entry.source == "live" for entry in self.ledger.orphans())
        except LedgerUnavailable:
            return ""  # it fails when the next call is entered, and then that is news
        calls = "1 call" if lost == 1 else f"{lost} calls"
        return f"{calls} of kernels that died are in the ledger with a cost unknown" if lost else ""

    def is_new(self, said: str) -> bool:
        """Whether this was not said yet in this session; from now on it was."""
        new = said not in self._said
        self._said.add(said)
        return new

    def close(self) -> None:
        """Let go of the file."""
        self.ledger.close()

    def _in_memory(self, error: LedgerUnavailable) -> Ledger:
        """The ledger that takes over, the file's trouble told once."""
        if not self.trouble:
            self.trouble = f"{error}; from here on the books of this session are in memory only"
            self.ledger.close()
            self.ledger = Ledger(MEMORY)
        return self.ledger
