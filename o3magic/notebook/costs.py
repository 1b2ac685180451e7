"""`%o3_cost`, and `o3.costs` in Python: costs as a table, a plot, files or a live view."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, NoReturn

from o3magic.errors import BadOption, did_you_mean
from o3magic.notebook.line_parser import split_words
from o3magic.render import tables
from o3magic.render.answer import Bundle
from o3magic.reports.query import add_report_arguments, build_cost_report
from o3magic.reports.report import CostReport

if TYPE_CHECKING:
    from o3magic.notebook.context import ShellContext
    from o3magic.session.session import Session

FLAGS = ("--of", "--by", "--since", "--plot", "--csv", "--json", "--watch")


class CostLineParser(argparse.ArgumentParser):
    """The options of `%o3_cost`. A wrong line is a BadOption; argparse would exit."""

    def __init__(self) -> None:
        super().__init__(prog="%o3_cost", add_help=False, allow_abbrev=False)
        add_report_arguments(self)

    def parse_line(self, line: str) -> argparse.Namespace:
        """The options of a line. Raises BadOption."""
        arguments, rest = self.parse_known_args(list(split_words(line)))
        if rest:
            hint = did_you_mean(rest[0], FLAGS, "%o3_cost? lists the options")
            raise BadOption(f"%o3_cost takes no {rest[0]!r}", hint=hint)
        return arguments

    def error(self, message: str) -> NoReturn:
        """Raise BadOption."""
        raise BadOption(f"%o3_cost: {message}", hint="%o3_cost? lists the options")


def show_costs(context: ShellContext, line: str) -> None:
    """Run a line of `%o3_cost`. Raises BadOption."""
    arguments = CostLineParser().parse_line(line)
    display = context.display
    if arguments.watch:
        others = [name for name, value in vars(arguments).items() if value and name != "watch"]
        if others:
            raise BadOption(f"--watch takes no --{others[0]}", hint="%o3_cost --watch alone")
        if display.returns_answer:
            watch_costs(context)
            return
    report = report_of(context.session, arguments.of, arguments.by, arguments.since)
    # A terminal may be too narrow for all columns; a page is not.
    width = None if display.returns_answer else shutil.get_terminal_size().columns
    display.show(Bundle({"text/markdown": report.markdown(), "text/plain": report.text(width)}, {}))
    if arguments.plot:
        plot = report.plot()
        display.show(Bundle(plot._repr_mimebundle_(), {}))
        if arguments.plot is not True:
            plot.save(arguments.plot)
    if arguments.csv:
        report.to_csv(arguments.csv)
    if arguments.json:
        report.to_json(arguments.json)
    paths = (arguments.plot, arguments.csv, arguments.json)
    files = [str(path) for path in paths if path not in (None, True)]
    if files:
        display.show(tables.line(f"written: {', '.join(files)}"))


def report_of(
    session: Session,
    of: str | None = None,
    by: str | Sequence[str] | None = None,
    since: str | date | None = None,
) -> CostReport:
    """The costs in a session's ledger; arguments as for `o3.costs`. Raises BadOption."""
    return build_cost_report(
        session.ledger, of=of, by=by, since=since, session=session.id, notebook=session.notebook
    )


def watch_costs(context: ShellContext) -> None:
    """Show a live view. Raises BadOption where ipywidgets is not installed."""
    try:
        from o3magic.notebook.cost_watch import open_watch
    except ModuleNotFoundError as error:
        if error.name != "ipywidgets":
            raise
        raise BadOption(
            "--watch needs ipywidgets, which is not installed", hint="pip install ipywidgets"
        ) from None
    open_watch(context)


def price_check() -> Bundle:
    """The differences between the built-in prices and those of genai-prices."""
    from o3magic.cost.price_check import check
    from o3magic.models import Catalog

    result = check(Catalog.built_in())
    if not result.differences:
        return tables.line(result.said)
    return tables.table(result.head, result.rows, result.said)


def help_text() -> str:
    """The page of `%o3_cost?`."""
    options = CostLineParser().format_help().partition("\n\n")[2]
    return f"""Show what was used and cost.

  %o3_cost                       this session by model and effort, and the sums of longer times
  %o3_cost --of month --by day   this month, day by day
  %o3_cost --watch               on the page, up to date while you work

{options}
In Python: o3.costs(of="month", by="day").to_frame()
"""
