"""The gate and the clerk of a job as its rows on a worker see them: both are elsewhere.

`FarGate` stands for the one gate on the scheduler, `FarClerk` for the clerk of the caller. A run
of rows has one of each; what they say goes out in groups, through a `Link`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from o3magic.cluster.coordinator import fields_of
from o3magic.cluster.messages import (
    PARKED,
    BeginRow,
    CancelClaim,
    EndRow,
    Message,
    RowGranted,
    SettleRow,
)
from o3magic.cost.entries import Attempt, Outcome
from o3magic.cost.ledger import OpenEntry
from o3magic.errors import (
    LedgerUnavailable,
    NoConnection,
    OverBudget,
    ProviderDown,
    RateLimited,
    RequestFailed,
)
from o3magic.rows.context import BudgetExhausted, RowTaken, StartResult
from o3magic.rows.rate_limiter import LimiterClosed
from o3magic.rows.records import ClaimRequest, RowOutcome


class CallerLink(Protocol):
    """The way out of a worker, for one job."""

    def tell(self, run: int, word: str, *more: Any) -> None:
        """Say something to the gate."""

    def write(self, letter: Message) -> None:
        """Say something to the caller."""

    def asked(self) -> tuple[int, asyncio.Future[Any]]:
        """A number to be answered, and what will be said."""

    def forget(self, number: int) -> None:
        """Nobody waits for that answer any more."""


class RemoteRateLimiter:
    """The gate of the scheduler. `failed` is why it let nobody out any more."""

    def __init__(self, link: CallerLink, run: int, width: int) -> None:
        self._link, self._run, self.width = link, run, float(width)
        self.limited_calls = 0
        self.failed: RequestFailed | None = None
        self.mark = (0.0, 0.0)
        self._streak = self._owed = 0
        self._shut = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether nothing leaves any more."""
        return self._shut.is_set()

    def close(self, failed: RequestFailed | None = None) -> None:
        """Let nothing out any more."""
        self.failed = self.failed or failed
        self._shut.set()

    async def turn(self, tokens: int) -> None:
        """Wait until a request may leave, and count it. Raises Closed."""
        if self.closed:
            raise LimiterClosed
        number, said = self._link.asked()
        self._link.tell(self._run, "turn", number, tokens)
        try:
            await self.until(said)
        except BaseException:
            said.add_done_callback(lambda late: self._late(late, tokens))
            raise
        if said.result() is None:
            raise LimiterClosed
        requests, sent_tokens, self._streak = said.result()
        self.mark = (requests, sent_tokens)

    def _late(self, said: asyncio.Future[Any], tokens: int) -> None:
        """A place for somebody who has left."""
        if not said.cancelled() and said.result() is not None:
            self.back(tokens)
            self.landed()

    async def until(self, said: asyncio.Future[Any]) -> None:
        """Wait until it is said. Raises Closed where nothing leaves any more."""
        shut = asyncio.ensure_future(self._shut.wait())
        try:
            await asyncio.wait([said, shut], return_when=asyncio.FIRST_COMPLETED)
        finally:
            shut.cancel()
        if not said.done() or self.closed:
            raise LimiterClosed

    def left(self) -> None:
        """A place was left already: whoever had it says so once more, in this moment."""
        self._owed += 1

    def landed(self) -> None:
        """A request is over, or did not leave."""
        if self._owed:
            self._owed -= 1
            return
        self._link.tell(self._run, "landed", 1)

    def back(self, tokens: int) -> None:
        """A request that was let out did not leave."""
        self._link.tell(self._run, "back", tokens)

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until it is closed."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._shut.wait(), seconds)

    def heard(self, headers: Mapping[str, str], sent: tuple[float, float]) -> None:
        """What the headers of an answer say of limits."""
        told = {name: headers[name] for name in headers if name.startswith("x-ratelimit-")}
        if told:
            self._link.tell(self._run, "heard", told, *sent)

    def answered(self) -> None:
        """An answer came."""
        self._streak = 0
        self._link.tell(self._run, "answered")

    def limited(self, error: RateLimited, asked_s: float) -> None:
        """A 429. Where it is hopeless, the scheduler says so."""
        self.limited_calls += 1
        self._link.tell(self._run, "limited", *fields_of(error), time.monotonic() - asked_s)

    def down(self, error: RequestFailed) -> bool:
        """Whether an error means that nobody answers at all, so that no row is to blame."""
        if not isinstance(error, NoConnection | ProviderDown):
            return False
        self._streak += 1
        self._link.tell(self._run, "down", *fields_of(error), 0.0)
        nothing_left = isinstance(error, NoConnection) and error.billed is False
        return nothing_left or self._streak > self.width + 8


