"""What goes into the ledger's rows and what comes out: cleaned texts, credible numbers, moments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from o3magic.cost.entries import Entry, Outcome

LONGEST_TEXT = 500  # names come from servers
# Above these a number is a server's mistake; sums of what is below stay within SQLite's 63 bits.
MOST_TOKENS = 10**12
MOST_NANO_USD = 10**15
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def clean(text: str) -> str:
    """What SQLite can keep of a text that may come from anywhere."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")


def credible(count: int | None, most: int) -> int | None:
    """The number, or None for one that no call can have: then nobody knows it."""
    return count if count is not None and 0 <= count <= most else None


def completed(outcome: Outcome) -> tuple[Any, ...]:
    """An outcome as the parameters of `SETTLE`."""
    usage = outcome.usage
    tokens = (
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
    )
    names = (
        outcome.model_served,
        outcome.service_tier,
        outcome.price_since,
        outcome.price_source,
        outcome.request_id,
        outcome.response_id,
        outcome.error,
    )
    return (
        clean(outcome.status),
        outcome.source,
        *(credible(count, MOST_TOKENS) for count in tokens),
        outcome.source,
        credible(outcome.cost_nano_usd, MOST_NANO_USD),
        *map(clean, names),
        outcome.first_token_s,
        outcome.elapsed_s,
        credible(outcome.hosted_calls, MOST_TOKENS) or 0,
        credible(outcome.hosted_nano_usd, MOST_NANO_USD),
    )


def moment(at_ms: int) -> datetime:
    """Milliseconds since 1970 as a UTC time."""
    return EPOCH + timedelta(milliseconds=at_ms)


def moments(since: datetime) -> dict[str, Any]:
    """A moment as the ledger's queries want it: in milliseconds, and the next whole day."""
    if since.tzinfo is None:
        raise ValueError(f"{since} has no time zone")
    # Rows are dated in whole milliseconds: the first that is not before this moment.
    since_ms = -((EPOCH - since) // timedelta(milliseconds=1))
    next_day = moment(since_ms - 1).date() + timedelta(days=1)
    next_day_ms = (next_day - EPOCH.date()) // timedelta(milliseconds=1)
    return {"since_ms": since_ms, "next_day": next_day.isoformat(), "next_day_ms": next_day_ms}


def entry_of(row: Sequence[Any]) -> Entry:
    """A row as a value."""
    return Entry(row[0], moment(row[1]), *row[2:])
