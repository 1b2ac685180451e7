"""What a batch has to do with the notebook's cassette, while it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from o3magic.jobs.batch.room import Room
from o3magic.jobs.mapping import tape_of
from o3magic.jobs.replaying import Replaying
from o3magic.jobs.rows import Ending

UNRECORDED = (
    "not recorded: a job that is opened again does not have its rows; the same o3.batch(...) puts "
    "its answers on the cassette"
)


@dataclass(frozen=True)
class Taping:
    """Where its answers are recorded. endings: rows that were on the cassette, by place."""

    replaying: Replaying
    endings: Mapping[int, Ending]


def not_taping(room: Room) -> str:
    """What is said where a job that was opened again would be recorded, or ""."""
    tape = tape_of(room.session, room.session.layers.profile())
    return UNRECORDED if tape is not None and tape.records else ""
