"""A conversation written down for people: as Markdown, and as a notebook that asks it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from o3magic.conversations.conversation import Conversation, Turn
from o3magic.messages import Message, ToolCall, ToolResult

CleanText = Callable[[str], str]


def to_markdown(conversation: Conversation, clean: CleanText) -> str:
    """The whole of it as one Markdown text.

    clean: makes a model's Markdown safe to be shown; its words are never trusted here.
    """
    lines = [f"# {conversation.name}", ""]
    if conversation.forked_from:
        lines += [f"Forked from {conversation.forked_from}.", ""]
    for place, turn in enumerate(conversation.turns, 1):
        lines += [f"## {place}", "", turn_markdown(turn, clean), ""]
    notes = [f"- {note}" for note in conversation.notes]
    return "\n".join([*lines, *notes]).rstrip() + "\n"


def turn_markdown(turn: Turn, clean: CleanText) -> str:
    """One turn: the question as text, what was called, the answer made safe."""
    lines = [fenced(question_of(turn)), ""]
    lines += [*(f"*{line}*" for line in calls_of(turn)), ""] if calls_of(turn) else []
    return "\n".join([*lines, label(turn), "", clean(turn.answer) or "*no answer*"])


def to_notebook(conversation: Conversation, clean: CleanText) -> dict[str, Any]:
    """The whole of it as a notebook, a dict in nbformat 4.5: run it, and it is asked again."""
    cells = [_code("load", "%load_ext o3magic")]
    for place, turn in enumerate(conversation.turns, 1):
        words = question_of(turn)
        # Filled in already: what looks like a template now came out of a value.
        option = " --no-template" if "{{" in words else ""
        cells.append(_code(f"asked-{place}", f"%%o3 -c {conversation.name}{option}\n{words}"))
        answered = f"{label(turn)}\n\n{clean(turn.answer) or '*no answer*'}"
        cells.append({**_cell("markdown", f"answered-{place}", answered)})
    language = {"name": "python"}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": language},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def label(turn: Turn) -> str:
    """Who answered and when, in one line; what was simulated says so."""
    others = {"simulated": "SIMULATED", "hand": "a person, written BY HAND"}
    who = others.get(turn.source) or turn.model or "an unknown model"
    replayed = ", replayed" if turn.replayed else ""
    return f"**Answer of {plain_words(who)}**, {turn.at:%Y-%m-%d %H:%M} UTC{replayed}:"


def question_of(turn: Turn) -> str:
    """The question's words, and a sign for each of its pictures."""
    count = len(turn.asked) - sum(hasattr(part, "text") for part in turn.asked)
    return turn.question + f"\n[{count} picture{'s' * (count > 1)}]" * bool(count)


def calls_of(turn: Turn) -> list[str]:
    """The tools that were called, one line each."""
    return [*_calls(turn.answered)]


def _calls(messages: tuple[Message, ...]) -> Iterator[str]:
    sizes = {
        part.call_id: len(part.text)
        for message in messages
        for part in message.parts
        if isinstance(part, ToolResult)
    }
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCall):
                size = sizes.get(part.id, 0)
                yield f"called {plain_words(part.name)}, which gave {size:,} characters"


def plain_words(text: str) -> str:
    """A name that came from elsewhere, without anything that Markdown or HTML would read."""
    return "".join(c if c.isalnum() or c in " .-/:" else " " for c in text)[:100].strip()


def fenced(text: str) -> str:
    """Words as they are, in a fence that they cannot end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _code(name: str, source: str) -> dict[str, Any]:
    return {**_cell("code", name, source), "outputs": [], "execution_count": None}


def _cell(kind: str, name: str, source: str) -> dict[str, Any]:
    return {"cell_type": kind, "id": name, "metadata": {}, "source": source}
