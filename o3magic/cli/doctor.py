"""`o3magic doctor`: what is set up, and what is wrong with it. No prompt is sent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from o3magic.config import ledger_file, project_file, user_file
from o3magic.cost.ledger import Ledger
from o3magic.cost.pricing import card_at
from o3magic.errors import O3Error
from o3magic.providers import Provider
from o3magic.session.error_hints import find_replacement
from o3magic.session.plan import check_effort, find_provider
from o3magic.session.session import Session
from o3magic.settings import Settings
from o3magic.version import __version__


@dataclass(frozen=True)
class Finding:
    """One line of the report; `hint` is what to do about it where something is wrong."""

    subject: str
    told: str
    wrong: bool = False
    hint: str = ""


def run() -> int:
    """Print the report. Gives 0 where nothing is wrong, else 1."""
    found = list(findings(os.environ, Path.cwd()))
    width = max(len(each.subject) for each in found)
    for each in found:
        print(f"{'!' if each.wrong else ' '} {each.subject:<{width}}  {each.told}")
        if each.hint:
            print(f"  {'':<{width}}  try: {each.hint}")
    return int(any(each.wrong for each in found))


def findings(environment: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    """Everything there is to tell, in the order a question takes."""
    yield Finding("o3magic", f"{__version__}, Python {sys.version.split()[0]}")
    try:
        session = Session.start(environment, folder)
        profile = session.layers.profile()
    except O3Error as error:
        yield failed("settings", error)
        return
    try:
        yield from of_settings(environment, folder)
        yield from of_provider(session, profile)
        yield from of_model(session, profile)
        yield of_ledger(environment)
        yield of_cassettes(folder)
    finally:
        session.close()


def of_settings(environment: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    """The two files."""
    own, project = user_file(environment), project_file(folder)
    yield Finding("your settings", str(own) if own.is_file() else f"none ({own})")
    yield Finding("project settings", str(project) if project else "none")


def of_provider(session: Session, profile: Settings) -> Iterator[Finding]:
    """Who would be asked, whether there is a key, and whether anybody answers there."""
    provider = find_provider(profile, session.providers)
    for local in filter(session.client.is_there, session.providers.local):
        yield Finding("local server", f"{local.name} answers at {local.base_url}")
    if provider is None:
        hint = "set OPENAI_API_KEY, or -p local, or run `o3magic demo`"
        yield Finding("provider", "nobody to ask: no key is set", True, hint)
        return
    if provider.managed:
        yield from of_local_model(session, provider, profile)
        return
    yield Finding("provider", f"{provider.name}, {provider.base_url or 'no address'}")
    yield of_key(session, provider)
    for variable, header in provider.unset.items():
        told = f"{header} is sent with {variable}, which is not set"
        yield Finding("header", told, True, f"set {variable}")
    try:
        served = session.served_models(profile)
    except O3Error as error:
        yield failed("connection", error)
        return
    yield Finding("connection", f"it answers, and lists {len(served):,} models")
    names = [each.id for each in served]
    known = profile.model and names and "{" not in provider.path
    if known and not any(name.startswith(profile.model) for name in names):
        yield Finding("model", f"{provider.name} does not list {profile.model}", True, "%o3_models")


def of_local_model(session: Session, provider: Provider, profile: Settings) -> Iterator[Finding]:
    """A model on this machine; it is not started."""
    yield Finding("provider", f"{provider.name}, llama.cpp on this machine, started when asked")
    try:
        yield Finding("model file", session.reach.provider(profile).file)
    except O3Error as error:
        yield failed("model file", error)


def of_key(session: Session, provider: Provider) -> Finding:
    """Whether a key is set; its length is all that is shown of it."""
    key = session.providers.key(provider)
    if key is not None:
        length = len(key.get_secret_value())
        return Finding("key", f"{provider.key_env} is set ({length} characters)")
    if provider.auth == "none" or provider.local:
        return Finding("key", "none is needed")
    return Finding("key", f"{provider.key_env} is not set", True, f"set {provider.key_env}")


def of_model(session: Session, profile: Settings) -> Iterator[Finding]:
    """The model that would be asked and why, its price and days."""
    today = date.today()
    provider = session.reach.stand_in(profile)
    try:
        choice = session.choose_model(profile, provider)
    except O3Error as error:
        yield failed("model", error)
        return
    card = session.catalog.card(provider.cards.get(choice.model, choice.model))
    priced = card_at(provider, session.catalog, choice.model, today)
    price = priced.price(today) if priced else None
    why = f" ({choice.reason})" if choice.reason else ""
    if provider.managed or provider.embedded:
        yield Finding("model", f"{choice.model}{why}: $0")
        return
    told = f"no price is known at {provider.name}: its cost will be unknown"
    if price is not None:
        told = f"{price.rates.input:f} in, {price.rates.output:f} out, USD per million tokens"
    yield Finding("model", f"{choice.model}{why}: {told}", price is None and not provider.local)
    if card.shutdown is not None:
        gone = card.retired(today)
        told = f"OpenAI announced its shutdown for {card.shutdown}"
        new, _ = find_replacement(card, session.catalog, today)
        hint = f"O3MAGIC_MODEL={new.id}" if new else ""
        yield Finding("model's end", told, gone, hint)
    try:
        check_effort(profile, card)
    except O3Error as error:
        yield failed("effort", error)


def of_ledger(environment: Mapping[str, str]) -> Finding:
    """The books: where they are, and whether they can be read."""
    path = ledger_file(environment)
    ledger = Ledger(path)
    try:
        calls = sum(total.live.calls for total in ledger.totals(by=("model",)))
    except O3Error as error:
        return failed("ledger", error)
    finally:
        ledger.close()
    return Finding("ledger", f"{path}, {calls:,} calls")


def of_cassettes(folder: Path) -> Finding:
    """Recorded answers beside the notebooks here."""
    names = sorted(path.name for path in folder.glob("*.o3.json"))
    return Finding("cassettes", ", ".join(names) or "none in this folder")


def failed(subject: str, error: O3Error) -> Finding:
    """What is wrong, and what to try."""
    return Finding(subject, str(error), True, error.hint)
