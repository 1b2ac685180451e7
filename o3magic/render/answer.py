"""An answer as mime bundles: what is saved in the notebook, and shown when it is shown again.

A model's words leave here as text/plain, as JSON, or as Markdown made safe; never as HTML.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from o3magic.events import LABELS, Answer, ToolUsed, why_cut
from o3magic.money import show_usd
from o3magic.render import citations
from o3magic.render.data_table import as_markdown
from o3magic.render.markdown.escape import entities, shorten
from o3magic.render.markdown.sanitize import plain_text, safe_markdown


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


SIGNS = {"ok": "→", "failed": "failed:", "late": "too late:", "declined": "", "refused": "refused:"}
MOST_CHARS = 4_000


def render_tool_uses(uses: Sequence[ToolUsed]) -> str:
    """A block to unfold for each call; its first line says what was called and what came."""
    return "\n\n".join(map(render_tool_use, uses))


def render_tool_use(used: ToolUsed) -> str:
    """One call."""
    rows = [("arguments", used.arguments), ("printed", used.printed), ("result", used.result)]
    said = "".join(f"<p>{label}:<br>{quote_lines(text)}</p>" for label, text in rows if text)
    notes = "".join(f"<p>⚠ {entities(plain_text(note))}</p>" for note in used.notes)
    return f"<details><summary>{entities(tool_use_line(used))}</summary>{said}{notes}</details>"


def tool_use_line(used: ToolUsed) -> str:
    """One call in a line: `area({"side": 3}) → 9`."""
    sign = SIGNS.get(used.ending, used.ending)
    called = f"{shorten(used.name)}({shorten(used.arguments)})"
    return " ".join(filter(None, [called, sign, shorten(used.result)]))


def tool_uses_text(uses: Sequence[ToolUsed]) -> str:
    """The lines alone."""
    return "\n".join(f"⚙ {tool_use_line(each)}" for each in uses)


def quote_lines(text: str) -> str:
    """A text as it is, line by line, cut where it is very long."""
    kept = plain_text(text[:MOST_CHARS])
    cut = f"<br>… {len(text) - MOST_CHARS:,} more characters" if len(text) > MOST_CHARS else ""
    return "<br>".join(entities(each) for each in kept.split("\n")) + cut


LINK = "o3magic"
AnswerView = Literal["auto", "tree", "table"]


class Bundle(NamedTuple):
    """One display: data and metadata by mime type."""

    data: dict[str, Any]
    metadata: dict[str, Any]


def bundles(answer: Answer, *, view: AnswerView = "auto", raw: bool = False) -> list[Bundle]:
    """The displays of an answer, in order: one, or two where a tree has its footer below it."""
    shown = unlinked(answer, view, raw)
    if answer.recorded is not None:
        # Which entry of the cassette it shows: `o3magic check` looks for it.
        link = {"key": answer.recorded.key, "n": answer.recorded.n}
        shown = [Bundle(each.data, {**each.metadata, LINK: link}) for each in shown]
    return shown


def unlinked(answer: Answer, view: AnswerView, raw: bool) -> list[Bundle]:
    """The same without the word where the answer was recorded."""
    if raw:
        parts = [plain_text(answer.text), citations.plain(answer.citations), plain_footer(answer)]
        return [Bundle({"text/plain": "\n\n".join([parts[0], *filter(None, parts[1:])])}, {})]
    if answer.data is None:
        return [text_bundle(answer)]
    if view == "table" or (view == "auto" and is_rows(answer.data)):
        return [table_bundle(answer)]
    return [tree_bundle(answer), Bundle(*footer_bundle(answer))]


def text_bundle(answer: Answer) -> Bundle:
    """An answer in words: rendered Markdown, and the words themselves as text."""
    shown = [
        reasoning(answer.reasoning_summary),
        render_tool_uses(answer.tool_uses),
        body(answer),
        citations.markdown(answer.citations),
        markdown_footer(answer),
    ]
    markdown = "\n\n".join(each for each in shown if each)
    plain = plain_text(answer.text or answer.refusal) or plain_footer(answer)
    return Bundle({"text/markdown": markdown, "text/plain": plain}, {})


def body(answer: Answer) -> str:
    """The words of an answer as safe Markdown; a refusal as a quotation."""
    if answer.refusal and not answer.text:
        return f"> {entities(' '.join(plain_text(answer.refusal).split()))}"
    return safe_markdown(answer.text)


def reasoning(summary: str) -> str:
    """A reasoning summary, folded. Text only: it is the model's, and it is not the answer."""
    if not summary.strip():
        return ""
    lines = "<br>".join(entities(line) for line in plain_text(summary).strip().split("\n"))
    return f"<details><summary>Reasoning summary</summary><p>{lines}</p></details>"


def table_bundle(answer: Answer) -> Bundle:
    """A structured answer as a table with its footer."""
    shown = as_markdown(answer.data, answer.schema_name)
    markdown = f"{shown}\n\n{footer_markdown(answer)}"
    return Bundle({"text/markdown": markdown, "text/plain": as_json(answer.data)}, {})


def tree_bundle(answer: Answer) -> Bundle:
    """A structured answer as a tree; a table where the front end has no tree; and as text."""
    data = {
        "application/json": answer.data,
        "text/markdown": as_markdown(answer.data, answer.schema_name),
        "text/plain": as_json(answer.data),
    }
    root = answer.schema_name or "answer"
    return Bundle(data, {"application/json": {"expanded": True, "root": root}})


def footer_bundle(answer: Answer) -> Bundle:
    """The footer alone."""
    shown = {"text/markdown": footer_markdown(answer), "text/plain": facts(answer)}
    return Bundle(shown, {})


def footer_markdown(answer: Answer) -> str:
    """The footer, what the tools said and what is cited above it."""
    parts = [
        render_tool_uses(answer.tool_uses),
        citations.markdown(answer.citations),
        markdown_footer(answer),
    ]
    return "\n\n".join(filter(None, parts))


def request_bundle(request: dict[str, Any], facts: Sequence[tuple[str, str]] = ()) -> Bundle:
    """A request that is not sent, for --dry-run, below what is known of it: labels and lines."""
    text = as_json(request)
    rows = "".join(f"| {entities(label)} | {entities(line)} |\n" for label, line in facts)
    fenced = f"````json\n{text}\n````"
    above = f"| not sent | |\n| --- | --- |\n{rows}\n" if facts else ""
    plain = "".join(f"{label}: {line}\n" for label, line in facts)
    data = {
        "text/markdown": f"{above}{safe_markdown(fenced)}",
        "text/plain": f"{plain}{text}",
    }
    return Bundle(data, {})


def as_json(data: Any) -> str:
    """JSON to read."""
    return json.dumps(data, indent=2, ensure_ascii=False, default=str)


def is_rows(data: Any) -> bool:
    """Whether data is a list of flat objects: what a table shows best."""
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(row, dict) for row in data)
        and not any(isinstance(v, dict | list) for row in data for v in row.values())
    )
