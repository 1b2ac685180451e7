"""The verdict on an answer, live or replayed: refused, cut off, invalid or valid."""

from __future__ import annotations

from typing import Any, NamedTuple

from o3magic.events import Answer, why_cut
from o3magic.schemas.lookup import AnswerType, SchemaMismatch

MOST_REFUSAL_CHARS = 200


class Verdict(NamedTuple):
    """The verdict on an answer.

    data      of a valid structured answer
    wrong     why the answer is not usable, for people; "" if it is
    problems  the problems of a structured answer, for the repair request to the model
    """

    data: Any = None
    wrong: str = ""
    problems: tuple[str, ...] = ()


def judge_answer(answer: Answer, wanted: AnswerType | None, name: str = "") -> Verdict:
    """Judge an answer. name: the user's name of the type."""
    if answer.refusal:
        return Verdict(wrong=f"refused: {answer.refusal[:MOST_REFUSAL_CHARS]}")
    if answer.finish_reason in ("refusal", "content_filter"):
        return Verdict(wrong="the provider's filter cut it")
    cut = f"it was cut off: {why_cut(answer)}" if answer.finish_reason == "length" else ""
    if wanted is None:
        return Verdict(wrong=cut)
    problems = [cut]
    if not cut:
        try:
            return Verdict(wanted.dump(wanted.validate(answer.text)))
        except SchemaMismatch as mismatch:
            problems = mismatch.problems
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = f"the answer does not fit {name or wanted.name}: {problems[0]}{more}"
    return Verdict(None, message, tuple(problems))
