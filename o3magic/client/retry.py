"""The retry policy, without I/O: which errors to retry, and how long to wait before.

Follows OpenAI's client (3.52.0, 2026-11-16): `x-should-retry` decides if present, then 408, 409,
429, 5xx and broken connections; the provider's wait is honoured up to 120 s. Unlike it, requests
that cannot succeed (no credit left, one request over the limit) are not retried.
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
        """Yield the seconds to wait; be sent the error of each attempt; stop when to give up.

        Prime it with `next`. It also stops if the provider asks to wait over 120 s; the hint of
        the error then tells how long.
        """
        error = yield 0.0
        for attempt in range(self.retries):
            if not is_retryable(error):
                return
            provider_wait_s = error.retry_after_s
            if provider_wait_s is not None and provider_wait_s > LONGEST_WAIT_S:
                error.hint = (
                    f"the provider asks to wait {provider_wait_s:,.0f} s; run the cell again then"
                )
                return
            backoff_s = min(FIRST_WAIT_S * 2**attempt, MOST_WAIT_S) * (1 - jitter() / 4)
            # A wait of 0 would send all attempts at once.
            error = yield provider_wait_s or backoff_s


def is_retryable(error: RequestFailed) -> bool:
    """Whether the same request may succeed later."""
    if error.should_retry is not None:
        return error.should_retry
    # The reasons of all other classes persist: no credit, too large, a wrong request.
    return isinstance(error, HOPEFUL) or error.status == CONFLICT


def parse_retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Parse the wait in seconds; `retry-after-ms` comes before `retry-after`. None if absent."""
    for name, per_s in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if not text:
            continue
        seconds = parse_number(text)
        if seconds is None and name == "retry-after":
            seconds = parse_http_date_s(text, now or datetime.now(UTC))
        if seconds is not None:
            return max(seconds / per_s, 0.0)
    return None


def parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None


def parse_http_date_s(text: str, now: datetime) -> float | None:
    """Seconds until an HTTP date, or None."""
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()


def parse_should_retry(headers: Mapping[str, str]) -> bool | None:
    """Parse the header `x-should-retry`; None if absent."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())
