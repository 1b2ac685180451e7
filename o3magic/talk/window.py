"""How full a model's window is with a conversation, told before it overflows."""

from __future__ import annotations

from o3magic.catalog import Card
from o3magic.messages import Request
from o3magic.talk.conversation import tokens_of

FULL_SHARE = 0.8


def room_of(card: Card) -> int | None:
    """The tokens that a model takes, or None where nobody knows."""
    return card.max_input_tokens or card.window_tokens


def share_of(tokens: int, card: Card) -> float | None:
    """The part of a model's window that so many tokens fill, or None where nobody knows."""
    room = room_of(card)
    return tokens / room if room else None


def filled(request: Request, card: Card, conversation: str) -> tuple[str, ...]:
    """What a reader should know of the room that is left, if it is little."""
    likely = tokens_of(request.whole).likely
    share = share_of(likely, card)
    if share is None or share < FULL_SHARE:
        return ()
    return (
        f"the conversation fills about {share:.0%} of the window of {card.id} ({likely:,} tokens): "
        f"%o3_conversations compact {conversation}, or --compact",
    )
