"""The texts of the panel beside its controls, as HTML in which every word is escaped.

A `$` stays a `$`: an HTML widget renders no mathematics, a Label does.
"""

from __future__ import annotations

import html
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from o3magic.cost.budgets import OF, BudgetStatus
from o3magic.cost.entries import CallSums, Entry
from o3magic.errors import O3Error, did_you_mean
from o3magic.models import Card, Catalog
from o3magic.money import show_usd
from o3magic.render import tables
from o3magic.render.answer import Bundle
from o3magic.render.markdown.sanitize import plain_text
from o3magic.schemas.lookup import list_types, resolve_answer_type
from o3magic.session.session import Session

NEAR_SHUTDOWN_DAYS = 90
MAX_FIELDS = 12
BUTTON_WIDTH = "104px"
BUTTON_STEP = 108  # the width with its margin, in pixels
MODULE_NAMES = re.compile(r"\b(?:\w+\.)+(?=\w)")
TEXT_STYLE = "line-height:1.4;padding:3px 0;overflow-wrap:anywhere"
MUTED_STYLE = f"{TEXT_STYLE};color:var(--jp-ui-font-color2,#616161)"
ALARM_STYLE = f"{TEXT_STYLE};color:var(--jp-error-color1,#b3261e)"
BAR_WIDTH = "120px"
BAR_STYLE = "overflow:hidden;background:rgba(128,128,128,0.25)"
OK_COLOUR, WARN_COLOUR, FULL_COLOUR = "#2e7d32", "#ef6c00", "#c62828"


def escape(text: str) -> str:
    """A text that HTML shows as it is."""
    return html.escape(plain_text(text))


def muted(text: str) -> str:
    """A remark."""
    return f'<div style="{MUTED_STYLE}">{escape(text)}</div>'


def alarm(text: str) -> str:
    """A warning; a screen reader reads it at once."""
    return f'<div role="alert" style="{ALARM_STYLE}">{escape(text)}</div>'


def status(text: str) -> str:
    """The state of the question; a screen reader reads it when it pauses."""
    return f'<div role="status" style="{TEXT_STYLE}">{escape(text)}</div>' if text else ""


def error_html(error: O3Error) -> str:
    """An error and its hint on one line."""
    message = " ".join(str(error).split())
    return alarm(f"{message} – {error.hint}" if error.hint else message)


def model_html(card: Card, catalog: Catalog, on: date, choice: str = "") -> str:
    """A model's prices and its shutdown date, in red where that is past or near.

    choice: the name of the model and the reason for it, where none was named; it stands first.
    """
    if catalog.find(card.id) is None:
        hint = did_you_mean(card.id, catalog.names, "it is asked all the same")
        return muted(f"{choice}no card of {card.id}: its price and efforts are not known; {hint}")
    price = card.price(on)
    if price is None:
        text = f"{choice}price unknown"
    else:
        rates = price.rates
        cached = "" if rates.cached is None else f" (cached ${rates.cached:f})"
        text = f"{choice}${rates.input:f} in{cached} · ${rates.output:f} out per million tokens"
    if card.shutdown is None:
        return muted(text)
    days = (card.shutdown - on).days
    verb = "was" if days <= 0 else "is"
    available = [name for name in card.replacements if not catalog.card(name).retired(on)]
    instead = f"; use {' or '.join(available)}" if available else ""
    shutdown = f"shutdown {verb} announced for {card.shutdown:%Y-%m-%d}{instead}"
    if days >= NEAR_SHUTDOWN_DAYS:
        return muted(f"{text} · {shutdown}")
    return f"{muted(text)} {alarm(f'⚠ {shutdown}')}"


def schema_html(expression: str, names: Mapping[str, Any], registered: Mapping[str, Any]) -> str:
    """The fields of the chosen schema with their types, or the reason why it is not one."""
    if not expression:
        return muted("the answer is text")
    try:
        python_type = resolve_answer_type(expression, names, registered).python_type
    except O3Error as error:
        return error_html(error)
    fields = fields_of(python_type)
    if not fields:
        return muted(short_type(python_type))
    texts = [f"<b>{escape(name)}</b> {escape(type_)}".strip() for name, type_ in fields]
    more = [f"and {len(fields) - MAX_FIELDS} more"] if len(fields) > MAX_FIELDS else []
    return f'<div style="{MUTED_STYLE}">{" · ".join(texts[:MAX_FIELDS] + more)}</div>'


