"""Where conversations are kept: in memory, or in a file where the user wants prompts kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, Protocol

from o3magic.atomic_file import lock_file, write_atomically
from o3magic.conversations.conversation import ORIGINS, Conversation, Turn
from o3magic.errors import BadOption, did_you_mean
from o3magic.events import Usage
from o3magic.messages import Image, Message, Part, Raw, Text, ToolCall, ToolResult

FORMAT: Final = "o3magic-conversations/1"
MOST_WAIT_S: Final = 20.0
ConversationChange = Callable[["Conversation | None"], Conversation]
_PARTS: Final[Mapping[str, type]] = {
    "text": Text,
    "image": Image,
    "call": ToolCall,
    "result": ToolResult,
    "raw": Raw,
}
_ROLES: Final = ("developer", "system", "user", "assistant", "tool")


class ConversationStore(Protocol):
    """Conversations by their names, in the order in which they were last changed."""

    def names(self) -> list[str]:
        """Their names."""

    def get(self, name: str) -> Conversation | None:
        """The one of that name, or None."""

    def put(self, conversation: Conversation) -> None:
        """Keep it, in the place of the one of its name."""

    def change(self, name: str, change: ConversationChange) -> Conversation:
        """Put what `change` makes of the one of that name, with nobody else in between."""

    def delete(self, name: str) -> None:
        """Forget it. Raises BadOption where there is none."""


class MemoryStore:
    """Conversations that end with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, Conversation] = {}
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        """Their names."""
        return [*self._kept]

    def get(self, name: str) -> Conversation | None:
        """The one of that name, or None."""
        return self._kept.get(name)

    def put(self, conversation: Conversation) -> None:
        """Keep it, in the place of the one of its name."""
        with self._lock:
            self._kept.pop(conversation.name, None)
            self._kept[conversation.name] = conversation

    def change(self, name: str, change: ConversationChange) -> Conversation:
        """Put what `change` makes of the one of that name, with nobody else in between."""
        with self._lock:
            made = change(self.get(name))
            self.put(made)
        return made

    def delete(self, name: str) -> None:
        """Forget it. Raises BadOption where there is none."""
        if name not in self._kept:
            raise no_conversation(name, self.names())
        del self._kept[name]


