"""The conversations of a session: their stores, and the turn of each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from o3magic.conversations.compaction import KEEP_TURNS, PLAIN, Compaction, compact, overflows
from o3magic.conversations.conversation import Conversation, Turn, turn_of
from o3magic.conversations.store import (
    ConversationStore,
    ConversationStores,
    FileStore,
    MemoryStore,
)
from o3magic.conversations.stored_responses import last_turn, mark_of, stores
from o3magic.errors import BadOption
from o3magic.events import Answer
from o3magic.messages import Message
from o3magic.models import Card
from o3magic.session.plan import Plan, PromptInput
from o3magic.settings import Settings

AskFunction = Callable[[str, Settings], Answer]


class SessionConversations:
    """The conversations of one session. file: the path of the persistent ones."""

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
        """Start a cell: its questions are counted anew."""
        self._cell = cell
        self._asked.clear()

    def cell(self, name: str) -> str:
        """The key of the next turn: that of the cell, numbered from its second question on."""
        count = self._asked[name]
        return f"{self._cell}#{count + 1}" if self._cell and count else self._cell

    def with_turns(self, prompt: PromptInput, profile: Settings) -> PromptInput:
        """The prompt with the turns before it. Raises BadOption for a broken conversation."""
        name = profile.conversation
        cell = self.cell(name)
        conversation = self.of(profile).get(name) or Conversation(name)
        return replace(
            prompt,
            before=conversation.messages(cell),
            last=last_turn(conversation, cell),
            cell=cell,
        )

    def turns(self, profile: Settings) -> TurnTarget:
        """The target for the turn of a new question."""
        self._asked[profile.conversation] += 1
        return TurnTarget(self.of(profile), profile.conversation)

    def compacted(self, profile: Settings, card: Card, ask: AskFunction) -> tuple[str, ...]:
        """Summarize the oldest turns where `compact` is on and they do not fit; returns notes."""
        name = profile.conversation
        if not profile.compact or not name or profile.dry_run:
            return ()
        talk = self.of(profile).get(name)
        if talk is None or not overflows(talk, self.cell(name), card):
            return ()
        return (str(self.compact(name, KEEP_TURNS, profile, ask)),)

    def compact(self, name: str, keep: int, profile: Settings, ask: AskFunction) -> Compaction:
        """Summarize all turns but the last `keep`. Raises O3Error."""
        plain = replace(profile, **PLAIN)
        return compact(self.of(profile), name, keep, lambda text: ask(text, plain))


class TurnTarget:
    """Adds the turn of an answered question to its conversation."""

    def __init__(self, conversations: ConversationStore, name: str) -> None:
        self._conversations = conversations
        self._name = name

    def keep(
        self, plan: Plan, answer: Answer, between: tuple[Message, ...], *, repaired: bool
    ) -> tuple[str, ...]:
        """Add the turn, or replace that of the same cell; returns notes.

        Where the turn cannot be stored the answer is not lost: a note says so.
        """
        turn = turn_of(plan.asked.parts, answer, between, cell=plan.asked.cell)
        if not repaired:
            turn = mark_turn(turn, plan, answer)
        try:
            return self._conversations.change(
                self._name, lambda talk: (talk or Conversation(self._name)).with_turn(turn)
            ).notes
        except BadOption as error:
            return (f"not kept in {self._name}: {error}",)


def mark_turn(turn: Turn, plan: Plan, answer: Answer) -> Turn:
    """The turn with the mark of what the provider stores, where it stores it."""
    call, asked = plan.call, plan.asked
    whole = answer.finish_reason == "stop" and not answer.replayed
    if not whole or not stores(plan.profile, call.provider, call.api):
        return turn
    developer = takewhile(
        lambda message: message.role in ("developer", "system"), call.request.whole
    )
    instructions = "".join(message.text for message in developer)
    messages = (*asked.before, *turn.messages)
    before = asked.last.hidden_tokens if asked.last else 0
    return replace(
        turn,
        mark=mark_of(call.provider, call.request.model, instructions, messages),
        hidden_tokens=before + (answer.usage.reasoning_tokens or answer.usage.output_tokens or 0),
    )
