"""Several answers beside each other: figures in a table, cost against time, then each answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from o3magic.events import Answer, Event, TextDelta
from o3magic.money import show_usd
from o3magic.render import citations
from o3magic.render.answer import LINK, Bundle, as_json, body, remarks
from o3magic.render.live import INTERVAL_S, DisplayScreen
from o3magic.render.markdown.escape import entities
from o3magic.render.markdown.sanitize import plain_text, table_cell

TAIL_CHARS = 160
MADE_UP = {"simulated": "SIMULATED", "hand": "BY HAND"}
# An <img> in JupyterLab is as wide as its picture says: this fits beside the margins of a phone.
WIDTH, HEIGHT, MARGIN = 290, 180, 36
# Mid-tones: the picture has no ground of its own, so they must be read on white and on black.
INK, LINE, DOT = "#7b7f87", "#8b8f9799", "#4a7fe0"
# Side by side where there is room, all equally wide; below one another where there is not.
COLUMNS = "display:flex;flex-wrap:wrap;gap:8px 20px"
COLUMN = "flex:1 1 170px;min-width:0;overflow-wrap:anywhere"
TAIL = "min-height:5em"  # so that what is below does not jump with every line

_LINK = re.compile(r"!?\[([^\[\]\n]{0,200})\]\([^()\s]{0,500}\)?")
_OPENING = re.compile(
    r"(?m)^[ \t]*(?:(?:#{1,6}|>+|[-*+])(?:[ \t]+|$)|(?:```|~~~)[^\n]*$|[|:\-= \t]{3,}$)"
)
_SIGNS = re.compile(r"(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)|`+|~~|\$+|\|")


class LiveComparison:
    """Shows several answers while they arrive, in one display; then as they stay.

    Every event has its place; an event of None ends that place.
    """

    def __init__(
        self,
        screen: DisplayScreen,
        ids: Callable[[], str],
        labels: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen, self._ids, self._labels, self._clock = screen, ids, labels, clock
        self._display = ids()
        self._texts: list[list[str]] = [[] for _ in labels]
        self._states = ["thinking"] * len(labels)
        self._began_s = clock()
        self._next_s = 0.0

    def begin(self) -> None:
        """Show the empty columns."""
        self._screen.show(
            running(self._labels, self._states, [""] * len(self._labels)), self._display
        )

    def add(self, place: int, event: Event | None) -> None:
        """Take one event; show what is there if it is time."""
        if type(event) is TextDelta:
            self._texts[place].append(event[0])
            self._states[place] = "answering"
        elif event is None:
            self._states[place] = f"done after {self._clock() - self._began_s:.1f} s"
        now = self._clock()
        if event is None or now >= self._next_s:
            self._next_s = now + INTERVAL_S
            texts = ["".join(pieces[-TAIL_CHARS:]) for pieces in self._texts]
            self._screen.update(running(self._labels, self._states, texts), self._display)

    def finish(self, shown: Sequence[Bundle]) -> None:
        """Show the comparison as it stays."""
        self._screen.update(shown[0], self._display)
        for more in shown[1:]:
            self._screen.show(more, self._ids())


def running(labels: Sequence[str], states: Sequence[str], texts: Sequence[str]) -> Bundle:
    """The answers while they arrive: the end of each, a column for each."""
    columns = "".join(
        f'<div style="{COLUMN}"><b>{entities(label)}</b> · {entities(state)}'
        f'<div style="{TAIL}"><small>{entities(tail(text))}</small></div></div>'
        for label, state, text in zip(labels, states, texts, strict=True)
    )
    plain = "\n".join(f"{a}: {b}" for a, b in zip(labels, states, strict=True))
    data = {"text/markdown": f'<div style="{COLUMNS}">{columns}</div>', "text/plain": plain}
    return Bundle(data, {})


def tail(text: str) -> str:
    """The last words of a text, without the signs of Markdown that may be cut in two."""
    end = plain_text(text[-4 * TAIL_CHARS :])
    words = " ".join(_SIGNS.sub("", _OPENING.sub("", _LINK.sub(r"\1", end))).split())
    if len(words) <= TAIL_CHARS and len(text) <= 4 * TAIL_CHARS:
        return words
    return f"…{words[-TAIL_CHARS:].partition(' ')[2] or words[-TAIL_CHARS:]}"


def final(labels: Sequence[str], answers: Sequence[Answer], errors: Sequence[str]) -> list[Bundle]:
    """The comparison as it stays: figures and answers, then the plot."""
    rows = figures(labels, answers)
    parts = [grid(rows)]
    datas = [answer.data for answer in answers]
    if any(isinstance(data, Mapping) for data in datas):
        parts.append(grid(differences(labels, datas), bold_last=True))
    why = next((f"{a.model} ({a.model_reason})" for a in answers if a.model_reason), "")
    if why:
        parts.append(f"<small>{entities(why)}</small>")
    for label, answer, error in zip(labels, answers, errors, strict=True):
        told = "".join(
            f"\n\n⚠ {entities(each)}" for each in [*remarks(answer), *([error] if error else [])]
        )
        shown = spaced(body(answer)) if answer.data is None else ""
        if cited := citations.markdown(answer.citations):
            shown += f"\n\n{cited}"
        if shown or told:
            head = f"<details open><summary>{entities(label)}</summary>"
            parts.append(f"{head}\n\n{shown}{told}\n\n</details>")
    plain = [" | ".join(row) for row in rows] + ([plain_text(why)] if why else [])
    plain += [
        f"\n{label}:\n{plain_text(answer.text) if answer.data is None else as_json(answer.data)}"
        for label, answer in zip(labels, answers, strict=True)
    ]
    data = {"text/markdown": "\n\n".join(parts), "text/plain": "\n".join(plain)}
    drawn = plot(labels, answers)
    links = [{"key": a.recorded.key, "n": a.recorded.n} for a in answers if a.recorded]
    metadata = {LINK: links} if links else {}
    return [Bundle(data, metadata), *([drawn._replace(metadata=metadata)] if drawn else [])]


def spaced(markdown: str) -> str:
    """Safe Markdown with a space below its code: JupyterLab gives code in a fold none."""
    lines, fence = [], ""
    for line in markdown.split("\n"):
        lines.append(line)
        if fence and line == fence:
            fence = ""
            lines += ["", "<p></p>"]
        elif not fence and line.startswith("```"):
            fence = "`" * (len(line) - len(line.lstrip("`")))
    return "\n".join(lines)


def figures(labels: Sequence[str], answers: Sequence[Answer]) -> list[list[str]]:
    """Time, tokens and cost of each."""

    def count(value: int | None) -> str:
        return "unknown" if value is None else f"{value:,}"

    cost = [
        f"$0 ({MADE_UP[each.made_by]})" if each.made_by in MADE_UP else show_usd(each.cost_usd)
        for each in answers
    ]
    days = [each.recorded.at[:10] if each.recorded else "" for each in answers]
    return [
        ["", *labels],
        ["seconds", *(f"{answer.elapsed_s:.1f}" for answer in answers)],
        ["output tokens", *(count(answer.usage.output_tokens) for answer in answers)],
        ["of which reasoning", *(count(answer.usage.reasoning_tokens) for answer in answers)],
        ["cost", *cost],
        *([["recorded", *days]] if any(days) else []),
    ]


def differences(labels: Sequence[str], datas: Sequence[Any]) -> list[list[str]]:
    """Every field of structured answers; the last column says where they differ."""
    names = list(dict.fromkeys(name for d in datas if isinstance(d, Mapping) for name in d))
    rows = [["field", *labels, ""]]
    for name in names:
        values = [
            json.dumps(d.get(name), ensure_ascii=False) if isinstance(d, Mapping) else "–"
            for d in datas
        ]
        rows.append([name, *values, "differs" if len(set(values)) > 1 else ""])
    return rows


def grid(rows: Sequence[Sequence[str]], *, bold_last: bool = False) -> str:
    """Rows as a Markdown table; cells are text. bold_last: what the last column says counts."""
    lines = []
    for row in rows:
        cells = [table_cell(cell) for cell in row]
        if bold_last and cells[-1]:
            cells[-1] = f"**{cells[-1]}**"
        lines.append(f"| {' | '.join(cells)} |")
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return "\n".join(lines)


def plot(labels: Sequence[str], answers: Sequence[Answer]) -> Bundle | None:
    """Cost against time as a small SVG; tokens where no cost is known. None for too few points."""
    known = all(answer.cost_usd for answer in answers)
    heights = [
        float(answer.cost_usd or 0) if known else float(answer.usage.output_tokens or 0)
        for answer in answers
    ]
    times = [answer.elapsed_s for answer in answers]
    if len(answers) < 2 or not max(heights, default=0) or not max(times, default=0):
        return None
    axis = "cost, US dollars" if known else "output tokens"
    marks = sorted({MADE_UP[each.made_by] for each in answers if each.made_by in MADE_UP})
    axis += f" ({', '.join(marks)})" if marks else ""
    dots = []
    for label, time_s, height in zip(labels, times, heights, strict=True):
        x = MARGIN + time_s / max(times) * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN / 1.3 - height / max(heights) * (HEIGHT - 2 * MARGIN)
        # Where there is more room for words.
        aside, anchor = (-8, "end") if x > WIDTH / 2 else (8, "start")
        dots.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{DOT}"/>'
            f'<text x="{x + aside:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">'
            f"{escape(plain_text(label))}</text>"
        )
    floor = HEIGHT - MARGIN / 1.3
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">'
        f'<path d="M{MARGIN} 12V{floor:.1f}H{WIDTH - 12}" stroke="{LINE}" fill="none"/>'
        f'<text x="{MARGIN + 6}" y="20">{axis}</text>'
        f'<text x="{WIDTH - 12}" y="{HEIGHT - 10}" text-anchor="end">seconds</text>'
        f"{''.join(dots)}</svg>"
    )
    return Bundle({"image/svg+xml": svg, "text/plain": f"(a plot of {axis} against seconds)"}, {})
