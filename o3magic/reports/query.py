"""The query of a cost report: which calls it covers, and how they are grouped.

`%o3_cost`, `o3magic cost` and `o3.costs` take the same options.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any

from o3magic.cost.entries import CallSums, CostTotal, Entry
from o3magic.cost.ledger import Ledger
from o3magic.cost.schema import GROUPS
from o3magic.errors import BadOption, did_you_mean
from o3magic.reports.report import BY, HEADINGS, CostReport, ReportSpan, build_report

SCOPES = ("cell", "conversation", "session", "notebook", "day", "month", "all")
MAX_YEAR = 3000
SCOPES_WITHOUT_NOTEBOOK = ("day", "month", "all")  # outside a notebook
SCOPE_TITLES = {
    "cell": "the last cell that asked",
    "conversation": "the conversation that was asked last",
    "session": "this session",
    "notebook": "this notebook",
    "day": "today",
    "month": "this month",
    "all": "all time",
}
GROUPS_BY_HEADING = {heading: name for name, heading in HEADINGS.items()}


def add_report_arguments(parser: ArgumentParser, of: Sequence[str] = SCOPES) -> None:
    """Add the options of a cost report to a parser."""
    groups = ", ".join(HEADINGS.get(name, name) for name in GROUPS)
    add = parser.add_argument
    add("--of", choices=of, help="which calls")
    add("--by", metavar="NAMES", help=f"grouped by some of {groups}, with commas between them")
    add("--since", metavar="DATE", help="only calls since then, such as 2026-11-01")
    add(
        "--plot",
        nargs="?",
        const=True,
        metavar="FILE",
        help="draw the cost of each day; with FILE.svg into a file",
    )
    add("--csv", metavar="FILE", help="write the rows as CSV")
    add("--json", metavar="FILE", help="write the rows as JSON")
    add("--watch", action="store_true", help="keep it on the page, up to date (notebooks)")


def build_cost_report(
    ledger: Ledger,
    *,
    of: str | None = None,
    by: str | Sequence[str] | None = None,
    since: str | date | None = None,
    session: str = "",
    notebook: str = "",
    now: datetime | None = None,
) -> CostReport:
    """The costs of a cell, session, notebook, day, month or of all time.

    of     "cell" and "conversation" are the last ones. None: the session, with a row for each
           longer period; all time where there is no session, or where `since` is given
    by     names of groups, `"effort,model"` or a sequence; None: model and effort
    since  a date or datetime; without a time zone it is local. Days in `by` are UTC

    Raises BadOption for a value that is not known.
    """
    now = now or datetime.now().astimezone()
    groups, begin = parse_groups(by), parse_since(since)
    has_spans = of is None and begin is None
    of = of or ("session" if session and begin is None else "all")
    where = build_ledger_filter(of, begin, now, session, notebook)
    if of in ("cell", "conversation"):
        find_entries = find_last_cell if of == "cell" else find_last_conversation
        entries = find_entries(ledger, session, begin)
        rows, days = group_entries(entries, groups), group_entries(entries, ("day", "effort"))
    else:
        rows = ledger.totals(by=groups, **where)
        days = ledger.totals(by=("day", "effort"), **where)
    spans = build_spans(ledger, now, "" if of == "all" else notebook) if has_spans else ()
    return build_report(rows, build_title(of, begin), groups, spans=spans, days=days)


def build_title(of: str, begin: datetime | None) -> str:
    if begin is None:
        return SCOPE_TITLES[of]
    since = f"since {begin:%Y-%m-%d}" if begin.time() == time() else f"since {begin:%Y-%m-%d %H:%M}"
    return since if of == "all" else f"{SCOPE_TITLES[of]}, {since}"


def build_ledger_filter(
    of: str, begin: datetime | None, now: datetime, session: str, notebook: str
) -> dict[str, Any]:
    """The arguments of `Ledger.totals`. Raises BadOption for an unknown scope."""
    if of not in SCOPES:
        hint = did_you_mean(of, SCOPES, f"of one of {', '.join(SCOPES)}")
        raise BadOption(f"costs cannot be shown of {of!r}", hint=hint)
    if of in ("cell", "conversation", "session") and not session:
        raise BadOption(f"there is no session here whose {of} could be summed", hint="--of all")
    if of == "notebook" and not notebook:
        raise BadOption("this notebook's name is not known here", hint="--of session, --of day")
    if of in ("day", "month"):
        midnight = compute_period_start(of, now)
        begin = midnight if begin is None else max(begin, midnight)
    scope = {"session": {"session": session}, "notebook": {"notebook": notebook}}.get(of, {})
    return {**scope, "since": begin}


def compute_period_start(of: str, now: datetime) -> datetime:
    """When this day or month began in the local time zone."""
    local = now.astimezone().replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    # Naive, then local again: the UTC offset at midnight may differ from that of now.
    return (local if of == "day" else local.replace(day=1)).astimezone()


def build_spans(ledger: Ledger, now: datetime, notebook: str) -> tuple[ReportSpan, ...]:
    """The sums of today, this notebook where its name is known, this month, all time."""
    filters: dict[str, dict[str, Any]] = {"day": {"since": compute_period_start("day", now)}}
    if notebook:
        filters["notebook"] = {"notebook": notebook}
    filters |= {"month": {"since": compute_period_start("month", now)}, "all": {}}
    return tuple(
        build_span(SCOPE_TITLES[of], (ledger.totals(by=(), **where) or [CostTotal()])[0])
        for of, where in filters.items()
    )


def build_span(name: str, total: CostTotal) -> ReportSpan:
    return ReportSpan(name, total.live, total.simulated.calls, total.replayed.calls)


def parse_groups(by: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names of groups, each once. Raises BadOption for one the ledger lacks."""
    if by is None:
        return BY
    words = by.split(",") if isinstance(by, str) else by
    names = [GROUPS_BY_HEADING.get(word.strip(), word.strip()) for word in words]
    known = [HEADINGS.get(name, name) for name in GROUPS]
    for name in filter(None, names):
        if name not in GROUPS:
            hint = did_you_mean(name, known, f"by some of {', '.join(known)}")
            raise BadOption(f"costs cannot be shown by {name!r}", hint=hint)
    return tuple(dict.fromkeys(filter(None, names)))


