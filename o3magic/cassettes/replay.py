"""Replay a recorded answer as timed events."""

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
# JSON may have no blanks at all, so long words are cut.
WORD = re.compile(r"\s*\S{1,24}\s*|\s+")


def replay_events(
    recording: Recording, *, speed: float = 1.0, sleep: Callable[[float], object] = time.sleep
) -> Iterator[Event]:
    """Yield the events of a recording. Together they are the recorded answer at any speed.

    speed: 1 is about reading speed, at most three seconds in all; 0 does not wait.
    """
    yield Accepted("", recording.source == "simulated")
    yield Started(recording.id, recording.model)
    deltas: list[Event] = [
        ReasoningDelta(piece) for piece in split_text(recording.reasoning_summary, speed)
    ]
    deltas += [TextDelta(piece) for piece in split_text(recording.text, speed, recording.pieces)]
    deltas += [RefusalDelta(piece) for piece in split_text(recording.refusal, speed)]
    wait_s = choose_duration_s(recording, len(deltas), speed) / max(len(deltas), 1)
    for delta in deltas:
        if wait_s:
            sleep(wait_s)
        yield delta
    for index, call in enumerate(recording.tool_calls):
        yield ToolCallDelta(index, call.id, call.name, call.arguments)
    yield Finished(
        recording.finish_reason,
        recording.usage,
        id=recording.id,
        model=recording.model,
        service_tier=recording.service_tier,
        detail=recording.detail,
        notes=recording.notes,
        items=recording.items,
        citations=recording.citations or tuple(cited_in(recording.items)),
        hosted=recording.hosted,
    )


def choose_duration_s(recording: Recording, pieces: int, speed: float) -> float:
    """Duration of a replay: the recorded one, up to a limit."""
    if speed <= 0:
        return 0.0
    natural_s = pieces * WORD_S
    if recording.total_ms is not None:
        natural_s = min(natural_s, recording.total_ms / 1000)
    return min(natural_s / speed, LONGEST_S)


def split_text(text: str, speed: float, pieces: Sequence[int] = ()) -> list[str]:
    """Split a text into deltas: as recorded, or by words; at speed 0 into a few large ones."""
    if not text:
        return []
    if speed <= 0:
        size = max(-(-len(text) // BIG_PIECES), 1)
        return [text[start : start + size] for start in range(0, len(text), size)]
    if pieces and sum(pieces) == len(text) and all(pieces):
        return [text[start:end] for start, end in pairwise(accumulate(pieces, initial=0))]
    words = WORD.findall(text)
    group_size = -(-len(words) // round(LONGEST_S / WORD_S))
    return [
        "".join(words[start : start + group_size]) for start in range(0, len(words), group_size)
    ]
