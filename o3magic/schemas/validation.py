"""Whether an answer that came is one: the same words when it came and when it is replayed."""

from __future__ import annotations

from typing import Any, NamedTuple

from o3magic.events import Answer, why_cut
from o3magic.schemas.lookup import AnswerType, SchemaMismatch

MOST_REFUSAL_CHARS = 200


class Verdict(NamedTuple):
    """What is in an answer.

    data      of a structured answer that fits
    wrong     why it is no answer, for people; "" where it is one
    problems  what a structured answer lacks, for the model that is asked again
    """

    data: Any = None
    wrong: str = ""
    problems: tuple[str, ...] = ()


def judged(answer: Answer, wanted: AnswerType | None, name: str = "") -> Verdict:
    """What an answer is worth. name: what the type is called where it was asked for."""
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
    said = f"the answer does not fit {name or wanted.name}: {problems[0]}{more}"
    return Verdict(None, said, tuple(problems))
