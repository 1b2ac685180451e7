"""What the rows of one run share, and how a row may end without an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from o3magic.client.call import Call, located
from o3magic.client.wide import Wide
from o3magic.cost.entries import Attempt
from o3magic.errors import (
    ModelNotFound,
    NoAccess,
    O3Error,
    OverBudget,
    QuotaExhausted,
    RequestFailed,
    RequestRefused,
    WrongKey,
)
from o3magic.jobs.clerk import Clerk
from o3magic.jobs.filling import Filled
from o3magic.jobs.form import Form
from o3magic.jobs.rate import Gate
from o3magic.talk.books import Place

# What is wrong with one row is wrong with all.
FATAL = (WrongKey, ModelNotFound, QuotaExhausted)
# So many rows refused without one answer: the prompt is wrong, not the rows.
MOST_REFUSED = 10


class Ask(NamedTuple):
    """A row to be asked."""

    key: str
    place: int
    prompt: Filled


class NotMine(Exception):
    """Another process is at the row, or has answered it; `claim` says which."""

    def __init__(self, claim: str) -> None:
        super().__init__(claim)
        self.claim = claim


class NoMoney(Exception):
    """A budget has not as much left; `error` says which, None for that of the job."""

    def __init__(self, error: OverBudget | None) -> None:
        super().__init__(str(error or ""))
        self.error = error


class Fatal(Exception):
    """No row can be answered: the job stops."""

    def __init__(self, error: O3Error) -> None:
        super().__init__(str(error))
        self.error = error


class Leased:
    """The address of the rows' calls. A model on this machine is started for the first of them, and
    is used until the run is over.

    serving: gives a call with an address for as long as it is used; stopped: the run was stopped.
    """

    def __init__(
        self,
        serving: Callable[[Call, Callable[[], bool]], AbstractContextManager[Call]] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._serving, self._stopped = serving, stopped
        self._one = asyncio.Lock()
        self._held = ExitStack()
        self._address = ""
        self._failed: O3Error | None = None
        self._closed = False

    async def located(self, call: Call) -> Call:
        """The call with its address. Raises LocalModelError and Interrupted."""
        if self._serving is None or not call.provider.managed:
            return call
        async with self._one:
            if self._failed is not None:
                raise self._failed
            if not self._address:
                try:
                    await asyncio.to_thread(self._lease, call)
                except O3Error as error:
                    self._failed = error
                    raise
        return located(call, self._address)

    def _lease(self, call: Call) -> None:
        assert self._serving is not None
        leased = self._held.enter_context(self._serving(call, self._stopped))
        self._address = leased.provider.base_url
        if self._closed:  # the run did not wait for it
            self._held.close()

    def close(self) -> None:
        """The run is over."""
        self._closed = True
        self._held.close()


@dataclass
class Desk:
    """What the rows of one run share."""

    form: Form
    wide: Wide
    gate: Gate
    clerk: Clerk
    place: Place
    clock: Callable[[], float] = time.monotonic
    lacks: set[str] = field(default_factory=set)
    leased: Leased = field(default_factory=Leased)
    others: Callable[[], int] = lambda: 0  # rows that other processes are at now
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    purse: asyncio.Lock = field(default_factory=asyncio.Lock)
    tight: bool = False  # a budget is nearly spent
    flying: int = 0
    begun_rows: int = 0
    poor_rows: int = 0  # of them, those that wait for money
    sent_calls: int = 0
    answered_rows: int = 0
    refused_rows: int = 0

    def attempt(self, call: Call, kind: str, worst: int) -> Attempt:
        """What the ledger is told before a call leaves."""
        plan, place = self.form.plan, self.place
        return Attempt(
            session=place.session,
            provider=call.provider.name,
            model=call.request.model,
            effort=call.request.effort or plan.effort or "",
            service_tier=call.request.tier or "",
            schema_name=plan.profile.schema,
            notebook=place.notebook,
            cell_key=place.cell_key,
            source="simulated" if call.provider.embedded else "live",
            kind=kind,
            worst_nano_usd=worst,
        )

    def is_fatal(self, error: RequestFailed) -> bool:
        """Whether no row can be answered. Counts those that were refused."""
        if isinstance(error, RequestRefused | NoAccess):
            self.refused_rows += 1
            return not self.answered_rows and self.refused_rows >= MOST_REFUSED
        return isinstance(error, FATAL)
