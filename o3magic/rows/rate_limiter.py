"""How many requests may be on their way, and when the next one may leave.

Three things hold them back: the limits a user sets or a provider tells in its `x-ratelimit-*`
headers, refilled evenly and never saved up for a burst; a width that shrinks at a 429 and grows
with answers; and a pause, while a provider asks for one or nobody answers at all.
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
GROWTH = 0.05  # of the whole width, for each round of answers
NEAR, CAREFUL = 0.8, 0.25  # near the width that was refused it grows this much slower
BURST_S = 0.1  # of a limit may leave at once
MOST_DOWN_S = 300.0
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class TokenBucket:
    """What may leave in a minute, of one kind: requests or tokens. None: nobody said."""

    def __init__(self, per_min: float | None, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._own_per_s = None if per_min is None else per_min / 60
        self._own_level = 1.0 if per_min is None else max(1.0, per_min / 60 * BURST_S)
        self._told_per_s: float | None = None
        self._told_level = 0.0
        self._told_most = 0.0
        self._at_s = clock()
        self.sent = 0.0  # in all; what left after a request says what its answer could not count

    def wait_s(self, amount: float) -> float:
        """Seconds until this much may leave."""
        self._refill()
        waits = [0.0]
        if self._own_per_s is not None:
            # One that is larger than the whole bucket leaves when it is full, and is paid off.
            needed = min(amount, max(1.0, self._own_per_s * BURST_S))
            waits.append((needed - self._own_level) / self._own_per_s)
        if self._told_per_s:
            needed = min(amount, self._told_most)
            waits.append(min((needed - self._told_level) / self._told_per_s, LONGEST_WAIT_S))
        return max(waits)

    def take(self, amount: float) -> None:
        """This much leaves now."""
        self.sent += amount
        self._own_level -= amount
        self._told_level -= amount

    def _refill(self) -> None:
        now = self._clock()
        passed_s, self._at_s = now - self._at_s, now
        if self._own_per_s is not None:
            most = max(1.0, self._own_per_s * BURST_S)
            self._own_level = min(most, self._own_level + passed_s * self._own_per_s)
        if self._told_per_s:
            self._told_level += passed_s * self._told_per_s
            self._told_level = min(self._told_most, self._told_level)

    def told(self, headers: Mapping[str, str], kind: str, sent_before: float) -> None:
        """What a provider says of its own limit; `sent_before` is `sent` when that was asked."""
        most = number(headers.get(f"x-ratelimit-limit-{kind}"))
        left = number(headers.get(f"x-ratelimit-remaining-{kind}"))
        reset_s = span_s(headers.get(f"x-ratelimit-reset-{kind}"))
        if not most or left is None:
            return
        self._refill()
        used = most - left
        per_s = used / reset_s if used > 0 and reset_s else most / 60
        self._told_per_s, self._told_most = max(per_s, most / 86_400), most
        self._told_level = left - (self.sent - sent_before)


class LimiterClosed(Exception):
    """Nothing leaves any more."""


class RateLimiter:
    """Lets requests out. `width` is how many may be on their way; times are of `clock`."""

    def __init__(
        self,
        width: int,
        *,
        requests_per_min: float | None = None,
        tokens_per_min: float | None = None,
        most_down_s: float = MOST_DOWN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._most = width
        self._least = max(1, width // 16)
        self.width = float(width)
        self.requests = TokenBucket(requests_per_min, clock)
        self.tokens = TokenBucket(tokens_per_min, clock)
        self.limited_calls = 0
        self._most_down_s = most_down_s
        self._until_s = 0.0
        self._shrunk_s = 0.0
        self._refused = math.inf  # the width that the last 429 was too much for
        self._streak = 0  # of failures without an answer between them
        self._first_failed_s = 0.0
        self._limited_streak = 0
        self._line = asyncio.Lock()
        self._out = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._shut = asyncio.Event()

    async def turn(self, tokens: int) -> None:
        """Wait until a request may leave, and count it. Raises Closed. Call `landed` behind it."""
        await self._room()
        try:
            if self._wait_s(tokens) > 0 or self._line.locked():
                async with self._line:  # one waits at a time, the others behind it
                    while (wait_s := self._wait_s(tokens)) > 0 and not self.closed:
                        await self.pause(min(wait_s, 1.0))
            if self.closed:
                raise LimiterClosed
        except BaseException:
            self.landed()
            raise
        self.requests.take(1)
        self.tokens.take(tokens)

    async def _room(self) -> None:
        """Wait until there is room for one more."""
        while self._out >= max(1, int(self.width)) and not self.closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        self._out += 1

    async def aside(self, waited: Awaitable[object]) -> None:
        """Leave the room to others while something else is waited for."""
        self.landed()
        try:
            await waited
        finally:
            await self._room()

    def landed(self) -> None:
        """A request is over, or did not leave: another one may."""
        self._out -= 1
        self._let_in()

    def _let_in(self) -> None:
        """Wake as many as there is room for."""
        room = len(self._waiters) if self.closed else max(1, int(self.width)) - self._out
        while self._waiters and room > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until it is closed."""
        if not self.closed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._shut.wait(), seconds)

    @property
    def closed(self) -> bool:
        """Whether nothing leaves any more."""
        return self._shut.is_set()

    def close(self) -> None:
        """Let nothing out any more."""
        self._shut.set()
        self._let_in()

    def back(self, tokens: int) -> None:
        """A request that was let out did not leave."""
        self.requests.take(-1)
        self.tokens.take(-tokens)

    def _wait_s(self, tokens: int) -> float:
        pause_s = self._until_s - self._clock()
        return max(pause_s, self.requests.wait_s(1), self.tokens.wait_s(tokens))

    def heard(self, headers: Mapping[str, str], sent: tuple[float, float]) -> None:
        """What the headers of an answer say; `sent` is `mark` of when it was asked."""
        if "x-ratelimit-limit-requests" in headers or "x-ratelimit-limit-tokens" in headers:
            self.requests.told(headers, "requests", sent[0])
            self.tokens.told(headers, "tokens", sent[1])

    @property
    def mark(self) -> tuple[float, float]:
        """How much left by now: keep it with a request, for `heard`."""
        return self.requests.sent, self.tokens.sent

    @property
    def streak(self) -> int:
        """How many failed without an answer between them."""
        return self._streak

    def answered(self) -> None:
        """An answer came: a little wider, up to what was asked for."""
        self._streak = self._limited_streak = 0
        if self.width < self._most:
            step = max(1.0, self._most * GROWTH) / max(self.width, 1.0)
            if NEAR * self._refused <= self.width <= self._refused:
                step *= CAREFUL  # here it was too wide: beyond it, the limit was lifted
            self.width = min(float(self._most), self.width + step)
            self._let_in()

    def limited(self, error: RateLimited, asked_s: float) -> None:
        """A 429 to what was asked at `asked_s`: narrower, once for each round, and a pause.

        Raises the error where the provider asks for more time than anybody waits.
        """
        now = self._clock()
        self.limited_calls += 1
        if (error.retry_after_s or 0) > LONGEST_WAIT_S:
            error.hint = (
                f"the provider asks to wait {error.retry_after_s:,.0f} s; run it again then"
            )
            raise error
        if self._limited_streak == 0:
            self._first_failed_s = now
        elif now - self._first_failed_s > self._most_down_s:
            raise error
        wait_s = error.retry_after_s
        if asked_s >= self._shrunk_s:
            self._limited_streak += 1
            self._refused = self.width
            self.width, self._shrunk_s = max(self._least, self.width * SHRINK), now
            if wait_s is None:
                wait_s = min(FIRST_WAIT_S * 2 ** min(self._limited_streak - 1, 8), MOST_WAIT_S)
        self._until_s = max(self._until_s, now + (wait_s or 0.0))

    def down(self, error: RequestFailed) -> bool:
        """Whether an error means that nobody answers at all, so that no row is to blame.

        Then everything pauses, longer each time, and one request at a time tries again. Raises
        the error where that lasts too long.
        """
        if not isinstance(error, NoConnection | ProviderDown):
            return False
        now = self._clock()
        if self._streak == 0:
            self._first_failed_s = now
        self._streak += 1
        nothing_left = isinstance(error, NoConnection) and error.billed is False
        if not nothing_left and self._streak <= self._most + 8:
            return False
        if now - self._first_failed_s > self._most_down_s:
            raise error
        if now >= self._until_s:
            wait_s = (now - self._first_failed_s) / 2
            self._until_s = now + min(max(wait_s, FIRST_WAIT_S / 2), MOST_WAIT_S)
            self.width = float(self._least)
        return True


def number(said: str | None) -> float | None:
    """A number that is not negative, or None."""
    try:
        value = float(said or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e15 else None


def span_s(said: str | None) -> float | None:
    """Seconds of "6m0s", "120ms" or "1.5"; None where it is none of these."""
    text = (said or "").strip()
    if found := SPAN.findall(text):
        return sum(float(value) * UNIT_S[unit] for value, unit in found)
    return number(text)
