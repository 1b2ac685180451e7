"""From what stands in a cell to what is asked: files, names filled in, turns before it, tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from o3magic.errors import BadOption
from o3magic.events import Answer
from o3magic.messages import Message, Part, Text
from o3magic.profile import Profile, listed
from o3magic.talk.conversation import Conversation, turn_of
from o3magic.talk.conversation_store import ConversationStore
from o3magic.talk.plan import Asked
from o3magic.talk.template import render
from o3magic.talk.toolbox import Toolbox, toolbox
from o3magic.talk.tools import ToolFunction

MOST_PROMPT_FILE_BYTES = 16_000_000


@dataclass(frozen=True)
class Place:
    """Where a cell stands: its own key, and the folder of its notebook."""

    cell_key: str
    folder: Path


def asked_of(
    prompt: str,
    profile: Profile,
    names: Mapping[str, Any] | None,
    tools: Mapping[str, ToolFunction],
    conversations: ConversationStore,
    place: Place,
) -> Asked:
    """What is asked. names: the notebook's; None: nothing is filled in.

    Raises TemplateError, BadOption for a file, a tool or a conversation that is not there.
    """
    text = with_file(prompt, profile.file, place.folder) if profile.file else prompt
    parts: tuple[Part, ...] = (Text(text),)
    notes: tuple[str, ...] = ()
    if names is not None and profile.template:
        filled = render(text, names, folder=place.folder)
        parts, notes = filled.parts, filled.notes
    box = toolbox(listed(profile.tools), names or {}, tools) if profile.tools else Toolbox()
    if profile.confirm:
        box = Toolbox(
            [replace(each, dangerous=True) for each in box.functions.values()], box.hosted
        )
    before: tuple[Message, ...] = ()
    if profile.conversation:
        talk = conversations.get(profile.conversation) or Conversation(profile.conversation)
        before = talk.messages(place.cell_key)
    return Asked(parts, before, box, notes)


def with_file(prompt: str, name: str, folder: Path) -> str:
    """The prompt in a file, the cell's own text below it. Raises BadOption."""
    path = folder / Path(name).expanduser()
    try:
        if path.stat().st_size > MOST_PROMPT_FILE_BYTES:
            raise BadOption(f"--file {name}: it is too large for a prompt")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise BadOption(f"--file {name}: {why}", hint=f"looked for in {folder}") from None
    return f"{text.rstrip()}\n\n{prompt}" if prompt.strip() else text


class Turns:
    """Where the turn of a question goes when it is answered."""

    def __init__(self, conversations: ConversationStore, name: str, cell_key: str) -> None:
        self._conversations = conversations
        self._name = name
        self._cell_key = cell_key

    def keep(self, asked: Asked, answer: Answer, between: tuple[Message, ...]) -> tuple[str, ...]:
        """Add the turn, or put it in the place of the cell's own; gives what should be known."""
        talk = self._conversations.get(self._name) or Conversation(self._name)
        turn = turn_of(asked.parts, answer, between, cell=self._cell_key)
        talk = talk.with_turn(turn)
        self._conversations.put(talk)
        return talk.notes
