"""When to ask again, and how long to wait before: a policy that neither sleeps nor sends.

Follows OpenAI's own client (3.52.0, 2026-11-16): `x-should-retry` decides where it is given, then
408, 409, 429, 5xx and broken connections; the provider's own wait is kept up to 120 s. Unlike it,
nothing is asked again that cannot succeed (no credit left, one request over the limit).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from o3magic.errors import NoConnection, ProviderDown, RateLimited, RequestFailed

CONFLICT = 409
HOPEFUL = (RateLimited, ProviderDown, NoConnection)
FIRST_WAIT_S = 0.5
MOST_WAIT_S = 8.0
LONGEST_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`retries` attempts after the first."""

    retries: int = 2

    def waits(
        self, jitter: Callable[[], float] = random.random
    ) -> Generator[float, RequestFailed, None]:
        """Send it the error of each attempt, get the seconds to wait; it ends when it is enough.

        Prime it with `next`. Where the provider's own wait is over 120 s it ends, and the error
        says how long that would have been.
        """
        error = yield 0.0
        for attempt in range(self.retries):
            if not hopeful(error):
                return
            asked_s = error.retry_after_s
            if asked_s is not None and asked_s > LONGEST_WAIT_S:
                error.hint = f"the provider asks to wait {asked_s:,.0f} s; run the cell again then"
                return
            backoff_s = min(FIRST_WAIT_S * 2**attempt, MOST_WAIT_S) * (1 - jitter() / 4)
            error = yield backoff_s if asked_s is None else asked_s


def hopeful(error: RequestFailed) -> bool:
    """Whether the same request may succeed later."""
    if error.should_retry is not None:
        return error.should_retry
    # Every other class has a reason of its own that stays: no credit, too large, a wrong request.
    return isinstance(error, HOPEFUL) or error.status == CONFLICT


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The wait a provider asks for in seconds, or None; `retry-after-ms` comes first."""
    for name, per_s in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        said = headers.get(name, "").strip()
        if not said:
            continue
        seconds = number(said)
        if seconds is None and name == "retry-after":
            seconds = until(said, now or datetime.now(UTC))
        if seconds is not None:
            return max(seconds / per_s, 0.0)
    return None


def number(said: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(said)
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None


def until(said: str, now: datetime) -> float | None:
    """Seconds until an HTTP date, or None where it is none."""
    try:
        when = parsedate_to_datetime(said)
    except (TypeError, ValueError):
        return None
    return (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """What the provider itself says about asking again, or None."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())
