"""Costs and counts as text, the order of efforts, and CSV, JSON and text files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

from o3magic.cost.entries import CallSums
from o3magic.errors import BadOption
from o3magic.money import NANO_DIGITS, show_usd
from o3magic.render.tables import visible

EFFORTS = ("", "none", "minimal", "low", "medium", "high", "xhigh", "max")
FORMULA_STARTS = ("=", "+", "-", "@")  # a spreadsheet evaluates a cell that begins with one


def write_csv(path: Path | str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as UTF-8 CSV; None is an empty cell. Raises BadOption where that fails."""
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: escape_formula(value) for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def write_json(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write a value as JSON, Decimals as text, so that no reader rounds them. Raises BadOption."""
    write_text(path, json.dumps(value, indent=1, default=format_decimal) + "\n")


def write_text(path: Path | str, text: str) -> None:
    """Write a text file as UTF-8. Raises BadOption where that fails."""
    try:
        Path(path).expanduser().write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadOption(f"{path} cannot be written: {why}", hint="name another file") from None


def format_decimal(value: Any) -> str:
    """Dollars without an exponent, to the nano-dollar. Raises TypeError for other types."""
    if isinstance(value, Decimal):
        return f"{value:.{NANO_DIGITS}f}"
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def escape_formula(value: Any) -> Any:
    """A CSV cell that no spreadsheet evaluates as a formula; Decimals without an exponent."""
    if isinstance(value, Decimal):
        return format_decimal(value)
    if not isinstance(value, str):
        return value
    name = visible(value)
    return f"'{name}" if name.startswith(FORMULA_STARTS) else name


def rank_effort(effort: str) -> int:
    """The position of an effort among all; unknown ones come last."""
    return EFFORTS.index(effort) if effort in EFFORTS else len(EFFORTS)


def known_nano_usd(sums: CallSums) -> int | None:
    """The known part of a cost, or None where no call's cost is known."""
    nothing_known = sums.calls and sums.unknown_cost_calls == sums.calls
    return None if nothing_known else sums.cost_nano_usd


def format_cost(sums: CallSums) -> str:
    """A cost as text; "at least" where a part of it is unknown."""
    cost = show_usd(known_nano_usd(sums))
    return f"at least {cost}" if sums.unknown_cost_calls and cost != "unknown" else cost


def format_calls(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls:,} calls"
