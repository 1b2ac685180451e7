"""From a prompt and a profile to a request. Checks all that needs no provider."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from o3magic.cassettes.record_mode import Mode
from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.client.request import HttpRequest
from o3magic.cost.pricing import card_at
from o3magic.errors import BadOption, EmptyPrompt, PromptTooLong
from o3magic.messages import Api, Effort, Image, Message, Part, Request, Text
from o3magic.models import Card, Catalog
from o3magic.params import fields_of
from o3magic.providers import Provider, Providers, is_loopback, origin
from o3magic.session.capability_fallbacks import ENCRYPTED_REASONING, apply_fallback
from o3magic.session.default_model import ModelChoice
from o3magic.settings import Settings
from o3magic.wire import responses
from o3magic.wire.dialects import DIALECTS
from o3magic.wire.strict_schema import AZURE, OPENAI

if TYPE_CHECKING:
    from o3magic.conversations.conversation import Turn
    from o3magic.schemas.answer_type import AnswerType
    from o3magic.tools.toolbox import Toolbox

FORMATTING = "Formatting re-enabled"
# The provider keeps nothing; then the reasoning between tool calls travels with us, encrypted.
UNSTORED: Mapping[str, Any] = {"store": False}
# The flex tier waits for room. Source: OpenAI's guide to flex processing (2026-07-15), which
# advises 15 minutes in the place of the SDK's 10.
FLEX_FIRST_TOKEN_TIMEOUT_S = 900.0
CUSTOM_KEY = "O3MAGIC_API_KEY"


@dataclass(frozen=True)
class PromptInput:
    """The parts of a prompt, the messages of its conversation before it, and the tools it offers.

    toolbox: None where there is no tool. notes: what the reader should know about the rendering of
    the prompt. last: the turn it follows. cell: the key of its own turn.
    """

    parts: tuple[Part, ...]
    before: tuple[Message, ...] = ()
    toolbox: Toolbox | None = None
    notes: tuple[str, ...] = ()
    last: Turn | None = None
    cell: str = ""

    @property
    def text(self) -> str:
        """The text of the prompt, without images."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True)
class Plan:
    """One question, ready to be sent: `call` for the client, the rest to read its answer.

    mode: its record mode, None where neither a provider nor a cassette can answer it.
    """

    call: HttpRequest
    profile: Settings
    catalog: Catalog = field(repr=False)
    question: CanonicalRequest
    asked: PromptInput
    choice: ModelChoice
    answer_type: AnswerType | None = None
    notes: tuple[str, ...] = ()
    mode: Mode | None = None

    @property
    def card(self) -> Card:
        """The card of the model; a deployment may have another name than its card."""
        asked = self.call.request.model
        return self.catalog.card(self.call.provider.cards.get(asked, asked))

    @cached_property
    def priced(self) -> Card:
        """The card with the prices of the provider, without any where none is known."""
        provider, model = self.call.provider, self.call.request.model
        return card_at(provider, self.catalog, model, date.today()) or self.card

    @property
    def partial(self) -> Callable[[str], Any] | None:
        """Parses a structured answer that is still incomplete."""
        return self.answer_type.partial if self.answer_type else None

    @property
    def effort(self) -> str | None:
        """The effort of the request or the model's default; None where it is not known."""
        return self.call.request.effort or self.card.default_effort


