"""Where the ledger and a provider's bill differ, for each UTC day and model.

A model is the one that was served, by the name of its card: a bill names snapshots. The ledger's
totals are by the model that was asked for, so its rows are read here.
"""

from __future__ import annotations

import csv
import json
import re
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

MOST_BYTES = 256 * 2**20
MOST_USD = Decimal(10) ** 12
LEAST_EXPONENT = -60  # digits behind the point that a sum of money can have
MOST_COUNT = 10**18
MOST_DAYS = 36_600
MILLISECONDS = 10**11  # a larger number of seconds would be after the year 5000
NOT_A_NAME = re.compile(r"[^a-z0-9]+")
SHAPES = "an export of OpenAI's costs or usage, as JSON or CSV"
# The names of columns that say the same, the best first.
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


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line of a bill; None where it does not say. `model` is "" where it names none."""

    day: date
    model: str = ""
    cost_usd: Decimal | None = None
    calls: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Invoice:
    """The lines of an export, its first and its last day, and whether it is whole."""

    lines: tuple[InvoiceLine, ...]
    first: date
    last: date
    whole: bool = True


def read_bill(path: Path) -> Invoice:
    """Read an export. Raises BadOption, with what is wrong, for a file that is none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadOption(f"{path} is too large to be a bill", hint="export fewer days at once")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadOption(f"{path} cannot be read: {error.strerror}", hint=SHAPES) from None
    except UnicodeDecodeError:
        raise BadOption(f"{path} is no text in UTF-8", hint=SHAPES) from None
    try:
        as_json = text.lstrip().startswith(("{", "["))
        return parse_json(text) if as_json else parse_csv(text)
    except BadOption as error:
        raise BadOption(f"{path.name}: {error}", hint=error.hint) from None


def parse_json(text: str) -> Invoice:
    """A page of an organization's costs or usage, or a list of pages."""
    try:
        found = json.loads(text, parse_float=Decimal, parse_constant=reject_constant)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise BadOption(f"this is no JSON: {str(error)[:80]}", hint=SHAPES) from None
    pages = found if isinstance(found, list) else [found]
    lines: list[InvoiceLine] = []
    days: list[date] = []
    for page in pages:
        for bucket in items(page, "data"):
            begin = parse_time(first_value(bucket, "start_time", "start_time_iso"))
            end = first_value(bucket, "end_time", "end_time_iso")
            until = begin if end is None else parse_time(end) - timedelta(seconds=1)
            days += [begin.date(), max(begin, until).date()]
            results = bucket.get("results", bucket.get("result"))
            lines += [parse_result(result, begin.date()) for result in results_of(results)]
    # Only the last page knows whether there are more.
    more = pages[-1].get("has_more") if pages else False
    return build_invoice(lines, days, whole=not more)


def results_of(found: Any) -> list[Mapping[str, Any]]:
    """The results of one bucket. Raises BadOption where they are none."""
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise BadOption("a bucket in it has no results", hint=SHAPES)
    return found


