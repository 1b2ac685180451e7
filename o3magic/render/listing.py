"""Listings: settings, models, any table; each as Markdown and as aligned text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import date
from decimal import Decimal
from typing import Any

from o3magic.catalog import Card, Catalog
from o3magic.render.bundle import Bundle
from o3magic.render.safe_markdown import plain_text, table_cell
from o3magic.settings import Layers, Profile


def line(text: str) -> Bundle:
    """One line of text."""
    return Bundle({"text/plain": text}, {})


def table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Bundle:
    """A table as Markdown and as aligned text. Cells are text: none is trusted."""
    lines = [[table_cell(cell) for cell in row] for row in (head, *rows)]
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


def settings(layers: Layers, only: Sequence[str] = ()) -> Bundle:
    """Every field, its value and where it was set; or only some fields."""
    profile = layers.profile()
    names = [each.name for each in fields(Profile) if not only or each.name in only]
    rows = [(name, said(getattr(profile, name)), layers.origin(name)) for name in names]
    return table(("setting", "value", "set by"), rows)


def said(value: Any) -> str:
    """A value as it is written in a setting."""
    if value is None or value == "":
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def models(catalog: Catalog, today: date | None = None) -> Bundle:
    """The cards: prices of today, US dollars per million tokens."""
    on = today or date.today()
    head = ("model", "in", "cached", "out", "window", "efforts", "shutdown", "replacement")
    return table(head, [model_row(card, on) for card in catalog.cards], "USD per million tokens")


def model_row(card: Card, on: date) -> tuple[str, ...]:
    """One model's line."""
    price = card.price(on)
    rates = (price.rates.input, price.rates.cached, price.rates.output) if price else (None,) * 3
    gone = " (gone)" if card.retired(on) else ""
    return (
        card.id,
        *(dollars(rate) for rate in rates),
        f"{card.window_tokens:,}" if card.window_tokens else "unknown",
        " ".join(f"{e}*" if e == card.default_effort else e for e in card.efforts or ()) or "–",
        f"{card.shutdown:%Y-%m-%d}{gone}" if card.shutdown else "–",
        card.replacement or "–",
    )


def dollars(rate: Decimal | None) -> str:
    """A rate, or a dash."""
    return "–" if rate is None else f"{rate:f}"