def build_plan(
    asked: PromptInput,
    profile: Settings,
    catalog: Catalog,
    provider: Provider,
    key: SecretStr | None,
    answer_type: AnswerType | None,
    lacks: Collection[str] = (),
    choice: ModelChoice | None = None,
    mode: Mode | None = None,
) -> Plan:
    """The plan of one question; `lacks` is what the provider turned out not to have.

    choice: the model that is asked; None: the one that the profile names. mode: the record mode.

    Raises BadOption, EmptyPrompt, PromptTooLong, NotStrict, NoKey.
    """
    text = asked.text
    images = [part for part in asked.parts if isinstance(part, Image)]
    if not images and not text.strip():
        raise EmptyPrompt("there is no prompt")
    choice = choice or ModelChoice(profile.model)
    if profile.model != choice.model:
        profile = replace(profile, model=choice.model)
    card = catalog.card(provider.cards.get(choice.model, choice.model))
    api = choose_api(profile, card, provider, structured=answer_type is not None)
    if profile.effort is not None:
        check_effort(profile, card)
    if profile.max_output_tokens is not None:
        check_limit(profile.max_output_tokens, card, api)
    if images or asked.before:
        from o3magic.prompts.images import check_images

        earlier = [part for message in asked.before for part in message.parts]
        check_images((*earlier, *asked.parts), card, catalog)
    request = build_request(asked, profile, card, provider, api, answer_type)
    if effort := profile.effort or choice.effort:
        request = set_effort(request, effort, provider, api)
    request, notes = add_messages(request, asked, profile, card, provider, api, lacks)
    window = card.max_input_tokens or card.window_tokens
    # The lowest estimate is under two tokens a character: a short prompt needs none.
    characters = len(FORMATTING) + len(profile.developer) + len(text)
    if window and (asked.before or 2 * characters >= window):
        check_window(request, card, profile.conversation)
    if profile.conversation:
        from o3magic.conversations.compaction import filled

        notes = (*notes, *filled(request, card, profile.conversation))
    call = HttpRequest(
        provider,
        api,
        request,
        key,
        profile.connect_timeout_s,
        choose_first_token_timeout(profile),
        profile.chunk_timeout_s,
        profile.max_answer_bytes,
    )
    for lack in sorted(lacks):
        if lack == "responses" and profile.api == "responses":
            continue  # the user named it: the provider may have it by now
        call, note = apply_fallback(call, lack, card)
        notes = (*notes, *([note] if note else []))
    if asked.toolbox is not None:
        from o3magic.tools.toolbox import check_tools

        strict = choice.named or provider.has_rules_of_openai
        check_tools(asked.toolbox, card, call.api, request.effort, strict=strict)
    question = build_canonical_request(asked, profile, answer_type, request, choice)
    return Plan(call, profile, catalog, question, asked, choice, answer_type, notes, mode)


def add_messages(
    request: Request,
    asked: PromptInput,
    profile: Settings,
    card: Card,
    provider: Provider,
    api: Api,
    lacks: Collection[str],
) -> tuple[Request, tuple[str, ...]]:
    """The request with its messages, and notes for the reader."""
    structured = request.answer_schema is not None
    first, user, notes = build_messages(asked, profile, card, structured=structured)
    notes = (*asked.notes, *notes)
    if provider.system_role:
        first = tuple(to_system_role(message) for message in first)
    kept = None
    if asked.last is not None:
        from o3magic.conversations.stored_responses import kept_by

        kept = kept_by(
            asked.last,
            asked.before,
            developer=first,
            profile=profile,
            provider=provider,
            api=api,
            lacks=lacks,
        )
    messages = (user,) if kept else (*first, *asked.before, user)
    summary = None if profile.summary == "none" else profile.summary
    if summary and api == "chat":
        summary = None
        notes = (*notes, "no reasoning summary: the Chat API has none (--api responses)")
    return replace(request, messages=messages, summary=summary, kept=kept), notes


def build_request(
    asked: PromptInput,
    profile: Settings,
    card: Card,
    provider: Provider,
    api: Api,
    answer_type: AnswerType | None,
) -> Request:
    """A request without its messages. Raises BadOption and NotStrict."""
    if answer_type is not None and "schema" not in card.abilities:
        raise BadOption(f"{card.id} has no structured answers", hint="choose another --model")
    limits = AZURE if provider.small_schemas else OPENAI
    return Request(
        model=profile.model,
        messages=(),
        max_output_tokens=profile.max_output_tokens or card.default_output_tokens,
        answer_schema=answer_type.request_schema(limits) if answer_type else None,
        tools=asked.toolbox.request_tools(limits) if asked.toolbox is not None else (),
        stream=profile.stream and "stream" in card.abilities,
        options=build_unstored_options(card) if api == "responses" and not profile.store else {},
        max_tokens_word="max_tokens" if provider.max_tokens else "max_completion_tokens",
        tier=profile.tier,
        verbosity=profile.verbosity,
        params=fields_of(profile.param) if profile.param else {},
    )


