"""The cassette of a notebook while its questions are asked: what is replayed, and what is kept."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from o3magic.errors import CassetteError, CassetteMiss
from o3magic.events import Answer, Finished
from o3magic.tapes.cassette import Cassette
from o3magic.tapes.key import Question
from o3magic.tapes.layout import Place
from o3magic.tapes.mode import Mode, refresh_path
from o3magic.tapes.nearest import explained
from o3magic.tapes.scrub import safe_request
from o3magic.tapes.take import Take


class Deck:
    """The cassette of one notebook in one session, and which of its takes were used."""

    def __init__(self, path: Path, notebook: str = "") -> None:
        self.cassette = Cassette(path, notebook)
        self._fresh = Cassette(refresh_path(path), notebook)
        self._asked: Counter[str] = Counter()
        self._used: dict[Place, None] = {}
        self._lock = threading.Lock()

    @property
    def used(self) -> tuple[Place, ...]:
        """Keys and numbers of the takes that were replayed or kept, the last one last."""
        with self._lock:
            return tuple(self._used)

    def begin_cell(self) -> None:
        """A cell begins: the first question of each kind in it is the first again."""
        with self._lock:
            self._asked.clear()

    def number(self, question: Question) -> int:
        """How often this cell has asked this by now."""
        with self._lock:
            self._asked[question.key] += 1
            return self._asked[question.key]

    def unasked(self, question: Question) -> None:
        """It came to nothing: the next time is that time again."""
        with self._lock:
            self._asked[question.key] -= 1

    def find(self, question: Question, n: int) -> Take | None:
        """The take of a question's n-th time, or None."""
        take = self.cassette.find(question, n)
        if take is not None:
            self._use(take.place)
        return take

    def target(self, *, refresh: bool) -> Cassette:
        """The cassette that is written to."""
        return self._fresh if refresh else self.cassette

    def keep(self, take: Take, *, refresh: bool) -> None:
        """Write a take down behind the one used before it. Raises CassetteError."""
        self.keep_all([take], refresh=refresh)

    def keep_all(self, takes: Sequence[Take], *, refresh: bool) -> None:
        """Write several down, one behind the other, in one change of the file."""
        if not takes:
            return
        target = self.target(refresh=refresh)
        if refresh and not target.exists and self.cassette.exists:
            shutil.copyfile(self.cassette.path, target.path)  # what is not asked again stays
        with self._lock:
            before = next(reversed(self._used), None)
        target.keep_all(takes, after=before)
        for take in takes:
            self._use(take.place)

    def miss(self, question: Question, n: int) -> CassetteMiss:
        """What to say of a question that is to be replayed and is not recorded."""
        told = explained(question, n, self.cassette.entries, [*self._used])
        what = f"not recorded in {self.cassette.path.name}: {told[0]}"
        return CassetteMiss("\n  ".join([what, *told[1:]]))

    def _use(self, place: Place) -> None:
        with self._lock:
            self._used.pop(place, None)
            self._used[place] = None


@dataclass(frozen=True)
class Tape:
    """How one question uses the deck. speed: of a replay, 0 for at once."""

    deck: Deck
    mode: Mode
    speed: float = 1.0
    scrub: bool = False

    @property
    def records(self) -> bool:
        """Whether what is asked is kept."""
        return self.mode in ("auto", "record", "refresh")

    def find(self, question: Question, n: int) -> Take | None:
        """The take to replay, or None to ask. Raises CassetteMiss where asking is not wanted.

        Before anything is sent, raises CassetteError for a question that could not be kept.
        """
        take = self.recorded(question, n)
        if take is not None:
            return take
        if self.mode == "replay":
            raise self.deck.miss(question, n)
        safe_request(question.canonical(), scrub=self.scrub)
        self.deck.target(refresh=self.mode == "refresh").tape()  # one that is broken is told now
        return None

    def recorded(self, question: Question, n: int) -> Take | None:
        """The take to replay, or None.

        What is asked in a batch has a take of its own, for it costs less. Where nobody can be asked
        the same question, asked the other way, is answered by it too.
        """
        if self.mode not in ("replay", "auto"):
            return None
        take = self.deck.find(question, n)
        if take is None and self.mode == "replay":
            take = self.deck.find(question.at_other_tier, n)
        return take

    def keep(
        self, question: Question, n: int, answer: Answer, finished: Finished, notes: tuple[str, ...]
    ) -> Take | str:
        """The take of what arrived, or why it could not be kept: that loses no answer."""
        ended = replace(finished, notes=(*notes, *finished.notes))
        try:
            take = Take.of(question, n, answer, ended, scrub=self.scrub)
            self.deck.keep(take, refresh=self.mode == "refresh")
        except (CassetteError, OSError) as error:
            return f"not recorded: {error}"
        return take
