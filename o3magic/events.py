"""What arrives: events, the usage they report, and the `Answer` they fold into."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from o3magic.frames import frame
from o3magic.messages import ToolCall
from o3magic.money import show_usd

FinishReason = Literal[
    "stop", "length", "tool_calls", "content_filter", "refusal", "interrupted", "error"
]
Source = Literal["live", "simulated", "replayed"]


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


class Alive(NamedTuple):
    """A sign of life with nothing in it: a comment, a keepalive, an event we do not know."""


class Accepted(NamedTuple):
    """The provider took the request; `simulated` is what the built-in simulator says of itself."""

    request_id: str
    simulated: bool


class Started(NamedTuple):
    """The answer began."""

    id: str
    model: str


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


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer ended in the protocol's own way. `notes` say what was odd about it."""

    reason: FinishReason
    usage: Usage | None = None
    id: str = ""
    model: str = ""
    service_tier: str = ""
    detail: str = ""
    notes: tuple[str, ...] = ()


Event = (
    TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallDelta
    | Alive
    | Accepted
    | Started
    | Retrying
    | Finished
)


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
    elapsed_s, first_token_s   seconds since the request left; first_token_s None if none came
    reasoning_summary, tool_calls, provider, id, request_id
    source          live, simulated or replayed
    notes           what a reader should know: odd usage, repairs, a parameter left out
    """

    text: str = ""
    parsed: Any = None
    refusal: str = ""
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    model: str = ""
    effort: str | None = None
    id: str = ""
    elapsed_s: float = 0.0
    first_token_s: float | None = None
    reasoning_summary: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    provider: str = ""
    request_id: str = ""
    source: Source = "live"
    notes: tuple[str, ...] = ()
    schema_name: str = ""
    data: Any = None

    @property
    def replayed(self) -> bool:
        """Whether it came from a cassette."""
        return self.source == "replayed"

    def __str__(self) -> str:
        """The words alone."""
        return self.text

    def __repr__(self) -> str:
        """One short line: never the whole text, never an address."""
        cost = "cost unknown" if self.cost_usd is None else show_usd(self.cost_usd)
        words = self.text if len(self.text) <= 40 else self.text[:39] + "…"
        label = " SIMULATED" if self.source == "simulated" else ""
        return f"Answer({words!r}, {self.model}{label}, {self.finish_reason}, {cost})"

    def to_frame(self) -> Any:
        """A pandas DataFrame: the rows of a structured list, or one row of fields.

        Raises ImportError where pandas is not installed.
        """
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


MOST_PIECES = 1000


class Pieces:
    """A text that comes in pieces, put together now and then.

    Pieces as short as models send them take twelve times as much memory as their text.
    """

    __slots__ = ("_joined", "_new")

    def __init__(self) -> None:
        self._joined: list[str] = []
        self._new: list[str] = []

    def add(self, piece: str) -> None:
        """Take the next piece."""
        self._new.append(piece)
        if len(self._new) >= MOST_PIECES:
            self._joined.append("".join(self._new))
            self._new.clear()

    def __bool__(self) -> bool:
        """Whether there was one."""
        return bool(self._new or self._joined)

    def __str__(self) -> str:
        """The text so far."""
        if self._new or len(self._joined) > 1:
            self._joined = ["".join((*self._joined, *self._new))]
            self._new.clear()
        return self._joined[0] if self._joined else ""


class DraftCall:
    """A tool call in the making."""

    def __init__(self) -> None:
        self._id, self._name, self._arguments = "", "", Pieces()

    def add(self, call_id: str, name: str, arguments: str) -> None:
        """Take a piece. Some servers repeat id and name in each: the first one said counts."""
        self._id = self._id or call_id
        self._name = self._name or name
        self._arguments.add(arguments)

    @property
    def call(self) -> ToolCall:
        """The call so far."""
        return ToolCall(self._id, self._name, str(self._arguments))


class Draft:
    """An answer in the making: takes events in order, and says when asked what they make."""

    def __init__(self) -> None:
        self._text, self._reasoning, self._refusal = Pieces(), Pieces(), Pieces()
        self._calls: dict[int, DraftCall] = {}
        self.finished: Finished | None = None
        self.model = ""
        self.id = ""
        # The stream path appends text to the draft without another call.
        self.add_text = self._text.add

    def add(self, event: Event) -> None:
        """Fold one event in."""
        match event:
            case TextDelta(text):
                self._text.add(text)
            case ReasoningDelta(text):
                self._reasoning.add(text)
            case RefusalDelta(text):
                self._refusal.add(text)
            case ToolCallDelta(place, call_id, name, arguments):
                if place not in self._calls:
                    self._calls[place] = DraftCall()
                self._calls[place].add(call_id, name, arguments)
            case Started(answer_id, model):
                self.id, self.model = answer_id, model
            case Finished():
                self.finished = event
                self.id = event.id or self.id
                self.model = event.model or self.model

    @property
    def holds(self) -> bool:
        """Whether any word or call of the answer has come."""
        return bool(self._text or self._reasoning or self._refusal or self._calls)

    @property
    def text(self) -> str:
        """All the text so far."""
        return str(self._text)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls so far, in the order of their place."""
        return tuple(self._calls[place].call for place in sorted(self._calls))

    def answer(self, reason: FinishReason = "error") -> Answer:
        """The answer as far as it came; `reason` counts only where none was given on the wire."""
        end = self.finished or Finished(reason)
        refusal = str(self._refusal)
        return Answer(
            text=self.text,
            refusal=refusal,
            finish_reason="refusal" if refusal and end.reason == "stop" else end.reason,
            usage=end.usage or Usage(),
            model=self.model,
            id=self.id,
            reasoning_summary=str(self._reasoning),
            tool_calls=self.tool_calls,
            notes=end.notes,
        )