class FileStore:
    """Conversations in a file that only its owner may read; it is whole at every moment.

    Each change reads the file anew, with a lock beside it, so that another kernel's changes stay.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Their names. Raises BadOption where the file cannot be read."""
        return [*self._read()]

    def get(self, name: str) -> Conversation | None:
        """The one of that name, or None. Raises BadOption where the file cannot be read."""
        found = self._read().get(name)
        return None if found is None else self._made(found)

    def put(self, conversation: Conversation) -> None:
        """Keep it, in the place of the one of its name. Raises BadOption where that fails."""
        self.change(conversation.name, lambda _: conversation)

    def change(self, name: str, change: ConversationChange) -> Conversation:
        """Put what `change` makes of the one of that name, with no other kernel in between.

        Raises BadOption where the file cannot be read or written.
        """
        with self._alone():
            kept = self._read()
            found = kept.pop(name, None)
            made = change(None if found is None else self._made(found))
            self._write({**kept, name: to_json(made)})
        return made

    def delete(self, name: str) -> None:
        """Forget it. Raises BadOption where there is none."""
        with self._alone():
            kept = self._read()
            if name not in kept:
                raise no_conversation(name, [*kept])
            del kept[name]
            self._write(kept)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile, in this process or in another."""
        with self._lock, ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock_file(self.path, MOST_WAIT_S))
            except TimeoutError:
                raise BadOption(
                    f"{self.path} is locked by another kernel",
                    hint="wait for that kernel, or restart it",
                ) from None
            except OSError as error:
                raise self._unwritten(error) from None
            yield

    def _unwritten(self, error: OSError) -> BadOption:
        why = error.strerror or type(error).__name__
        hint = "O3MAGIC_CONVERSATIONS says another file, keep_text=false keeps none"
        return BadOption(f"{self.path} cannot be written: {why}", hint=hint)

    def _read(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_text("utf-8"))
            if data["format"] == FORMAT and isinstance(data["conversations"], dict):
                return dict(data["conversations"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        raise self._broken()

    def _made(self, data: Any) -> Conversation:
        try:
            return from_json(data)
        except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation):
            raise self._broken() from None

    def _broken(self) -> BadOption:
        hint = "move the file away, or let a newer o3magic read it"
        return BadOption(f"{self.path} holds no conversations that can be read", hint=hint)

    def _write(self, kept: Mapping[str, Any]) -> None:
        """Write beside the file and put it into its place: others see the old one or the new."""
        text = json.dumps({"format": FORMAT, "conversations": kept}, ensure_ascii=False, indent=1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, text.encode("utf-8", "replace"), mode=0o600)
        except OSError as error:
            raise self._unwritten(error) from None


def moved(store: ConversationStore, name: str, to: str) -> Conversation:
    """Rename one in its store. Raises BadOption where there is none, or one of the new name."""
    renamed = placed(store, existing(store, name).renamed(to))
    store.delete(name)
    return renamed


def placed(store: ConversationStore, made: Conversation) -> Conversation:
    """Put one under a name that is free. Raises BadOption where it is not."""

    def fresh(found: Conversation | None) -> Conversation:
        if found is not None:
            hint = "delete it, or say another name"
            raise BadOption(f"there is a conversation {made.name} already", hint=hint)
        return made

    return store.change(made.name, fresh)


def existing(store: ConversationStore, name: str) -> Conversation:
    """The one of that name. Raises BadOption where there is none."""
    found = store.get(name)
    if found is None:
        raise no_conversation(name, store.names())
    return found


def no_conversation(name: str, known: list[str]) -> BadOption:
    """What is said of a name that no conversation has."""
    otherwise = "%o3_conversations lists them"
    hint = did_you_mean(name, known, otherwise)
    return BadOption(f"there is no conversation {name}", hint=hint)


def to_json(conversation: Conversation) -> dict[str, Any]:
    """A conversation as JSON data."""
    return {
        "name": conversation.name,
        "made": conversation.made,
        "summary": conversation.summary,
        "summarised": conversation.summarised,
        "forked_from": conversation.forked_from,
        "turns": [_turn_to_json(turn) for turn in conversation.turns],
    }


def from_json(data: Mapping[str, Any]) -> Conversation:
    """A conversation from its JSON data. Raises KeyError, TypeError or ValueError for others."""
    turns = tuple(_turn_from_json(turn) for turn in data["turns"])
    return Conversation(
        name=str(data["name"]),
        turns=turns,
        made=int(data["made"]),
        summary=str(data["summary"]),
        summarised=min(max(int(data["summarised"]), 0), len(turns)),
        forked_from=str(data["forked_from"]),
    )


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    return {
        "asked": [_part_to_json(part) for part in turn.asked],
        "answered": [
            {"role": message.role, "parts": [_part_to_json(part) for part in message.parts]}
            for message in turn.answered
        ],
        "cell": turn.cell,
        "at": turn.at.isoformat(),
        "model": turn.model,
        "source": turn.source,
        "replayed": turn.replayed,
        "usage": asdict(turn.usage),
        "cost_usd": None if turn.cost_usd is None else str(turn.cost_usd),
        "response_id": turn.response_id,
        "number": turn.number,
        "follows": turn.follows,
        "mark": turn.mark,
        "hidden_tokens": turn.hidden_tokens,
    }


def _turn_from_json(data: Mapping[str, Any]) -> Turn:
    return Turn(
        asked=tuple(_part_from_json(part) for part in data["asked"]),
        answered=tuple(_message_from_json(message) for message in data["answered"]),
        cell=str(data["cell"]),
        at=datetime.fromisoformat(data["at"]),
        model=str(data["model"]),
        source=ORIGINS[data["source"]],
        replayed=bool(data["replayed"]),
        usage=Usage(**data["usage"]),
        cost_usd=None if data["cost_usd"] is None else Decimal(data["cost_usd"]),
        response_id=str(data["response_id"]),
        number=int(data["number"]),
        follows=int(data["follows"]),
        mark=str(data.get("mark", "")),
        hidden_tokens=int(data.get("hidden_tokens", 0)),
    )


def _message_from_json(data: Mapping[str, Any]) -> Message:
    if data["role"] not in _ROLES:
        raise ValueError(f"no role {data['role']!r}")
    return Message(data["role"], tuple(_part_from_json(part) for part in data["parts"]))


def _part_to_json(part: Part) -> dict[str, Any]:
    kind = next(name for name, of in _PARTS.items() if isinstance(part, of))
    return {"kind": kind, **asdict(part)}


def _part_from_json(data: Mapping[str, Any]) -> Part:
    fields = {name: value for name, value in data.items() if name != "kind"}
    if data["kind"] == "raw":
        return Raw(tuple(fields["items"]))
    if not all(isinstance(value, str) for value in fields.values()):
        raise TypeError("a part is made of text")
    made: Part = _PARTS[data["kind"]](**fields)
    return made


class ConversationStores:
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

    def change(self, name: str, change: ConversationChange) -> Conversation:
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
