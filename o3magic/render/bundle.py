"""An answer as mime bundles: what is saved in the notebook, and shown when it is shown again.

A model's words leave here as text/plain, as JSON, or as Markdown made safe; never as HTML.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from o3magic.events import Answer
from o3magic.render import citations, uses
from o3magic.render.footer import entities, facts, markdown_footer, plain_footer
from o3magic.render.safe_markdown import plain_text, safe_markdown
from o3magic.render.table import as_markdown

LINK = "o3magic"
View = Literal["auto", "tree", "table"]


class Bundle(NamedTuple):
    """One display: data and metadata by mime type."""

    data: dict[str, Any]
    metadata: dict[str, Any]


def bundles(answer: Answer, *, view: View = "auto", raw: bool = False) -> list[Bundle]:
    """The displays of an answer, in order: one, or two where a tree has its footer below it."""
    shown = unlinked(answer, view, raw)
    if answer.recorded is not None:
        # Which entry of the cassette it shows: `o3magic check` looks for it.
        link = {"key": answer.recorded.key, "n": answer.recorded.n}
        shown = [Bundle(each.data, {**each.metadata, LINK: link}) for each in shown]
    return shown


def unlinked(answer: Answer, view: View, raw: bool) -> list[Bundle]:
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
        uses.markdown(answer.tool_uses),
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
        uses.markdown(answer.tool_uses),
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
