"""An answer in the making: events go in, one after the other, and it says what they make so far."""

from __future__ import annotations

from dataclasses import replace

from o3magic.events import (
    Answer,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from o3magic.messages import ToolCall

MOST_PIECES = 1000


class TextBuffer:
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


class ToolCallBuilder:
    """A tool call in the making."""

    def __init__(self) -> None:
        self._id, self._name, self._arguments = "", "", TextBuffer()

    def add(self, call_id: str, name: str, arguments: str) -> None:
        """Take a piece. Some servers repeat id and name in each: the first one said counts."""
        self._id = self._id or call_id
        self._name = self._name or name
        self._arguments.add(arguments)

    @property
    def call(self) -> ToolCall:
        """The call so far."""
        return ToolCall(self._id, self._name, str(self._arguments))


class AnswerBuilder:
    """An answer in the making: takes events in order, and says when asked what they make."""

    def __init__(self) -> None:
        self._text, self._reasoning, self._refusal = TextBuffer(), TextBuffer(), TextBuffer()
        self._calls: dict[int, ToolCallBuilder] = {}
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
                    self._calls[place] = ToolCallBuilder()
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

    def doubt_zeros(self) -> None:
        """Take out of its usage the zeros that cannot be, as of servers that count nothing.

        No question has 0 tokens, and no answer with words in it.
        """
        end = self.finished
        if end is None or end.usage is None:
            return
        words = self.text or str(self._reasoning) or str(self._refusal) or self._calls
        usage, wrong = end.usage, []
        if usage.input_tokens == 0:
            usage = replace(usage, input_tokens=None, cached_tokens=None, cache_write_tokens=None)
            wrong.append("0 input tokens")
        if usage.output_tokens == 0 and words:
            usage = replace(usage, output_tokens=None, reasoning_tokens=None)
            wrong.append("0 output tokens")
        if wrong:
            usage = replace(usage, total_tokens=None)
            note = f"odd usage from the provider: {' and '.join(wrong)}, though there were words"
            known = None if usage == Usage() else usage
            self.finished = replace(end, usage=known, notes=(*end.notes, note))

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
            items=end.items,
            citations=end.citations,
            hosted=end.hosted,
        )
