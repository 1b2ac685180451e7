"""The default model, chosen by provider and day.

A cassette records the choice, so that a replay depends on neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING

from o3magic.cassettes.request_key import FIRST_DEFAULT
from o3magic.errors import BadOption
from o3magic.messages import EFFORTS, Effort
from o3magic.models import Catalog
from o3magic.providers import Provider

if TYPE_CHECKING:
    from o3magic.cassettes.entry import Recording

MOST_LISTED = 12
# Set by `o3magic migrate` for the kernel that asks everything again.
MIGRATE_TO = "O3MAGIC_MIGRATE_TO"
# Parts of the names of models that answer no questions; servers list them too.
NOT_ASKED = ("embed", "bge-", "rerank", "whisper", "tts", "moderation", "stable-diffusion", "clip")


@dataclass(frozen=True)
class ModelChoice:
    """The model of a question, and the reason for it.

    named     whether the user named it; a named model is not replaced, except by `on_retired`
    reason    the reason in half a line, or ""
    original  the first of the provider's defaults, where this one stands in for that: its efforts
              are those that are asked and compared
    effort    what is sent where no effort is chosen: the one that `original` would have used
    others    the provider's further defaults, should this one be gone
    """

    model: str
    named: bool = True
    reason: str = ""
    original: str = ""
    effort: Effort | None = None
    others: tuple[str, ...] = ()


def choose_default(
    provider: Provider,
    catalog: Catalog,
    on: date,
    *,
    missing: Collection[str] = (),
    served: Sequence[str] | None = None,
    shutdowns: Mapping[str, date | None] = MappingProxyType({}),
) -> ModelChoice:
    """The default model of a provider.

    missing: models that it turned out to lack. served: the ids it lists, None where not known.
    shutdowns: the days in its list, which replace those of the cards.
    Raises BadOption where none can be chosen, with a hint to name one.
    """
    if not provider.default_models:
        if provider.local:
            return choose_listed_model(provider, catalog, served or (), missing)
        raise no_deployment_error(provider)
    names = [*provider.default_models]
    if provider.card_shutdowns:
        names += list_successors(names[-1], catalog)
    reason = f"{provider.name}'s default"
    for at, name in enumerate(names):
        gone = find_reason_gone(name, provider, catalog, on, missing, served, shutdowns)
        if not gone:
            original = names[0] if at else ""
            return ModelChoice(
                name,
                named=False,
                reason="" if provider.embedded or provider.managed else reason,
                original=original,
                effort=find_inherited_effort(name, original, provider, catalog),
                others=tuple(names[at + 1 :]),
            )
        if at == 0:
            reason += f" since {gone}"
    raise BadOption(
        f"{provider.name} no longer serves any of its default models: {', '.join(names)}",
        hint="-m MODEL names one; %o3_models lists them",
    )


def choose_recorded_default(recording: Recording | None) -> ModelChoice:
    """The model that answered a recorded question that named none.

    Older cassettes do not record it: then it was always the same.
    """
    if recording is None or not recording.default_model:
        return ModelChoice(FIRST_DEFAULT, named=False)
    return ModelChoice(
        recording.default_model,
        named=False,
        reason=recording.default_reason,
        original=FIRST_DEFAULT if recording.default_model != FIRST_DEFAULT else "",
        effort=next((each for each in EFFORTS if each == recording.default_effort), None),
    )


def choose_migrated_default(words: str, provider: Provider, catalog: Catalog) -> ModelChoice:
    """The model that a notebook migrates to. words: the model, and optionally an effort."""
    model, _, effort = words.partition(" ")
    said = next((each for each in EFFORTS if each == effort), None)
    return ModelChoice(
        model,
        named=False,
        reason="the default of this notebook",
        original=FIRST_DEFAULT,
        effort=said or find_inherited_effort(model, FIRST_DEFAULT, provider, catalog),
    )


def choose_next_default(
    choice: ModelChoice, provider: Provider, catalog: Catalog
) -> ModelChoice | None:
    """The default after one that the provider no longer serves, or None."""
    if choice.named or not choice.others:
        return None
    first = choice.original or choice.model
    model, *others = choice.others
    return ModelChoice(
        model,
        named=False,
        reason=f"{provider.name}'s default since it does not serve {choice.model}",
        original=first,
        effort=find_inherited_effort(model, first, provider, catalog),
        others=tuple(others),
    )


def find_reason_gone(
    name: str,
    provider: Provider,
    catalog: Catalog,
    on: date,
    missing: Collection[str],
    served: Sequence[str] | None,
    shutdowns: Mapping[str, date | None],
) -> str:
    """Why a model cannot be asked, as the end of a sentence that begins with "since"; or ""."""
    known = catalog.card(name).shutdown if provider.card_shutdowns else None
    last = shutdowns.get(name, known)
    if last is not None and last <= on:
        return f"{name} was shut down on {last:%Y-%m-%d}"
    listed = not served or any(each == name or each.startswith(f"{name}-") for each in served)
    if name in missing or not listed:
        return f"it does not serve {name}"
    return ""


def list_successors(name: str, catalog: Catalog) -> list[str]:
    """The replacement of a model, the replacement of that, and so on."""
    found: list[str] = []
    while (name := catalog.card(name).replacement or "") and name not in found:
        found.append(name)
    return found


def find_inherited_effort(
    name: str, original: str, provider: Provider, catalog: Catalog
) -> Effort | None:
    """The default effort of `original`, where its successor supports it.

    Some successors do not reason unless an effort is sent.
    """
    if not original:
        return None
    usual = catalog.card(provider.cards.get(original, original)).default_effort or ""
    has = catalog.card(provider.cards.get(name, name)).efforts or ()
    return next((effort for effort in EFFORTS if effort == usual and effort in has), None)


def list_compared_efforts(
    choice: ModelChoice, provider: Provider, catalog: Catalog
) -> tuple[str, ...]:
    """The efforts of a comparison that names none: for a successor those of its original."""
    has = catalog.card(provider.cards.get(choice.model, choice.model)).efforts or ()
    if not choice.original:
        return has
    usual = catalog.card(provider.cards.get(choice.original, choice.original)).efforts or ()
    return tuple(effort for effort in usual if effort in has) or has


def choose_listed_model(
    provider: Provider, catalog: Catalog, served: Sequence[str], missing: Collection[str] = ()
) -> ModelChoice:
    """The only model that a local server lists; of several, gpt-oss. Raises BadOption."""
    found = [name for name in served if can_answer(name) and name not in missing]
    if not served:
        raise BadOption(
            f"{provider.name} lists no models", hint="load one there, or name one with -m MODEL"
        )
    if not found:
        raise BadOption(
            f"none of the models that {provider.name} lists answers questions: "
            f"{shorten_names(served)}",
            hint="load another one there, or name one with -m MODEL",
        )
    if len(found) == 1:
        reason = f"the one model that {provider.name} lists"
        return ModelChoice(found[0], named=False, reason=reason)
    open_weights = [name for name in found if "gpt-oss" in name.lower()]
    if not open_weights:
        raise BadOption(
            f"{provider.name} lists several models: {shorten_names(found)}",
            hint=f"%%o3 -p {provider.name} -m {found[0]}, or %o3_config model={found[0]}",
        )
    chosen = min(open_weights, key=lambda name: (len(name), name))
    return ModelChoice(chosen, named=False, reason=f"the gpt-oss that {provider.name} lists")


def can_answer(name: str) -> bool:
    """Whether a model answers questions, judged by its name."""
    return not any(word in name.lower() for word in NOT_ASKED)


def shorten_names(names: Sequence[str]) -> str:
    """The first names of many, and the number of the others."""
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def no_deployment_error(provider: Provider) -> BadOption:
    """The error where a deployment has to be named."""
    name = provider.name
    return BadOption(
        f"{name} needs the name of a deployment, and none was given",
        hint=f"%%o3 -p {name} -m my-deployment, or %o3_config model=my-deployment; in your own "
        f'settings, default_models = ["my-deployment"] in [providers.{name}]',
    )
