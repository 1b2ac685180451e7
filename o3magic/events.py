"""What arrives: events, the usage they report, and the `Answer` they fold into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from o3magic.citations import Citation
from o3magic.messages import ToolCall
from o3magic.money import show_usd

FinishReason = Literal[
    "stop", "length", "tool_calls", "content_filter", "refusal", "interrupted", "error"
]
AnswerSource = Literal["live", "simulated", "replayed"]
# The provider whose model runs on this machine and is started here.
LOCAL = "local"
# What is said wherever an answer is shown that no model gave.
LABELS = {
    "simulated": "SIMULATED, no model was asked",
    "hand": "WRITTEN BY HAND, no model was asked",
}


# The events that come once per chunk are named tuples: they are made four times as fast as
# frozen dataclasses, and an answer may have a hundred thousand of them.
class TextDelta(NamedTuple):
    """More of the answer."""

    text: str


class ReasoningDelta(NamedTuple):
    """More of the reasoning summary."""

    text: str


class RefusalDelta(NamedTuple):
    """More of the model's refusal."""

    text: str


class ToolCallDelta(NamedTuple):
    """More of a tool call; `id` and `name` are "" where this piece does not say them."""

    place: int
    id: str
    name: str
    arguments: str


class KeepAlive(NamedTuple):
    """A sign of life with nothing in it: a comment, a keepalive, an event we do not know."""


class Accepted(NamedTuple):
    """The provider took the request; `simulated` is what the built-in simulator says of itself.

    said_cost_usd: what a header says that it cost.
    """

    request_id: str
    simulated: bool
    said_cost_usd: Decimal | None = None


class ModelStatus(NamedTuple):
    """What a model that is started here is at before its answer, for people: `is loading`."""

    text: str


class Started(NamedTuple):
    """The answer began."""

    id: str
    model: str


class ToolUsed(NamedTuple):
    """A tool was called. `arguments` and `result` are the texts the model wrote and was told.

    ending: ok; failed: it raised; late: it took too long; declined: by the user; refused: there
    is no such tool, or the arguments are wrong.
    """

    name: str
    arguments: str
    result: str
    ending: str
    printed: str = ""
    notes: tuple[str, ...] = ()


class Retrying(NamedTuple):
    """A new attempt follows, after a wait or with something changed; `why` is for people."""

    why: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them; None where it did not say.

    `cached_tokens` and `cache_write_tokens` are part of `input_tokens`, `reasoning_tokens` of
    `output_tokens`: never add them.
    """

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None
    total_tokens: int | None = None

    def plus(self, other: Usage) -> Usage:
        """The sum of two calls; a field is None as soon as one of them does not know it."""

        def add(ours: int | None, theirs: int | None) -> int | None:
            return None if ours is None or theirs is None else ours + theirs

        return Usage(*(add(getattr(self, n), getattr(other, n)) for n in self.__slots__))


class HostedUse(NamedTuple):
    """How often the provider ran a tool of its own, by its type: `web_search`; None: not known."""

    type: str
    calls: int | None

    def __str__(self) -> str:
        """In words: `2 web searches`."""
        word = self.type.replace("_", " ")
        if word.endswith("search"):
            many = f"{word}es"
        else:
            word, many = f"{word} call", f"{word} calls"
        if self.calls is None:
            return f"{many} (number unknown)"
        return f"{self.calls:,} {word if self.calls == 1 else many}"


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer ended in the protocol's own way: `notes` on it, and Responses' output `items`.

    hosted: the tools that the provider ran itself. said_cost_usd: what it says that it cost.
    """

    reason: FinishReason
    usage: Usage | None = None
    id: str = ""
    model: str = ""
    service_tier: str = ""
    detail: str = ""
    notes: tuple[str, ...] = ()
    items: tuple[Mapping[str, Any], ...] = field(default=(), compare=False, repr=False)
    citations: tuple[Citation, ...] = ()
    hosted: tuple[HostedUse, ...] = ()
    said_cost_usd: Decimal | None = None


