"""Taking an answer to its end, shown or not, whatever happens on the way."""

from __future__ import annotations

from typing import Any

from o3magic.errors import Interrupted, O3Error
from o3magic.events import Answer


def drain(asking: Any, showing: Any) -> tuple[Answer, O3Error | None]:
    """Take all events, show them, and give the answer with what went wrong, if something did."""
    failed: O3Error | None = None
    events = iter(asking)
    try:
        for event in events:
            if showing is not None:
                showing.add(event)
    except KeyboardInterrupt:
        events.close()
        failed = Interrupted("stopped by you")
    except O3Error as error:
        failed = error
    answer = asking.answer
    if failed is not None:
        failed.answer = answer
    return answer, failed


def holds(answer: Answer) -> bool:
    """Whether anything worth showing arrived."""
    return bool(answer.text or answer.refusal or answer.reasoning_summary or answer.tool_calls)
