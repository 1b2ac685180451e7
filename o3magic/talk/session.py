"""A session: one shell's settings, client, ledger and schemas. The only hub of the house."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from o3magic.catalog import Catalog
from o3magic.cost.ledger import Ledger
from o3magic.errors import BadOption, NoKey
from o3magic.events import Answer, Event
from o3magic.providers import Provider, Providers
from o3magic.settings import Layers, Profile, ledger_file, load_layers
from o3magic.talk.ask import Asking
from o3magic.talk.compare import Comparing, Comparison, listed, variants
from o3magic.talk.explain import nobody_to_ask
from o3magic.talk.plan import Plan, key_for, plan, provider_for
from o3magic.talk.schemas import AnswerType, answer_type, resolve

if TYPE_CHECKING:
    from o3magic.client.http import Client
    from o3magic.simulator import Simulator

SIMULATED_DELAY_S = 0.01  # between pieces: fast enough to work with, slow enough to be seen


class Session:
    """Settings, connections, books and registered schemas of one shell.

    Nothing is opened before it is needed: not the network, not the ledger, not a file.
    """

    def __init__(
        self, layers: Layers, environment: Mapping[str, str], *, notebook: str = ""
    ) -> None:
        self.id = secrets.token_hex(8)
        self.layers = layers
        self.environment = environment
        self.notebook = notebook or environment.get("JPY_SESSION_NAME", "")
        self.schemas: dict[str, Any] = {}
        self._lacks: dict[tuple[str, str], set[str]] = {}
        self._tokens: dict[str, Callable[[], str]] = {}
        self._simulator: Simulator | None = None

    @classmethod
    def start(cls, environment: Mapping[str, str], folder: Path | None = None) -> Session:
        """A session with the settings found for `folder`. Raises BadOption for a bad file."""
        return cls(load_layers(environment, folder or Path.cwd()), environment)

    def __reduce__(self) -> Any:
        """Refuse to be pickled: the environment in it may hold keys. Raises TypeError."""
        raise TypeError(
            "a Session cannot be pickled: it belongs to one process, and knows its keys"
        )

    @cached_property
    def catalog(self) -> Catalog:
        """The model cards, with the user's own."""
        return Catalog.built_in(self.layers.models)

    @cached_property
    def providers(self) -> Providers:
        """The providers, with the user's own."""
        return Providers(self.layers.providers, self.environment)

    @cached_property
    def client(self) -> Client:
        """The one client, its connections kept alive."""
        from o3magic.client.http import Client

        return Client(system_certificates=self.layers.profile().certificates == "system")

    @cached_property
    def ledger(self) -> Ledger:
        """The books."""
        return Ledger(ledger_file(self.environment))

    def configure(self, values: Mapping[str, Any], layer: str = "%o3_config") -> Profile:
        """Set fields from here on; None gives a field back to the layer below. Raises BadOption."""
        self.layers = self.layers.with_layer(layer, values)
        return self.layers.profile()

    def plan(
        self,
        prompt: str,
        profile: Profile,
        names: Mapping[str, Any] = MappingProxyType({}),
        wanted: AnswerType | None = None,
    ) -> Plan:
        """What would be sent. `names` is where schemas are looked up; `wanted` is one already.

        Raises every error that needs no provider to be found.
        """
        if wanted is None and profile.schema:
            wanted = resolve(profile.schema, names, self.schemas)
        if profile.dry_run:  # needs nobody to be there
            provider, key = (
                provider_for(profile, self.providers) or self.providers.get("openai"),
                None,
            )
        else:
            provider = self._provider(profile)
            key = self._key(provider)
        lacks = self._lacks_of(provider) | set(provider.lacks)
        return plan(prompt, profile, self.catalog, provider, key, wanted, lacks)

    def token_from(self, provider: str, source: Callable[[], str]) -> None:
        """Call `source` for a provider's token before each question, instead of reading a key.

        Raises BadOption where there is no such provider.
        """
        self._tokens[self.providers.get(provider).name] = source

    def _key(self, provider: Provider) -> SecretStr | None:
        """The key or token of a provider. Raises NoKey where it needs one and has none."""
        if source := self._tokens.get(provider.name):
            return SecretStr(source())
        if provider.auth == "entra" and self.providers.key(provider) is None:
            from o3magic.client.entra import token

            if found := token(provider.scope):
                return found
        return key_for(provider, self.providers)

    def served_models(self, profile: Profile) -> list[str]:
        """The ids a provider lists now; sends no prompt. Raises NoKey and RequestFailed."""
        provider = self._provider(profile)
        return self.client.served_models(provider, self._key(provider))

    def _lacks_of(self, provider: Provider) -> set[str]:
        """What this session found a provider not to have."""
        return self._lacks.setdefault((provider.name, provider.base_url), set())

    def begin(self, planned: Plan) -> Asking:
        """Ask it, when it is iterated over. Raises BadOption for a dry run, which sends nothing."""
        if planned.profile.dry_run:
            raise BadOption(
                "a dry run sends nothing, so there is no answer",
                hint="%%o3 --dry-run shows the request; dry_run=False asks",
            )
        lacks = self._lacks_of(planned.call.provider)
        return Asking(planned, self.client, self.ledger, self.id, self.notebook, lacks=lacks)

    def comparing(
        self,
        prompt: str,
        profile: Profile,
        names: Mapping[str, Any] = MappingProxyType({}),
        wanted: AnswerType | None = None,
    ) -> Comparing:
        """The same question in several ways, asked when it is iterated over.

        Raises every error of `plan`, and BadOption where there is nothing to compare.
        """
        ways = self.ways(prompt, profile, names, wanted)
        return Comparing({way: self.begin(planned) for way, planned in ways.items()})

    def ways(
        self,
        prompt: str,
        profile: Profile,
        names: Mapping[str, Any] = MappingProxyType({}),
        wanted: AnswerType | None = None,
    ) -> dict[str, Plan]:
        """What would be sent for each way of asking, by its label. Raises as `comparing` does."""
        chosen = variants(profile, self.catalog, listed(profile.efforts), listed(profile.models))
        return {way: self.plan(prompt, each, names, wanted) for way, each in chosen.items()}

    def compare(
        self,
        prompt: str,
        *,
        efforts: Sequence[str] = (),
        models: Sequence[str] = (),
        schema: Any = None,
        **options: Any,
    ) -> Comparison:
        """Ask at several efforts or models at once, and wait for all. Raises as `ask` does.

        A question that fails does not stop the others: see `Comparison.errors`.
        """
        chosen = {**options, "efforts": ",".join(efforts), "models": ",".join(models)}
        wanted, chosen = self._wanted(schema, chosen)
        asked = self.comparing(prompt, self.layers.profile(chosen), wanted=wanted)
        for _ in asked:
            pass
        return asked.comparison

    def ask(self, prompt: str, *, schema: Any = None, **options: Any) -> Answer:
        """Ask and wait for the answer. `schema` is a type or the name of a registered one.

        The other options are Profile's fields. Raises O3Error; one that comes after the request
        left holds what had arrived in `.answer`.
        """
        asking = self._asking(prompt, schema, options)
        for _ in asking:
            pass
        return asking.answer

    def stream(self, prompt: str, *, schema: Any = None, **options: Any) -> Iterator[Event]:
        """Ask and yield the events as they arrive. Closing the iterator stops the answer."""
        return iter(self._asking(prompt, schema, options))

    def _asking(self, prompt: str, schema: Any, options: Mapping[str, Any]) -> Asking:
        wanted, chosen = self._wanted(schema, options)
        return self.begin(self.plan(prompt, self.layers.profile(chosen), wanted=wanted))

    def _wanted(
        self, schema: Any, options: Mapping[str, Any]
    ) -> tuple[AnswerType | None, dict[str, Any]]:
        """The type of a schema that was given as one, and the options that name it."""
        if schema is None:
            return None, {**options}
        if isinstance(schema, str):
            return None, {**options, "schema": schema}
        wanted = answer_type(schema)
        return wanted, {**options, "schema": wanted.name}

    def _provider(self, profile: Profile) -> Provider:
        """Who is asked. Raises NoKey where there is nobody."""
        provider = provider_for(profile, self.providers)
        if provider is None:
            raise nobody_to_ask(filter(self.client.is_there, self.providers.local))
        if provider.embedded and not provider.base_url:
            return replace(provider, base_url=self._simulator_url())
        if not provider.base_url:
            raise NoKey(
                f"{provider.name} has no address",
                hint=f"set {provider.base_url_env}" if provider.base_url_env else "--base-url",
            )
        return provider

    def _simulator_url(self) -> str:
        """The address of the built-in simulator, which runs from its first use to the end."""
        if self._simulator is None:
            from o3magic.simulator import Simulator

            self._simulator = Simulator(delay_s=SIMULATED_DELAY_S)
            self._simulator.start()
        return self._simulator.base_url

    def close(self) -> None:
        """Close what was opened. A session that is used again opens it again."""
        for name in ("client", "ledger"):
            if opened := self.__dict__.pop(name, None):
                opened.close()
        if self._simulator is not None:
            self._simulator.stop()
            self._simulator = None
