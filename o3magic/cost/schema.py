"""The ledger's tables, as numbered steps of SQL. Steps are only ever added, never changed.

A file's `user_version` is the number of steps it has seen. The sums in `totals` are moved by
triggers, hence in the transaction of the row itself: no way of writing a row can forget them.
Times are whole milliseconds since 1970 UTC (`at_ms`); a day is a UTC day, as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from o3magic.cost.entries import CallSums, Entry

APPLICATION_ID = 0x6F336D67  # "o3mg": tells a ledger from any other SQLite file

ROW = ", ".join("at_ms" if f.name == "at" else f.name for f in fields(Entry))
SUMS = tuple(f.name for f in fields(CallSums))
DAY = "strftime('%Y-%m-%d', {row}at_ms / 1000, 'unixepoch')"

# What one row adds to the totals. `{row}` is "", "NEW." or "OLD.".
SHARES = {
    "calls": "1",
    "unknown_cost_calls": "({row}cost_nano_usd IS NULL)",
    "unknown_tokens_calls": "({row}input_tokens IS NULL OR {row}output_tokens IS NULL)",
    "input_tokens": "ifnull({row}input_tokens, 0)",
    "cached_tokens": "ifnull({row}cached_tokens, 0)",
    "cache_write_tokens": "ifnull({row}cache_write_tokens, 0)",
    "output_tokens": "ifnull({row}output_tokens, 0)",
    "reasoning_tokens": "ifnull({row}reasoning_tokens, 0)",
    "cost_nano_usd": "ifnull({row}cost_nano_usd, 0)",
    "held_nano_usd": "iif({row}cost_nano_usd IS NULL, {row}worst_nano_usd, 0)",
}
FIRST_SUMS = tuple(SHARES)[:9]  # those of the first step

# How totals may be grouped, and what that is in SQL.
GROUPS = {
    "month": "substr(day, 1, 7)",
    **{
        name: name
        for name in (
            "day",
            "session",
            "notebook",
            "provider",
            "model",
            "effort",
            "schema_name",
            "kind",
        )
    },
}
KEY = (*list(GROUPS)[1:], "source")

ENTRIES = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    session TEXT NOT NULL,
    notebook TEXT NOT NULL,
    cell_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('live', 'simulated', 'replayed')),
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    model_served TEXT NOT NULL DEFAULT '',
    effort TEXT NOT NULL,
    service_tier TEXT NOT NULL,
    tier_served TEXT NOT NULL DEFAULT '',
    schema_name TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    error TEXT NOT NULL DEFAULT '',
    input_tokens INTEGER,
    cached_tokens INTEGER,
    cache_write_tokens INTEGER,
    output_tokens INTEGER,
    reasoning_tokens INTEGER,
    total_tokens INTEGER,
    cost_nano_usd INTEGER,
    price_since TEXT NOT NULL DEFAULT '',
    price_source TEXT NOT NULL DEFAULT '',
    request_id TEXT NOT NULL DEFAULT '',
    response_id TEXT NOT NULL DEFAULT '',
    first_token_s REAL,
    elapsed_s REAL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started TEXT NOT NULL,
    CHECK (typeof(cost_nano_usd) IN ('integer', 'null')),
    CHECK (source = 'live' OR cost_nano_usd IS 0)
)
"""

# A sum beyond 63 bits would turn into a float without a word, if it were not for the CHECK.
TOTALS = f"""
CREATE TABLE totals (
    {", ".join(f"{name} TEXT NOT NULL" for name in KEY)},
    {", ".join(f"{name} INTEGER NOT NULL" for name in FIRST_SUMS)},
    CHECK (typeof(cost_nano_usd) = 'integer'),
    PRIMARY KEY (session, day, {", ".join(name for name in KEY if name not in ("session", "day"))})
) WITHOUT ROWID
"""


def join_totals(sums: Sequence[str]) -> str:
    """SQL that adds a new row to its totals."""
    return f"""
    INSERT INTO totals ({", ".join((*KEY, *sums))})
    VALUES ({DAY.format(row="NEW.")}, {", ".join(f"NEW.{name}" for name in KEY[1:])},
            {", ".join(SHARES[name].format(row="NEW.") for name in sums)})
    ON CONFLICT DO UPDATE SET {", ".join(f"{n} = {n} + excluded.{n}" for n in sums)};
"""


def leave_totals(sums: Sequence[str]) -> str:
    """SQL that takes a row out of its totals."""
    return f"""
    UPDATE totals
    SET {", ".join(f"{n} = {n} - {SHARES[n].format(row='OLD.')}" for n in sums)}
    WHERE day = {DAY.format(row="OLD.")} AND {" AND ".join(f"{n} = OLD.{n}" for n in KEY[1:])};
"""


