"""The ledger's values: what is known before a call, what after, a row of it, and sums of rows.

No prompt and no answer has a place here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from o3magic.events import AnswerSource, Usage

PENDING = "pending"  # the request left, or was about to; its outcome is not known yet
LOST = "lost"  # its kernel died first


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known before the request leaves.

    `kind` says why it is sent: "ask", "repair", ... `effort` is "" where the model has none.
    `worst_nano_usd` is the most it can cost, or 0 where no price is known.
    """

    session: str
    provider: str
    model: str
    effort: str = ""
    service_tier: str = ""
    schema_name: str = ""
    notebook: str = ""
    cell_key: str = ""
    source: AnswerSource = "live"
    kind: str = "ask"
    conversation: str = ""
    worst_nano_usd: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known after it.

    `status` is "ok", "length", "refusal", "interrupted", "error", ... `cost_nano_usd` is None
    where nobody knows. `error` is the name of a class, never a message: those quote prompts.
    `source` is that of the attempt unless the answer told otherwise, as a simulator does.
    `hosted_calls` of tools that the provider ran itself, as of web searches, are `hosted_nano_usd`
    of the cost, which is None where nobody knows.
    """

    status: str
    usage: Usage = field(default_factory=Usage)
    cost_nano_usd: int | None = None
    model_served: str = ""
    service_tier: str = ""
    price_since: str = ""
    price_source: str = ""
    request_id: str = ""
    response_id: str = ""
    first_token_s: float | None = None
    elapsed_s: float | None = None
    error: str = ""
    source: AnswerSource | None = None
    hosted_calls: int = 0
    hosted_nano_usd: int | None = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger.

    `at` is when it was entered, UTC. `service_tier` is the one asked for, `tier_served` the one
    that answered. `host`, `pid` and `started` name the process that entered it. Until it is
    settled its `status` is "pending" and, if it is live, its cost None.
    """

    id: int
    at: datetime
    session: str
    notebook: str
    cell_key: str
    kind: str
    source: AnswerSource
    provider: str
    model: str
    model_served: str
    effort: str
    service_tier: str
    tier_served: str
    schema_name: str
    status: str
    error: str
    input_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    total_tokens: int | None
    cost_nano_usd: int | None
    price_since: str
    price_source: str
    request_id: str
    response_id: str
    first_token_s: float | None
    elapsed_s: float | None
    host: str
    pid: int
    started: str
    worst_nano_usd: int = 0
    conversation: str = ""
    hosted_calls: int = 0
    hosted_nano_usd: int | None = 0


@dataclass(frozen=True, slots=True)
class CallSums:
    """Exact sums over calls. What a call did not say adds nothing, and the call is counted.

    unknown_cost_calls    their cost is missing from `cost_nano_usd`, which is then "at least"
    unknown_tokens_calls  they gave no input or no output tokens, or are not settled yet
    held_nano_usd         the most that calls of unknown cost can have cost, where that is known
    """

    calls: int = 0
    unknown_cost_calls: int = 0
    unknown_tokens_calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0
    held_nano_usd: int = 0

    def plus(self, other: CallSums) -> CallSums:
        """Both together."""
        return CallSums(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))


@dataclass(frozen=True, slots=True)
class CostTotal:
    """The sums of one group of calls, live ones apart from those that cost nothing.

    The names the totals were not grouped by are "".
    """

    month: str = ""
    day: str = ""
    session: str = ""
    notebook: str = ""
    provider: str = ""
    model: str = ""
    effort: str = ""
    schema_name: str = ""
    kind: str = ""
    live: CallSums = field(default_factory=CallSums)
    simulated: CallSums = field(default_factory=CallSums)
    replayed: CallSums = field(default_factory=CallSums)
