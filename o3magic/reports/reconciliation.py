"""Reconciliation: the differences between the ledger and a provider's invoice export, by UTC day
and model.

A model is the one that was served, by the name of its card, because an invoice names snapshots. The
ledger's totals are grouped by the model that was asked for, so the entries are read here.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import reduce
from io import StringIO
from pathlib import Path
from typing import Any

from o3magic.cost.entries import Entry
from o3magic.cost.ledger import Ledger
from o3magic.errors import BadOption
from o3magic.models import SNAPSHOT, Catalog
from o3magic.money import EXACT, show_usd, usd
from o3magic.render.tables import TextTable, plain
from o3magic.reports.formatting import format_calls

MAX_BYTES = 256 * 2**20
MAX_USD = Decimal(10) ** 12
MIN_EXPONENT = -60  # of an amount: digits after the decimal point
MAX_COUNT = 10**18
MAX_DAYS = 36_600
MILLISECONDS = 10**11  # a larger time is in milliseconds: in seconds it is after the year 5000
ZERO = Decimal(0)
NON_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")
FORMATS = "an export of OpenAI's costs or usage, as JSON or CSV"
# The columns of CSV exports for each field, the preferred first; that of COUNTS is the API's name.
COLUMNS = {
    "day": "date day start_time_iso start_time usage_date timestamp bucket_start",
    "model": "model snapshot_id model_version line_item",
    "cost": "amount_value cost_usd cost amount amount_usd usd",
    "currency": "amount_currency currency",
    "calls": "num_model_requests n_requests num_requests requests calls",
    "input_tokens": "input_tokens n_context_tokens_total prompt_tokens",
    "cached_tokens": "input_cached_tokens n_cached_context_tokens_total cached_tokens",
    "output_tokens": "output_tokens n_generated_tokens_total completion_tokens",
}
COUNTS = ("calls", "input_tokens", "cached_tokens", "output_tokens")
HEADINGS = dict(zip(COUNTS, ("calls", "input", "cached", "output"), strict=True))
DayModel = tuple[date, str]


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line of an invoice; None for what it does not have. `model` is "" where it has none."""

    day: date
    model: str = ""
    cost_usd: Decimal | None = None
    calls: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Invoice:
    """The lines of an export, its first and last day, and whether it is complete."""

    lines: tuple[InvoiceLine, ...]
    first: date
    last: date
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class InvoiceDifference:
    """The ledger and the invoice on one day and model; None for a side that has no line.

    unknown_cost_calls: calls whose cost is missing from the ledger's side.
    """

    day: date | None
    model: str
    ledger: InvoiceLine | None
    billed: InvoiceLine | None
    unknown_cost_calls: int = 0

    @property
    def cost_usd(self) -> Decimal:
        """The invoice minus the ledger."""
        billed, ledger = ((line and line.cost_usd) or ZERO for line in (self.billed, self.ledger))
        return EXACT.subtract(billed, ledger)

    def exceeds(self, counts: Iterable[str], tolerance_usd: Decimal | None) -> bool:
        """Whether a count differs, or the cost by more than a tolerance that is given."""
        if tolerance_usd is not None and self.cost_usd.copy_abs() > tolerance_usd:
            return True
        sides = (self.ledger, self.billed)
        return any(len({(line and getattr(line, n)) or 0 for line in sides}) > 1 for n in counts)


