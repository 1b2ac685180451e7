"""Where the ledger and a provider's bill differ, for each UTC day and model.

A model is the one that was served, by the name of its card: a bill names snapshots. The ledger's
totals are by the model that was asked for, so its rows are read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import reduce

from o3magic.catalog import SNAPSHOT, Catalog
from o3magic.cost.bill import COUNTS, Bill, Billed
from o3magic.cost.columns import Columns, plain
from o3magic.cost.entries import Entry
from o3magic.cost.ledger import Ledger
from o3magic.cost.wording import counted
from o3magic.money import EXACT, show_usd, usd

Key = tuple[date, str]
ZERO = Decimal(0)
HEADINGS = {"calls": "calls", "input_tokens": "input", "cached_tokens": "cached"}
HEADINGS |= {"output_tokens": "output"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One day and model: what the ledger has, what the bill says; None for one that has no row.

    unknown_cost_calls: calls whose cost is missing from the ledger's side.
    """

    day: date | None
    model: str
    ledger: Billed | None
    billed: Billed | None
    unknown_cost_calls: int = 0

    @property
    def cost_usd(self) -> Decimal:
        """What the bill has more."""
        return EXACT.subtract(cost_of(self.billed), cost_of(self.ledger))


@dataclass(frozen=True, slots=True, repr=False)
class Reconciliation:
    """What was compared, and where it differs. `rows` are only those that do; `total` is of all."""

    rows: tuple[Difference, ...]
    total: Difference
    compared: int
    bill: Bill
    counts: tuple[str, ...]
    has_cost: bool
    tolerance_usd: Decimal
    provider: str

    @property
    def differs(self) -> bool:
        """Whether something differs by more than the tolerance."""
        return bool(self.rows) or unlike(self.total, (), self.has_cost, self.tolerance_usd)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, one sentence each."""
        notes = []
        if not self.bill.whole:
            notes.append("The export is not whole: it says that there are more pages.")
        if not self.has_cost:
            notes.append("The export says nothing of money; only its counts are compared.")
        if self.total.unknown_cost_calls:
            unknown = counted(self.total.unknown_cost_calls)
            notes.append(f"The ledger does not know the cost of {unknown}.")
        if any(row.ledger is None for row in self.rows):
            notes.append("What only the bill has was asked elsewhere, or is no call to a model.")
        return tuple(notes)

    def table(self) -> Columns:
        """Two columns for each thing that is compared, and the sums of all."""
        head = ["day", "model"]
        for name in self.counts:
            head += [f"{HEADINGS[name]} here", "billed"]
        if self.has_cost:
            head += ["cost here", "billed", "difference"]
        rows = [self._cells(row) for row in (*self.rows, self.total)]
        return Columns(head, rows, 2, frozenset([len(rows) - 1]))

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

    def _cells(self, row: Difference) -> list[str]:
        cells = [f"{row.day}" if row.day else "sum", plain(row.model)]
        if row.day and not row.model:
            cells[1] = "(all models)"
        for name in self.counts:
            cells += [said(row.ledger, name), said(row.billed, name)]
        if self.has_cost:
            here = money_cell(row.ledger)
            here = f"at least {here}" if row.unknown_cost_calls else here
            cells += [here, money_cell(row.billed), signed(row.cost_usd)]
        return cells


def compared(
    ledger: Ledger,
    bill: Bill,
    catalog: Catalog,
    *,
    provider: str = "openai",
    tolerance_usd: Decimal = Decimal("0.01"),
) -> Reconciliation:
    """Compare the live calls to one provider on the bill's days with what it says."""
    by_model = any(line.model for line in bill.lines)
    counts = tuple(n for n in COUNTS if any(getattr(e, n) is not None for e in bill.lines))
    has_cost = any(line.cost_usd is not None for line in bill.lines)
    billed: dict[Key, Billed] = {}
    for line in bill.lines:
        model = card_name(line.model, catalog)
        put(billed, replace(line, model=model))
    here: dict[Key, Billed] = {}
    unknown: dict[Key, int] = {}
    for entry in entries_of(ledger, bill, provider):
        model = card_name(entry.model_served or entry.model, catalog) if by_model else ""
        made = as_billed(entry, model)
        put(here, made)
        if entry.cost_nano_usd is None:
            unknown[made.day, model] = unknown.get((made.day, model), 0) + 1
    keys = sorted(billed.keys() | here.keys())
    rows = [Difference(*key, here.get(key), billed.get(key), unknown.get(key, 0)) for key in keys]
    total = Difference(None, "", summed(here), summed(billed), sum(unknown.values()))
    differ = tuple(row for row in rows if unlike(row, counts, has_cost, tolerance_usd))
    return Reconciliation(differ, total, len(rows), bill, counts, has_cost, tolerance_usd, provider)


def entries_of(ledger: Ledger, bill: Bill, provider: str) -> Iterable[Entry]:
    """The live calls to a provider on the bill's days; none that was refused free of charge."""
    begin = datetime.combine(bill.first, time(), UTC)
    for entry in ledger.entries(since=begin):
        asked = entry.source == "live" and entry.provider == provider
        free = entry.cost_nano_usd == 0 and not entry.total_tokens and not entry.output_tokens
        if asked and not free and entry.at.date() <= bill.last:
            yield entry


def as_billed(entry: Entry, model: str) -> Billed:
    """A row of the ledger as a line of a bill. What it does not know adds nothing."""
    return Billed(
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


def put(sums: dict[Key, Billed], line: Billed) -> None:
    """Add a line to the sum of its day and model."""
    key = (line.day, line.model)
    sums[key] = plus(sums[key], line) if key in sums else line


def plus(one: Billed, other: Billed) -> Billed:
    """Both together; None is nothing where the other says something."""

    def both(name: str) -> int | None:
        known = [n for n in (getattr(one, name), getattr(other, name)) if n is not None]
        return sum(known) if known else None

    costs = [c for c in (one.cost_usd, other.cost_usd) if c is not None]
    cost = reduce(EXACT.add, costs) if costs else None
    return Billed(one.day, one.model, cost, *map(both, COUNTS))


def summed(sums: Mapping[Key, Billed]) -> Billed | None:
    """The sum of all lines."""
    found: Billed | None = None
    for line in sums.values():
        found = line if found is None else plus(found, line)
    return found


def unlike(row: Difference, counts: Iterable[str], has_cost: bool, tolerance_usd: Decimal) -> bool:
    """Whether the two sides differ: money by more than the tolerance, counts by anything."""
    if has_cost and row.cost_usd.copy_abs() > tolerance_usd:
        return True
    return any(count_of(row.ledger, name) != count_of(row.billed, name) for name in counts)


def cost_of(line: Billed | None) -> Decimal:
    """Its money, or nothing."""
    return ZERO if line is None or line.cost_usd is None else line.cost_usd


def count_of(line: Billed | None, name: str) -> int:
    """One of its counts, or nothing."""
    return (getattr(line, name) or 0) if line is not None else 0


def said(line: Billed | None, name: str) -> str:
    """A count to look at."""
    found = None if line is None else getattr(line, name)
    return "–" if found is None else f"{found:,}"


def money_cell(line: Billed | None) -> str:
    """A sum to look at."""
    return "–" if line is None or line.cost_usd is None else show_usd(line.cost_usd)


def signed(amount: Decimal) -> str:
    """A difference to look at: more on the bill has a plus."""
    return f"+{show_usd(amount)}" if amount > 0 else show_usd(amount)
