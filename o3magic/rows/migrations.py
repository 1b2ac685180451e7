"""The tables of jobs, as numbered steps of SQL. Steps are only ever added, never changed.

A row of a job is known by the key of its question, so that identical rows are one. The sums of a
job are moved by triggers, hence in the transaction of the row itself.

Money is whole nano-dollars. `cost_nano_usd` is what a row cost for certain, NULL where nobody
knows; `held_nano_usd` is what it may cost besides: calls on their way, and calls whose cost nobody
knows, at the most they can have cost. `entry` is the ledger's number of a call that is not settled
there yet.
"""

from __future__ import annotations

from collections.abc import Sequence

# How far a part has come on our side. From CREATING to CREATED a batch may be there that we do not
# know the id of: it is looked for by its metadata, and never made again before that.
PLANNED = "planned"
UPLOADED = "uploaded"
CREATING = "creating"
CREATED = "created"
ENDED = "ended"  # its files were read, its rows are answered and its cost is entered

BATCHES = """
CREATE TABLE batches (
    job INTEGER NOT NULL,
    part INTEGER NOT NULL,
    step TEXT NOT NULL DEFAULT 'planned'
        CHECK (step IN ('planned', 'uploaded', 'creating', 'created', 'ended')),
    rows INTEGER NOT NULL,
    worst_nano_usd INTEGER NOT NULL,
    file_id TEXT NOT NULL DEFAULT '',
    batch_id TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL DEFAULT '',
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    said TEXT NOT NULL DEFAULT '',
    session TEXT NOT NULL DEFAULT '',
    entry INTEGER NOT NULL DEFAULT 0,
    changed_ms INTEGER NOT NULL,
    host TEXT NOT NULL DEFAULT '',
    pid INTEGER NOT NULL DEFAULT 0,
    started TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job, part)
)
"""

# Rows that repeat one before them: they are asked once, and shown as often as they came.
COPIES = """
CREATE TABLE copies (
    job INTEGER NOT NULL,
    place INTEGER NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (job, place)
) WITHOUT ROWID
"""

BATCH_STEP: Sequence[str] = (
    BATCHES,
    COPIES,
    "ALTER TABLE rows ADD COLUMN part INTEGER",
    "CREATE INDEX rows_by_part ON rows (job, part) WHERE part IS NOT NULL",
    """CREATE TRIGGER job_leaves AFTER DELETE ON jobs BEGIN
           DELETE FROM batches WHERE job = OLD.id;
           DELETE FROM copies WHERE job = OLD.id;
       END""",
)


APPLICATION_ID = 0x6F336D6A  # "o3mj": tells a file of jobs from a ledger

# A row's states. What is not there was never begun.
CLAIMED = "claimed"  # a process is at it: host, pid, started and run say which
OPEN = "open"  # it was begun, and is to be asked again
DONE = "done"  # an answer came, and fits
INVALID = "invalid"  # an answer came and was paid for, but fits no schema or was refused
FAILED = "failed"  # no answer came: the next call asks again
ANSWERED = (DONE, INVALID)

JOBS = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'new',
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    notebook TEXT NOT NULL DEFAULT '',
    provider TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    total INTEGER,
    spec TEXT NOT NULL DEFAULT '{}',
    said TEXT NOT NULL DEFAULT '',
    done_rows INTEGER NOT NULL DEFAULT 0,
    invalid_rows INTEGER NOT NULL DEFAULT 0,
    failed_rows INTEGER NOT NULL DEFAULT 0,
    claimed_rows INTEGER NOT NULL DEFAULT 0,
    lost_calls INTEGER NOT NULL DEFAULT 0,
    spent_nano_usd INTEGER NOT NULL DEFAULT 0,
    held_nano_usd INTEGER NOT NULL DEFAULT 0,
    CHECK (typeof(spent_nano_usd) = 'integer' AND typeof(held_nano_usd) = 'integer')
)
"""

ROWS = """
CREATE TABLE rows (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    key TEXT NOT NULL,
    place INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('claimed', 'open', 'done', 'invalid', 'failed')),
    at_ms INTEGER NOT NULL,
    host TEXT NOT NULL DEFAULT '',
    pid INTEGER NOT NULL DEFAULT 0,
    started TEXT NOT NULL DEFAULT '',
    run TEXT NOT NULL DEFAULT '',
    answer TEXT,
    error TEXT NOT NULL DEFAULT '',
    error_kind TEXT NOT NULL DEFAULT '',
    source TEXT NOT NULL DEFAULT '',
    input_tokens INTEGER,
    cached_tokens INTEGER,
    output_tokens INTEGER,
    reasoning_tokens INTEGER,
    cost_nano_usd INTEGER,
    held_nano_usd INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    entry INTEGER,
    UNIQUE (job, key),
    CHECK (typeof(cost_nano_usd) IN ('integer', 'null')),
    CHECK (typeof(held_nano_usd) = 'integer')
)
"""

# What a row adds to the sums of its job. `{row}` is "NEW." or "OLD.".
SHARES = {
    "done_rows": "({row}state = 'done')",
    "invalid_rows": "({row}state = 'invalid')",
    "failed_rows": "({row}state = 'failed')",
    "claimed_rows": "({row}state = 'claimed')",
    "lost_calls": "{row}lost",
    "spent_nano_usd": "ifnull({row}cost_nano_usd, 0)",
    "held_nano_usd": "{row}held_nano_usd",
}


def build_sums_update(joins: bool, leaves: bool) -> str:
    """SQL that moves the sums of a job when a row joins it, leaves it, or both."""
    said = []
    for name, share in SHARES.items():
        plus = f" + {share.format(row='NEW.')}" if joins else ""
        minus = f" - {share.format(row='OLD.')}" if leaves else ""
        said.append(f"{name} = {name}{plus}{minus}")
    return f"UPDATE jobs SET {', '.join(said)} WHERE id = {'NEW' if joins else 'OLD'}.job;"


MIGRATIONS: tuple[Sequence[str], ...] = (
    (
        JOBS,
        ROWS,
        # Holds all that is looked up in bulk, so that no answer is read for it.
        "CREATE INDEX rows_by_state ON rows (job, state, key)",
        f"CREATE TRIGGER row_joins AFTER INSERT ON rows BEGIN {build_sums_update(True, False)} END",
        """CREATE TRIGGER row_changes
           AFTER UPDATE OF state, lost, cost_nano_usd, held_nano_usd ON rows
           BEGIN """
        + f"{build_sums_update(True, True)} END",
        "CREATE INDEX rows_unsettled ON rows (job) WHERE entry IS NOT NULL",
        "CREATE TRIGGER row_leaves AFTER DELETE ON rows BEGIN "
        f"{build_sums_update(False, True)} END",
    ),
    BATCH_STEP,
    # What no model answered, and what nobody knows the cost of: counted wherever a job is shown.
    (
        "CREATE INDEX rows_simulated ON rows (job) WHERE source = 'simulated'",
        """CREATE INDEX rows_of_unknown_cost ON rows (job)
           WHERE source = 'live' AND cost_nano_usd IS NULL""",
    ),
)
