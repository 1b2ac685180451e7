"""A conversation: its turns, what of them is sent with the next question, and what was forked.

Values only; where they are kept is `conversation_store`, how they are written down for people is
`conversation_text`. Each cell has one turn: run again, it takes its own turn's place, and the turns
after it stay, marked as following an older version of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal, get_args

from o3magic.cost.token_estimates import TokenEstimate, estimate_tokens
from o3magic.errors import BadOption
from o3magic.events import Answer, Usage
from o3magic.messages import Image, Message, Part, Raw, Text, ToolCall, ToolResult

NAME: Final = re.compile(r"\w[\w.-]{0,63}")
OVERHEAD_TOKENS: Final = 4  # of each message, measured with o-series models
TurnSource = Literal["live", "simulated", "hand"]
ORIGINS: Final[dict[str, TurnSource]] = {each: each for each in get_args(TurnSource)}
SHORT: Final = "What was said before, in short:"


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and all that was said in answer to it, tool calls and their results included.

    cell: which cell asked, "" where none did. number, follows: its own number, and that of the
    turn before it when it was asked; both are given by the conversation. cost_usd: None where
    nobody knows. mark: of all that its answer stands for at the provider, "" where it keeps
    nothing; hidden_tokens: of reasoning in that.
    """

    asked: tuple[Part, ...]
    answered: tuple[Message, ...]
    cell: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    model: str = ""
    source: TurnSource = "live"
    replayed: bool = False
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    response_id: str = ""
    number: int = 0
    follows: int = 0
    mark: str = ""
    hidden_tokens: int = 0

    @property
    def question(self) -> str:
        """The words of the question."""
        return "".join(part.text for part in self.asked if isinstance(part, Text))

    @property
    def answer(self) -> str:
        """The words of the answer."""
        return "\n\n".join(
            message.text
            for message in self.answered
            if message.role == "assistant" and message.text
        )

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turn as messages that any model and any API takes.

        Without the reasoning: another model cannot read it, and later turns do not need it.
        """
        kept = (without_raw(message) for message in self.answered)
        return (Message("user", self.asked), *(each for each in kept if each.parts))


def turn_of(
    asked: Sequence[Part],
    answer: Answer,
    between: Sequence[Message] = (),
    *,
    cell: str = "",
    at: datetime | None = None,
) -> Turn:
    """The turn of an answer; `between` are the messages of its tool calls, as `following` made."""
    said = answer.text or answer.refusal
    last = (Message.of("assistant", said),) if said else ()
    return Turn(
        asked=tuple(asked),
        answered=(*between, *last),
        cell=cell,
        at=at or datetime.now(UTC),
        model=answer.model,
        source=ORIGINS.get(answer.made_by, "live"),
        replayed=answer.replayed,
        usage=answer.usage,
        cost_usd=answer.cost_usd,
        response_id=answer.id,
    )


@dataclass(frozen=True)
class Conversation:
    """Turns under a name. A change gives a new conversation, the old one stays as it was.

    made: how many turns there ever were. summary: what the first `summarised` turns said in short,
    sent in their place. forked_from: the name of the conversation it began as.
    """

    name: str
    turns: tuple[Turn, ...] = ()
    made: int = 0
    summary: str = ""
    summarised: int = 0
    forked_from: str = ""

    def __post_init__(self) -> None:
        """Raise BadOption for a name that cannot stand on a magic's line."""
        if not NAME.fullmatch(self.name):
            hint = "letters, digits, `_`, `-` and `.`, at most 64 of them"
            raise BadOption(f"{self.name[:70]!r} is no name for a conversation", hint=hint)

    def messages(self, cell: str = "") -> tuple[Message, ...]:
        """What is sent before the next question; for a cell that asks again, what stood before it.

        A turn that was cut off before any answer is left out.
        """
        turns = self.before(cell)
        short = self.summarised if self.summary and len(turns) >= self.summarised else 0
        before = (Message.of("user", f"{SHORT}\n{self.summary}"),) if short else ()
        sent = (turn for turn in turns[short:] if turn.answered)
        return (*before, *(message for turn in sent for message in turn.messages))

    def before(self, cell: str = "") -> tuple[Turn, ...]:
        """The turns that the next question of a cell follows."""
        until = self._place(cell)
        return self.turns if until is None else self.turns[:until]

    def with_turn(self, turn: Turn) -> Conversation:
        """With one turn more, or with the turn of the same cell replaced."""
        place = self._place(turn.cell)
        at = len(self.turns) if place is None else place
        number = self.made + 1
        numbered = replace(turn, number=number, follows=self._number_before(at))
        turns = (*self.turns[:at], numbered, *self.turns[at + 1 :])
        changed = replace(self, turns=turns, made=number)
        # What is summed up has changed, so the summary no longer holds.
        return changed._unsummarised() if at < self.summarised else changed

    def outdated(self, turn: Turn) -> bool:
        """Whether the turn was asked when the turn before it read otherwise."""
        return turn.follows != self._number_before(self.turns.index(turn))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the turns."""
        return tuple(
            f"turn {place} follows an older version of turn {place - 1}: run its cell again"
            if place > 1
            else f"turn {place} followed a turn that is gone"
            for place, turn in enumerate(self.turns, 1)
            if self.outdated(turn)
        )

    def fork(self, at: int, name: str) -> Conversation:
        """A new conversation of the first `at` turns. Raises BadOption where there are fewer."""
        if not 0 <= at <= len(self.turns):
            raise BadOption(f"{self.name} has {len(self.turns)} turns, not {at}")
        made = replace(self, name=name, turns=self.turns[:at], forked_from=self.name)
        return made if at >= self.summarised else made._unsummarised()

    def undo(self, count: int = 1) -> Conversation:
        """Without the last `count` turns. Raises BadOption where there are fewer."""
        if not 0 <= count <= len(self.turns):
            raise BadOption(f"{self.name} has {len(self.turns)} turns, not {count}")
        kept = len(self.turns) - count
        made = replace(self, turns=self.turns[:kept])
        return made if kept >= self.summarised else made._unsummarised()

    def renamed(self, name: str) -> Conversation:
        """Under another name. Raises BadOption for one that is none."""
        return replace(self, name=name)

    def tokens(self, cell: str = "") -> TokenEstimate:
        """About how many tokens are sent before the next question; pictures are not counted."""
        return tokens_of(self.messages(cell))

    def compact(self, keep: int) -> tuple[Turn, ...]:
        """The turns that a summary would stand for, all but the last `keep`."""
        return self.turns[: max(len(self.turns) - max(keep, 0), 0)]

    def with_summary(self, summary: str, keep: int) -> Conversation:
        """With a summary sent in place of those turns; they themselves are kept."""
        count = len(self.compact(keep))
        if not summary.strip() or not count:
            return self._unsummarised()
        return replace(self, summary=summary, summarised=count)

    def _unsummarised(self) -> Conversation:
        return replace(self, summary="", summarised=0)

    def _place(self, cell: str) -> int | None:
        """Where the turn of a cell stands, or None."""
        places = (place for place, turn in enumerate(self.turns) if cell and turn.cell == cell)
        return next(places, None)

    def _number_before(self, place: int) -> int:
        return self.turns[place - 1].number if place else 0


def without_raw(message: Message) -> Message:
    """The message without what only one model can read."""
    return replace(message, parts=tuple(p for p in message.parts if not isinstance(p, Raw)))


def tokens_of(messages: Sequence[Message]) -> TokenEstimate:
    """About how many tokens messages have; pictures are not counted."""
    low = likely = high = 0
    for message in messages:
        each = estimate_tokens("".join(map(words_of, message.parts)))
        low += each.low
        likely += each.likely + OVERHEAD_TOKENS
        high += each.high + OVERHEAD_TOKENS
    return TokenEstimate(low, likely, high)


def words_of(part: Part) -> str:
    """What a part says, for counting and for search."""
    match part:
        case Text(text) | ToolResult(_, text):
            return text
        case ToolCall(_, name, arguments):
            return f"{name} {arguments}"
        case Image():
            return ""
        case Raw():
            return ""
