"""What the panel says beside its controls, as HTML in which every word is escaped.

A `$` stays one: an HTML widget typesets no mathematics, a Label would.
"""

from __future__ import annotations

import html
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from o3magic.cost.budgets import OF, BudgetStatus
from o3magic.cost.entries import CallSums, Entry
from o3magic.cost.ledger import Ledger
from o3magic.errors import O3Error, did_you_mean
from o3magic.models import Card, Catalog
from o3magic.money import show_usd
from o3magic.render.answer import Bundle
from o3magic.render.markdown.sanitize import plain_text
from o3magic.render.tables import line, table
from o3magic.schemas.lookup import known_types, resolve
from o3magic.session.session import Session


def schemas(names: Mapping[str, Any], registered: Mapping[str, Any]) -> Bundle:
    """The types `--schema` takes here, with their fields."""
    found = known_types(names, registered)
    if not found:
        return line("no schema here yet: define a pydantic model, dataclass, TypedDict or Enum")
    both = {**registered, **names}
    return table(
        ("schema", "fields"), [(name, ", ".join(field_names(both[name]))) for name in found]
    )


def field_names(python_type: Any) -> list[str]:
    """The names of a type's fields or members."""
    for attribute in ("model_fields", "__dataclass_fields__", "__members__", "__annotations__"):
        if found := getattr(python_type, attribute, None):
            return list(found)
    return []


NEAR_DAYS = 90
MOST_FIELDS = 12
BUTTON_WIDTH = "104px"
BUTTON_STEP = 108  # with its margin
MODULES = re.compile(r"\b(?:\w+\.)+(?=\w)")
CLOSE = "line-height:1.4;padding:3px 0;overflow-wrap:anywhere"
MUTED = f"{CLOSE};color:var(--jp-ui-font-color2,#616161)"
ALARM = f"{CLOSE};color:var(--jp-error-color1,#b3261e)"


@dataclass(frozen=True, slots=True)
class EffortSpending:
    """What the answers of one effort cost and took on average; None where nobody knows."""

    calls: int
    nano_usd: int | None
    elapsed_s: float | None
    reasoning_tokens: float | None
    simulated: bool

    def lines(self) -> tuple[str, ...]:
        """The same in a few words each."""
        calls = "1 call" if self.calls == 1 else f"{self.calls:,} calls"
        cost = "simulated" if self.simulated else f"⌀ {short_usd(self.nano_usd)}"
        took = f"⌀ {self.elapsed_s:.1f} s" if self.elapsed_s is not None else ""
        thought = self.reasoning_tokens
        return calls, cost, took, f"⌀ {thought:,.0f} reasoning" if thought is not None else ""


def short_usd(nano: int | None) -> str:
    """An average to look at: at most four digits behind the point, if that says something."""
    rounded = None if nano is None else round(nano, -5)
    return show_usd(rounded or nano)


def spent(entries: Iterable[Entry], same_model: Any) -> dict[str, EffortSpending]:
    """The averages for each effort; real answers count alone as soon as there are some.

    same_model: says of an entry's model whether it is the one in question.
    """
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.status == "ok" and same_model(entry.model):
            found.setdefault(entry.effort, []).append(entry)
    return {effort: average(rows) for effort, rows in found.items()}


def average(rows: Sequence[Entry]) -> EffortSpending:
    """The averages of some answers."""
    real = [row for row in rows if row.source == "live"]
    rows = real or rows
    cost = mean(row.cost_nano_usd for row in rows)
    return EffortSpending(
        len(rows),
        None if cost is None else round(cost),
        mean(row.elapsed_s for row in rows),
        mean(row.reasoning_tokens for row in rows),
        not real,
    )


def mean(numbers: Iterable[float | None]) -> float | None:
    """The mean of what is known, or None."""
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None


def effort_columns(
    efforts: Sequence[str], history: Mapping[str, EffortSpending], default: str | None
) -> list[tuple[str, ...]]:
    """What to say of each button: that of the model's own choice, and one for each effort."""
    own = f"= {default}" if default else "the model's own choice"
    known = [history[e].lines() if e in history else ("no call yet",) for e in efforts]
    return [(own,), *(tuple(filter(None, lines)) for lines in known)]