def triggers(sums: Sequence[str]) -> tuple[str, str]:
    """What moves the totals with each row."""
    join, leave = join_totals(sums), leave_totals(sums)
    return (
        f"CREATE TRIGGER entered AFTER INSERT ON entries BEGIN {join} END",
        f"CREATE TRIGGER settled AFTER UPDATE ON entries BEGIN {leave} {join} END",
    )


# What questions that are being asked may still cost, beyond the calls that are entered.
HOLDS = """
CREATE TABLE holds (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    notebook TEXT NOT NULL,
    nano_usd INTEGER NOT NULL CHECK (typeof(nano_usd) = 'integer' AND nano_usd >= 0),
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started TEXT NOT NULL
)
"""

# What was spent on each day: the budgets of days and months are looked up here at every question.
DAYS = """
CREATE TABLE days (
    day TEXT PRIMARY KEY,
    cost_nano_usd INTEGER NOT NULL,
    held_nano_usd INTEGER NOT NULL
) WITHOUT ROWID
"""
SPENT = ("cost_nano_usd", "held_nano_usd")
JOIN_DAY = f"""
    INSERT INTO days (day, {", ".join(SPENT)})
    SELECT {DAY.format(row="NEW.")}, {", ".join(SHARES[n].format(row="NEW.") for n in SPENT)}
    WHERE NEW.source = 'live'
    ON CONFLICT DO UPDATE SET {", ".join(f"{n} = {n} + excluded.{n}" for n in SPENT)};
"""
LEAVE_DAY = f"""
    UPDATE days SET {", ".join(f"{n} = {n} - {SHARES[n].format(row='OLD.')}" for n in SPENT)}
    WHERE OLD.source = 'live' AND day = {DAY.format(row="OLD.")};
"""

MIGRATIONS: tuple[Sequence[str], ...] = (
    (
        ENTRIES,
        "CREATE INDEX entries_by_time ON entries (at_ms)",
        "CREATE INDEX entries_by_session ON entries (session)",
        "CREATE INDEX entries_pending ON entries (id) WHERE status = 'pending'",
        TOTALS,
        *triggers(FIRST_SUMS),
    ),
    (
        "ALTER TABLE entries ADD COLUMN worst_nano_usd INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE entries ADD COLUMN conversation TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX entries_by_conversation ON entries (conversation) WHERE conversation <> ''",
        "ALTER TABLE totals ADD COLUMN held_nano_usd INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX totals_by_notebook ON totals (notebook)",
        "DROP TRIGGER entered",
        "DROP TRIGGER settled",
        *triggers(SUMS),
        HOLDS,
        DAYS,
        """INSERT INTO days SELECT day, sum(cost_nano_usd), sum(held_nano_usd) FROM totals
           WHERE source = 'live' GROUP BY day""",
        f"CREATE TRIGGER spent AFTER INSERT ON entries BEGIN {JOIN_DAY} END",
        f"CREATE TRIGGER respent AFTER UPDATE ON entries BEGIN {LEAVE_DAY} {JOIN_DAY} END",
    ),
    (
        # Of tools that the provider ran itself; their money is a part of the cost.
        "ALTER TABLE entries ADD COLUMN hosted_calls INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE entries ADD COLUMN hosted_nano_usd INTEGER DEFAULT 0",
        """CREATE INDEX entries_answered ON entries (model, effort)
           WHERE status = 'ok' AND source = 'live'""",
    ),
)


def totals_query(by: Sequence[str], where: Sequence[str], since: bool) -> str:
    """SQL for sums per group and source. `where` names columns that must equal a parameter.

    With `since`, whole days come out of the totals and the rest of the first day out of its
    rows, so that any moment is exact; parameters `since_ms`, `next_day_ms` and `next_day`.
    """
    equal = "".join(f" AND {name} = :{name}" for name in where)
    known = f"SELECT {', '.join((*KEY, *SUMS))} FROM totals WHERE true{equal}"
    if since:
        rows = f"""
            SELECT {DAY.format(row="")}, {", ".join(KEY[1:])},
                   {", ".join(SHARES[name].format(row="") for name in SUMS)}
            FROM entries WHERE at_ms >= :since_ms AND at_ms < :next_day_ms{equal}"""
        known = f"{known} AND day >= :next_day UNION ALL {rows}"
    groups = [f"{GROUPS[name]} AS {name}" for name in by]
    names = ", ".join((*by, "source"))
    return f"""
        SELECT {", ".join((*groups, "source"))}, {", ".join(f"sum({n})" for n in SUMS)}
        FROM ({known}) GROUP BY {names} HAVING sum(calls) > 0 ORDER BY {names}"""
