"""The card of the model that would be asked: its efforts and prices, where they are known."""

from __future__ import annotations

from contextlib import suppress

from o3magic.catalog import Card
from o3magic.errors import O3Error
from o3magic.profile import Profile
from o3magic.talk.plan import provider_for
from o3magic.talk.session import Session


def card_of(session: Session, profile: Profile) -> Card:
    """The card of a profile's model; a provider may call its deployment otherwise."""
    model = profile.model
    with suppress(O3Error):
        if provider := provider_for(profile, session.providers):
            model = provider.cards.get(model, model)
    return session.catalog.card(model)
