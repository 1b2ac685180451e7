"""Whether a provider has the turns of a conversation: then its last answer is named by its id.

It is named only where the provider would read word for word what would be sent otherwise. So each
turn keeps a mark of all that was said up to its answer, and to whom; another model, a fork, a turn
that was asked again, another developer message or a summary make another mark.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from o3magic.messages import Api, Message, Raw, StoredOutput
from o3magic.providers import Provider
from o3magic.settings import Settings

if TYPE_CHECKING:
    from o3magic.conversations.conversation import Conversation, Turn

OPENAI_HOST = "openai.com"


def stores(profile: Settings, provider: Provider, api: Api) -> bool:
    """Whether the provider keeps the answer to a question for the next one.

    What stands at OpenAI's variable may be a gateway that forgets: only OpenAI's own host counts.
    """
    if api != "responses" or not profile.store or not provider.stores:
        return False
    return provider.name != "openai" or f".{provider.host}".endswith(f".{OPENAI_HOST}")


def mark_of(provider: Provider, model: str, developer: str, said: Sequence[Message]) -> str:
    """The mark of what was said, and to whom."""
    parts = [
        [message.role, *(asdict(part) for part in message.parts if not isinstance(part, Raw))]
        for message in said
    ]
    whole = json.dumps([provider.origin, model, developer, parts], default=str)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def last_turn(conversation: Conversation, cell: str) -> Turn | None:
    """The turn that the next question of a cell follows, or None."""
    return next((each for each in reversed(conversation.before(cell)) if each.answered), None)


def kept_by(
    last: Turn | None,
    said: tuple[Message, ...],
    *,
    developer: tuple[Message, ...],
    profile: Settings,
    provider: Provider,
    api: Api,
    lacks: Collection[str],
) -> StoredOutput | None:
    """What the provider has of `said`, all of it or None."""
    if last is None or not last.response_id or not last.mark:
        return None
    if "memory" in lacks or f"memory {profile.model}" in lacks:
        return None
    words = "".join(message.text for message in developer)
    if not stores(profile, provider, api):
        return None
    if last.mark != mark_of(provider, profile.model, words, said):
        return None
    return StoredOutput(last.response_id, (*developer, *said), last.hidden_tokens)
