"""A session, and the ways to ask with it from Python: wait, take the events, compare, await."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from o3magic.cassettes.record_mode import Mode
from o3magic.config import Config, conversations_file, ledger_file, load_layers, models_folder
from o3magic.conversations.compaction import Compaction
from o3magic.conversations.store import ConversationStores
from o3magic.cost.budgets import BudgetStatus
from o3magic.cost.ledger import FallbackLedger, Ledger
from o3magic.cost.token_estimates import counter as counter_of
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
from o3magic.models import Catalog
from o3magic.providers import Provider, Providers
from o3magic.schemas.lookup import AnswerType, answer_type, resolve
from o3magic.session.answer_stream import AnswerStream
from o3magic.session.capability_fallbacks import missing_models
from o3magic.session.comparison import Comparison, ComparisonStream, variants
from o3magic.session.default_model import (
    MIGRATE_TO,
    ModelChoice,
    choose_default,
    compared_efforts,
    migrated_default,
    recorded_default,
)
from o3magic.session.estimate import TokenRange, budgets_of, count, facts, forecast
from o3magic.session.interrupts import raise_interrupted, stop_on_interrupt
from o3magic.session.plan import Plan, PromptInput, plan
from o3magic.session.prompt_input import CellContext as CellPlace
from o3magic.session.prompt_input import asked_of, with_developer
from o3magic.session.provider_selection import ProviderSelector
from o3magic.session.recorder import SessionCassettes
from o3magic.session.spending import CallAccounting, LedgerContext
from o3magic.session.turns import SessionConversations
from o3magic.settings import Settings, listed
from o3magic.tools.function import ToolFunction, tool_of
from o3magic.tools.toolbox import ConfirmCall

if TYPE_CHECKING:
    from pydantic import SecretStr

    from o3magic.client.http import Client, ServedModel

MOST_WAIT_S = 10.0


async def answer_of(asking: AnswerStream) -> Answer:
    """The whole answer. Cancelled, it stops the provider's work. Raises as iterating would."""
    async with aclosing(events_of(asking)) as events:
        async for _ in events:
            pass
    return asking.answer


async def events_of(asking: AnswerStream) -> AsyncGenerator[Event]:
    """The events as they arrive. Closed or cancelled, it stops the answer and settles its books."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
    ended = asyncio.Event()

    def put(item: Event | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody listens any more
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    def run() -> None:
        try:
            for event in asking:
                put(event)
        except KeyboardInterrupt:  # in a tool
            put(Interrupted("stopped by you", answer=asking.answer))
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
        asking.stop()  # does nothing to an answer that has ended
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), MOST_WAIT_S)
            thread.join(LOOK_S)  # it has nothing left to do


async def stay_awake() -> None:
    """Wake the event loop now and then: a kernel's Ctrl-C cancels its task, but wakes no loop."""
    while True:
        await asyncio.sleep(LOOK_S)


LOGGER = logging.getLogger("o3magic")
LOOK_S = 0.2
LIST_TIMEOUT_S = 10.0
LOOK_TIMEOUT_S = 2.0  # somebody waits for an answer


@dataclass
class ProviderFindings:
    """What a session found out of one provider.

    lacks: what it turned out not to have, in the words of `talk.lacks`. served: the ids it lists,
    None where nobody looked; shutdowns: the days that the list says.
    """

    lacks: set[str] = field(default_factory=set)
    served: tuple[str, ...] | None = None
    shutdowns: Mapping[str, date | None] = field(default_factory=dict)


