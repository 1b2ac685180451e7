"""`o3magic cost`: what was used and spent, from the ledger; and how that agrees with the bill."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from decimal import Decimal, InvalidOperation

from o3magic.cost.ledger import Ledger
from o3magic.reports.query import SCOPES_WITHOUT_NOTEBOOK, add_report_arguments, build_cost_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of the command."""
    add_report_arguments(parser, SCOPES_WITHOUT_NOTEBOOK)
    parser.add_argument(
        "--reconcile",
        metavar="BILL",
        help="compare with a provider's usage or cost export, .json or .csv",
    )
    parser.add_argument(
        "--tolerance", type=amount, default="0.01", metavar="USD", help="default: 0.01"
    )
    parser.add_argument("--provider", default="openai", help="whose bill it is (default: openai)")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Show it. With --reconcile the exit code is 1 where the bill says something else."""
    from o3magic.config import ledger_file

    ledger = Ledger(ledger_file(os.environ))
    try:
        return reconcile(ledger, chosen) if chosen.reconcile else show(ledger, chosen)
    finally:
        ledger.close()


def show(ledger: Ledger, chosen: argparse.Namespace) -> int:
    """The costs, as text and as files."""
    found = build_cost_report(ledger, of=chosen.of, by=chosen.by, since=chosen.since)
    # In a pipe or a file there is room for all columns.
    print(found.text(shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
    if chosen.plot:
        picture = found.plot()
        print(f"\n{picture}")
        if chosen.plot is not True:
            picture.save(chosen.plot)
    for path, write in ((chosen.csv, found.to_csv), (chosen.json, found.to_json)):
        if path:
            write(path)
    return 0


def reconcile(ledger: Ledger, chosen: argparse.Namespace) -> int:
    """Where the ledger and a bill differ."""
    from pathlib import Path

    from o3magic.config import load_layers
    from o3magic.models import Catalog
    from o3magic.reports.reconciliation import compare_invoice, read_invoice

    catalog = Catalog.built_in(load_layers(os.environ, Path.cwd()).models)
    bill = read_invoice(Path(chosen.reconcile).expanduser())
    found = compare_invoice(
        ledger, bill, catalog, provider=chosen.provider, tolerance_usd=chosen.tolerance
    )
    print(found)
    return 1 if found.differs else 0


def amount(text: str) -> Decimal:
    """A sum of money that is not negative. Raises ArgumentTypeError."""
    try:
        usd = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is no sum of money") from None
    if not usd.is_finite() or usd < 0:
        raise argparse.ArgumentTypeError(f"{text} is no tolerance")
    return usd
