"""Provider errors with hints from the catalog: shutdown dates, replacements, similar names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TypeVar

from o3magic.errors import (
    ModelNotFound,
    ModelRetired,
    NoKey,
    RateLimited,
    RequestFailed,
    WrongKey,
    did_you_mean,
)
from o3magic.messages import EFFORTS, Effort, Request
from o3magic.models import Card, Catalog
from o3magic.providers import Provider

E = TypeVar("E", bound=RequestFailed)


def explain_error(
    error: RequestFailed,
    card: Card,
    catalog: Catalog,
    request: Request,
    provider: Provider,
    today: date,
) -> RequestFailed:
    """The same error with a hint, or a more specific one where the catalog knows the cause."""
    if isinstance(error, RateLimited) and request.tier == "flex":
        error.hint = "the flex tier is full now: run the cell again later, or use --tier default"
    if isinstance(error, WrongKey) and provider.key_env:
        error.hint = f"check {provider.key_env}: is it a key of {provider.name}, and still valid?"
        account = [n for n in (provider.organization_env, provider.project_env) if n]
        if named := [name for name in account if name in provider.variables]:
            error.hint += f" Does it belong to what {' and '.join(named)} names?"
    if not isinstance(error, ModelNotFound):
        return error
    if isinstance(error, ModelRetired) or card.retired(today):
        return build_model_retired(error, card, catalog, provider, today, request.effort)
    names = catalog.names
    if card.id in names:
        hint = (
            f"{card.id} exists: your project or usage tier may not have it yet "
            "(the provider's limits page), or -m with another model"
        )
    else:
        hint = did_you_mean(card.id, names, "%o3_models lists the models")
    return copy_error(ModelNotFound, str(error), hint, error)


def build_model_retired(
    error: RequestFailed,
    card: Card,
    catalog: Catalog,
    provider: Provider,
    today: date,
    effort: Effort | None,
) -> ModelRetired:
    """The error for a retired model: its date, its replacement, and the price of that."""
    when = f"; OpenAI announced its shutdown for {card.shutdown:%Y-%m-%d}" if card.shutdown else ""
    new, mode = find_replacement(card, catalog, today)
    hint = "%o3_models lists the models"
    if new is not None:
        chosen = find_surviving_effort(effort, card, new)
        options = f"-m {new.id}" + (f" -e {chosen}" if chosen else "")
        settings = f"model={new.id}" + (f" effort={chosen}" if chosen else "")
        if mode:
            options += f" --param 'reasoning.mode=\"{mode}\"'"
            settings += f" 'param=reasoning.mode=\"{mode}\"'"
        hint = f"%%o3 {options} (OpenAI's replacement{format_prices(card, new, today)}), "
        hint += f"or %o3_config {settings}"
        for other in (catalog.card(name) for name in card.also_suggested):
            if not other.retired(today):
                hint += f"; nearer in price is {other.id}{format_prices(None, other, today)}"
    return copy_error(
        ModelRetired, f"{provider.name} no longer serves {card.id}{when}", hint, error
    )


def find_replacement(card: Card, catalog: Catalog, today: date) -> tuple[Card | None, str]:
    """OpenAI's replacement of a model, and the `reasoning.mode` to send with it, or "".

    Where the replacement is retired too, its own replacement is used.
    """
    seen, mode = {card.id}, ""
    while card.replacement and card.replacement not in seen:
        mode = card.replacement_mode or mode
        card = catalog.card(card.replacement)
        if not card.retired(today):
            return card, mode
        seen.add(card.id)
    return None, ""


def find_surviving_effort(effort: Effort | None, old: Card, new: Card) -> Effort | None:
    """The effort of the old model, chosen or default, where the new one supports it, else None.

    It has to be sent: some successors do not reason without one.
    """
    had = effort or old.default_effort
    has = EFFORTS if new.efforts is None else new.efforts
    return next((name for name in EFFORTS if name == had and name in has), None)


def format_prices(old: Card | None, new: Card, today: date) -> str:
    """The price of a replacement and the old price, as far as they are known."""
    before = None if old is None else old.price(today)
    now = new.price(today)
    if now is None:
        return ""
    text = f": ${now.rates.input:f} in, ${now.rates.output:f} out per million tokens"
    if before is None:
        return text
    return f"{text}, not ${before.rates.input:f} and ${before.rates.output:f}"


def copy_error(kind: type[E], message: str, hint: str, error: RequestFailed) -> E:
    """The error as another class, with the same attributes."""
    return kind(
        message,
        hint=hint,
        answer=error.answer,
        status=error.status,
        code=error.code,
        param=error.param,
        request_id=error.request_id,
    )


def no_provider_error(there: Iterable[Provider]) -> NoKey:
    """The error where no provider and no key is set; `there` are local servers that answer."""
    ways = ["set OPENAI_API_KEY", "`%%o3 -p local` (pip install 'o3magic[local]')"]
    local = [f"`%%o3 -p {provider.name} -m MODEL` ({provider.host} answers)" for provider in there]
    ways.append(" or ".join(local) or "start a local server (Ollama, llama.cpp, LM Studio, vLLM)")
    ways.append("see `o3magic demo`")
    return NoKey("there is no key and no provider to ask", hint=", or ".join(ways))