@dataclass(frozen=True, slots=True, repr=False)
class Reconciliation:
    """The comparison of a ledger with an invoice.

    rows      the days and models that differ
    total     the sums of all of them, with and without a difference
    compared  the number of days and models
    counts    the names of the counts that the invoice has
    """

    rows: tuple[InvoiceDifference, ...]
    total: InvoiceDifference
    compared: int
    invoice: Invoice
    counts: tuple[str, ...]
    has_cost: bool
    tolerance_usd: Decimal
    provider: str

    @property
    def differs(self) -> bool:
        """Whether a row differs, or the total by more than the tolerance."""
        tolerance_usd = self.tolerance_usd if self.has_cost else None
        return bool(self.rows) or self.total.exceeds((), tolerance_usd)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the comparison, one sentence each."""
        notes = []
        if not self.invoice.is_complete:
            notes.append("The export is not complete: it says that there are more pages.")
        if not self.has_cost:
            notes.append("The export has no costs; only its counts are compared.")
        if self.total.unknown_cost_calls:
            unknown = format_calls(self.total.unknown_cost_calls)
            notes.append(f"The ledger does not know the cost of {unknown}.")
        if any(row.ledger is None for row in self.rows):
            notes.append(
                "Rows that only the bill has were asked elsewhere, or are not calls to a model."
            )
        return tuple(notes)

    def table(self) -> TextTable:
        """Two columns for each value that is compared; the last row is the total."""
        head = ["day", "model"]
        for name in self.counts:
            head += [f"{HEADINGS[name]} here", "billed"]
        if self.has_cost:
            head += ["cost here", "billed", "difference"]
        rows = [self._cells(row) for row in (*self.rows, self.total)]
        return TextTable(head, rows, 2, frozenset([len(rows) - 1]))

    def __str__(self) -> str:
        days = f"{self.invoice.first} to {self.invoice.last}, UTC"
        title = f"the ledger and the bill of {plain(self.provider)}, {days}"
        count = f"{len(self.rows):,} of {self.compared:,} rows differ"
        cost = f"by more than {show_usd(self.tolerance_usd)}" if self.has_cost else ""
        how = " or ".join(filter(None, (cost, "in their counts" if self.counts else "")))
        return "\n".join([title, f"{count} {how}", "", self.table().text(), *self.notes])

    __repr__ = __str__

    def _cells(self, row: InvoiceDifference) -> list[str]:
        cells = [f"{row.day}" if row.day else "sum", plain(row.model)]
        if row.day and not row.model:
            cells[1] = "(all models)"
        for name in self.counts:
            cells += [format_count(row.ledger, name), format_count(row.billed, name)]
        if self.has_cost:
            cost, difference = format_cost(row.ledger), row.cost_usd
            cells.append(f"at least {cost}" if row.unknown_cost_calls else cost)
            cells.append(format_cost(row.billed))
            cells.append(f"{'+' * (difference > 0)}{show_usd(difference)}")
        return cells


def format_count(line: InvoiceLine | None, name: str) -> str:
    count = None if line is None else getattr(line, name)
    return "–" if count is None else f"{count:,}"


def format_cost(line: InvoiceLine | None) -> str:
    return "–" if line is None or line.cost_usd is None else show_usd(line.cost_usd)


def compare_invoice(
    ledger: Ledger,
    invoice: Invoice,
    catalog: Catalog,
    *,
    provider: str = "openai",
    tolerance_usd: Decimal = Decimal("0.01"),
) -> Reconciliation:
    """Compare the live calls to a provider with its invoice, on the days of the invoice."""
    has_models = any(line.model for line in invoice.lines)
    counts = tuple(n for n in COUNTS if any(getattr(e, n) is not None for e in invoice.lines))
    has_cost = any(line.cost_usd is not None for line in invoice.lines)
    billed: dict[DayModel, InvoiceLine] = {}
    for line in invoice.lines:
        add_line(billed, replace(line, model=find_card_name(line.model, catalog)))
    recorded: dict[DayModel, InvoiceLine] = {}
    unknown: Counter[DayModel] = Counter()
    for entry in find_entries(ledger, invoice, provider):
        model = find_card_name(entry.model_served or entry.model, catalog) if has_models else ""
        line = convert_entry(entry, model)
        add_line(recorded, line)
        unknown[line.day, model] += entry.cost_nano_usd is None
    rows = [
        InvoiceDifference(*key, recorded.get(key), billed.get(key), unknown[key])
        for key in sorted(billed.keys() | recorded.keys())
    ]
    ledger_sum, billed_sum = (
        reduce(merge_lines, lines.values()) if lines else None for lines in (recorded, billed)
    )
    total = InvoiceDifference(None, "", ledger_sum, billed_sum, unknown.total())
    differing = tuple(r for r in rows if r.exceeds(counts, tolerance_usd if has_cost else None))
    return Reconciliation(
        differing, total, len(rows), invoice, counts, has_cost, tolerance_usd, provider
    )


def find_entries(ledger: Ledger, invoice: Invoice, provider: str) -> Iterator[Entry]:
    """The live calls to a provider on the days of an invoice, without free ones (refused)."""
    begin = datetime.combine(invoice.first, time(), UTC)
    for entry in ledger.entries(since=begin):
        is_live = entry.source == "live" and entry.provider == provider
        is_free = entry.cost_nano_usd == 0 and not entry.total_tokens and not entry.output_tokens
        if is_live and not is_free and entry.at.date() <= invoice.last:
            yield entry


def convert_entry(entry: Entry, model: str) -> InvoiceLine:
    """A ledger entry as a line of an invoice; what is unknown counts as 0."""
    return InvoiceLine(
        entry.at.astimezone(UTC).date(),
        model,
        usd(entry.cost_nano_usd) or ZERO,
        1,
        entry.input_tokens or 0,
        entry.cached_tokens or 0,
        entry.output_tokens or 0,
    )


def find_card_name(model: str, catalog: Catalog) -> str:
    """The name of a model's card; without a card the model without the date of its snapshot."""
    card = catalog.find(model)
    return card.id if card else SNAPSHOT.sub("", model)


