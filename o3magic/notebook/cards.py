"""The card of the model that would be asked: its efforts and prices, where they are known."""

from __future__ import annotations

from contextlib import suppress

from o3magic.catalog import Card
from o3magic.errors import O3Error
from o3magic.profile import Profile
from o3magic.talk.session import Session


def card_of(session: Session, profile: Profile) -> Card:
    """The card of a profile's model; a provider may call its deployment otherwise."""
    with suppress(O3Error):
        model = session.choose_model(profile, look=False).model
        provider = session.reach.stand_in(profile)
        return session.catalog.card(provider.cards.get(model, model))
    return session.catalog.card(profile.model)


def default_model(session: Session) -> tuple[str, str]:
    """The model that is asked while none is named, and why; blanks where that is not known."""
    with suppress(O3Error):
        choice = session.choose_model(session.layers.profile(), look=False)
        return choice.model, choice.reason
    return "", ""
