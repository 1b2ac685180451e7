"""The session of one shell: plan, ask, stream, compare, in plain and async Python."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from o3magic.cassettes.record_mode import Mode
from o3magic.config import (
    Config,
    conversations_file,
    ledger_file,
    load_layers,
    models_folder,
    working_folder,
)
from o3magic.cost.budgets import BudgetStatus
from o3magic.cost.ledger import FallbackLedger, Ledger
from o3magic.errors import (
    BadOption,
    CassetteError,
    Interrupted,
    LocalModelError,
    NoConnection,
    NoKey,
    O3Error,
    RequestFailed,
)
from o3magic.events import Answer, Event
from o3magic.interrupts import raise_interrupted, stop_on_interrupt
from o3magic.models import Catalog
from o3magic.providers import Provider, Providers
from o3magic.session.answer_stream import AnswerStream
from o3magic.session.capability_fallbacks import missing_models
from o3magic.session.default_model import (
    MIGRATE_TO,
    ModelChoice,
    choose_default,
    choose_migrated_default,
    choose_recorded_default,
    list_compared_efforts,
)
from o3magic.session.estimate import (
    TokenRange,
    build_budgets,
    count,
    estimate_call,
    format_estimate,
)
from o3magic.session.plan import Plan, PromptInput, build_plan, find_provider
from o3magic.session.prompt_input import build_prompt, load_developer
from o3magic.session.provider_selection import ProviderSelector
from o3magic.session.recorder import SessionCassettes
from o3magic.session.spending import CallAccounting, LedgerContext
from o3magic.settings import Settings, listed

if TYPE_CHECKING:
    from pydantic import SecretStr

    from o3magic.client.http import Client, ServedModel
    from o3magic.conversations.compaction import Compaction
    from o3magic.conversations.store import ConversationStores
    from o3magic.schemas.answer_type import AnswerType
    from o3magic.session.comparison import Comparison, ComparisonStream
    from o3magic.session.turns import SessionConversations
    from o3magic.tools.function import ToolFunction
    from o3magic.tools.toolbox import ConfirmCall

MOST_WAIT_S = 10.0
LOGGER = logging.getLogger("o3magic")
LOOK_S = 0.2
LIST_TIMEOUT_S = 10.0
LOOK_TIMEOUT_S = 2.0  # a user waits for an answer


@dataclass
class ProviderFindings:
    """The facts that a session learned about one provider.

    lacks: missing capabilities, see `capability_fallbacks`. served: the model ids it lists, None
    before the first look; shutdowns: the days in that list.
    """

    lacks: set[str] = field(default_factory=set)
    served: tuple[str, ...] | None = None
    shutdowns: Mapping[str, date | None] = field(default_factory=dict)


class Session:
    """One shell's settings, connections, ledger and schemas, and all ways to ask with them.

    Nothing is opened before it is needed: not the network, not the ledger, not a file.
    """

    def __init__(
        self, layers: Config, environment: Mapping[str, str], *, notebook: str = ""
    ) -> None:
        self.id = secrets.token_hex(8)
        self.layers = layers
        self.environment = environment
        self.notebook = notebook
        # Whether cassettes are searched where no notebook is known, and the one that was found.
        self.searches_cassettes = False
        self._found_cassette = ""
        self.cell_key = ""
        self.tools: dict[str, ToolFunction] = {}
        self.prompts: dict[str, Path] = {}
        self.schemas: dict[str, Any] = {}
        self._turn_key = ""
        self._findings: dict[tuple[str, str], ProviderFindings] = {}
        # The default models that an answer has explained already.
        self._introduced: set[tuple[str, str]] = set()
        self.decks = SessionCassettes(environment)
        # State of higher layers that lives as long as the session, by name.
        self.kept: dict[str, Any] = {}
        # Confirms the calls of dangerous tools; without it they are declined.
        self.confirm: ConfirmCall | None = None

    @classmethod
    def start(cls, environment: Mapping[str, str], folder: Path | None = None) -> Self:
        """A session with the settings found for `folder`. Raises BadOption for a bad file."""
        return cls(load_layers(environment, folder or working_folder()), environment)

    def __reduce__(self) -> Any:
        """Refuse to be pickled: the environment in it may hold keys. Raises TypeError."""
        raise TypeError(
            "a Session cannot be pickled: it belongs to one process, and knows its keys"
        )

    @cached_property
    def catalog(self) -> Catalog:
        """The model cards, with the user's own and those of the models on this machine."""
        from o3magic.local.weights import CARDS

        return Catalog.built_in({**CARDS, **self.layers.models})

    @cached_property
    def providers(self) -> Providers:
        """The providers, with the user's own."""
        return Providers(self.layers.providers, self.environment)

    @cached_property
    def reach(self) -> ProviderSelector:
        """The selection of provider and key."""
        models = models_folder(self.environment)
        return ProviderSelector(
            self.providers, lambda provider: self.client.is_there(provider), models
        )

    @cached_property
    def client(self) -> Client:
        """The one client, its connections kept alive."""
        from o3magic.client.http import Client

        return Client(system_certificates=self.layers.profile().certificates == "system")

    @cached_property
    def conversation_turns(self) -> SessionConversations:
        """The conversations, and the turns that the running cell adds to them."""
        from o3magic.session.turns import SessionConversations

        conversations = SessionConversations(lambda: conversations_file(self.environment))
        conversations.begin_cell(self._turn_key)
        return conversations

    @cached_property
    def keeping(self) -> FallbackLedger:
        """The ledger, in memory where its file fails."""
        return FallbackLedger(Ledger(ledger_file(self.environment)))

    @property
    def conversations(self) -> ConversationStores:
        """The conversations by the settings as they are."""
        return self.conversation_turns.of(self.layers.profile())

    @property
    def ledger(self) -> Ledger:
        """The ledger: a file, or memory where that fails."""
        return self.keeping.ledger

    def configure(self, values: Mapping[str, Any], layer: str = "%o3_config") -> Settings:
        """Set fields from here on; None gives a field back to the layer below. Raises BadOption."""
        self.layers = self.layers.with_layer(layer, values)
        return self.layers.profile()

    def choose_model(
        self,
        profile: Settings,
        provider: Provider | None = None,
        *,
        look: bool = True,
        mode: Mode | None = None,
    ) -> ModelChoice:
        """The model of a profile: the one it names, else the default of its provider.

        In a replay that is the default of the day it was recorded. look: a local server may be
        asked for its list of models. mode: the record mode, where it is known already.
        Raises BadOption where none can be chosen, and RequestFailed.
        """
        provider = provider or self.reach.stand_in(profile)
        if profile.model and provider.managed:
            from o3magic.local.weights import name_of

            return ModelChoice(name_of(profile.model))
        if profile.model:
            return ModelChoice(profile.model)
        if (mode or self._mode(profile, find_provider(profile, self.providers))) == "replay":
            return choose_recorded_default(
                self.decks.newest_default(profile, self._recorded_notebook)
            )
        if moved := self.environment.get(MIGRATE_TO):
            return choose_migrated_default(moved, provider, self.catalog)
        findings = self._findings_for(provider)
        if findings.served is None and look and provider.local and not provider.default_models:
            try:
                self._list_models(provider, LOOK_TIMEOUT_S)
            except RequestFailed as error:
                start = f"start {provider.name}, or " if isinstance(error, NoConnection) else ""
                error.hint = f"{start}name a model that it has: -m MODEL"
                raise
        return choose_default(
            provider,
            self.catalog,
            date.today(),
            missing=missing_models(findings.lacks),
            served=findings.served,
            shutdowns=findings.shutdowns,
        )

    def plan(
        self,
        prompt: str,
        profile: Settings,
        names: Mapping[str, Any] | None = None,
        wanted: AnswerType | None = None,
        tools: Mapping[str, ToolFunction] = MappingProxyType({}),
    ) -> Plan:
        """The plan of a question. names: the namespace of schemas, tools and `{{ names }}`; None
        renders none. wanted: the type of the answer, where it is known already.

        Raises every error that needs no provider. Sends a request only where `compact`
        summarizes a conversation first.
        """
        notes: tuple[str, ...] = ()
        if profile.compact and profile.conversation:
            card = self.catalog.card(self.choose_model(profile).model)
            notes = self.conversation_turns.compacted(profile, card, self._ask_plainly)
        if profile.developer.startswith("@"):
            profile = load_developer(profile, self.folder(profile))
        if wanted is None and profile.schema:
            from o3magic.schemas.lookup import resolve_answer_type

            wanted = resolve_answer_type(profile.schema, names or {}, self.schemas)
        prompt_input = build_prompt(
            prompt,
            profile,
            names,
            {**self.tools, **tools},
            lambda: self.folder(profile),
            self.prompts,
        )
        if profile.conversation:
            prompt_input = self.conversation_turns.with_turns(prompt_input, profile)
        if notes:
            prompt_input = replace(prompt_input, notes=(*notes, *prompt_input.notes))
        configured = find_provider(profile, self.providers)
        if self.searches_cassettes and not (profile.notebook or self._recorded_notebook):
            self._found_cassette = self._search_cassettes(prompt_input, profile, wanted)
        is_dry = profile.dry_run and not profile.exact
        mode = None if is_dry and profile.model else self._mode(profile, configured)
        if is_dry or mode == "replay":
            return self._plan_unsent(prompt_input, profile, configured, wanted, mode)
        try:
            provider = self.reach.locate(configured, profile)
            key = self.reach.key(provider)
        except (NoKey, LocalModelError):
            # An answer on the cassette needs no provider.
            if mode != "auto":
                raise
            unsent = self._plan_unsent(prompt_input, profile, configured, wanted, mode)
            if self.decks.recorded(unsent.question, profile, self._recorded_notebook) is None:
                raise
            return unsent
        choice = self.choose_model(profile, provider, mode=mode)
        return self._plan_as_recorded(prompt_input, profile, provider, key, wanted, choice, mode)

    @property
    def _recorded_notebook(self) -> str:
        """The notebook whose cassette is used: the one that runs, else one found by its content."""
        return self.notebook or self._found_cassette

    def _search_cassettes(
        self, prompt_input: PromptInput, profile: Settings, wanted: AnswerType | None
    ) -> str:
        """The one cassette in the folder that holds this question, or "".

        nbconvert, papermill and jupytext do not tell a kernel which notebook it runs. The key of a
        recording is the content of its question, so the cassette is found by that.

        Raises CassetteError where several hold it.
        """
        holders = []
        for path in self.decks.cassettes_in(self.folder(profile)):
            there = replace(profile, notebook=str(path))
            try:
                configured = find_provider(there, self.providers)
                mode = self._mode(there, configured)
                unsent = self._plan_unsent(prompt_input, there, configured, wanted, mode)
                question = unsent.question
                if self.decks.recorded(question, there, "") is not None:
                    holders.append(path)
            except O3Error:
                continue  # a cassette that cannot be read is not the one that is replayed
        if len(holders) > 1:
            names = " and ".join(path.name for path in holders)
            raise CassetteError(
                f"{names} hold this question, and this kernel does not know which notebook runs",
                hint="--notebook NAME.ipynb, or %o3_config notebook=NAME.ipynb",
            )
        if not holders:
            return ""
        LOGGER.info("replaying %s, found by its content", holders[0].name)
        return str(holders[0])

    def _plan_as_recorded(
        self,
        prompt_input: PromptInput,
        profile: Settings,
        provider: Provider,
        key: SecretStr | None,
        wanted: AnswerType | None,
        choice: ModelChoice,
        mode: Mode | None,
    ) -> Plan:
        """The plan; for a recorded question that named no model, with the recorded one."""
        lacks = self._findings_for(provider).lacks | set(provider.lacks)
        planned = build_plan(
            prompt_input, profile, self.catalog, provider, key, wanted, lacks, choice, mode
        )
        if choice.named or mode not in ("replay", "auto"):
            return planned
        recording = self.decks.recorded(planned.question, profile, self._recorded_notebook)
        if recording is None:
            return planned
        recorded = choose_recorded_default(recording)
        if (recorded.model, recorded.effort) == (choice.model, choice.effort):
            return planned
        return build_plan(
            prompt_input, profile, self.catalog, provider, key, wanted, lacks, recorded, mode
        )

    def folder(self, profile: Settings) -> Path:
        """The folder of the notebook."""
        notebook = profile.notebook or self.notebook
        return Path(notebook).absolute().parent if notebook else working_folder()

    def compact(self, name: str, keep: int, profile: Settings) -> Compaction:
        """Summarize all turns of a conversation but the last `keep`. Raises O3Error."""
        return self.conversation_turns.compact(name, keep, profile, self._ask_plainly)

    def _ask_plainly(self, prompt: str, profile: Settings) -> Answer:
        """The answer to a plain prompt."""
        stream = self.begin(self.plan(prompt, profile))
        for _ in stream:
            pass
        return stream.answer

    def _plan_unsent(
        self,
        prompt_input: PromptInput,
        profile: Settings,
        provider: Provider | None,
        wanted: AnswerType | None,
        mode: Mode | None,
    ) -> Plan:
        """The plan of a question that is not sent: it needs neither a key nor a provider."""
        provider = provider or self.providers.get("openai")
        choice = self.choose_model(profile, provider, mode=mode)
        return self._plan_as_recorded(prompt_input, profile, provider, None, wanted, choice, mode)

    def _mode(self, profile: Settings, provider: Provider | None) -> Mode | None:
        """The record mode; None where neither the provider nor a cassette can answer."""
        can_ask = self.reach.has_access(provider, profile)
        return self.decks.mode(profile, self._recorded_notebook, can_ask=can_ask)

    def begin_cell(self, cell_key: str, *, turn_key: str | None = None) -> None:
        """Start a cell: its questions have its key in the ledger.

        turn_key: the key of its turn in a conversation, where that differs.
        """
        self.cell_key = cell_key
        self._turn_key = cell_key if turn_key is None else turn_key
        if "conversation_turns" in self.__dict__:
            self.conversation_turns.begin_cell(self._turn_key)
        self.decks.begin_cell()

    def foreseen(self, planned: Plan) -> list[tuple[str, str]]:
        """The estimated cost of a question and the state of the budgets: (label, line) pairs.

        Sends nothing, except for `exact`: the provider counts the tokens. Raises RequestFailed.
        """
        from o3magic.cost.token_estimates import counter

        tokens = count(planned.call.request, counter(self.environment))
        if planned.profile.exact:
            with self.reach.serving(planned.call) as call:
                counted = self.client.count_tokens(call)
            tokens = TokenRange(counted, counted, f"by {planned.call.provider.name}")
        lines = format_estimate(
            estimate_call(planned, tokens, self._count_similar_calls(planned)), planned
        )
        return lines + [("budget", str(status)) for status in self.standing(planned.profile)]

    def standing(self, profile: Settings) -> list[BudgetStatus]:
        """The state of each budget of a profile. Raises LedgerUnavailable."""
        budgets = build_budgets(profile)
        return self.keeping.standing(budgets, self.id, self.notebook) if budgets else []

    def _count_similar_calls(self, planned: Plan) -> tuple[int, int]:
        """The number of answered calls with this model and effort, and their output tokens."""
        return self.ledger.answered(planned.call.request.model, planned.effort or "")

    def token_from(self, provider: str, source: Callable[[], str]) -> None:
        """Call `source` for a provider's token before each question, instead of reading a key.

        Raises BadOption where there is no such provider.
        """
        self.reach.token_from(provider, source)

    def served_models(self, profile: Settings) -> list[ServedModel]:
        """The models that a provider lists. Raises NoKey and RequestFailed.

        For the rest of the session its shutdown dates replace those of the cards.
        """
        on_disk = self.reach.local_models(profile)
        if on_disk is not None:
            from o3magic.client.http import ServedModel

            return [ServedModel(name) for name in on_disk]
        return self._list_models(self.reach.provider(profile))

    def _list_models(
        self, provider: Provider, timeout_s: float = LIST_TIMEOUT_S
    ) -> list[ServedModel]:
        """The same for a provider that is known already."""
        listed = self.client.served_models(provider, self.reach.key(provider), timeout_s)
        findings = self._findings_for(provider)
        findings.served = tuple(model.id for model in listed)
        findings.shutdowns = {model.id: model.shutdown for model in listed if model.dated}
        if provider.card_shutdowns:
            self.catalog = self.catalog.with_shutdowns(findings.shutdowns)
        return listed

    def _findings_for(self, provider: Provider) -> ProviderFindings:
        """The findings about a provider, made at first use."""
        return self._findings.setdefault((provider.name, provider.base_url), ProviderFindings())

    def begin(
        self,
        planned: Plan,
        *,
        attended: bool = True,
        confirm: ConfirmCall | None = None,
        keeps_turn: bool = True,
        sleep: Callable[[float], None] | None = None,
    ) -> AnswerStream:
        """The stream of an answer; iteration sends the request. Raises BadOption for a dry run.

        attended: a user can confirm the calls of dangerous tools; confirm: does so instead of the
        session's own. keeps_turn: the answer becomes a turn of its conversation. sleep: waits
        between attempts; by default a wait that `stop` ends.
        """
        if planned.profile.dry_run:
            raise BadOption(
                "a dry run sends nothing, so there is no answer",
                hint="%%o3 --dry-run shows the request; dry_run=False asks",
            )
        lacks = self._findings_for(planned.call.provider).lacks
        name = planned.profile.conversation
        accounting = CallAccounting(
            self.keeping, LedgerContext(self.id, self.notebook, self.cell_key, name)
        )
        turns = self.conversation_turns.turns(planned.profile) if name and keeps_turn else None
        provider = planned.call.provider
        cassette = None
        if planned.mode != "live":
            cassette = self.decks.tape(planned.profile, self._recorded_notebook, planned.mode)
        return AnswerStream(
            planned,
            self.client,
            accounting,
            lacks=lacks,
            introduced=self._introduced,
            cassette=cassette,
            turns=turns,
            confirm=(confirm or self.confirm) if attended else None,
            sleep=sleep,
            server=self.reach.model_server if provider.managed else None,
        )

    def comparing(self, ways: Mapping[str, Plan]) -> ComparisonStream:
        """The stream of several variants of a question, sent concurrently on iteration.

        Calls of dangerous tools are declined, and no answer becomes a turn.
        """
        from o3magic.session.comparison import ComparisonStream

        return ComparisonStream(
            {
                label: self.begin(plan, attended=False, keeps_turn=False)
                for label, plan in ways.items()
            }
        )

    def compared_efforts(self, profile: Settings) -> tuple[str, ...]:
        """The efforts of a comparison that names none."""
        choice = self.choose_model(profile)
        return list_compared_efforts(choice, self.reach.stand_in(profile), self.catalog)

    def ways(
        self,
        prompt: str,
        profile: Settings,
        names: Mapping[str, Any] | None = None,
        wanted: AnswerType | None = None,
        tools: Mapping[str, ToolFunction] = MappingProxyType({}),
    ) -> dict[str, Plan]:
        """The plan of each variant of a question, by its label.

        Raises every error of `plan`, and BadOption where there is nothing to compare.
        """
        from o3magic.session.comparison import build_variants

        models, efforts = listed(profile.models), listed(profile.efforts)
        if len(models) == 1 and not efforts:  # one model: at all its efforts
            profile, models = replace(profile, model=models[0], models=""), ()
        if not models and not efforts:
            efforts = self.compared_efforts(profile)
            if len(efforts) < 2:
                model = self.choose_model(profile).model
                raise BadOption(f"{model} has nothing to compare", hint="--models a,b")
        # Who names one model and one effort wants just that.
        least = 1 if models and efforts else 2
        chosen = build_variants(profile, efforts, models, least=least)
        return {
            label: self.plan(prompt, variant, names, wanted, tools)
            for label, variant in chosen.items()
        }

    def compare(
        self,
        prompt: str,
        *,
        efforts: Sequence[str] | str = (),
        models: Sequence[str] | str = (),
        schema: Any = None,
        **options: Any,
    ) -> Comparison:
        """Ask at several efforts or models at once, and wait for all. Raises as `ask` does.

        A question that fails does not stop the others: see `Comparison.errors`.
        """
        chosen = {**options, "efforts": join_names(efforts), "models": join_names(models)}
        with raise_interrupted():
            wanted, chosen = self._resolve_schema(schema, chosen)
            names, tools = split_options(chosen)
            profile = self.layers.profile(chosen)
            stream = self.comparing(self.ways(prompt, profile, names, wanted, tools))
        with stop_on_interrupt(stream.stop):
            for _ in stream:
                pass
        if stream.is_stopped:
            raise Interrupted("stopped by you", answer=stream.comparison)
        return stream.comparison

    def ask(self, prompt: str, *, schema: Any = None, **options: Any) -> Answer:
        """Ask and wait for the answer. `schema` is a type or the name of a registered one.

        names: what `{{ name }}` in the prompt is filled in from; without it nothing is. tools: the
        functions the model may call, or their names. Other options: the fields of `Settings`.
        Raises O3Error; one that comes after the request left holds what arrived in `.answer`.
        """
        with raise_interrupted():
            stream = self._asking(prompt, schema, options)
        with stop_on_interrupt(stream.stop):
            for _ in stream:
                pass
        return stream.answer

    def stream(self, prompt: str, *, schema: Any = None, **options: Any) -> Iterator[Event]:
        """Ask and yield the events as they arrive. Closing the iterator stops the answer."""
        return iter(self._asking(prompt, schema, options))

    async def aask(self, prompt: str, *, schema: Any = None, **options: Any) -> Answer:
        """The same as `ask` for `await`. Calls that have to be confirmed are declined."""
        stream = await self._begin_in_thread(prompt, schema, options)
        return await collect_answer(stream)

    async def astream(
        self, prompt: str, *, schema: Any = None, **options: Any
    ) -> AsyncGenerator[Event]:
        """The same as `stream` for `async for`; closing or cancelling it stops the answer."""
        stream = await self._begin_in_thread(prompt, schema, options)
        async with aclosing(iterate_async(stream)) as events:
            async for event in events:
                yield event

    async def _begin_in_thread(
        self, prompt: str, schema: Any, options: Mapping[str, Any]
    ) -> AnswerStream:
        # To plan a question takes milliseconds: many at once would hold the event loop up.
        begin = partial(self._asking, prompt, schema, options, attended=False)
        return await asyncio.to_thread(begin)

    def _asking(
        self, prompt: str, schema: Any, options: Mapping[str, Any], *, attended: bool = True
    ) -> AnswerStream:
        if not isinstance(prompt, str):
            raise BadOption(
                f"a prompt is text, not {type(prompt).__name__}",
                hint="put other values into it: '{{ name }}' with names={...}, or an f-string",
            )
        wanted, chosen = self._resolve_schema(schema, options)
        names, tools = split_options(chosen)
        profile = self.layers.profile(chosen)
        return self.begin(self.plan(prompt, profile, names, wanted, tools), attended=attended)

    def _resolve_schema(
        self, schema: Any, options: Mapping[str, Any]
    ) -> tuple[AnswerType | None, dict[str, Any]]:
        """The type of a schema given as a type, and the options with its name."""
        if schema is None:
            return None, {**options}
        if isinstance(schema, str):
            return None, {**options, "schema": schema}
        from o3magic.schemas.answer_type import answer_type

        wanted = answer_type(schema)
        return wanted, {**options, "schema": wanted.name}

    def close(self) -> None:
        """Close connections, ledger and servers. The next use opens them again."""
        for name in ("client", "keeping", "reach"):
            if opened := self.__dict__.pop(name, None):
                opened.close()


