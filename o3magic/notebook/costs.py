"""What `%o3_cost` does, and `o3.costs` in Python: costs as a table, a plot, files, a live view."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, NoReturn

from o3magic.errors import BadOption, did_you_mean
from o3magic.notebook.line_parser import split_words
from o3magic.render.answer import Bundle
from o3magic.render.tables import line as one_line
from o3magic.reports.query import add_words, costs
from o3magic.reports.report import CostReport

if TYPE_CHECKING:
    from o3magic.notebook.context import ShellContext
    from o3magic.session.session import Session

FLAGS = ("--of", "--by", "--since", "--plot", "--csv", "--json", "--watch")


class LineParser(argparse.ArgumentParser):
    """Words of a magic's line: what is wrong with them is a BadOption, never an exit."""

    def error(self, message: str) -> NoReturn:
        """Raise BadOption for words that make no sense."""
        raise BadOption(f"%o3_cost: {message}", hint="%o3_cost? lists the options")


def parser() -> LineParser:
    """The options of `%o3_cost`."""
    made = LineParser(prog="%o3_cost", add_help=False, allow_abbrev=False)
    add_words(made)
    return made


def read(line: str) -> argparse.Namespace:
    """The options of a line. Raises BadOption."""
    chosen, rest = parser().parse_known_args(list(split_words(line)))
    if rest:
        hint = did_you_mean(rest[0], FLAGS, "%o3_cost? lists the options")
        raise BadOption(f"%o3_cost takes no {rest[0]!r}", hint=hint)
    return chosen


def report_of(
    session: Session,
    of: str | None = None,
    by: str | Sequence[str] | None = None,
    since: str | date | None = None,
) -> CostReport:
    """The costs of a session's ledger. Raises BadOption for a word that makes no sense."""
    return costs(
        session.ledger,
        of=of,
        by=by,
        since=since,
        session=session.id,
        notebook=session.notebook,
    )


def show(bench: ShellContext, line: str) -> None:
    """Show what a line of `%o3_cost` asks for. Raises BadOption."""
    chosen = read(line)
    if chosen.watch:
        refuse_others(chosen)
        if bench.front.returns:
            watch(bench)
            return
    found = report_of(bench.session, chosen.of, chosen.by, chosen.since)
    # A terminal may have no room for all columns; a page has.
    width = None if bench.front.returns else shutil.get_terminal_size().columns
    shown = {"text/markdown": found.markdown(), "text/plain": found.text(width)}
    bench.front.show(Bundle(shown, {}))
    if chosen.plot:
        picture = found.plot()
        bench.front.show(Bundle(picture._repr_mimebundle_(), {}))
        if chosen.plot is not True:
            picture.save(chosen.plot)
    for path, write in ((chosen.csv, found.to_csv), (chosen.json, found.to_json)):
        if path:
            write(path)
    files = [
        str(each) for each in (chosen.plot, chosen.csv, chosen.json) if each not in (None, True)
    ]
    if files:
        bench.front.show(one_line(f"written: {', '.join(files)}"))


def refuse_others(chosen: argparse.Namespace) -> None:
    """Raise BadOption where a live view is asked for with what it has no use for."""
    others = [name for name, value in vars(chosen).items() if value and name != "watch"]
    if others:
        raise BadOption(f"--watch takes no --{others[0]}", hint="%o3_cost --watch alone")


def watch(bench: ShellContext) -> None:
    """Put a live view on the page. Raises BadOption where ipywidgets is not installed."""
    try:
        from o3magic.notebook.cost_watch import open_watch
    except ModuleNotFoundError as error:
        if error.name != "ipywidgets":
            raise
        raise BadOption(
            "--watch needs ipywidgets, which is not installed", hint="pip install ipywidgets"
        ) from None
    open_watch(bench)


def price_check() -> Bundle:
    """How the built-in cards differ from the prices that genai-prices has."""
    from o3magic.cost.price_check import check
    from o3magic.models import Catalog
    from o3magic.render.tables import table

    found = check(Catalog.built_in())
    if not found.differences:
        return one_line(found.said)
    return table(found.head, found.rows, found.said)


def help_text() -> str:
    """What `%o3_cost?` shows."""
    told = parser().format_help().partition("\n\n")[2]
    return f"""Show what was used and cost.

  %o3_cost                       this session by model and effort, and the sums of longer times
  %o3_cost --of month --by day   this month, day by day
  %o3_cost --watch               on the page, up to date while you work

{told}
In Python: o3.costs(of="month", by="day").to_frame()
"""
