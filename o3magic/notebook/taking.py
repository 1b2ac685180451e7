"""Taking an answer to its end, shown or not, whatever happens on the way."""

from __future__ import annotations

from typing import Any

from o3magic.errors import BrokenAnswer, Interrupted, O3Error
from o3magic.events import Answer
from o3magic.money import show_usd


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
        failed.hint = hint(failed, answer, asking.plan.profile.out)
    return answer, failed


def hint(failed: O3Error, answer: Answer, out: str) -> str:
    """What to try, or where to find what had arrived; of an answer that was stopped, its cost."""
    if not isinstance(failed, BrokenAnswer | Interrupted) or failed.hint != type(failed).hint:
        return failed.hint
    kept = f"what had arrived is kept in {out or '_'}" if holds(answer) else ""
    if isinstance(failed, BrokenAnswer):
        return "; ".join(filter(None, ["run the cell again", kept]))
    return "; ".join([kept or "nothing had arrived", cost_of(answer)])


def cost_of(answer: Answer) -> str:
    """What an answer that was stopped cost, as far as anybody knows."""
    if answer.source != "live":
        return "it cost nothing"
    if answer.cost_usd is None:
        return "its cost is unknown until the provider's bill"
    return f"it cost {show_usd(answer.cost_usd)}"


def holds(answer: Answer) -> bool:
    """Whether anything worth showing arrived."""
    return bool(answer.text or answer.refusal or answer.reasoning_summary or answer.tool_calls)
