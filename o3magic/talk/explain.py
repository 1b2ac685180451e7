"""Refusals said with what we know besides: the model's dates, its replacements, near names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TypeVar

from o3magic.catalog import Card
from o3magic.errors import ModelNotFound, ModelRetired, NoKey, RequestFailed, WrongKey, did_you_mean
from o3magic.providers import Provider

E = TypeVar("E", bound=RequestFailed)


def explained(
    error: RequestFailed, card: Card, known: Iterable[str], provider: Provider, today: date
) -> RequestFailed:
    """The same error, or a closer one where the catalogue knows why."""
    if isinstance(error, WrongKey) and provider.key_env:
        error.hint = f"check {provider.key_env}: is it a key of {provider.name}, and still valid?"
    if not isinstance(error, ModelNotFound):
        return error
    if isinstance(error, ModelRetired) or card.retired(today):
        return retired(error, card, provider.name)
    names = list(known)
    if card.id in names:
        hint = (
            f"{card.id} exists: your project or usage tier may not have it yet "
            "(the provider's limits page), or -m with another model"
        )
    else:
        hint = did_you_mean(card.id, names, "%o3_models lists the models")
    return copied(ModelNotFound, str(error), hint, error)


def retired(error: RequestFailed, card: Card, provider: str) -> ModelRetired:
    """What to say of a model that is gone: since when, and what to write instead."""
    when = f"; OpenAI announced its shutdown for {card.shutdown:%Y-%m-%d}" if card.shutdown else ""
    first, *others = card.replacements or ("",)
    hint = "%o3_models lists the models"
    if first:
        also = f"; others suggest {' or '.join(others)}" if others else ""
        hint = f"%%o3 -m {first} (OpenAI's replacement{also}), or %o3_config model={first}"
    return copied(ModelRetired, f"{provider} no longer serves {card.id}{when}", hint, error)


def copied(kind: type[E], message: str, hint: str, error: RequestFailed) -> E:
    """An error of another class with the same facts."""
    return kind(
        message,
        hint=hint,
        answer=error.answer,
        status=error.status,
        code=error.code,
        param=error.param,
        request_id=error.request_id,
    )


def nobody_to_ask(there: Iterable[Provider]) -> NoKey:
    """The ways on where no provider is named and no key is set; `there` answers locally."""
    ways = ["set OPENAI_API_KEY", "`%%o3 -p local` (pip install 'o3magic[local]')"]
    local = [f"`%%o3 -p {each.name} -m MODEL` ({each.host} answers)" for each in there]
    ways.append(" or ".join(local) or "start a local server (Ollama, llama.cpp, LM Studio, vLLM)")
    return NoKey("there is no key and no provider to ask", hint=", or ".join(ways))
