"""The cassettes of a session: recordings replayed, recordings added."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from o3magic.cassettes.record_mode import (
    SUFFIX,
    Mode,
    choose_mode,
    get_cassette_path,
    get_refresh_path,
)
from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.errors import BadOption, CassetteError, CassetteMiss
from o3magic.events import Answer, Finished
from o3magic.settings import Settings

if TYPE_CHECKING:
    from o3magic.cassettes.cassette import Cassette
    from o3magic.cassettes.entry import Recording
    from o3magic.cassettes.format import EntryKey


class CassetteSession:
    """The cassette of one notebook in one session, and the recordings used so far."""

    def __init__(self, path: Path, notebook: str = "") -> None:
        from o3magic.cassettes.cassette import Cassette

        self.cassette = Cassette(path, notebook)
        self._fresh = Cassette(get_refresh_path(path), notebook)
        self._asked: Counter[str] = Counter()
        self._used: dict[EntryKey, None] = {}
        self._lock = threading.Lock()

    @property
    def used(self) -> tuple[EntryKey, ...]:
        """Keys of the recordings that were replayed or added, the last one last."""
        with self._lock:
            return tuple(self._used)

    def begin_cell(self) -> None:
        """Start a cell: the repetitions of its questions are counted anew."""
        with self._lock:
            self._asked.clear()

    def number(self, question: CanonicalRequest) -> int:
        """Count a question of this cell; returns its number, from 1 for the first time."""
        with self._lock:
            self._asked[question.key] += 1
            return self._asked[question.key]

    def unasked(self, question: CanonicalRequest) -> None:
        """Undo the count of a question that failed."""
        with self._lock:
            self._asked[question.key] -= 1

    def find(self, question: CanonicalRequest, n: int) -> Recording | None:
        """The recording of the n-th time of a question, or None."""
        recording = self.cassette.find(question, n)
        if recording is not None:
            self._use(recording.place)
        return recording

    def target(self, *, refresh: bool) -> Cassette:
        """The cassette that is written to."""
        return self._fresh if refresh else self.cassette

    def keep(self, recording: Recording, *, refresh: bool) -> None:
        """Add a recording after the one used last. Raises CassetteError."""
        self.keep_all([recording], refresh=refresh)

    def keep_all(self, recordings: Sequence[Recording], *, refresh: bool) -> None:
        """Add several recordings in order, in one write of the file."""
        if not recordings:
            return
        target = self.target(refresh=refresh)
        if refresh and not target.exists and self.cassette.exists:
            shutil.copyfile(
                self.cassette.path, target.path
            )  # recordings that are not refreshed stay
        with self._lock:
            before = next(reversed(self._used), None)
        target.keep_all(recordings, after=before)
        for recording in recordings:
            self._use(recording.place)

    def miss(self, question: CanonicalRequest, n: int) -> CassetteMiss:
        """The error for a question to replay that is not recorded."""
        from o3magic.cassettes.closest_match import describe_miss

        first, *lines = describe_miss(question, n, self.cassette.entries, [*self._used])
        message = f"not recorded in {self.cassette.path.name}: {first}"
        return CassetteMiss("\n  ".join([message, *lines]))

    def _use(self, place: EntryKey) -> None:
        with self._lock:
            self._used.pop(place, None)
            self._used[place] = None


@dataclass(frozen=True)
class CassetteUse:
    """How one question uses a cassette. speed: of a replay, 0 for no waits."""

    deck: CassetteSession
    mode: Mode
    speed: float = 1.0
    scrub: bool = False

    @property
    def records(self) -> bool:
        """Whether new answers are recorded."""
        return self.mode in ("auto", "record", "refresh")

    def find(self, question: CanonicalRequest, n: int) -> Recording | None:
        """The recording to replay, or None to send. Raises CassetteMiss in mode replay.

        Raises CassetteError, before anything is sent, for a question that cannot be recorded.
        """
        recording = self.recorded(question, n)
        if recording is not None:
            return recording
        if self.mode == "replay":
            raise self.deck.miss(question, n)
        from o3magic.cassettes.scrub import scrub_request

        scrub_request(question.canonical(), scrub=self.scrub)
        self.deck.target(
            refresh=self.mode == "refresh"
        ).tape()  # a broken file raises before the request is sent
        return None

    def recorded(self, question: CanonicalRequest, n: int) -> Recording | None:
        """The recording to replay, or None.

        A question in a batch has a recording of its own, since it costs less. In mode replay the
        recording of the other tier answers it too.
        """
        if self.mode not in ("replay", "auto"):
            return None
        recording = self.deck.find(question, n)
        if recording is None and self.mode == "replay":
            recording = self.deck.find(question.at_other_tier, n)
        return recording

    def keep(
        self,
        question: CanonicalRequest,
        n: int,
        answer: Answer,
        finished: Finished,
        notes: tuple[str, ...],
    ) -> Recording | str:
        """The recording of an answer, or a note why it failed: the answer is not lost."""
        from o3magic.cassettes.entry import Recording

        ended = replace(finished, notes=(*notes, *finished.notes))
        try:
            recording = Recording.of(question, n, answer, ended, scrub=self.scrub)
            self.deck.keep(recording, refresh=self.mode == "refresh")
        except (CassetteError, OSError) as error:
            return f"not recorded: {error}"
        return recording


NOT_KNOWN = "whose cassette is not known, since this is no notebook that we know the name of"


class SessionCassettes:
    """The cassettes of a session. `notebook` is the path that the front end reports."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._decks: dict[Path, CassetteSession] = {}

    def begin_cell(self) -> None:
        """Start a cell."""
        for deck in tuple(self._decks.values()):
            deck.begin_cell()

    def used(self) -> dict[str, tuple[EntryKey, ...]]:
        """Keys of the recordings that were replayed or added, by cassette path."""
        return {str(path): deck.used for path, deck in tuple(self._decks.items())}

    def cassettes_in(self, folder: Path) -> list[Path]:
        """The cassettes of a folder, or of the one that O3MAGIC_CASSETTES names."""
        named = self._environment.get("O3MAGIC_CASSETTES")
        return sorted((Path(named).expanduser() if named else folder).glob(f"*{SUFFIX}"))

    def mode(self, profile: Settings, notebook: str, *, can_ask: bool) -> Mode | None:
        """The record mode; None where neither a provider nor a cassette can answer."""
        deck = self._deck(profile, notebook)
        there = deck is not None and deck.cassette.exists
        mode = choose_mode(profile.mode, self._environment, there, can_ask)
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
        path = get_cassette_path(named, self._environment).absolute()
        if path not in self._decks:
            self._decks[path] = CassetteSession(path, Path(named).name)
        return self._decks[path]