def efforts_html(names: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """A column under each button, as wide as that; where the page is narrow, a row with its name.

    No style sheet belongs to a widget, so widths are chosen by a length that is far below nothing
    or far above everything: `(room - 100%) * 999`.
    """
    room = len(names) * BUTTON_STEP
    cell = f"width:clamp({BUTTON_WIDTH},({room}px - 100%) * 999,100%);margin:0 2px 4px;flex:none"
    in_a_row = f"clamp(0px,(100% - {BUTTON_STEP}px) * 999,"
    in_a_column = f"clamp(0px,({BUTTON_STEP}px - 100%) * 999,"
    apart = f"margin-right:{in_a_row}6px)"
    named = f"float:left;overflow:hidden;white-space:nowrap;max-width:{in_a_row}100%);{apart}"
    piece = f"display:inline-block;text-align:center;min-width:{in_a_column}100%);{apart}"
    cells = []
    for name, lines in zip(names, columns, strict=True):
        pieces = [f'<span style="{named};font-weight:600">{escape(name)}:</span>']
        pieces += [f'<span style="{piece}">{escape(line)}</span>' for line in lines]
        cells.append(f'<div style="{cell}">{" ".join(pieces)}</div>')
    style = f"{MUTED};display:flex;flex-wrap:wrap;font-size:11px"
    return f'<div style="{style}">{"".join(cells)}</div>'


def model_html(card: Card, catalog: Catalog, on: date, why: str = "") -> str:
    """A model's prices, and the day it goes, in red where that is past or near.

    why: which model it is, and why, where none was named; it stands first.
    """
    if catalog.find(card.id) is None:
        hint = did_you_mean(card.id, catalog.names, "it is asked all the same")
        return muted(f"{why}no card of {card.id}: its price and efforts are not known; {hint}")
    price = card.price(on)
    if price is None:
        said = f"{why}price unknown"
    else:
        cached = "" if price.rates.cached is None else f" (cached ${price.rates.cached:f})"
        rates = price.rates
        said = f"{why}${rates.input:f} in{cached} · ${rates.output:f} out per million tokens"
    if card.shutdown is None:
        return muted(said)
    days = (card.shutdown - on).days
    word = "shutdown was announced for" if days <= 0 else "shutdown is announced for"
    there = [name for name in card.replacements if not catalog.card(name).retired(on)]
    instead = f"; use {' or '.join(there)}" if there else ""
    goes = f"{word} {card.shutdown:%Y-%m-%d}{instead}"
    if days >= NEAR_DAYS:
        return muted(f"{said} · {goes}")
    return f"{muted(said)} {alarm(f'⚠ {goes}')}"


def schema_html(expression: str, names: Mapping[str, Any], registered: Mapping[str, Any]) -> str:
    """The fields of the chosen schema with their types, or why it is none."""
    if not expression:
        return muted("the answer is text")
    try:
        kind = resolve(expression, names, registered).python_type
    except O3Error as error:
        return error_html(error)
    fields = fields_of(kind)
    if not fields:
        return muted(short_type(kind))
    shown = [f"<b>{escape(name)}</b> {escape(said)}".strip() for name, said in fields]
    more = [f"and {len(fields) - MOST_FIELDS} more"] if len(fields) > MOST_FIELDS else []
    return f'<div style="{MUTED}">{" · ".join(shown[:MOST_FIELDS] + more)}</div>'


def fields_of(kind: Any) -> list[tuple[str, str]]:
    """The fields of a type, or of the first type in it that has some, with their types."""
    names = field_names(kind)
    if not names:
        inside = (fields_of(part) for part in typing.get_args(kind))
        return next(filter(None, inside), [])
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, TypeError, AttributeError):  # a forward reference to what is not there yet
        hints = {}
    return [(name, short_type(hints[name]) if name in hints else "") for name in names]


def short_type(kind: Any) -> str:
    """A type as one would write it: `list[Line] | None`."""
    plain = isinstance(kind, type) and not typing.get_args(kind)
    return kind.__name__ if plain else MODULES.sub("", str(kind))