def items(page: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects in a list of an object. Raises BadOption where there is no such list."""
    found = page.get(name) if isinstance(page, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise BadOption(f"there is no list of buckets in its {name!r}", hint=SHAPES)
    yield from found


def parse_result(result: Mapping[str, Any], day: date) -> InvoiceLine:
    """One result of a bucket: of the costs API or of the usage API."""
    amount = result.get("amount")
    cost = None
    if amount is not None:
        if not isinstance(amount, dict):
            raise BadOption("an amount in it is no sum of money", hint=SHAPES)
        check_currency(amount.get("currency"))
        cost = parse_usd(amount.get("value"))
    elif not any(COLUMNS[name].split()[0] in result for name in COUNTS):
        raise BadOption("a result in it has neither an amount nor a count", hint=SHAPES)
    counts = {name: parse_count(result.get(COLUMNS[name].split()[0])) for name in COUNTS}
    return InvoiceLine(
        day, parse_model(result.get("model") or result.get("line_item")), cost, **counts
    )


def parse_csv(text: str) -> Invoice:
    """Rows with a column for the day, and one for money or tokens."""
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    lines: list[InvoiceLine] = []
    try:
        rows = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
        places = find_columns(next(rows, []))
        for number, row in enumerate(rows, 2):
            if any(cell.strip() for cell in row):
                lines.append(parse_row(row, places, number))
    except csv.Error as error:
        raise BadOption(f"this is no CSV: {error}", hint=SHAPES) from None
    days = [each.day for each in lines]
    # A row that says nothing but its day says that nothing was used then.
    return build_invoice(
        (line for line in lines if line != InvoiceLine(line.day, line.model)), days
    )


def find_columns(head: Iterable[str]) -> dict[str, list[int]]:
    """In which columns what is said, the best first. Raises BadOption where too little is."""
    named = [NOT_A_NAME.sub("_", name.strip().lower()).strip("_") for name in head]
    places = {
        meant: [named.index(name) for name in names.split() if name in named]
        for meant, names in COLUMNS.items()
    }
    if not places["day"]:
        raise BadOption("there is no column for the day", hint="name one start_time or date")
    if not any(places[name] for name in ("cost", *COUNTS)):
        raise BadOption("there is no column for money, calls or tokens", hint=SHAPES)
    return places


def parse_row(row: list[str], places: Mapping[str, list[int]], number: int) -> InvoiceLine:
    """One row. Raises BadOption with its number where it cannot be read."""

    def cell(meant: str) -> str | None:
        found = (row[at].strip() for at in places[meant] if at < len(row))
        return next(filter(None, found), None)

    try:
        cost = parse_usd(cell("cost"))
        if cost is not None:
            check_currency(cell("currency"))
        counts = {name: parse_count(cell(name)) for name in COUNTS}
        return InvoiceLine(
            parse_time(cell("day")).date(), parse_model(cell("model")), cost, **counts
        )
    except BadOption as error:
        raise BadOption(f"row {number}: {error}", hint=error.hint) from None


def build_invoice(lines: Iterable[InvoiceLine], days: list[date], *, whole: bool = True) -> Invoice:
    """The lines as a bill. Raises BadOption where there is no day in it."""
    if not days:
        raise BadOption("there is no day in it", hint=SHAPES)
    if (max(days) - min(days)).days > MOST_DAYS:
        raise BadOption("it covers more than a century", hint=SHAPES)
    return Invoice(tuple(lines), min(days), max(days), whole)


def first_value(values: Mapping[str, Any], *names: str) -> Any:
    """The first of some values that is there, or None."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def parse_model(said: Any) -> str:
    """The model of a line item: `o3-mini-2025-01-31, output` is of `o3-mini-2025-01-31`."""
    return str(said or "").partition(",")[0].strip()[:200]


def check_currency(said: Any) -> None:
    """Raise BadOption for money that is not US dollars; where nothing is said it is."""
    if said is not None and str(said).strip().lower() not in ("usd", "$", ""):
        raise BadOption(
            f"its money is {str(said)[:20]!r}, and the ledger counts US dollars",
            hint="export it in USD",
        )


def parse_usd(said: Any) -> Decimal | None:
    """US dollars, exact, or None where nothing is said. Raises BadOption for what is no sum."""
    if said is None or (isinstance(said, str) and not said.strip()):
        return None
    try:
        usd = Decimal(str(said).strip().removeprefix("$")) if not isinstance(said, bool) else None
    except InvalidOperation:
        usd = None
    if usd is None or not usd.is_finite() or abs(usd) > MOST_USD:
        raise BadOption(f"{str(said)[:40]!r} is no sum of money", hint=SHAPES)
    if int(usd.as_tuple().exponent) < LEAST_EXPONENT:
        raise BadOption(f"{str(said)[:40]!r} has too many digits", hint=SHAPES)
    return usd


def parse_count(said: Any) -> int | None:
    """A number of things, or None where nothing is said. Raises BadOption for what is none."""
    exact = parse_usd(said)
    if exact is None:
        return None
    if exact != exact.to_integral_value() or not 0 <= exact < MOST_COUNT:
        raise BadOption(f"{str(said)[:40]!r} is no count", hint=SHAPES)
    return int(exact)


def parse_time(said: Any) -> datetime:
    """A time in UTC, from seconds since 1970 or ISO words. Raises BadOption for what is none."""
    try:
        if isinstance(said, bool) or said is None:
            raise ValueError
        if isinstance(said, int | Decimal) or re.fullmatch(r"\d{9,}(\.\d+)?", said):
            seconds = float(said)
            return datetime.fromtimestamp(seconds / (1000 if seconds > MILLISECONDS else 1), UTC)
        found = datetime.fromisoformat(said.strip())
        return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise BadOption(
            f"{str(said)[:40]!r} is no day", hint="2026-11-01, or seconds since 1970"
        ) from None


def reject_constant(said: str) -> Decimal:
    """Never returns: NaN and Infinity are in no bill. Raises ValueError."""
    raise ValueError(f"{said} is no number")


DayModel = tuple[date, str]
ZERO = Decimal(0)
HEADINGS = {"calls": "calls", "input_tokens": "input", "cached_tokens": "cached"}
HEADINGS |= {"output_tokens": "output"}


@dataclass(frozen=True, slots=True)
class InvoiceDifference:
    """One day and model: what the ledger has, what the bill says; None for one that has no row.

    unknown_cost_calls: calls whose cost is missing from the ledger's side.
    """

    day: date | None
    model: str
    ledger: InvoiceLine | None
    billed: InvoiceLine | None
    unknown_cost_calls: int = 0

    @property
    def cost_usd(self) -> Decimal:
        """What the bill has more."""
        return EXACT.subtract(cost_of(self.billed), cost_of(self.ledger))


@dataclass(frozen=True, slots=True, repr=False)
class Reconciliation:
    """What was compared, and where it differs. `rows` are only those that do; `total` is of all."""

    rows: tuple[InvoiceDifference, ...]
    total: InvoiceDifference
    compared: int
    bill: Invoice
    counts: tuple[str, ...]
    has_cost: bool
    tolerance_usd: Decimal
    provider: str

    @property
    def differs(self) -> bool:
        """Whether something differs by more than the tolerance."""
        return bool(self.rows) or is_different(self.total, (), self.has_cost, self.tolerance_usd)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, one sentence each."""
        notes = []
        if not self.bill.whole:
            notes.append("The export is not whole: it says that there are more pages.")
        if not self.has_cost:
            notes.append("The export says nothing of money; only its counts are compared.")
        if self.total.unknown_cost_calls:
            unknown = format_calls(self.total.unknown_cost_calls)
            notes.append(f"The ledger does not know the cost of {unknown}.")
        if any(row.ledger is None for row in self.rows):
            notes.append("What only the bill has was asked elsewhere, or is no call to a model.")
        return tuple(notes)

    def table(self) -> TextTable:
        """Two columns for each thing that is compared, and the sums of all."""
        head = ["day", "model"]
        for name in self.counts:
            head += [f"{HEADINGS[name]} here", "billed"]
        if self.has_cost:
            head += ["cost here", "billed", "difference"]
        rows = [self._cells(row) for row in (*self.rows, self.total)]
        return TextTable(head, rows, 2, frozenset([len(rows) - 1]))

    def __str__(self) -> str:
        """All of it in plain text."""
        days = f"{self.bill.first} to {self.bill.last}, UTC"
        title = f"the ledger and the bill of {plain(self.provider)}, {days}"
        found = f"{len(self.rows):,} of {self.compared:,} rows differ"
        money = f"by more than {show_usd(self.tolerance_usd)}" if self.has_cost else ""
        how = " or ".join(filter(None, (money, "in their counts" if self.counts else "")))
        lines = [title, f"{found} {how}"]
        return "\n".join([*lines, "", self.table().text(), *self.notes])

    __repr__ = __str__

    def _cells(self, row: InvoiceDifference) -> list[str]:
        cells = [f"{row.day}" if row.day else "sum", plain(row.model)]
        if row.day and not row.model:
            cells[1] = "(all models)"
        for name in self.counts:
            cells += [format_count(row.ledger, name), format_count(row.billed, name)]
        if self.has_cost:
            here = format_cost(row.ledger)
            here = f"at least {here}" if row.unknown_cost_calls else here
            cells += [here, format_cost(row.billed), format_difference(row.cost_usd)]
        return cells


def compared(
    ledger: Ledger,
    bill: Invoice,
    catalog: Catalog,
    *,
    provider: str = "openai",
    tolerance_usd: Decimal = Decimal("0.01"),
) -> Reconciliation:
    """Compare the live calls to one provider on the bill's days with what it says."""
    by_model = any(line.model for line in bill.lines)
    counts = tuple(n for n in COUNTS if any(getattr(e, n) is not None for e in bill.lines))
    has_cost = any(line.cost_usd is not None for line in bill.lines)
    billed: dict[DayModel, InvoiceLine] = {}
    for line in bill.lines:
        model = card_name(line.model, catalog)
        add_line(billed, replace(line, model=model))
    here: dict[DayModel, InvoiceLine] = {}
    unknown: dict[DayModel, int] = {}
    for entry in find_entries(ledger, bill, provider):
        model = card_name(entry.model_served or entry.model, catalog) if by_model else ""
        made = convert_entry(entry, model)
        add_line(here, made)
        if entry.cost_nano_usd is None:
            unknown[made.day, model] = unknown.get((made.day, model), 0) + 1
    keys = sorted(billed.keys() | here.keys())
    rows = [
        InvoiceDifference(*key, here.get(key), billed.get(key), unknown.get(key, 0)) for key in keys
    ]
    total = InvoiceDifference(None, "", sum_lines(here), sum_lines(billed), sum(unknown.values()))
    differ = tuple(row for row in rows if is_different(row, counts, has_cost, tolerance_usd))
    return Reconciliation(differ, total, len(rows), bill, counts, has_cost, tolerance_usd, provider)


def find_entries(ledger: Ledger, bill: Invoice, provider: str) -> Iterable[Entry]:
    """The live calls to a provider on the bill's days; none that was refused free of charge."""
    begin = datetime.combine(bill.first, time(), UTC)
    for entry in ledger.entries(since=begin):
        asked = entry.source == "live" and entry.provider == provider
        free = entry.cost_nano_usd == 0 and not entry.total_tokens and not entry.output_tokens
        if asked and not free and entry.at.date() <= bill.last:
            yield entry


def convert_entry(entry: Entry, model: str) -> InvoiceLine:
    """A row of the ledger as a line of a bill. What it does not know adds nothing."""
    return InvoiceLine(
        entry.at.astimezone(UTC).date(),
        model,
        usd(entry.cost_nano_usd) or ZERO,
        1,
        entry.input_tokens or 0,
        entry.cached_tokens or 0,
        entry.output_tokens or 0,
    )


def card_name(model: str, catalog: Catalog) -> str:
    """The name of a model's card; of one without a card its own, without the date of a snapshot."""
    card = catalog.find(model)
    return card.id if card else SNAPSHOT.sub("", model)


def add_line(sums: dict[DayModel, InvoiceLine], line: InvoiceLine) -> None:
    """Add a line to the sum of its day and model."""
    key = (line.day, line.model)
    sums[key] = merge_lines(sums[key], line) if key in sums else line


def merge_lines(one: InvoiceLine, other: InvoiceLine) -> InvoiceLine:
    """Both together; None is nothing where the other says something."""

    def both(name: str) -> int | None:
        known = [n for n in (getattr(one, name), getattr(other, name)) if n is not None]
        return sum(known) if known else None

    costs = [c for c in (one.cost_usd, other.cost_usd) if c is not None]
    cost = reduce(EXACT.add, costs) if costs else None
    return InvoiceLine(one.day, one.model, cost, *map(both, COUNTS))


def sum_lines(sums: Mapping[DayModel, InvoiceLine]) -> InvoiceLine | None:
    """The sum of all lines."""
    found: InvoiceLine | None = None
    for line in sums.values():
        found = line if found is None else merge_lines(found, line)
    return found


def is_different(
    row: InvoiceDifference, counts: Iterable[str], has_cost: bool, tolerance_usd: Decimal
) -> bool:
    """Whether the two sides differ: money by more than the tolerance, counts by anything."""
    if has_cost and row.cost_usd.copy_abs() > tolerance_usd:
        return True
    return any(count_of(row.ledger, name) != count_of(row.billed, name) for name in counts)


def cost_of(line: InvoiceLine | None) -> Decimal:
    """Its money, or nothing."""
    return ZERO if line is None or line.cost_usd is None else line.cost_usd


def count_of(line: InvoiceLine | None, name: str) -> int:
    """One of its counts, or nothing."""
    return (getattr(line, name) or 0) if line is not None else 0


def format_count(line: InvoiceLine | None, name: str) -> str:
    """A count to look at."""
    found = None if line is None else getattr(line, name)
    return "–" if found is None else f"{found:,}"


def format_cost(line: InvoiceLine | None) -> str:
    """A sum to look at."""
    return "–" if line is None or line.cost_usd is None else show_usd(line.cost_usd)


def format_difference(amount: Decimal) -> str:
    """A difference to look at: more on the bill has a plus."""
    return f"+{show_usd(amount)}" if amount > 0 else show_usd(amount)
