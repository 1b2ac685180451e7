"""The provider of a question, its address and its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from o3magic.client.request import HttpRequest, with_base_url
from o3magic.errors import LocalModelError, NoKey
from o3magic.providers import Provider, Providers
from o3magic.session.plan import find_provider
from o3magic.settings import Settings

if TYPE_CHECKING:
    from o3magic.local.server import ModelServer
    from o3magic.simulator import Simulator

SIMULATED_DELAY_S = 0.01  # between pieces: fast enough to work with, slow enough to be seen


class ProviderSelector:
    """The providers of a session and their tokens.

    Starts the built-in simulator and the server of a local model at their first use.

    is_there: whether something answers at a local provider's address. models: the folder with
    model files.
    """

    def __init__(
        self, providers: Providers, is_there: Callable[[Provider], bool], models: Path
    ) -> None:
        self._providers = providers
        self._is_there = is_there
        self._models = models
        self._tokens: dict[str, Callable[[], str]] = {}
        self._simulator: Simulator | None = None

    def token_from(self, provider: str, source: Callable[[], str]) -> None:
        """Call `source` for a provider's token before each question, instead of reading a key.

        Raises BadOption where there is no such provider.
        """
        self._tokens[self._providers.get(provider).name] = source

    def can_ask(self, profile: Settings) -> bool:
        """Whether a request could be sent, as far as that is known without sending one."""
        return self.has_access(find_provider(profile, self._providers), profile)

    def has_access(self, provider: Provider | None, profile: Settings) -> bool:
        """The same where the provider of the profile is known already."""
        if provider is None:
            return False
        if provider.managed:
            return self._has_model(provider, profile)
        needs_no_key = provider.auth in ("none", "entra") or provider.local or not provider.key_env
        return (
            needs_no_key
            or provider.name in self._tokens
            or self._providers.key(provider) is not None
        )

    def provider(self, profile: Settings) -> Provider:
        """The provider of a profile, with its address. Raises NoKey where there is none, and
        LocalModelError for a missing model.

        A model on this machine has no address yet: see `serving`.
        """
        return self.locate(find_provider(profile, self._providers), profile)

    def locate(self, provider: Provider | None, profile: Settings) -> Provider:
        """The same where the provider of the profile is known already."""
        if provider is None:
            from o3magic.session.error_hints import no_provider_error

            raise no_provider_error(filter(self._is_there, self._providers.local))
        if provider.embedded and not provider.base_url:
            return replace(provider, base_url=self._simulator_url())
        if provider.managed:
            return replace(provider, file=self._file(provider, profile))
        if not provider.base_url:
            raise NoKey(
                f"{provider.name} has no address",
                hint=f"set {provider.base_url_env}" if provider.base_url_env else "--base-url",
            )
        return provider

    def stand_in(self, profile: Settings) -> Provider:
        """The provider of a profile, or OpenAI where none is configured: for requests not sent."""
        return find_provider(profile, self._providers) or self._providers.get("openai")

    def key(self, provider: Provider) -> SecretStr | None:
        """The key or token of a provider. Raises NoKey where it needs one and has none."""
        if source := self._tokens.get(provider.name):
            return SecretStr(source())
        if provider.managed:
            return SecretStr(self.model_server.key)
        if provider.auth == "entra" and self._providers.key(provider) is None:
            from o3magic.client.request import fetch_entra_token

            if entra_token := fetch_entra_token(provider.scope):
                return entra_token
        key = self._providers.key(provider)
        is_needed = provider.auth != "none" and provider.key_env and not provider.local
        if key is None and is_needed:
            raise NoKey(
                f"{provider.name} needs a key, and {provider.key_env} is not set",
                hint=f"set {provider.key_env} in the environment, before the kernel starts",
            )
        return key

    @cached_property
    def model_server(self) -> ModelServer:
        """The server of a model on this machine; its first lease starts it."""
        from o3magic.local.server import ModelServer

        return ModelServer()

    @contextmanager
    def serving(
        self, call: HttpRequest, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[HttpRequest]:
        """The call with an address: that of a local model is known once it has loaded.

        Raises as `ModelServer.lease`.
        """
        if not call.provider.managed:
            yield call
            return
        with self.model_server.lease(call.provider.file, stopped) as address:
            yield with_base_url(call, address)

    def local_models(self, profile: Settings) -> list[str] | None:
        """The models on this machine, where the profile uses one of them; else None."""
        provider = find_provider(profile, self._providers)
        if provider is None or not provider.managed:
            return None
        from o3magic.local.weights import kept

        return [path.stem for path in kept(self._models)]

    def _file(self, provider: Provider, profile: Settings) -> str:
        """The file of the model. Raises LocalModelError."""
        from o3magic.local.server import check_installed
        from o3magic.local.weights import file_of

        check_installed()
        model = profile.model or (provider.default_models or ("",))[0]
        return str(file_of(model, self._models))

    def _has_model(self, provider: Provider, profile: Settings) -> bool:
        """Whether the model is on this machine."""
        try:
            self._file(provider, profile)
        except LocalModelError:
            return False
        return True

    def close(self) -> None:
        """Stop the simulator and the model server; their next use starts them again."""
        if self._simulator is not None:
            self._simulator.stop()
            self._simulator = None
        if server := self.__dict__.pop("model_server", None):
            server.close()

    def _simulator_url(self) -> str:
        """The address of the built-in simulator, which runs from its first use to the end."""
        if self._simulator is None:
            from o3magic.simulator import Simulator

            self._simulator = Simulator(delay_s=SIMULATED_DELAY_S)
            self._simulator.start()
        return self._simulator.base_url
