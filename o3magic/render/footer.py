"""The line below an answer: model, effort, tokens and cost, and what a reader should know.

A function of the answer alone: no clock, no host, no totals, so that a replay writes the same.
"""

from __future__ import annotations

import re

from o3magic.events import LABELS, Answer, why_cut
from o3magic.money import show_usd

SAFE = frozenset(" .,:;/()-–—·…?!")
ADDRESS = re.compile(r"://|www\.", re.IGNORECASE)


def facts(answer: Answer) -> str:
    """One line: `o3-mini · medium · 13 in (0 cached) · 87 out (64 reasoning) · $0.000391`."""
    said = [
        "LOCAL" if answer.is_local else LABELS.get(answer.made_by, ""),
        f"{answer.model} ({answer.model_reason})" if answer.model_reason else answer.model,
        answer.effort or "",
        tokens(answer),
        *map(str, answer.hosted),
        cost(answer),
    ]
    return " · ".join(each for each in said if each)


def tokens(answer: Answer) -> str:
    """Tokens in and out, with what is part of them in brackets; unknown where unknown."""
    usage = answer.usage
    if usage.input_tokens is None and usage.output_tokens is None:
        return "tokens unknown"
    into = counted(usage.input_tokens, "in", usage.cached_tokens, "cached")
    out = counted(usage.output_tokens, "out", usage.reasoning_tokens, "reasoning")
    return f"{into} · {out}"


def counted(total: int | None, word: str, part: int | None, part_word: str) -> str:
    """`87 out (64 reasoning)`."""
    if total is None:
        return f"{word} unknown"
    return f"{total:,} {word}" + ("" if part is None else f" ({part:,} {part_word})")


def cost(answer: Answer) -> str:
    """What it cost; of an answer on a cassette, what it did then and does now.

    The same whether it was just recorded or is replayed a year later.
    """
    free = answer.made_by in LABELS or answer.is_local
    then = "cost unknown" if answer.cost_usd is None else show_usd(answer.cost_usd)
    if answer.recorded is None:
        return "$0" if free else then
    day = f" on {answer.recorded.at[:10]}" if answer.recorded.at else ""
    word = "written" if answer.made_by == "hand" else "recorded"
    return f"$0 · {word}{day}" if free else f"{then} when {word}{day}, $0 on replay"


def remarks(answer: Answer) -> list[str]:
    """What a reader should know besides, a sentence each; the way the answer ended comes first."""
    match answer.finish_reason:
        case "length":
            told = [f"cut off: {why_cut(answer)}; try {remedy(answer)}"]
        case "content_filter":
            told = ["cut off by the provider's content filter"]
        case "refusal":
            told = ["the model refused to answer"]
        case "interrupted":
            told = [f"interrupted{so_far(answer)}"]
        case "error":
            told = [f"broken off{so_far(answer)}"]
        case _:
            told = [] if answer.text or answer.refusal or answer.tool_calls else ["an empty answer"]
    return told + list(answer.notes)


def so_far(answer: Answer) -> str:
    """What is there of an answer that has no end."""
    words = answer.text or answer.refusal or answer.reasoning_summary
    there = words or answer.tool_calls or answer.tool_uses
    return "; this is what had arrived" if there else " before anything arrived"


def remedy(answer: Answer) -> str:
    """What to try where the limit was too low. 25,000 is OpenAI's own advice (2026-07-15)."""
    used = answer.usage.output_tokens or 0
    if answer.is_local:
        return f"--max-output-tokens {4 * used}" if used else "a higher --max-output-tokens"
    more = max(25_000, 4 * used)
    return f"--max-output-tokens {more} or a lower --effort"


def plain_footer(answer: Answer) -> str:
    """The footer as lines of text."""
    return "\n".join([facts(answer), *(f"! {each}" for each in remarks(answer))])


def markdown_footer(answer: Answer) -> str:
    """The footer as Markdown. Every word in it may come from a server, so all of it is escaped."""
    lines = [entities(facts(answer)), *(f"⚠ {entities(each)}" for each in remarks(answer))]
    return "---\n\n<small>" + "<br>".join(lines) + "</small>"


def entities(text: str) -> str:
    """Text that is nothing but text, in Markdown, HTML and TeX: all punctuation as entities.

    MathJax reads the finished page, where an entity is a dollar or a backslash again; in an element
    of its own it finds no partner.
    """
    written = "".join(c if c.isalnum() or c in SAFE else entity(c) for c in text)
    # What looks like an address would be made a link.
    return ADDRESS.sub(lambda found: found[0].replace(":", "&#58;").replace(".", "&#46;"), written)


def entity(char: str) -> str:
    """One character as an entity."""
    return f"<span>&#{ord(char)};</span>" if char in "$\\" else f"&#{ord(char)};"
