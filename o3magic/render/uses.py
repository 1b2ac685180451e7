"""What the model's tools were asked and what they said, folded. Anybody's words: text only."""

from __future__ import annotations

from collections.abc import Sequence

from o3magic.events import ToolUsed
from o3magic.render.footer import entities
from o3magic.render.safe_markdown import plain_text

SIGNS = {"ok": "→", "failed": "failed:", "late": "too late:", "declined": "", "refused": "refused:"}
LINE_CHARS = 80
MOST_CHARS = 4_000


def markdown(uses: Sequence[ToolUsed]) -> str:
    """A block to unfold for each call; its first line says what was called and what came."""
    return "\n\n".join(map(block, uses))


def block(used: ToolUsed) -> str:
    """One call."""
    rows = [("arguments", used.arguments), ("printed", used.printed), ("result", used.result)]
    said = "".join(f"<p>{label}:<br>{lines(text)}</p>" for label, text in rows if text)
    notes = "".join(f"<p>⚠ {entities(plain_text(note))}</p>" for note in used.notes)
    return f"<details><summary>{entities(line(used))}</summary>{said}{notes}</details>"


def line(used: ToolUsed) -> str:
    """One call in a line: `area({"side": 3}) → 9`."""
    sign = SIGNS.get(used.ending, used.ending)
    called = f"{short(used.name)}({short(used.arguments)})"
    return " ".join(filter(None, [called, sign, short(used.result)]))


def plain(uses: Sequence[ToolUsed]) -> str:
    """The lines alone."""
    return "\n".join(f"⚙ {line(each)}" for each in uses)


def short(text: str, most_chars: int = LINE_CHARS) -> str:
    """The beginning of a text, on one line."""
    one = " ".join(plain_text(text[: 4 * most_chars]).split())
    return one if len(one) <= most_chars else f"{one[: most_chars - 1]}…"


def lines(text: str) -> str:
    """A text as it is, line by line, cut where it is very long."""
    kept = plain_text(text[:MOST_CHARS])
    cut = f"<br>… {len(text) - MOST_CHARS:,} more characters" if len(text) > MOST_CHARS else ""
    return "<br>".join(entities(each) for each in kept.split("\n")) + cut