class SessionBase:
    """Settings, connections, books and registered schemas of one shell.

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
        self.talks = SessionConversations(lambda: conversations_file(environment))
        self._seen: dict[tuple[str, str], ProviderFindings] = {}
        # The default models of which an answer has said already why it is they.
        self._introduced: set[tuple[str, str]] = set()
        self.decks = SessionCassettes(environment)
        # What rooms above keep for as long as the session lives, by its name.
        self.kept: dict[str, Any] = {}
        # Who is asked before a dangerous tool is called; without anybody it is not.
        self.confirm: ConfirmCall | None = None

    @classmethod
    def start(cls, environment: Mapping[str, str], folder: Path | None = None) -> Self:
        """A session with the settings found for `folder`. Raises BadOption for a bad file."""
        return cls(load_layers(environment, folder or Path.cwd()), environment)

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
        """Who can be asked, and with which key."""
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
    def keeping(self) -> FallbackLedger:
        """Who keeps the books."""
        return FallbackLedger(Ledger(ledger_file(self.environment)))

    @property
    def conversations(self) -> ConversationStores:
        """The conversations by the settings as they are."""
        return self.talks.of(self.layers.profile())

    @property
    def ledger(self) -> Ledger:
        """The books: a file, or memory where that fails."""
        return self.keeping.ledger

    def configure(self, values: Mapping[str, Any], layer: str = "%o3_config") -> Settings:
        """Set fields from here on; None gives a field back to the layer below. Raises BadOption."""
        self.layers = self.layers.with_layer(layer, values)
        return self.layers.profile()

    def choose_model(
        self, profile: Settings, provider: Provider | None = None, *, look: bool = True
    ) -> ModelChoice:
        """The model that a profile asks: the one it names, else the default of its provider.

        In a replay that is the default of the day it was recorded. look: a local server may be
        asked what it has. Raises BadOption where none can be chosen, and RequestFailed.
        """
        if profile.model:
            return ModelChoice(self.reach.model_name(profile))
        provider = provider or self.reach.stand_in(profile)
        if self._mode(profile) == "replay":
            return recorded_default(self.decks.newest_default(profile, self._recorded_notebook))
        if moved := self.environment.get(MIGRATE_TO):
            return migrated_default(moved, provider, self.catalog)
        seen = self._seen_at(provider)
        if seen.served is None and look and provider.local and not provider.default_models:
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
            missing=missing_models(seen.lacks),
            served=seen.served,
            shutdowns=seen.shutdowns,
        )

    def plan(
        self,
        prompt: str,
        profile: Settings,
        names: Mapping[str, Any] | None = None,
        wanted: AnswerType | None = None,
        tools: Mapping[str, ToolFunction] = MappingProxyType({}),
    ) -> Plan:
        """What would be sent. names: where schemas, tools and `{{ names }}` are looked up; None:
        nothing is filled in. wanted: the type of the answer, where it is known already.

        Raises every error that needs no provider to be found. Asks one only where `compact` has
        a conversation summed up before.
        """
        notes: tuple[str, ...] = ()
        if profile.compact and profile.conversation:
            card = self.catalog.card(self.choose_model(profile).model)
            notes = self.talks.compacted(profile, card, self._answer)
        profile = with_developer(profile, self.folder(profile))
        if wanted is None and profile.schema:
            wanted = resolve(profile.schema, names or {}, self.schemas)
        asked = self._asked(prompt, profile, names, tools)
        asked = replace(asked, notes=(*notes, *asked.notes))
        if self.searches_cassettes and not (profile.notebook or self._recorded_notebook):
            self._found_cassette = self._search_cassettes(asked, profile, wanted)
        if (profile.dry_run and not profile.exact) or self._mode(profile) == "replay":
            return self._unsent(asked, profile, wanted)
        try:
            provider = self.reach.provider(profile)
            key = self.reach.key(provider)
        except (NoKey, LocalModelError):
            # What is on the cassette needs nobody to be there.
            if self._mode(profile) != "auto":
                raise
            unsent = self._unsent(asked, profile, wanted)
            if self.decks.recorded(unsent.question, profile, self._recorded_notebook) is None:
                raise
            return unsent
        choice = self.choose_model(profile, provider)
        return self._planned(asked, profile, provider, key, wanted, choice)

    @property
    def _recorded_notebook(self) -> str:
        """The notebook whose cassette is used: the one that runs, else one found by its content."""
        return self.notebook or self._found_cassette

    def _search_cassettes(
        self, asked: PromptInput, profile: Settings, wanted: AnswerType | None
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
                question = self._unsent(asked, there, wanted).question
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

    def _planned(
        self,
        asked: PromptInput,
        profile: Settings,
        provider: Provider,
        key: SecretStr | None,
        wanted: AnswerType | None,
        choice: ModelChoice,
    ) -> Plan:
        """The plan; of a question that is on the cassette, with the model that answered it."""
        lacks = self._seen_at(provider).lacks | set(provider.lacks)
        planned = plan(asked, profile, self.catalog, provider, key, wanted, lacks, choice)
        if choice.named or self._mode(profile) not in ("replay", "auto"):
            return planned
        take = self.decks.recorded(planned.question, profile, self._recorded_notebook)
        if take is None:
            return planned
        recorded = recorded_default(take)
        if (recorded.model, recorded.effort) == (choice.model, choice.effort):
            return planned
        return plan(asked, profile, self.catalog, provider, key, wanted, lacks, recorded)

    def _asked(
        self,
        prompt: str,
        profile: Settings,
        names: Mapping[str, Any] | None,
        tools: Mapping[str, ToolFunction],
    ) -> PromptInput:
        """What is asked, names filled in. Raises TemplateError and BadOption."""
        cell = self.talks.cell(profile.conversation)
        place = CellPlace(cell, self.folder(profile))
        store, known = self.talks.of(profile), {**self.tools, **tools}
        return asked_of(prompt, profile, names, known, store, place, self.prompts)

    def folder(self, profile: Settings) -> Path:
        """The folder of the notebook."""
        notebook = profile.notebook or self.notebook
        return Path(notebook).absolute().parent if notebook else Path.cwd()

    def compact(self, name: str, keep: int, profile: Settings) -> Compaction:
        """Have all turns of a conversation but the last `keep` summed up. Raises O3Error."""
        return self.talks.compact(name, keep, profile, self._answer)

    def _answer(self, prompt: str, profile: Settings) -> Answer:
        """The answer to a plain prompt."""
        asking = self.begin(self.plan(prompt, profile))
        for _ in asking:
            pass
        return asking.answer

    def _unsent(self, asked: PromptInput, profile: Settings, wanted: AnswerType | None) -> Plan:
        """The plan of a question that is not sent: it needs no key, and nobody to be there."""
        provider = self.reach.stand_in(profile)
        choice = self.choose_model(profile, provider)
        return self._planned(asked, profile, provider, None, wanted, choice)

    def _mode(self, profile: Settings, can_ask: bool | None = None) -> Mode | None:
        """Whether a question is asked or replayed. None where there is nobody to ask.

        can_ask: whether there is somebody, where that is known already.
        """
        known = self.reach.can_ask(profile) if can_ask is None else can_ask
        return self.decks.mode(profile, self._recorded_notebook, can_ask=known)

    def begin_cell(self, cell_key: str, *, turn_key: str | None = None) -> None:
        """Another cell is run: what it asks is entered under its key.

        turn_key: the key of its turn in a conversation, where that is another one.
        """
        self.cell_key = cell_key
        self.talks.begin_cell(cell_key if turn_key is None else turn_key)
        self.decks.begin_cell()

    def foreseen(self, planned: Plan) -> list[tuple[str, str]]:
        """What a question may cost, and how the budgets stand: labels with a line each.

        Sends nothing, but for `exact`, where the provider counts its tokens. Raises RequestFailed.
        """
        counter = counter_of(self.environment)
        tokens = count(planned.call.request, counter)
        if planned.profile.exact:
            with self.reach.serving(planned.call) as call:
                counted = self.client.count_tokens(call)
            tokens = TokenRange(counted, counted, f"by {planned.call.provider.name}")
        said = facts(forecast(planned, tokens, self._history(planned)), planned)
        return said + [("budget", str(each)) for each in self.standing(planned.profile)]

    def standing(self, profile: Settings) -> list[BudgetStatus]:
        """How the budgets of a profile stand. Raises LedgerUnavailable."""
        budgets = budgets_of(profile)
        return self.keeping.standing(budgets, self.id, self.notebook) if budgets else []

    def _history(self, planned: Plan) -> tuple[int, int]:
        """How many calls like a plan were answered, and with how many tokens."""
        return self.ledger.answered(planned.call.request.model, planned.effort or "")

    def token_from(self, provider: str, source: Callable[[], str]) -> None:
        """Call `source` for a provider's token before each question, instead of reading a key.

        Raises BadOption where there is no such provider.
        """
        self.reach.token_from(provider, source)

    def served_models(self, profile: Settings) -> list[ServedModel]:
        """What a provider lists now; sends no prompt. Raises NoKey and RequestFailed.

        For the rest of the session the days on which it shuts models down beat those of the cards.
        """
        on_disk = self.reach.local_models(profile)
        if on_disk is not None:
            from o3magic.client.http import ServedModel

            return [ServedModel(name) for name in on_disk]
        return self._list_models(self.reach.provider(profile))

    def _list_models(
        self, provider: Provider, timeout_s: float = LIST_TIMEOUT_S
    ) -> list[ServedModel]:
        """The same of a provider that is known already."""
        listed = self.client.served_models(provider, self.reach.key(provider), timeout_s)
        seen = self._seen_at(provider)
        seen.served = tuple(each.id for each in listed)
        seen.shutdowns = {each.id: each.shutdown for each in listed if each.dated}
        if provider.card_shutdowns:
            self.catalog = self.catalog.with_shutdowns(seen.shutdowns)
        return listed

    def _seen_at(self, provider: Provider) -> ProviderFindings:
        """What this session found out of a provider."""
        return self._seen.setdefault((provider.name, provider.base_url), ProviderFindings())

    def begin(
        self,
        planned: Plan,
        *,
        attended: bool = True,
        confirm: ConfirmCall | None = None,
        keeps_turn: bool = True,
        sleep: Callable[[float], None] | None = None,
    ) -> AnswerStream:
        """Ask it, when it is iterated over. Raises BadOption for a dry run, which sends nothing.

        attended: somebody is there to confirm the calls of dangerous tools; confirm: asks them, in
        the place of the session's own. keeps_turn: it becomes
        a turn of its conversation.
        sleep: waits between attempts, instead of waiting that a stop can end.
        """
        if planned.profile.dry_run:
            raise BadOption(
                "a dry run sends nothing, so there is no answer",
                hint="%%o3 --dry-run shows the request; dry_run=False asks",
            )
        lacks = self._seen_at(planned.call.provider).lacks
        name = planned.profile.conversation
        books = CallAccounting(
            self.keeping, LedgerContext(self.id, self.notebook, self.cell_key, name)
        )
        turns = self.talks.turns(planned.profile) if name and keeps_turn else None
        provider = planned.call.provider
        # A model on this machine is there if its file was found when it was planned.
        can_ask = bool(provider.file) if provider.managed else None
        mode = self._mode(planned.profile, can_ask)
        tape = self.decks.tape(planned.profile, self._recorded_notebook, mode)
        return AnswerStream(
            planned,
            self.client,
            books,
            lacks=lacks,
            introduced=self._introduced,
            tape=tape,
            turns=turns,
            confirm=(confirm or self.confirm) if attended else None,
            sleep=sleep,
            server=self.reach.model_server if provider.managed else None,
        )

    def comparing(self, ways: Mapping[str, Plan]) -> ComparisonStream:
        """The same question in several ways, asked when it is iterated over.

        They are asked at once, so nobody is asked to confirm a tool, and none becomes a turn.
        """
        return ComparisonStream(
            {way: self.begin(each, attended=False, keeps_turn=False) for way, each in ways.items()}
        )

    def compared_efforts(self, profile: Settings) -> tuple[str, ...]:
        """The efforts that are compared where none are said."""
        choice = self.choose_model(profile)
        return compared_efforts(choice, self.reach.stand_in(profile), self.catalog)

    def ways(
        self,
        prompt: str,
        profile: Settings,
        names: Mapping[str, Any] | None = None,
        wanted: AnswerType | None = None,
        tools: Mapping[str, ToolFunction] = MappingProxyType({}),
    ) -> dict[str, Plan]:
        """What would be sent for each way of asking, by its label.

        Raises every error of `plan`, and BadOption where there is nothing to compare.
        """
        models, efforts = listed(profile.models), listed(profile.efforts)
        if not models and not efforts:
            efforts = self.compared_efforts(profile)
            if len(efforts) < 2:
                model = self.choose_model(profile).model
                raise BadOption(f"{model} has nothing to compare", hint="--models a,b")
        chosen = variants(profile, efforts, models)
        return {way: self.plan(prompt, each, names, wanted, tools) for way, each in chosen.items()}

    def close(self) -> None:
        """Close what was opened. A session that is used again opens it again."""
        for name in ("client", "keeping", "reach"):
            if opened := self.__dict__.pop(name, None):
                opened.close()


class Session(SessionBase):
    """One shell's: its settings, connections, books and schemas, and all ways to ask with them."""

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
        chosen = {**options, "efforts": joined(efforts), "models": joined(models)}
        with raise_interrupted():
            wanted, chosen = self._wanted(schema, chosen)
            names, tools = taken(chosen)
            profile = self.layers.profile(chosen)
            asked = self.comparing(self.ways(prompt, profile, names, wanted, tools))
        with stop_on_interrupt(asked.stop):
            for _ in asked:
                pass
        if asked.is_stopped:
            raise Interrupted("stopped by you", answer=asked.comparison)
        return asked.comparison

    def ask(self, prompt: str, *, schema: Any = None, **options: Any) -> Answer:
        """Ask and wait for the answer. `schema` is a type or the name of a registered one.

        names: what `{{ name }}` in the prompt is filled in from; without it nothing is. tools: the
        functions the model may call, or their names. The other options are Profile's fields.
        Raises O3Error; one that comes after the request left holds what arrived in `.answer`.
        """
        with raise_interrupted():
            asking = self._asking(prompt, schema, options)
        with stop_on_interrupt(asking.stop):
            for _ in asking:
                pass
        return asking.answer

    def stream(self, prompt: str, *, schema: Any = None, **options: Any) -> Iterator[Event]:
        """Ask and yield the events as they arrive. Closing the iterator stops the answer."""
        return iter(self._asking(prompt, schema, options))

    async def aask(self, prompt: str, *, schema: Any = None, **options: Any) -> Answer:
        """The same as `ask` for `await`. Calls that have to be confirmed are declined."""
        asking = self._asking(prompt, schema, options, attended=False)
        return await answer_of(asking)

    async def astream(
        self, prompt: str, *, schema: Any = None, **options: Any
    ) -> AsyncGenerator[Event]:
        """The same as `stream` for `async for`; closing or cancelling it stops the answer."""
        asking = self._asking(prompt, schema, options, attended=False)
        async with aclosing(events_of(asking)) as events:
            async for event in events:
                yield event

    def _asking(
        self, prompt: str, schema: Any, options: Mapping[str, Any], *, attended: bool = True
    ) -> AnswerStream:
        wanted, chosen = self._wanted(schema, options)
        names, tools = taken(chosen)
        profile = self.layers.profile(chosen)
        return self.begin(self.plan(prompt, profile, names, wanted, tools), attended=attended)

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


def joined(names: Sequence[str] | str) -> str:
    """Names as an option takes them: "low,high". One name may stand for itself."""
    return names if isinstance(names, str) else ",".join(names)


def taken(chosen: dict[str, Any]) -> tuple[Mapping[str, Any] | None, dict[str, ToolFunction]]:
    """The names and the functions among options; what is left of `tools` are their names."""
    names, given = chosen.pop("names", None), chosen.get("tools") or ""
    if isinstance(given, str):
        return names, {}
    tools = {each.name: each for each in map(tool_of, given)}
    chosen["tools"] = ",".join(tools)
    return names, tools
