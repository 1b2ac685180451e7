"""The cassettes of a session, one for each notebook, and what is done with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from o3magic.errors import BadOption
from o3magic.profile import Profile
from o3magic.talk.taping import Deck, Tape
from o3magic.tapes.key import Question
from o3magic.tapes.layout import Place
from o3magic.tapes.mode import Mode, cassette_path, rule
from o3magic.tapes.take import Take

NOT_KNOWN = "whose cassette is not known, since this is no notebook that we know the name of"


class Decks:
    """The cassettes that were used so far. `notebook` is what the front end says it is."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._decks: dict[Path, Deck] = {}

    def begin_cell(self) -> None:
        """A cell begins."""
        for deck in tuple(self._decks.values()):
            deck.begin_cell()

    def used(self) -> dict[str, tuple[Place, ...]]:
        """The takes that were replayed or kept, by the path of their cassette."""
        return {str(path): deck.used for path, deck in tuple(self._decks.items())}

    def mode(self, profile: Profile, notebook: str, *, can_ask: bool) -> Mode | None:
        """Whether a question is asked or replayed. None where there is nobody to ask."""
        deck = self._deck(profile, notebook)
        there = deck is not None and deck.cassette.exists
        mode = rule(profile.mode, self._environment, there, can_ask)
        if deck is None and mode in ("replay", "record", "refresh"):
            raise BadOption(f"mode {mode}: {NOT_KNOWN}", hint="%o3_config notebook=NAME.ipynb")
        return mode

    def tape(self, profile: Profile, notebook: str, mode: Mode | None) -> Tape | None:
        """How a question uses its cassette, or None where it does not."""
        deck = self._deck(profile, notebook)
        if deck is None or mode is None or mode == "live":
            return None
        return Tape(deck, mode, profile.replay_speed, profile.scrub)

    def recorded(self, question: Question, profile: Profile, notebook: str) -> Take | None:
        """The first recorded answer to a question, or None."""
        deck = self._deck(profile, notebook)
        return None if deck is None else deck.cassette.find(question)

    def newest_default(self, profile: Profile, notebook: str) -> Take | None:
        """The last answer recorded to a question that named no model, or None."""
        deck = self._deck(profile, notebook)
        return None if deck is None else deck.cassette.newest_default

    def _deck(self, profile: Profile, notebook: str) -> Deck | None:
        """The cassette of this notebook; None where no notebook is known."""
        named = profile.notebook or notebook
        if not named:
            return None
        path = cassette_path(named, self._environment).absolute()
        if path not in self._decks:
            self._decks[path] = Deck(path, Path(named).name)
        return self._decks[path]