def schemas_table(names: Mapping[str, Any], registered: Mapping[str, Any]) -> Bundle:
    """The types that `--schema` takes here, with their fields."""
    types = list_types(names, registered)
    if not types:
        return tables.line(
            "no schema here yet: define a pydantic model, dataclass, TypedDict or Enum"
        )
    by_name = {**registered, **names}
    rows = [(name, ", ".join(field_names(by_name[name]))) for name in types]
    return tables.table(("schema", "fields"), rows)


def fields_of(python_type: Any) -> list[tuple[str, str]]:
    """The fields of a type, or of the first type in it that has some, with their types."""
    names = field_names(python_type)
    if not names:
        parts = (fields_of(part) for part in typing.get_args(python_type))
        return next(filter(None, parts), [])
    try:
        hints = typing.get_type_hints(python_type)
    except (NameError, TypeError, AttributeError):  # a forward reference to an undefined name
        hints = {}
    return [(name, short_type(hints[name]) if name in hints else "") for name in names]


def field_names(python_type: Any) -> list[str]:
    """The names of a type's fields or members."""
    for attribute in ("model_fields", "__dataclass_fields__", "__members__", "__annotations__"):
        if fields := getattr(python_type, attribute, None):
            return list(fields)
    return []


def short_type(python_type: Any) -> str:
    """A type without the names of modules: `list[Line] | None`."""
    is_plain = isinstance(python_type, type) and not typing.get_args(python_type)
    return python_type.__name__ if is_plain else MODULE_NAMES.sub("", str(python_type))


@dataclass(frozen=True, slots=True)
class EffortSpending:
    """Averages over the answers of one effort; None where they are not known."""

    calls: int
    nano_usd: int | None
    elapsed_s: float | None
    reasoning_tokens: float | None
    simulated: bool

    def lines(self) -> tuple[str, ...]:
        """The same as short lines."""
        calls = "1 call" if self.calls == 1 else f"{self.calls:,} calls"
        cost = "simulated" if self.simulated else f"⌀ {short_usd(self.nano_usd)}"
        elapsed = f"⌀ {self.elapsed_s:.1f} s" if self.elapsed_s is not None else ""
        tokens = self.reasoning_tokens
        return calls, cost, elapsed, f"⌀ {tokens:,.0f} reasoning" if tokens is not None else ""


def short_usd(nano: int | None) -> str:
    """An average in US dollars: at most four digits after the point, unless it is less."""
    rounded = None if nano is None else round(nano, -5)
    return show_usd(rounded or nano)


def average_by_effort(
    entries: Iterable[Entry], is_same_model: Callable[[str], bool]
) -> dict[str, EffortSpending]:
    """The averages of each effort; as soon as there are real answers, only those count.

    is_same_model: whether the model of an entry is the one in question.
    """
    by_effort: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.status == "ok" and is_same_model(entry.model):
            by_effort.setdefault(entry.effort, []).append(entry)
    return {effort: average(rows) for effort, rows in by_effort.items()}


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
    """The mean of the known numbers, or None."""
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None


def effort_columns(
    efforts: Sequence[str], spending: Mapping[str, EffortSpending], default: str | None
) -> list[tuple[str, ...]]:
    """The lines below each button: that of the model's own default, and one for each effort."""
    first = f"= {default}" if default else "the model's own choice"
    columns = [spending[e].lines() if e in spending else ("no call yet",) for e in efforts]
    return [(first,), *(tuple(filter(None, lines)) for lines in columns)]


