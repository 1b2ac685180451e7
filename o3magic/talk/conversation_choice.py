"""Which conversations a session has: those in memory, and those in a file where text is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from o3magic.talk.conversation import Conversation
from o3magic.talk.conversation_store import Change, FileStore, MemoryStore, no_conversation


class Chosen:
    """Conversations in memory, and those in a file where text is kept."""

    def __init__(self, memory: MemoryStore, file: Callable[[], FileStore], *, keeps: bool) -> None:
        self._memory, self._file, self._keeps = memory, file, keeps

    @property
    def kept_in(self) -> Path | None:
        """The file, or None where nothing is kept."""
        return self._file().path if self._keeps else None

    def names(self) -> list[str]:
        """Their names."""
        here = self._memory.names()
        return [*(n for n in self._file().names() if n not in here), *here] if self._keeps else here

    def get(self, name: str) -> Conversation | None:
        """The one of that name, or None. Raises BadOption where the file cannot be read."""
        found = self._memory.get(name)
        return self._file().get(name) if found is None and self._keeps else found

    def put(self, conversation: Conversation) -> None:
        """Keep it, in the place of the one of its name. Raises BadOption where that fails."""
        self.change(conversation.name, lambda _: conversation)

    def change(self, name: str, change: Change) -> Conversation:
        """Put what `change` makes of the one of that name, with nobody else in between.

        One that began while nothing was kept goes into the file now, unless there is one of its
        name in it: that stays, and so does this one.
        """
        here = self._memory.get(name)
        if not self._keeps or (here is not None and self._file().get(name) is not None):
            return self._memory.change(name, change)
        made = self._file().change(name, change if here is None else lambda _: change(here))
        if here is not None:
            self._memory.delete(name)
        return made

    def delete(self, name: str) -> None:
        """Forget it. Raises BadOption where there is none."""
        if self._keeps and self._memory.get(name) is None:
            self._file().delete(name)
        elif self._memory.get(name) is None:
            raise no_conversation(name, self.names())
        else:
            self._memory.delete(name)