def parse_since(since: str | date | None) -> datetime | None:
    """A date or datetime with its time zone, by default the local one. Raises BadOption."""
    if since is None:
        return None
    if isinstance(since, str):
        try:
            since = datetime.fromisoformat(since.strip())
        except ValueError:
            raise BadOption(f"{since!r} is not a date", hint="--since 2026-11-01") from None
    if not isinstance(since, datetime):
        since = datetime(since.year, since.month, since.day)
    if not 1970 <= since.year < MAX_YEAR:
        raise BadOption(f"no call was made about {since.year}", hint="--since 2026-11-01")
    return since.astimezone() if since.tzinfo is None else since


def find_last_cell(ledger: Ledger, session: str, since: datetime | None) -> list[Entry]:
    """The calls of the last cell. Raises BadOption where the front end names no cells."""
    entries = list(ledger.entries(session=session, since=since))
    keys = [entry.cell_key for entry in entries if entry.cell_key]
    if entries and not keys:
        raise BadOption("this front end does not name its cells", hint="--of session")
    return [entry for entry in entries if entry.cell_key == keys[-1]]


def find_last_conversation(ledger: Ledger, session: str, since: datetime | None) -> list[Entry]:
    """The calls of this session's last conversation, those of other sessions included.

    Raises BadOption where there is no conversation.
    """
    names = [e.conversation for e in ledger.entries(session=session) if e.conversation]
    if not names:
        raise BadOption("this session asked no conversation", hint="%%o3 -c NAME begins one")
    return list(ledger.entries(conversation=names[-1], since=since))


def group_entries(entries: Iterable[Entry], by: Sequence[str]) -> list[CostTotal]:
    """The sums of some entries, grouped as `Ledger.totals` groups all of them."""
    groups: dict[tuple[str, ...], CostTotal] = {}
    for entry in entries:
        day = f"{entry.at:%Y-%m-%d}"
        periods = {"day": day, "month": day[:7]}
        names = tuple(str(periods.get(name) or getattr(entry, name)) for name in by)
        total = groups.get(names) or CostTotal(**dict(zip(by, names, strict=True)))  # type: ignore[arg-type]
        sums: CallSums = getattr(total, entry.source)
        changes: dict[str, Any] = {entry.source: sums.plus(sum_entry(entry))}
        groups[names] = replace(total, **changes)
    return list(groups.values())


def sum_entry(entry: Entry) -> CallSums:
    """The sums of a single entry."""
    return CallSums(
        calls=1,
        unknown_cost_calls=int(entry.cost_nano_usd is None),
        unknown_tokens_calls=int(entry.input_tokens is None or entry.output_tokens is None),
        input_tokens=entry.input_tokens or 0,
        cached_tokens=entry.cached_tokens or 0,
        cache_write_tokens=entry.cache_write_tokens or 0,
        output_tokens=entry.output_tokens or 0,
        reasoning_tokens=entry.reasoning_tokens or 0,
        cost_nano_usd=entry.cost_nano_usd or 0,
    )