def meter_html(session: Session) -> str:
    """What was spent: in this session, today, and in this notebook where its name is known."""
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    ledger: Ledger = session.ledger
    spans: list[tuple[str, dict[str, Any]]] = [
        ("this session", {"session": session.id}),
        ("today", {"since": midnight}),
    ]
    if session.notebook:
        spans.append(("this notebook", {"notebook": session.notebook}))
    said = []
    for name, span in spans:
        totals = ledger.totals(by=(), **span)
        live = totals[0].live if totals else CallSums()
        said.append(f"{name} <b>{escape(cost_of(live))}</b>")
        if name == "this session":
            free = totals[0].simulated.calls if totals else 0
            said[-1] += escape(calls_of(live, free))
    return f'<div style="{MUTED};text-align:right">{" · ".join(said)}</div>'


def cost_of(live: CallSums) -> str:
    """What calls cost; at least, where some cost is unknown."""
    known = show_usd(live.cost_nano_usd)
    return f"at least {known}" if live.unknown_cost_calls else known


def calls_of(live: CallSums, simulated: int) -> str:
    """How many calls there were."""
    said = [f"{live.calls:,}"] if live.calls or not simulated else []
    said += [f"{simulated:,} simulated"] if simulated else []
    calls = " and ".join(said)
    return f" ({calls} call{'' if live.calls + simulated == 1 else 's'})"


def escape(text: str) -> str:
    """Words that are nothing but words."""
    return html.escape(plain_text(text))


def muted(text: str) -> str:
    """A remark."""
    return f'<div style="{MUTED}">{escape(text)}</div>'


def alarm(text: str) -> str:
    """A remark nobody should miss; a screen reader says it at once."""
    return f'<div role="alert" style="{ALARM}">{escape(text)}</div>'


def status(text: str) -> str:
    """What is going on."""
    return f'<div role="status" style="{CLOSE}">{escape(text)}</div>' if text else ""


def error_html(error: O3Error) -> str:
    """What went wrong and what to try, in one line."""
    said = " ".join(str(error).split())
    return alarm(f"{said} – {error.hint}" if error.hint else said)


WIDTH = "120px"
TRACK = "overflow:hidden;background:rgba(128,128,128,0.25)"
FINE, NEAR, GONE = "#2e7d32", "#ef6c00", "#c62828"


def bars_html(stands: Sequence[BudgetStatus], warn: float) -> str:
    """A bar for each budget; "" where none is set."""
    bars = "".join(bar(each, warn) for each in stands)
    return f'<div style="{MUTED};display:flex;flex-wrap:wrap;gap:2px 18px">{bars}</div>' * bool(
        bars
    )


def bar(stands: BudgetStatus, warn: float) -> str:
    """One budget: full colour for what is spent, pale for what is on its way or unknown."""
    scope, limit = stands.budget
    if scope == "call":
        return f"<span>{escape(f'each question up to {show_usd(limit)}')}</span>"
    colour = GONE if stands.share >= 1 else NEAR if stands.share >= warn else FINE
    spent = percent(stands.spent_nano_usd, limit)
    held = min(percent(stands.held_nano_usd, limit), 100 - spent)
    seen = f"{OF[scope]} {show_usd(stands.spent_nano_usd)} of {show_usd(limit)}"
    said = f"{OF[scope]}: {show_usd(stands.spent_nano_usd)} of {show_usd(limit)}"
    if stands.held_nano_usd:
        more = f", up to {show_usd(stands.held_nano_usd)} more"
        seen, said = seen + more, f"{said}{more} on its way or unknown"
    track = f"display:inline-flex;width:{WIDTH};height:8px;border-radius:4px;margin-left:4px"
    parts = (
        f'<span style="width:{spent}%;background:{colour}"></span>'
        f'<span style="width:{held}%;background:{colour};opacity:0.4"></span>'
    )
    return (
        f'<span title="{escape(said)}">'
        f"{escape(seen)} "
        f'<span role="meter" aria-label="{escape(said)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{spent + held}" style="{track};{TRACK}">'
        f"{parts}</span></span>"
    )


def percent(part: int, whole: int) -> int:
    """A share in whole percent, 0 to 100; what is there at all is seen."""
    if not part:
        return 0
    return 100 if not whole else max(1, min(100, 100 * part // whole))