def replace_default(planned: Plan, choice: ModelChoice) -> Plan:
    """The plan with the next default model, where the provider no longer serves the first."""
    request = replace(
        planned.call.request,
        model=choice.model,
        effort=choice.effort if planned.profile.effort is None else planned.profile.effort,
    )
    question = replace(
        planned.question,
        default_model=choice.model,
        default_effort=request.effort,
        default_reason=choice.reason,
    )
    return replace(
        planned,
        call=replace(planned.call, request=request),
        profile=replace(planned.profile, model=choice.model),
        question=question,
        choice=choice,
    )


def build_unstored_options(card: Card) -> Mapping[str, Any]:
    """The options with `store` off. A model without reasoning refuses `include`."""
    return {**UNSTORED, "include": [ENCRYPTED_REASONING]} if card.reasons else UNSTORED


def choose_first_token_timeout(profile: Settings) -> float:
    """Seconds to wait for the first token: longer for flex, unless the user set it."""
    chosen = profile.first_token_timeout_s
    usual = chosen == Settings.first_token_timeout_s
    return FLEX_FIRST_TOKEN_TIMEOUT_S if usual and profile.tier == "flex" else chosen


def build_canonical_request(
    asked: PromptInput,
    profile: Settings,
    answer_type: AnswerType | None,
    request: Request,
    choice: ModelChoice,
) -> CanonicalRequest:
    """The question as its cassette has it: in the user's own options, whoever answers it."""
    # Only what was set: the keys of all other questions stay as they are.
    options: dict[str, Any] = {**request.params}
    if not profile.formatting:
        options["formatting"] = False
    if profile.verbosity is not None:
        options["verbosity"] = profile.verbosity
    developer = [Message.of("developer", profile.developer)] if profile.developer else []
    return CanonicalRequest(
        model=profile.model if choice.named else "",
        default_model="" if choice.named else choice.model,
        default_effort=None if choice.named else request.effort,
        default_reason="" if choice.named else choice.reason,
        messages=(*developer, *asked.before, Message("user", asked.parts)),
        api=profile.api,
        effort=profile.effort,
        schema=answer_type.schema if answer_type else None,
        sent_schema=request.answer_schema.schema if request.answer_schema else None,
        tools=request.tools,
        schema_name=answer_type.name if answer_type else "",
        summary=profile.summary,
        max_output_tokens=profile.max_output_tokens,
        sample=profile.sample,
        options=options,
    )


def find_provider(profile: Settings, providers: Providers) -> Provider | None:
    """The provider of a profile, or None where none is named and no key is set.

    An address on the line or in the settings is a provider of its own, with a key of its own:
    a key goes to no other origin than the one it was made for.
    """
    named = providers.get(profile.provider) if profile.provider else providers.default()
    if not profile.base_url:
        return named
    host = origin(profile.base_url)[1]
    if named and host and named.origin == origin(profile.base_url):
        return replace(named, base_url=profile.base_url)
    if profile.provider and named:
        default_models = named.default_models
    else:
        default_models = None if is_loopback(host) else providers.get("openai").default_models
    endpoints = named.endpoints if profile.provider and named else ("responses", "chat", "models")
    return Provider(
        profile.provider or host or profile.base_url,
        base_url=profile.base_url,
        key_env=CUSTOM_KEY,
        auth=named.auth if profile.provider and named else "bearer",
        endpoints=endpoints,
        local=is_loopback(host),
        default_models=default_models,
    )


def set_effort(request: Request, effort: Effort, provider: Provider, api: Api) -> Request:
    """The request at an effort, in the form that the provider takes."""
    options = request.options
    if provider.efforts_in == "template" and api == "chat":
        options = {**options, "chat_template_kwargs": {"reasoning_effort": effort}}
    return replace(request, effort=effort, options=options)