class DefaultSession:
    """The one session of a process that runs no IPython, started at its first use.

    Budgets, conversations and what is known of a provider hold from call to call, and connections
    are kept. The settings files are those of the working folder at the first call. It is closed
    when the process ends; after a fork the child starts its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[int, Session] = {}

    def get(self) -> Session:
        """The session of this process. Raises BadOption for a bad settings file."""
        process = os.getpid()
        with self._lock:
            if process not in self._sessions:
                self._sessions[process] = Session.start(os.environ)
                atexit.register(self.close)
            return self._sessions[process]

    def close(self) -> None:
        """Close the session, if one was started in this process; the next call starts another."""
        atexit.unregister(self.close)
        with self._lock:
            session = self._sessions.pop(os.getpid(), None)
        if session is not None:
            session.close()


DEFAULT_SESSION = DefaultSession()


def join_names(names: Sequence[str] | str) -> str:
    """Names as an option takes them: "low,high". One string stands for itself."""
    return names if isinstance(names, str) else ",".join(names)


def split_options(
    chosen: dict[str, Any],
) -> tuple[Mapping[str, Any] | None, dict[str, ToolFunction]]:
    """The names and the functions among options; `tools` keeps only their names."""
    names, given = chosen.pop("names", None), chosen.get("tools") or ""
    if isinstance(given, str):
        return names, {}
    if callable(given):
        given = [given]
    from o3magic.tools.function import tool_of

    tools = {tool.name: tool for tool in map(tool_of, given)}
    chosen["tools"] = ",".join(tools)
    return names, tools


async def collect_answer(stream: AnswerStream) -> Answer:
    """The whole answer. Cancelling it cancels the request. Raises as the iteration does."""
    async with aclosing(iterate_async(stream)) as events:
        async for _ in events:
            pass
    return stream.answer


async def iterate_async(stream: AnswerStream) -> AsyncGenerator[Event]:
    """The events as they arrive. Closing or cancelling it stops and settles the answer."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
    ended = asyncio.Event()

    def put(item: Event | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    def run() -> None:
        try:
            for event in stream:
                put(event)
        except KeyboardInterrupt:  # in a tool
            put(Interrupted("stopped by you", answer=stream.answer))
        except BaseException as error:
            put(error)
        else:
            put(None)

        with suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="o3magic-async", daemon=True)
    thread.start()
    awake = asyncio.create_task(stay_awake())
    try:
        while (item := await arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        awake.cancel()
        stream.stop()  # without effect on an answer that has ended
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), MOST_WAIT_S)
            thread.join(LOOK_S)  # it has nothing left to do


async def stay_awake() -> None:
    """Wake the event loop now and then: a kernel's Ctrl-C cancels its task, but wakes no loop."""
    while True:
        await asyncio.sleep(LOOK_S)