Event = (
    TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallDelta
    | KeepAlive
    | Accepted
    | Started
    | ToolUsed
    | Retrying
    | ModelStatus
    | Finished
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The take an answer is on: found in the cassette, or just written there.

    at      when it was recorded, UTC, "2026-11-21T00:12:45Z", or "" where nobody knows
    source  who answered: live (a model), simulated, or hand (a person wrote it)
    """

    key: str
    n: int
    at: str
    source: Literal["live", "simulated", "hand"]


@dataclass(frozen=True)
class Answer:
    """What came back, as a value.

    text            the words, or the JSON of a structured answer
    parsed          the validated object where a schema was asked for, else None
    refusal         the model's words of refusal, or ""
    finish_reason   stop, length, tool_calls, content_filter, refusal, interrupted, error
    usage           `Usage`, with None where the provider did not say
    cost_usd        exact, Decimal, or None where unknown
    model, effort   as served; effort None where the model has none
    model_reason    why it was this model, where none was named; said once a session
    elapsed_s, first_token_s   seconds since the request left; first_token_s None if none came
    reasoning_summary, tool_calls, provider, id, request_id
    source          live, simulated or replayed
    recorded        `Recorded` where it is on a cassette, else None; then cost and times are those
                    of the recording, so that a replay gives the same
    notes           what a reader should know: odd usage, repairs, a parameter left out
    tool_uses       `ToolUsed` for each call that was made, in order
    citations       `Citation` for each place where the answer cites a page, in order
    hosted          `HostedUse` for each tool that the provider ran itself: web searches
    items           output items of Responses, opaque
    """

    text: str = ""
    parsed: Any = None
    refusal: str = ""
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    model: str = ""
    model_reason: str = ""
    effort: str | None = None
    id: str = ""
    elapsed_s: float = 0.0
    first_token_s: float | None = None
    reasoning_summary: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    provider: str = ""
    request_id: str = ""
    source: AnswerSource = "live"
    notes: tuple[str, ...] = ()
    schema_name: str = ""
    data: Any = None
    recorded: Recorded | None = None
    items: tuple[Mapping[str, Any], ...] = field(default=(), compare=False, repr=False)
    tool_uses: tuple[ToolUsed, ...] = ()
    citations: tuple[Citation, ...] = ()
    hosted: tuple[HostedUse, ...] = ()

    @property
    def replayed(self) -> bool:
        """Whether it came from a cassette."""
        return self.source == "replayed"

    @property
    def spent_usd(self) -> Decimal | None:
        """What it cost now: nothing for a replay, else `cost_usd`."""
        return Decimal(0) if self.replayed else self.cost_usd

    @property
    def is_local(self) -> bool:
        """Whether a model answered that was started on this machine; such an answer costs nothing.

        What a server of the user's own costs that happens to be called `local` is not known.
        """
        return self.provider == LOCAL and self.made_by == "live" and self.cost_usd == 0

    @property
    def made_by(self) -> str:
        """Who answered, now or when it was recorded: live, simulated or hand."""
        return self.recorded.source if self.recorded else self.source

    def __str__(self) -> str:
        """The words alone."""
        return self.text

    def __repr__(self) -> str:
        """One short line: never the whole text, never an address."""
        cost = "cost unknown" if self.cost_usd is None else show_usd(self.cost_usd)
        words = self.text if len(self.text) <= 40 else self.text[:39] + "…"
        label = {"simulated": " SIMULATED", "hand": " BY HAND"}.get(self.made_by, "")
        label = " LOCAL" if self.is_local else label
        return f"Answer({words!r}, {self.model}{label}, {self.finish_reason}, {cost})"

    def to_frame(self) -> Any:
        """A pandas DataFrame: the rows of a structured list, or one row of fields.

        Raises ImportError where pandas is not installed.
        """
        from o3magic.dataframes import frame

        data = self.text if self.data is None else self.data
        rows = data if isinstance(data, list) else [data]
        return frame([row if isinstance(row, dict) else {"value": row} for row in rows])


def why_cut(answer: Answer) -> str:
    """Why an answer ended at its limit, with the numbers where they are known."""
    out, reasoning = answer.usage.output_tokens, answer.usage.reasoning_tokens
    if out is None:
        return "the limit of output tokens was reached"
    if reasoning is not None and reasoning >= out * 0.95:
        return f"reasoning used the whole limit of {out:,} tokens"
    if reasoning is None:
        return f"the limit of {out:,} output tokens was reached"
    return f"the limit of {out:,} output tokens was reached, {reasoning:,} of them reasoning"
