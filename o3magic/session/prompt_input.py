"""From what stands in a cell to what is asked: files, names filled in, turns before it, tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any

from o3magic.conversations.conversation import Conversation, Turn, turn_of
from o3magic.conversations.store import ConversationStore
from o3magic.conversations.stored_responses import last_turn, mark_of, stores
from o3magic.errors import BadOption, did_you_mean
from o3magic.events import Answer
from o3magic.messages import Message, Part, Text
from o3magic.prompts.template import render
from o3magic.session.plan import Plan, PromptInput
from o3magic.settings import Settings, listed
from o3magic.tools.function import ToolFunction
from o3magic.tools.toolbox import Toolbox, toolbox

MOST_PROMPT_FILE_BYTES = 16_000_000


@dataclass(frozen=True)
class CellContext:
    """Where a cell stands: its own key, and the folder of its notebook."""

    cell_key: str
    folder: Path


def asked_of(
    prompt: str,
    profile: Settings,
    names: Mapping[str, Any] | None,
    tools: Mapping[str, ToolFunction],
    conversations: ConversationStore,
    place: CellContext,
    prompts: Mapping[str, Path] = MappingProxyType({}),
) -> PromptInput:
    """What is asked. names: the notebook's; None: nothing is filled in. prompts: registered ones.

    Raises TemplateError, BadOption for a file, a tool or a conversation that is not there.
    """
    text = with_file(prompt, profile.file, place.folder, prompts) if profile.file else prompt
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
    if not profile.conversation:
        return PromptInput(parts, (), box, notes)
    talk = conversations.get(profile.conversation) or Conversation(profile.conversation)
    cell = place.cell_key
    before, last = talk.messages(cell), last_turn(talk, cell)
    return PromptInput(parts, before, box, notes, last, cell)


def with_file(
    prompt: str, name: str, folder: Path, prompts: Mapping[str, Path] = MappingProxyType({})
) -> str:
    """The prompt in a file, the cell's own text below it. Raises BadOption."""
    path = prompts.get(name) or folder / Path(name).expanduser()
    hint = did_you_mean(name, [*prompts], f"looked for in {folder}")
    text = file_text(path, f"--file {name}", hint)
    return f"{text.rstrip()}\n\n{prompt}" if prompt.strip() else text


def with_developer(profile: Settings, folder: Path) -> Settings:
    """The profile with the developer message that `@file` stands for. Raises BadOption.

    `@@` begins one that begins with `@` itself.
    """
    said = profile.developer
    if not said.startswith("@"):
        return profile
    if said.startswith("@@"):
        return replace(profile, developer=said[1:])
    path = folder / Path(said[1:]).expanduser()
    hint = f"looked for in {folder}; @@ begins a message that begins with @"
    return replace(profile, developer=file_text(path, f"--developer {said}", hint).strip())


def file_text(path: Path, said: str, hint: str) -> str:
    """The text of a file. Raises BadOption."""
    try:
        if path.stat().st_size > MOST_PROMPT_FILE_BYTES:
            raise BadOption(f"{said}: it is too large for a prompt")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise BadOption(f"{said}: {why}", hint=hint) from None


class TurnTarget:
    """Where the turn of a question goes when it is answered."""

    def __init__(self, conversations: ConversationStore, name: str) -> None:
        self._conversations = conversations
        self._name = name

    def keep(
        self, plan: Plan, answer: Answer, between: tuple[Message, ...], *, repaired: bool
    ) -> tuple[str, ...]:
        """Add the turn, or put it in the place of the cell's own; gives what should be known.

        An answer is not lost where its turn cannot be kept: that is one of the things to know.
        """
        turn = turn_of(plan.asked.parts, answer, between, cell=plan.asked.cell)
        if not repaired:
            turn = marked(turn, plan, answer)
        try:
            return self._conversations.change(
                self._name, lambda talk: (talk or Conversation(self._name)).with_turn(turn)
            ).notes
        except BadOption as error:
            return (f"not kept in {self._name}: {error}",)


def marked(turn: Turn, plan: Plan, answer: Answer) -> Turn:
    """The turn with the mark of what the provider has of it now, where it has it."""
    call, asked = plan.call, plan.asked
    whole = answer.finish_reason == "stop" and not answer.replayed
    if not whole or not stores(plan.profile, call.provider, call.api):
        return turn
    above = takewhile(lambda each: each.role in ("developer", "system"), call.request.whole)
    words = "".join(message.text for message in above)
    said = (*asked.before, *turn.messages)
    before = asked.last.hidden_tokens if asked.last else 0
    return replace(
        turn,
        mark=mark_of(call.provider, call.request.model, words, said),
        hidden_tokens=before + (answer.usage.reasoning_tokens or answer.usage.output_tokens or 0),
    )