def choose_api(
    profile: Settings, card: Card, provider: Provider, *, structured: bool = False
) -> Api:
    """The API of a request. Raises BadOption for one that the model or provider lacks."""
    both: list[Api] = ["responses", "chat"]
    if provider.efforts_in == "responses" and (structured or profile.effort is None):
        both.reverse()
    spoken = [api for api in both if api in provider.endpoints and api in card.endpoints]
    if profile.api != "auto":
        if profile.api not in card.endpoints:
            raise BadOption(
                f"{card.id} is not served by the {profile.api} API",
                hint=f"--api {' or '.join(e for e in card.endpoints if e in both)}",
            )
        return profile.api  # the user may know more than our table of providers
    if not spoken:
        raise BadOption(
            f"{provider.name} serves none of the APIs {card.id} has", hint="choose another --model"
        )
    return spoken[0]


def check_effort(profile: Settings, card: Card) -> None:
    """Raise BadOption for an effort that the model does not support."""
    if profile.effort is None or card.efforts is None or profile.effort in card.efforts:
        return
    if not card.efforts:
        raise BadOption(f"{card.id} has no reasoning effort to choose", hint="leave --effort out")
    has = ", ".join(card.efforts)
    raise BadOption(f"{card.id} has no effort {profile.effort!r}", hint=f"it has {has}")


def check_limit(limit: int, card: Card, api: Api) -> None:
    """Raise BadOption for an output limit this model or API refuses."""
    most = card.max_output_tokens
    if most is not None and limit > most:
        raise BadOption(
            f"--max-output-tokens {limit:,} is more than {card.id} can give",
            hint=f"at most {most:,}",
        )
    if api == "responses" and limit < responses.MIN_OUTPUT_TOKENS:
        raise BadOption(
            f"--max-output-tokens {limit} is less than the Responses API takes",
            hint=f"at least {responses.MIN_OUTPUT_TOKENS}; reasoning alone often needs 25,000",
        )


def build_messages(
    asked: PromptInput, profile: Settings, card: Card, *, structured: bool
) -> tuple[tuple[Message, ...], Message, tuple[str, ...]]:
    """The developer messages, the user message, and notes for the reader.

    o1, o3-mini and their like answer in plain text unless the developer message begins with a
    magic line. Source: OpenAI's reasoning best practices (2026-07-15).
    """
    lines = [FORMATTING] if card.plain_by_default and profile.formatting and not structured else []
    developer = "\n".join([*lines, *([profile.developer] if profile.developer else [])])
    user = Message("user", asked.parts)
    if not developer:
        return (), user, ()
    if "developer" in card.abilities:
        return (Message.of("developer", developer),), user, ()
    note = f"{card.id} takes no developer message: it stands above the prompt instead"
    above = Message("user", (Text(f"{developer}\n\n"), *asked.parts))
    return (), above, (note,)


def to_system_role(message: Message) -> Message:
    """The message with the role `system`, which older servers know."""
    return replace(message, role="system") if message.role == "developer" else message


def check_window(request: Request, card: Card, conversation: str = "") -> None:
    """Raise PromptTooLong where even the lowest token estimate exceeds the window."""
    from o3magic.conversations.conversation import tokens_of

    most = card.max_input_tokens or card.window_tokens
    if most is None:
        return
    low = tokens_of(request.whole).low
    if low > most:
        way = f"%o3_conversations compact {conversation}, or --compact" if conversation else ""
        raise PromptTooLong(
            f"the prompt has at least {low:,} tokens; {card.id} takes {most:,}", hint=way
        )


def build_shown_request(plan: Plan) -> dict[str, Any]:
    """The address and the body of a request, for --dry-run; never a header or a key."""
    dialect = DIALECTS[plan.call.api]
    url = plan.call.provider.url(dialect.path, plan.call.request.model)
    body: Mapping[str, Any] = dialect.encode(plan.call.request)
    return {"POST": url, "body": body}
