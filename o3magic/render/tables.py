"""Listings: settings, models, any table; each as Markdown and as aligned text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from decimal import Decimal
from typing import Any

from o3magic.config import Config
from o3magic.models import Card, Catalog
from o3magic.render.answer import Bundle
from o3magic.render.markdown.sanitize import plain_text, table_cell
from o3magic.settings import Settings

LONGEST_NAME = 60
# All of ASCII's punctuation that can mean something in Markdown, HTML or TeX, inside a table: a
# point too, since "www." makes a link, but not the one of a number.
MARKUP = re.compile(r"[!-'*+/:-@\[-`{-~]|(?<![0-9])\.|\.(?![0-9])")


@dataclass(frozen=True, slots=True)
class TextTable:
    """A head and rows of cells; the first `words` columns are words, the others numbers.

    sums: rows that stand out, as a total does. No cell is trusted; none is shortened.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    sums: frozenset[int] = field(default_factory=frozenset)

    def markdown(self) -> str:
        """The table as Markdown, with everything in it escaped."""
        rule = "".join(" --- |" if i < self.words else " ---: |" for i in range(len(self.head)))
        lines = [table_row([escaped(visible(name)) for name in self.head]), f"|{rule}"]
        for number, row in enumerate(self.rows):
            cells = [escaped(visible(cell)) for cell in row]
            if number in self.sums:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append(table_row(cells))
        return "\n".join(lines)

    def text(self, rule: bool = True) -> str:
        """The same in aligned plain text, a rule below the head."""
        table = [[visible(cell) for cell in row] for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [self._aligned(cells, widths) for cells in table]
        if rule:
            lines.insert(1, "-" * len(lines[0]))
        return "\n".join(lines)

    def without(self, names: Sequence[str]) -> TextTable:
        """The same without some columns of numbers."""
        kept = [i for i, name in enumerate(self.head) if i < self.words or name not in names]
        rows = [[row[i] for i in kept] for row in self.rows]
        return TextTable([self.head[i] for i in kept], rows, self.words, self.sums)

    def _aligned(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        sides = (str.ljust if i < self.words else str.rjust for i in range(len(cells)))
        texts = (side(c, w) for side, c, w in zip(sides, cells, widths, strict=True))
        return "  ".join(texts).rstrip()


def visible(name: str) -> str:
    """A name on one line of printable characters: no control codes, no marks that turn a line."""
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())


def plain(name: str) -> str:
    """A name as people see it: visible, and not too long for a table."""
    whole = visible(name)
    return whole if len(whole) <= LONGEST_NAME else f"{whole[: LONGEST_NAME - 1]}…"


def escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)


def table_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


NEAR_DAYS = 90
MOST_OTHERS = 40


def line(text: str) -> Bundle:
    """One line of text."""
    return Bundle({"text/plain": text}, {})


class HighlightedCell(str):
    """A cell a reader should not miss."""

    __slots__ = ()


def cell(text: str) -> str:
    """A cell as Markdown; an alarm is red where a front end has colours."""
    shown = table_cell(text)
    return (
        f'<span style="color:#b3261e">{shown}</span>'
        if isinstance(text, HighlightedCell)
        else shown
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Bundle:
    """A table as Markdown and as aligned text. Cells are text: none is trusted."""
    lines = [[cell(each) for each in row] for row in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    markdown = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    plain = aligned([head, *rows])
    if title:
        markdown, plain = f"**{table_cell(title)}**\n\n{markdown}", f"{title}\n\n{plain}"
    return Bundle({"text/markdown": markdown, "text/plain": plain}, {})


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns of text, two blanks between them."""
    clean = [[" ".join(plain_text(cell).split()) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in clean) for n in range(len(clean[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in clean
    )


def settings(
    layers: Config, only: Sequence[str] = (), default_model: tuple[str, str] = ("", "")
) -> Bundle:
    """Every field, its value and where it was set; or only some fields.

    default_model: the one that is asked while none is named, and why.
    """
    profile = layers.profile()
    names = [each.name for each in fields(Settings) if not only or each.name in only]
    rows = [(name, said(getattr(profile, name)), layers.origin(name)) for name in names]
    if not profile.model and default_model[0]:
        model, reason = default_model
        rows = [("model", model, reason or "default") if row[0] == "model" else row for row in rows]
    return table(("setting", "value", "set by"), rows)


def said(value: Any) -> str:
    """A value as it is written in a setting."""
    if value is None or value == "":
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def models(
    catalog: Catalog, served: Mapping[str, date | None] | None = None, note: str = ""
) -> Bundle:
    """The cards with the prices of today, US dollars per million tokens.

    served: the ids that a provider lists, each with the day on which it is shut down there; None
    where no list was read. `note` is said below.
    """
    on = date.today()
    head = ["model", "in", "cached", "out", "window", "efforts", "shutdown", "replacement"]
    rows = [model_row(card, on) for card in catalog.cards]
    if served is not None:
        have = {card.id for name in served if (card := catalog.find(name))}
        others = sorted(name for name in served if catalog.find(name) is None)
        rows = [(*row, "yes" if row[0] in have else "–") for row in rows]
        dates = [day(served[name], on) for name in others]
        rows += [
            (name, *["–"] * 5, date, "–", "yes")
            for name, date in zip(others[:MOST_OTHERS], dates, strict=False)
        ]
        head.append("served")
        if len(others) > MOST_OTHERS:
            note = f"{note}; and {len(others) - MOST_OTHERS:,} more that have no card".strip("; ")
    shown = table(head, rows, "USD per million tokens")
    if not note:
        return shown
    data = {"text/markdown": f"{shown.data['text/markdown']}\n\n{table_cell(note)}"}
    return Bundle({**data, "text/plain": f"{shown.data['text/plain']}\n{note}"}, {})


def model_row(card: Card, on: date) -> tuple[str, ...]:
    """One model's line."""
    price = card.price(on)
    rates = (price.rates.input, price.rates.cached, price.rates.output) if price else (None,) * 3
    return (
        card.id,
        *(dollars(rate) for rate in rates),
        f"{card.window_tokens:,}" if card.window_tokens else "unknown",
        " ".join(f"{e}*" if e == card.default_effort else e for e in card.efforts or ()) or "–",
        day(card.shutdown, on),
        card.replacement_said or "–",
    )


def day(shutdown: date | None, on: date) -> str:
    """The day a model goes; an alarm where that is past or near."""
    if shutdown is None:
        return "–"
    said = f"{shutdown:%Y-%m-%d}" + (" (past)" if shutdown <= on else "")
    return HighlightedCell(said) if (shutdown - on).days < NEAR_DAYS else said


def dollars(rate: Decimal | None) -> str:
    """A rate, or a dash."""
    return "–" if rate is None else f"{rate:f}"
