"""A recorded answer as the events it once came in, at a pace to read along."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

from o3magic.cassettes.entry import Recording
from o3magic.citations import cited_in
from o3magic.events import (
    Accepted,
    Event,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)

LONGEST_S = 3.0
WORD_S = 0.02
BIG_PIECES = 4
# JSON may have no blanks at all: what is longer than a word is cut.
WORD = re.compile(r"\s*\S{1,24}\s*|\s+")


def events(
    take: Recording, *, speed: float = 1.0, sleep: Callable[[float], object] = time.sleep
) -> Iterator[Event]:
    """The events of a take. Folded, they are the recorded answer, whatever the speed.

    speed: 1 is about reading along, never more than three seconds in all; 0 waits for nothing.
    """
    yield Accepted("", take.source == "simulated")
    yield Started(take.id, take.model)
    said: list[Event] = [ReasoningDelta(piece) for piece in cut(take.reasoning_summary, speed)]
    said += [TextDelta(piece) for piece in cut(take.text, speed, take.pieces)]
    said += [RefusalDelta(piece) for piece in cut(take.refusal, speed)]
    wait_s = span_s(take, len(said), speed) / max(len(said), 1)
    for delta in said:
        if wait_s:
            sleep(wait_s)
        yield delta
    for place, call in enumerate(take.tool_calls):
        yield ToolCallDelta(place, call.id, call.name, call.arguments)
    yield Finished(
        take.finish_reason,
        take.usage,
        id=take.id,
        model=take.model,
        service_tier=take.service_tier,
        detail=take.detail,
        notes=take.notes,
        items=take.items,
        citations=take.citations or tuple(cited_in(take.items)),
        hosted=take.hosted,
    )


def span_s(take: Recording, pieces: int, speed: float) -> float:
    """How long a replay takes in all: as long as it took then, if that is short enough."""
    if speed <= 0:
        return 0.0
    natural_s = pieces * WORD_S
    if take.total_ms is not None:
        natural_s = min(natural_s, take.total_ms / 1000)
    return min(natural_s / speed, LONGEST_S)


def cut(text: str, speed: float, pieces: Sequence[int] = ()) -> list[str]:
    """A text in words; as it came, where that is known; in a few pieces where nobody waits."""
    if not text:
        return []
    if speed <= 0:
        size = max(-(-len(text) // BIG_PIECES), 1)
        return [text[start : start + size] for start in range(0, len(text), size)]
    if pieces and sum(pieces) == len(text) and all(pieces):
        return [text[start:end] for start, end in pairwise(accumulate(pieces, initial=0))]
    words = WORD.findall(text)
    together = -(-len(words) // round(LONGEST_S / WORD_S))
    return ["".join(words[start : start + together]) for start in range(0, len(words), together)]