class RemoteEntry(NamedTuple):
    """Stands for the ledger of the caller in the ticket of a row: which row that is."""

    key: str


class RemoteWriter:
    """The clerk of the caller. gate: where a row that waits for money leaves its place."""

    def __init__(self, link: CallerLink, run: int, gate: RemoteRateLimiter) -> None:
        self._link, self._run, self._gate = link, run, gate
        self._waiting: set[asyncio.Future[Any]] = set()

    async def begin(
        self, wanted: ClaimRequest, attempt: Attempt, *, again: bool = False
    ) -> StartResult:
        """Claim a row and enter its call. Raises LedgerUnavailable, NoMoney, NotMine and Closed."""
        number, said = self._link.asked()
        later_number, later = self._link.asked()
        self._waiting.add(said)
        said.add_done_callback(self._waiting.discard)
        self._link.write(BeginRow(number, later_number, self._run, wanted, attempt, again))
        try:
            granted = await asyncio.shield(said)
            if granted == PARKED:
                granted = await self._parked(wanted.key, later, again=again)
        except asyncio.CancelledError:
            said.add_done_callback(lambda late: self._late(late, wanted.key, again))
            raise
        finally:
            self._link.forget(later_number)
        return self._ticket(granted, wanted, attempt)

    def _ticket(self, granted: Any, wanted: ClaimRequest, attempt: Attempt) -> StartResult:
        """What was granted, as a ticket; or why there is none."""
        if isinstance(granted, RowGranted):
            ledger: Any = RemoteEntry(wanted.key)
            return OpenEntry(ledger, granted.entry, attempt)
        if isinstance(granted, LedgerUnavailable):
            raise granted
        if granted == "budget" or isinstance(granted, OverBudget):
            raise BudgetExhausted(granted if isinstance(granted, OverBudget) else None)
        raise RowTaken(str(granted))

    async def _parked(self, key: str, later: asyncio.Future[Any], *, again: bool) -> Any:
        """Wait for money, the place at the gate left to others. Raises Closed."""
        self._gate.landed()
        back = False
        try:
            await self._gate.until(later)
            granted = later.result()
            if isinstance(granted, RowGranted):
                await self._gate.turn(0)
                self._gate.back(0)
                back = True
        except (asyncio.CancelledError, LimiterClosed):
            self._link.write(CancelClaim(self._run, key, again))
            raise
        finally:
            if not back:
                self._gate.left()
        return granted

    def _late(self, said: asyncio.Future[Any], key: str, again: bool) -> None:
        """What a row gets that has left: a place in the line, or leave to be asked."""
        if said.cancelled():
            return
        if isinstance(said.result(), RowGranted) or said.result() == PARKED:
            self._link.write(CancelClaim(self._run, key, again))

    def end(self, ending: RowOutcome, ticket: OpenEntry | None, outcome: Outcome | None) -> None:
        """A row is over, and so is its last call."""
        self._link.write(EndRow(self._run, ending, outcome if ticket is not None else None))

    def settle(self, ticket: OpenEntry, outcome: Outcome) -> None:
        """A call is over, its row is not."""
        where: Any = ticket.ledger
        self._link.write(SettleRow(self._run, where.key, outcome))

    async def close(self) -> None:
        """Wait for what was asked of the caller: what is granted late is to be given back."""
        if self._waiting:
            await asyncio.wait([*self._waiting])