def efforts_html(names: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """A column under each button and as wide; on a narrow page, a row that begins with its name.

    A widget has no style sheet of its own. So a width is chosen by a length that is far below zero
    or far above every limit: `(width - 100%) * 999`.
    """
    width = len(names) * BUTTON_STEP
    cell = f"width:clamp({BUTTON_WIDTH},({width}px - 100%) * 999,100%);margin:0 2px 4px;flex:none"
    in_row = f"clamp(0px,(100% - {BUTTON_STEP}px) * 999,"
    in_column = f"clamp(0px,({BUTTON_STEP}px - 100%) * 999,"
    gap = f"margin-right:{in_row}6px)"
    name_style = f"float:left;overflow:hidden;white-space:nowrap;max-width:{in_row}100%);{gap}"
    line_style = f"display:inline-block;text-align:center;min-width:{in_column}100%);{gap}"
    cells = []
    for name, lines in zip(names, columns, strict=True):
        spans = [f'<span style="{name_style};font-weight:600">{escape(name)}:</span>']
        spans += [f'<span style="{line_style}">{escape(line)}</span>' for line in lines]
        cells.append(f'<div style="{cell}">{" ".join(spans)}</div>')
    style = f"{MUTED_STYLE};display:flex;flex-wrap:wrap;font-size:11px"
    return f'<div style="{style}">{"".join(cells)}</div>'


def meter_html(session: Session) -> str:
    """The cost of this session, of today, and of this notebook where its name is known."""
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    spans: list[tuple[str, dict[str, Any]]] = [
        ("this session", {"session": session.id}),
        ("today", {"since": midnight}),
    ]
    if session.notebook:
        spans.append(("this notebook", {"notebook": session.notebook}))
    texts = []
    for name, where in spans:
        totals = session.ledger.totals(by=(), **where)
        live = totals[0].live if totals else CallSums()
        cost = show_usd(live.cost_nano_usd)
        cost = f"at least {cost}" if live.unknown_cost_calls else cost
        texts.append(f"{name} <b>{escape(cost)}</b>")
        if name == "this session":
            texts[-1] += escape(
                format_calls(live.calls, totals[0].simulated.calls if totals else 0)
            )
    return f'<div style="{MUTED_STYLE};text-align:right">{" · ".join(texts)}</div>'


def format_calls(live: int, simulated: int) -> str:
    """` (3 and 2 simulated calls)`."""
    counts = [f"{live:,}"] if live or not simulated else []
    counts += [f"{simulated:,} simulated"] if simulated else []
    return f" ({' and '.join(counts)} call{'' if live + simulated == 1 else 's'})"


def bars_html(budgets: Sequence[BudgetStatus], warn: float) -> str:
    """A bar for each budget; "" where none is set. warn: the share from which a bar is orange."""
    if not budgets:
        return ""
    bars = "".join(bar_html(budget, warn) for budget in budgets)
    return f'<div style="{MUTED_STYLE};display:flex;flex-wrap:wrap;gap:2px 18px">{bars}</div>'


def bar_html(budget: BudgetStatus, warn: float) -> str:
    """One budget: full colour for what is spent, pale for what is reserved or of unknown cost."""
    scope, limit = budget.budget
    if scope == "call":
        return f"<span>{escape(f'each question up to {show_usd(limit)}')}</span>"
    colour = (
        FULL_COLOUR if budget.share >= 1 else WARN_COLOUR if budget.share >= warn else OK_COLOUR
    )
    spent = percent(budget.spent_nano_usd, limit)
    reserved = min(percent(budget.held_nano_usd, limit), 100 - spent)
    amounts = f"{show_usd(budget.spent_nano_usd)} of {show_usd(limit)}"
    text, label = f"{OF[scope]} {amounts}", f"{OF[scope]}: {amounts}"
    if budget.held_nano_usd:
        more = f", up to {show_usd(budget.held_nano_usd)} more"
        text, label = f"{text}{more}", f"{label}{more} on its way or unknown"
    style = f"display:inline-flex;width:{BAR_WIDTH};height:8px;border-radius:4px;margin-left:4px"
    return (
        f'<span title="{escape(label)}">'
        f"{escape(text)} "
        f'<span role="meter" aria-label="{escape(label)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{spent + reserved}" style="{style};{BAR_STYLE}">'
        f'<span style="width:{spent}%;background:{colour}"></span>'
        f'<span style="width:{reserved}%;background:{colour};opacity:0.4"></span>'
        "</span></span>"
    )


def percent(part: int, whole: int) -> int:
    """A share in whole percent, 0 to 100; at least 1 for every part above zero."""
    if not part:
        return 0
    return 100 if not whole else max(1, min(100, 100 * part // whole))
