"""The tables of jobs, as numbered steps of SQL. Steps are only ever added, never changed.

A row is identified by the key of its request, so that identical rows are one. Triggers update the
sums of a job in the transaction of the row.

Money is whole nano-dollars. `cost_nano_usd` is the known cost of a row, or NULL. `held_nano_usd` is
reserved: the highest possible cost of calls in flight and of calls of unknown cost. `entry` is the
ledger entry of a call that is not settled.
"""

from __future__ import annotations

from collections.abc import Sequence

# The steps of a part. Between CREATING and CREATED a batch of unknown id may exist: it is searched
# for by its metadata before another one is created.
PLANNED = "planned"
UPLOADED = "uploaded"
CREATING = "creating"
CREATED = "created"
ENDED = "ended"  # its result files are read, its rows and its cost are saved

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

# Rows that repeat an earlier one: sent once, and listed at each of their places.
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

# The states of a row; a row that was never claimed is not in the table.
CLAIMED = "claimed"  # by the process of host, pid and started, in its run
OPEN = "open"  # it was claimed, and is to be sent again
DONE = "done"  # with a valid answer
INVALID = "invalid"  # with an answer that was billed, but does not fit the schema or is a refusal
FAILED = "failed"  # without an answer: the next run sends it again
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

# The terms that a row adds to the sums of its job. `{row}` is "NEW." or "OLD.".
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
    """Build the SQL that updates the sums of a job for an inserted, deleted or changed row."""
    updates = []
    for name, share in SHARES.items():
        plus = f" + {share.format(row='NEW.')}" if joins else ""
        minus = f" - {share.format(row='OLD.')}" if leaves else ""
        updates.append(f"{name} = {name}{plus}{minus}")
    return f"UPDATE jobs SET {', '.join(updates)} WHERE id = {'NEW' if joins else 'OLD'}.job;"


MIGRATIONS: tuple[Sequence[str], ...] = (
    (
        JOBS,
        ROWS,
        # Covers the bulk queries, so that they read no answers.
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
    # For the counts of simulated rows and of rows of unknown cost.
    (
        "CREATE INDEX rows_simulated ON rows (job) WHERE source = 'simulated'",
        """CREATE INDEX rows_of_unknown_cost ON rows (job)
           WHERE source = 'live' AND cost_nano_usd IS NULL""",
    ),
)
