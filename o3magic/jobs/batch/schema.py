"""The tables of batches: a step of the migrations in `schema`. Steps are never changed.

A job is sent in parts, each a file and a batch at the provider. What the tables keep of it is what
is needed to find it again and to match its answers: ids, states, and which row is in which part.
No prompt, no column of the input, no key and no address is in them.
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