def add_line(sums: dict[DayModel, InvoiceLine], line: InvoiceLine) -> None:
    key = (line.day, line.model)
    sums[key] = merge_lines(sums[key], line) if key in sums else line


def merge_lines(one: InvoiceLine, other: InvoiceLine) -> InvoiceLine:
    """The sums of two lines; a value is None where both are."""

    def add(name: str) -> int | None:
        known = [n for n in (getattr(one, name), getattr(other, name)) if n is not None]
        return sum(known) if known else None

    costs = [cost for cost in (one.cost_usd, other.cost_usd) if cost is not None]
    cost = reduce(EXACT.add, costs) if costs else None
    return InvoiceLine(one.day, one.model, cost, *map(add, COUNTS))


def read_invoice(path: Path) -> Invoice:
    """Read an export. Raises BadOption, with the reason, where it cannot be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadOption(f"{path} is too large", hint="export fewer days at once")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadOption(f"{path} cannot be read: {error.strerror}", hint=FORMATS) from None
    except UnicodeDecodeError:
        raise BadOption(f"{path} is not UTF-8 text", hint=FORMATS) from None
    try:
        is_json = text.lstrip().startswith(("{", "["))
        return parse_json(text) if is_json else parse_csv(text)
    except BadOption as error:
        raise BadOption(f"{path.name}: {error}", hint=error.hint) from None


def parse_json(text: str) -> Invoice:
    """A page of an organization's costs or usage, or a list of pages."""
    try:
        content = json.loads(text, parse_float=Decimal, parse_constant=reject_constant)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise BadOption(f"this is not JSON: {str(error)[:80]}", hint=FORMATS) from None
    pages = content if isinstance(content, list) else [content]
    lines: list[InvoiceLine] = []
    days: list[date] = []
    for page in pages:
        for bucket in get_objects(page, "data"):
            begin = parse_time(get_first(bucket, "start_time", "start_time_iso"))
            end = get_first(bucket, "end_time", "end_time_iso")
            last = begin if end is None else parse_time(end) - timedelta(seconds=1)
            days += [begin.date(), max(begin, last).date()]
            results = get_objects(bucket, "results" if "results" in bucket else "result")
            lines += [parse_result(result, begin.date()) for result in results]
    # Only the last page knows whether there are more.
    has_more = pages[-1].get("has_more") if pages else False
    return build_invoice(lines, days, is_complete=not has_more)


def reject_constant(name: str) -> Decimal:
    """Raise ValueError for NaN and Infinity."""
    raise ValueError(f"{name} is not a number")


def get_objects(parent: Any, name: str) -> list[dict[str, Any]]:
    """A list of objects by its name. Raises BadOption where there is none."""
    objects = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        raise BadOption(f"it has no list {name!r} of objects", hint=FORMATS)
    return objects


