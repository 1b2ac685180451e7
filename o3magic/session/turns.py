"""The conversations of a session: where they are kept, and which turn is whose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from o3magic.conversations.compaction import KEEP_TURNS, PLAIN, Compaction, compact, overflows
from o3magic.conversations.store import ConversationStores, FileStore, MemoryStore
from o3magic.events import Answer
from o3magic.models import Card
from o3magic.session.prompt_input import TurnTarget
from o3magic.settings import Settings

AskFunction = Callable[[str, Settings], Answer]


class SessionConversations:
    """The conversations of one session. file: where those go that outlive the kernel."""

    def __init__(self, file: Callable[[], Path]) -> None:
        self._file = file
        self._memory = MemoryStore()
        self._cell = ""
        self._asked: Counter[str] = Counter()

    @cached_property
    def _in_file(self) -> FileStore:
        return FileStore(self._file())

    def of(self, profile: Settings) -> ConversationStores:
        """The conversations: in memory, and in a file where `keep_text` is on."""
        return ConversationStores(self._memory, lambda: self._in_file, keeps=profile.keep_text)

    def begin_cell(self, cell: str) -> None:
        """Another cell is run: its questions are its first ones again."""
        self._cell = cell
        self._asked.clear()

    def cell(self, name: str) -> str:
        """The key of the next turn: the cell's own, numbered where the cell asks several times."""
        count = self._asked[name]
        return f"{self._cell}#{count + 1}" if self._cell and count else self._cell

    def turns(self, profile: Settings) -> TurnTarget:
        """Where the turn of a question goes that is asked now."""
        self._asked[profile.conversation] += 1
        return TurnTarget(self.of(profile), profile.conversation)

    def compacted(self, profile: Settings, card: Card, ask: AskFunction) -> tuple[str, ...]:
        """Sum up the oldest turns where that is wanted and needed; what a reader should know."""
        name = profile.conversation
        if not profile.compact or not name or profile.dry_run:
            return ()
        talk = self.of(profile).get(name)
        if talk is None or not overflows(talk, self.cell(name), card):
            return ()
        return (str(self.compact(name, KEEP_TURNS, profile, ask)),)

    def compact(self, name: str, keep: int, profile: Settings, ask: AskFunction) -> Compaction:
        """Have all turns but the last `keep` summed up. Raises O3Error."""
        plain = replace(profile, **PLAIN)
        return compact(self.of(profile), name, keep, lambda text: ask(text, plain))
