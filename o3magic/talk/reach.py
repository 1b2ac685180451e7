"""Who is asked, at which address and with which key; and who could be, as far as that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from o3magic.errors import NoKey
from o3magic.profile import Profile
from o3magic.providers import Provider, Providers
from o3magic.talk.explain import nobody_to_ask
from o3magic.talk.plan import key_for, provider_for

if TYPE_CHECKING:
    from o3magic.simulator import Simulator

SIMULATED_DELAY_S = 0.01  # between pieces: fast enough to work with, slow enough to be seen


class Reach:
    """The providers of a session, their tokens, and the built-in simulator once it is asked for.

    is_there: whether something answers at a local provider's address.
    """

    def __init__(self, providers: Providers, is_there: Callable[[Provider], bool]) -> None:
        self._providers = providers
        self._is_there = is_there
        self._tokens: dict[str, Callable[[], str]] = {}
        self._simulator: Simulator | None = None

    def token_from(self, provider: str, source: Callable[[], str]) -> None:
        """Call `source` for a provider's token before each question, instead of reading a key.

        Raises BadOption where there is no such provider.
        """
        self._tokens[self._providers.get(provider).name] = source

    def can_ask(self, profile: Profile) -> bool:
        """Whether there is somebody to ask, as far as that is known without asking."""
        provider = provider_for(profile, self._providers)
        if provider is None:
            return False
        open_to_all = provider.auth in ("none", "entra") or provider.local or not provider.key_env
        known = self._providers.key(provider) is not None or provider.name in self._tokens
        return open_to_all or known

    def provider(self, profile: Profile) -> Provider:
        """Who is asked. Raises NoKey where there is nobody."""
        provider = provider_for(profile, self._providers)
        if provider is None:
            raise nobody_to_ask(filter(self._is_there, self._providers.local))
        if provider.embedded and not provider.base_url:
            return replace(provider, base_url=self._simulator_url())
        if not provider.base_url:
            raise NoKey(
                f"{provider.name} has no address",
                hint=f"set {provider.base_url_env}" if provider.base_url_env else "--base-url",
            )
        return provider

    def stand_in(self, profile: Profile) -> Provider:
        """Who would be asked, for a question that is not sent."""
        return provider_for(profile, self._providers) or self._providers.get("openai")

    def key(self, provider: Provider) -> SecretStr | None:
        """The key or token of a provider. Raises NoKey where it needs one and has none."""
        if source := self._tokens.get(provider.name):
            return SecretStr(source())
        if provider.auth == "entra" and self._providers.key(provider) is None:
            from o3magic.client.entra import token

            if found := token(provider.scope):
                return found
        return key_for(provider, self._providers)

    def close(self) -> None:
        """Stop the simulator; asked again, it is started again."""
        if self._simulator is not None:
            self._simulator.stop()
            self._simulator = None

    def _simulator_url(self) -> str:
        """The address of the built-in simulator, which runs from its first use to the end."""
        if self._simulator is None:
            from o3magic.simulator import Simulator

            self._simulator = Simulator(delay_s=SIMULATED_DELAY_S)
            self._simulator.start()
        return self._simulator.base_url