def get_first(values: Mapping[str, Any], *names: str) -> Any:
    """The first of some values that is not None, or None."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def parse_result(result: Mapping[str, Any], day: date) -> InvoiceLine:
    """One result of a bucket, of the costs API or of the usage API."""
    amount = result.get("amount")
    cost = None
    if amount is not None:
        if not isinstance(amount, dict):
            raise BadOption("an amount in it is not a sum of money", hint=FORMATS)
        check_currency(amount.get("currency"))
        cost = parse_usd(amount.get("value"))
    elif not any(COLUMNS[name].split()[0] in result for name in COUNTS):
        raise BadOption("a result in it has neither an amount nor a count", hint=FORMATS)
    counts = {name: parse_count(result.get(COLUMNS[name].split()[0])) for name in COUNTS}
    model = parse_model(result.get("model") or result.get("line_item"))
    return InvoiceLine(day, model, cost, **counts)


def parse_csv(text: str) -> Invoice:
    """Rows with a column for the day, and one for money, calls or tokens."""
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    lines: list[InvoiceLine] = []
    try:
        rows = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
        columns = find_columns(next(rows, []))
        for number, row in enumerate(rows, 2):
            if any(cell.strip() for cell in row):
                lines.append(parse_row(row, columns, number))
    except csv.Error as error:
        raise BadOption(f"this is not CSV: {error}", hint=FORMATS) from None
    days = [line.day for line in lines]
    # A row with nothing but a day says that there was no usage on it.
    used = (line for line in lines if line != InvoiceLine(line.day, line.model))
    return build_invoice(used, days)


def find_columns(head: Iterable[str]) -> dict[str, list[int]]:
    """The columns of each field, the preferred first. Raises BadOption where some are missing."""
    names = [NON_ALPHANUMERIC.sub("_", name.strip().lower()).strip("_") for name in head]
    columns = {
        field: [names.index(alias) for alias in aliases.split() if alias in names]
        for field, aliases in COLUMNS.items()
    }
    if not columns["day"]:
        raise BadOption("there is no column for the day", hint="name one start_time or date")
    if not any(columns[field] for field in ("cost", *COUNTS)):
        raise BadOption("there is no column for money, calls or tokens", hint=FORMATS)
    return columns


def parse_row(row: list[str], columns: Mapping[str, list[int]], number: int) -> InvoiceLine:
    """One row of a CSV file. Raises BadOption with its number where it cannot be parsed."""

    def cell(field: str) -> str | None:
        values = (row[i].strip() for i in columns[field] if i < len(row))
        return next(filter(None, values), None)

    try:
        cost = parse_usd(cell("cost"))
        if cost is not None:
            check_currency(cell("currency"))
        counts = {name: parse_count(cell(name)) for name in COUNTS}
        day = parse_time(cell("day")).date()
        return InvoiceLine(day, parse_model(cell("model")), cost, **counts)
    except BadOption as error:
        raise BadOption(f"row {number}: {error}", hint=error.hint) from None


def build_invoice(
    lines: Iterable[InvoiceLine], days: list[date], *, is_complete: bool = True
) -> Invoice:
    """The invoice of some lines. Raises BadOption for no day, and for too many."""
    if not days:
        raise BadOption("there is no day in it", hint=FORMATS)
    if (max(days) - min(days)).days > MAX_DAYS:
        raise BadOption("it covers more than a century", hint=FORMATS)
    return Invoice(tuple(lines), min(days), max(days), is_complete)


def parse_model(value: Any) -> str:
    """The model of a line item: `o3-mini-2025-01-31, output` is of `o3-mini-2025-01-31`."""
    return str(value or "").partition(",")[0].strip()[:200]


def check_currency(value: Any) -> None:
    """Raise BadOption for a currency other than US dollars, the default."""
    if value is not None and str(value).strip().lower() not in ("usd", "$", ""):
        raise BadOption(
            f"its money is {str(value)[:20]!r}, and the ledger counts US dollars",
            hint="export it in USD",
        )


def parse_usd(value: Any) -> Decimal | None:
    """US dollars, exact; None for an empty value. Raises BadOption where it is no amount."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        amount = Decimal(str(value).strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or abs(amount) > MAX_USD:
        raise BadOption(f"{str(value)[:40]!r} is not a sum of money", hint=FORMATS)
    if int(amount.as_tuple().exponent) < MIN_EXPONENT:
        raise BadOption(f"{str(value)[:40]!r} has too many digits", hint=FORMATS)
    return amount


def parse_count(value: Any) -> int | None:
    """A whole number; None for an empty value. Raises BadOption where it is none."""
    exact = parse_usd(value)
    if exact is None:
        return None
    if exact != exact.to_integral_value() or not 0 <= exact < MAX_COUNT:
        raise BadOption(f"{str(value)[:40]!r} is not a count", hint=FORMATS)
    return int(exact)


def parse_time(value: Any) -> datetime:
    """A time in UTC, from seconds or milliseconds since 1970 or ISO 8601. Raises BadOption."""
    try:
        if isinstance(value, bool) or value is None:
            raise ValueError
        if isinstance(value, int | Decimal) or re.fullmatch(r"\d{9,}(\.\d+)?", value):
            seconds = float(value)
            return datetime.fromtimestamp(seconds / (1000 if seconds > MILLISECONDS else 1), UTC)
        moment = datetime.fromisoformat(value.strip())
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise BadOption(
            f"{str(value)[:40]!r} is not a day", hint="2026-11-01, or seconds since 1970"
        ) from None
