"""The cassette of a notebook while its questions are asked: what is replayed, and what is kept."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.closest_match import explained
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.format import EntryKey
from o3magic.cassettes.record_mode import SUFFIX, Mode, cassette_path, refresh_path, rule
from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.cassettes.scrub import safe_request
from o3magic.errors import BadOption, CassetteError, CassetteMiss
from o3magic.events import Answer, Finished
from o3magic.settings import Settings


class CassetteSession:
    """The cassette of one notebook in one session, and which of its takes were used."""

    def __init__(self, path: Path, notebook: str = "") -> None:
        self.cassette = Cassette(path, notebook)
        self._fresh = Cassette(refresh_path(path), notebook)
        self._asked: Counter[str] = Counter()
        self._used: dict[EntryKey, None] = {}
        self._lock = threading.Lock()

    @property
    def used(self) -> tuple[EntryKey, ...]:
        """Keys and numbers of the takes that were replayed or kept, the last one last."""
        with self._lock:
            return tuple(self._used)

    def begin_cell(self) -> None:
        """A cell begins: the first question of each kind in it is the first again."""
        with self._lock:
            self._asked.clear()

    def number(self, question: CanonicalRequest) -> int:
        """How often this cell has asked this by now."""
        with self._lock:
            self._asked[question.key] += 1
            return self._asked[question.key]

    def unasked(self, question: CanonicalRequest) -> None:
        """It came to nothing: the next time is that time again."""
        with self._lock:
            self._asked[question.key] -= 1

    def find(self, question: CanonicalRequest, n: int) -> Recording | None:
        """The take of a question's n-th time, or None."""
        take = self.cassette.find(question, n)
        if take is not None:
            self._use(take.place)
        return take

    def target(self, *, refresh: bool) -> Cassette:
        """The cassette that is written to."""
        return self._fresh if refresh else self.cassette

    def keep(self, take: Recording, *, refresh: bool) -> None:
        """Write a take down behind the one used before it. Raises CassetteError."""
        self.keep_all([take], refresh=refresh)

    def keep_all(self, takes: Sequence[Recording], *, refresh: bool) -> None:
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

    def miss(self, question: CanonicalRequest, n: int) -> CassetteMiss:
        """What to say of a question that is to be replayed and is not recorded."""
        told = explained(question, n, self.cassette.entries, [*self._used])
        what = f"not recorded in {self.cassette.path.name}: {told[0]}"
        return CassetteMiss("\n  ".join([what, *told[1:]]))

    def _use(self, place: EntryKey) -> None:
        with self._lock:
            self._used.pop(place, None)
            self._used[place] = None


@dataclass(frozen=True)
class CassetteUse:
    """How one question uses the deck. speed: of a replay, 0 for at once."""

    deck: CassetteSession
    mode: Mode
    speed: float = 1.0
    scrub: bool = False

    @property
    def records(self) -> bool:
        """Whether what is asked is kept."""
        return self.mode in ("auto", "record", "refresh")

    def find(self, question: CanonicalRequest, n: int) -> Recording | None:
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

    def recorded(self, question: CanonicalRequest, n: int) -> Recording | None:
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
        self,
        question: CanonicalRequest,
        n: int,
        answer: Answer,
        finished: Finished,
        notes: tuple[str, ...],
    ) -> Recording | str:
        """The take of what arrived, or why it could not be kept: that loses no answer."""
        ended = replace(finished, notes=(*notes, *finished.notes))
        try:
            take = Recording.of(question, n, answer, ended, scrub=self.scrub)
            self.deck.keep(take, refresh=self.mode == "refresh")
        except (CassetteError, OSError) as error:
            return f"not recorded: {error}"
        return take


NOT_KNOWN = "whose cassette is not known, since this is no notebook that we know the name of"


class SessionCassettes:
    """The cassettes that were used so far. `notebook` is what the front end says it is."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._decks: dict[Path, CassetteSession] = {}

    def begin_cell(self) -> None:
        """A cell begins."""
        for deck in tuple(self._decks.values()):
            deck.begin_cell()

    def used(self) -> dict[str, tuple[EntryKey, ...]]:
        """The takes that were replayed or kept, by the path of their cassette."""
        return {str(path): deck.used for path, deck in tuple(self._decks.items())}

    def cassettes_in(self, folder: Path) -> list[Path]:
        """The cassettes of a folder, or of the one that O3MAGIC_CASSETTES names."""
        named = self._environment.get("O3MAGIC_CASSETTES")
        return sorted((Path(named).expanduser() if named else folder).glob(f"*{SUFFIX}"))

    def mode(self, profile: Settings, notebook: str, *, can_ask: bool) -> Mode | None:
        """Whether a question is asked or replayed. None where there is nobody to ask."""
        deck = self._deck(profile, notebook)
        there = deck is not None and deck.cassette.exists
        mode = rule(profile.mode, self._environment, there, can_ask)
        if deck is None and mode in ("replay", "record", "refresh"):
            raise BadOption(f"mode {mode}: {NOT_KNOWN}", hint="%o3_config notebook=NAME.ipynb")
        return mode

    def tape(self, profile: Settings, notebook: str, mode: Mode | None) -> CassetteUse | None:
        """How a question uses its cassette, or None where it does not."""
        deck = self._deck(profile, notebook)
        if deck is None or mode is None or mode == "live":
            return None
        return CassetteUse(deck, mode, profile.replay_speed, profile.scrub)

    def recorded(
        self, question: CanonicalRequest, profile: Settings, notebook: str
    ) -> Recording | None:
        """The first recorded answer to a question, or None."""
        deck = self._deck(profile, notebook)
        return None if deck is None else deck.cassette.find(question)

    def newest_default(self, profile: Settings, notebook: str) -> Recording | None:
        """The last answer recorded to a question that named no model, or None."""
        deck = self._deck(profile, notebook)
        return None if deck is None else deck.cassette.newest_default

    def _deck(self, profile: Settings, notebook: str) -> CassetteSession | None:
        """The cassette of this notebook; None where no notebook is known."""
        named = profile.notebook or notebook
        if not named:
            return None
        path = cassette_path(named, self._environment).absolute()
        if path not in self._decks:
            self._decks[path] = CassetteSession(path, Path(named).name)
        return self._decks[path]
