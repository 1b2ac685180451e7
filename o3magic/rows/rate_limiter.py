"""Rate limiter of a job: how many requests are in flight, and when the next one may be sent.

Three limits apply: requests and tokens a minute, as the user sets them or the provider reports them
in `x-ratelimit-*` headers, refilled evenly without a burst; a concurrency that shrinks at a 429 and
grows with answers; and a pause, after a Retry-After or while the provider cannot be reached.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from o3magic.client.retry import FIRST_WAIT_S, LONGEST_WAIT_S, MOST_WAIT_S
from o3magic.errors import NoConnection, ProviderDown, RateLimited, RequestFailed

SHRINK = 0.7
GROWTH = 0.05  # of the full width, per round of answers
# From this share of the width that got a 429, the width grows by this factor slower.
NEAR_REFUSED, NEAR_GROWTH = 0.8, 0.25
BURST_S = 0.1  # seconds' worth of a limit that may be sent at once
MAX_OUTAGE_S = 300.0
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class TokenBucket:
    """Token bucket of requests or tokens: the user's limit a minute, and the provider's."""

    def __init__(self, per_min: float | None, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._user_per_s = None if per_min is None else per_min / 60
        self._user_level = 1.0 if per_min is None else max(1.0, per_min / 60 * BURST_S)
        self._provider_per_s: float | None = None
        self._provider_level = 0.0
        self._provider_max = 0.0
        self._refilled_s = clock()
        self.sent = 0.0  # in total; what was sent after a request is not in its answer's headers

    def wait_s(self, amount: float) -> float:
        """Return the seconds until this amount may be sent."""
        self._refill()
        waits = [0.0]
        if self._user_per_s is not None:
            # An amount above the capacity is sent from a full bucket; its level turns negative.
            needed = min(amount, max(1.0, self._user_per_s * BURST_S))
            waits.append((needed - self._user_level) / self._user_per_s)
        if self._provider_per_s:
            needed = min(amount, self._provider_max)
            waits.append(
                min((needed - self._provider_level) / self._provider_per_s, LONGEST_WAIT_S)
            )
        return max(waits)

    def take(self, amount: float) -> None:
        """Subtract an amount that is sent now."""
        self.sent += amount
        self._user_level -= amount
        self._provider_level -= amount

    def _refill(self) -> None:
        now = self._clock()
        elapsed_s, self._refilled_s = now - self._refilled_s, now
        if self._user_per_s is not None:
            limit = max(1.0, self._user_per_s * BURST_S)
            self._user_level = min(limit, self._user_level + elapsed_s * self._user_per_s)
        if self._provider_per_s:
            self._provider_level += elapsed_s * self._provider_per_s
            self._provider_level = min(self._provider_max, self._provider_level)

    def told(self, headers: Mapping[str, str], kind: str, sent_before: float) -> None:
        """Set the limit that a provider reports. sent_before: `sent` at the time of the request."""
        limit = parse_number(headers.get(f"x-ratelimit-limit-{kind}"))
        remaining = parse_number(headers.get(f"x-ratelimit-remaining-{kind}"))
        reset_s = parse_duration_s(headers.get(f"x-ratelimit-reset-{kind}"))
        if not limit or remaining is None:
            return
        self._refill()
        used = limit - remaining
        per_s = used / reset_s if used > 0 and reset_s else limit / 60
        self._provider_per_s, self._provider_max = max(per_s, limit / 86_400), limit
        self._provider_level = remaining - (self.sent - sent_before)


class LimiterClosed(Exception):
    """The rate limiter is closed: no further request is sent."""


class RateLimiter:
    """Limits the requests of a job. `width` is how many may be in flight; times are of `clock`."""

    def __init__(
        self,
        width: int,
        *,
        requests_per_min: float | None = None,
        tokens_per_min: float | None = None,
        most_down_s: float = MAX_OUTAGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._max_width = width
        self._min_width = max(1, width // 16)
        self.width = float(width)
        self.requests = TokenBucket(requests_per_min, clock)
        self.tokens = TokenBucket(tokens_per_min, clock)
        self.limited_calls = 0
        self._most_down_s = most_down_s
        self._paused_until_s = 0.0
        self._shrunk_at_s = 0.0
        self._refused_width = math.inf  # the width at the last 429
        self._streak = 0  # consecutive failures
        self._first_failure_s = 0.0
        self._limited_streak = 0
        self._bucket_lock = asyncio.Lock()
        self._in_flight = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closing = asyncio.Event()

    async def turn(self, tokens: int) -> None:
        """Wait until a request may be sent, and count it. Call `landed` when it has ended.

        Raises LimiterClosed.
        """
        await self._occupy_slot()
        try:
            if self._wait_s(tokens) > 0 or self._bucket_lock.locked():
                async with self._bucket_lock:  # one task waits for the buckets, the others queue
                    while (wait_s := self._wait_s(tokens)) > 0 and not self.closed:
                        await self.pause(min(wait_s, 1.0))
            if self.closed:
                raise LimiterClosed
        except BaseException:
            self.landed()
            raise
        self.requests.take(1)
        self.tokens.take(tokens)

    async def _occupy_slot(self) -> None:
        """Wait for a free slot and occupy it."""
        while self._in_flight >= max(1, int(self.width)) and not self.closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        self._in_flight += 1

    async def yield_slot(self, awaitable: Awaitable[object]) -> None:
        """Free the slot while something else is awaited, then occupy one again."""
        self.landed()
        try:
            await awaitable
        finally:
            await self._occupy_slot()

    def landed(self) -> None:
        """Free the slot of a request that has ended or was not sent."""
        self._in_flight -= 1
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        """Wake as many waiting tasks as there are free slots."""
        free = len(self._waiters) if self.closed else max(1, int(self.width)) - self._in_flight
        while self._waiters and free > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    async def pause(self, seconds: float) -> None:
        """Sleep, at limit until the limiter is closed."""
        if not self.closed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)

    @property
    def closed(self) -> bool:
        """Whether no further request is sent."""
        return self._closing.is_set()

    def close(self) -> None:
        """Send no further request, and wake all waiting tasks."""
        self._closing.set()
        self._wake_waiters()

    def back(self, tokens: int) -> None:
        """Give back the tokens of a request that was not sent."""
        self.requests.take(-1)
        self.tokens.take(-tokens)

    def _wait_s(self, tokens: int) -> float:
        pause_s = self._paused_until_s - self._clock()
        return max(pause_s, self.requests.wait_s(1), self.tokens.wait_s(tokens))

    def heard(self, headers: Mapping[str, str], sent: tuple[float, float]) -> None:
        """Apply the rate limit headers of an answer. sent: `mark` at the time of the request."""
        if "x-ratelimit-limit-requests" in headers or "x-ratelimit-limit-tokens" in headers:
            self.requests.told(headers, "requests", sent[0])
            self.tokens.told(headers, "tokens", sent[1])

    @property
    def mark(self) -> tuple[float, float]:
        """Requests and tokens sent so far: kept with a request, for `heard`."""
        return self.requests.sent, self.tokens.sent

    @property
    def streak(self) -> int:
        """Consecutive failures."""
        return self._streak

    def answered(self) -> None:
        """Grow the width a little after an answer, up to the concurrency that was asked for."""
        self._streak = self._limited_streak = 0
        if self.width < self._max_width:
            step = max(1.0, self._max_width * GROWTH) / max(self.width, 1.0)
            if NEAR_REFUSED * self._refused_width <= self.width <= self._refused_width:
                step *= NEAR_GROWTH  # a wider one means that the provider raised its limit
            self.width = min(float(self._max_width), self.width + step)
            self._wake_waiters()

    def limited(self, error: RateLimited, asked_s: float) -> None:
        """Shrink the width after a 429, once for each round of requests, and pause.

        asked_s: when the request was sent. Raises the error where its Retry-After exceeds
        LONGEST_WAIT_S, or where the 429s have gone on for `most_down_s`.
        """
        now = self._clock()
        self.limited_calls += 1
        if (error.retry_after_s or 0) > LONGEST_WAIT_S:
            error.hint = (
                f"the provider asks to wait {error.retry_after_s:,.0f} s; run it again then"
            )
            raise error
        if self._limited_streak == 0:
            self._first_failure_s = now
        elif now - self._first_failure_s > self._most_down_s:
            raise error
        wait_s = error.retry_after_s
        if asked_s >= self._shrunk_at_s:
            self._limited_streak += 1
            self._refused_width = self.width
            self.width, self._shrunk_at_s = max(self._min_width, self.width * SHRINK), now
            if wait_s is None:
                wait_s = min(FIRST_WAIT_S * 2 ** min(self._limited_streak - 1, 8), MOST_WAIT_S)
        self._paused_until_s = max(self._paused_until_s, now + (wait_s or 0.0))

    def down(self, error: RequestFailed) -> bool:
        """Return whether an error means that the provider is unreachable, not that a row failed.

        Then all requests pause, longer each time, and are retried at the least width. Raises the
        error where the outage exceeds `most_down_s`.
        """
        if not isinstance(error, NoConnection | ProviderDown):
            return False
        now = self._clock()
        if self._streak == 0:
            self._first_failure_s = now
        self._streak += 1
        nothing_left = isinstance(error, NoConnection) and error.billed is False
        if not nothing_left and self._streak <= self._max_width + 8:
            return False
        if now - self._first_failure_s > self._most_down_s:
            raise error
        if now >= self._paused_until_s:
            wait_s = (now - self._first_failure_s) / 2
            self._paused_until_s = now + min(max(wait_s, FIRST_WAIT_S / 2), MOST_WAIT_S)
            self.width = float(self._min_width)
        return True


def parse_number(text: str | None) -> float | None:
    """Parse a number from 0 to 1e15, else return None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e15 else None


def parse_duration_s(header: str | None) -> float | None:
    """Parse "6m0s", "120ms" or "1.5" into seconds, else return None."""
    text = (header or "").strip()
    if parts := DURATION.findall(text):
        return sum(float(value) * UNIT_S[unit] for value, unit in parts)
    return parse_number(text)
