"""What a provider charges: which prices hold there, and what one answer came to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from o3magic.cost.price_check import CONTEXTS, RATES, date_of, has_tier, snapshot
from o3magic.events import Finished, HostedUse
from o3magic.models import EXACT, SNAPSHOT, Card, Catalog, Price, Rates
from o3magic.money import show_usd
from o3magic.providers import Provider

PACKAGE = "genai-prices"
# Our providers by its names, where those differ.
PROVIDERS = {"azure-entra": "azure", "azure-legacy": "azure"}
# What a call without hosted tools is not charged for. A model priced by anything else, such as
# requests or characters, has no price here.
BESIDES = {"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok"}


@lru_cache(maxsize=256)
def priced_card(provider: str, model: str, on: date) -> Card | None:
    """A card with the package's prices of a provider's model, or None where it has none.

    Nothing else is known of the model but its window. The source of each price is the package, its
    version, and the day on which the price was looked at, where the package says it.
    """
    when = datetime(on.year, on.month, on.day, 12, tzinfo=UTC)
    try:
        asked = PROVIDERS.get(provider, provider)
        _, found = snapshot().find_provider_model(model, None, asked, None)
        day = date_of(found, when)
        source = f"{PACKAGE} {version(PACKAGE)}{f' ({day})' if day else ''}"
        prices = tuple(
            price_of(tier, found.get_prices(when, context), source)
            for tier, context in CONTEXTS.items()
            if has_tier(found, context, when)
        )
        return Card(model, window_tokens=found.context_window, prices=prices)
    except (ImportError, LookupError, AttributeError, TypeError, ValueError, ArithmeticError):
        return None  # a cost is unknown; whatever a package does, the question is asked


def price_of(tier: str, theirs: Any, source: str) -> Price:
    """One tier's price. Raises ValueError for one that cannot be said by our four rates."""
    said = {name: usd for name, usd in vars(theirs).items() if usd is not None}
    strange = said.keys() - RATES.values() - BESIDES
    if strange:
        raise ValueError(f"it is priced by {', '.join(sorted(strange))}")
    rates = {name: said[key] for name, key in RATES.items() if key in said}
    limits = {step.start for usd in rates.values() for step in getattr(usd, "tiers", ())}
    if len(limits) > 1:
        raise ValueError("it has more than two prices by length")
    short = Rates(**{name: getattr(usd, "base", usd) for name, usd in rates.items()})
    if not limits:
        return Price(short, tier, source=source)
    long = Rates(**{name: above(usd) for name, usd in rates.items()})
    return Price(short, tier, source=source, long=long, long_above_tokens=limits.pop())


def above(usd: Any) -> Decimal:
    """A rate above the limit."""
    steps = getattr(usd, "tiers", ())
    found: Decimal = steps[-1].price if steps else usd
    return found


AS_SAID = "as the provider says"


@dataclass(frozen=True, slots=True)
class Charge:
    """What one answer cost.

    nano_usd  nano-dollars, or None where nobody knows
    hosted_nano_usd  the part of it for tools that the provider ran itself, None where not known
    price_source, price_since  whose price that is, and since when it holds
    notes  what a reader should know of it
    """

    nano_usd: int | None = None
    hosted_nano_usd: int | None = None
    price_source: str = ""
    price_since: str = ""
    notes: tuple[str, ...] = ()


def card_at(provider: Provider, catalog: Catalog, model: str, on: date) -> Card | None:
    """The card of a model with the prices that hold at a provider, none where none is known.

    A model that has no card here has the prices of the package genai-prices, where that knows it;
    None for a model that nobody knows. A deployment may have a name of its own.
    """
    name = provider.cards.get(model, model)
    card = catalog.find(name)
    own = own_prices_of(provider, model, name, card) if provider.prices else None
    if own is not None:
        return replace(card or Card(name), prices=own)
    if card is None:
        return priced_card(provider.name, name, on) if provider.list_prices else None
    if not provider.list_prices:
        return replace(card, prices=())
    if provider.uplift_percent and not exempt(provider, card):
        return replace(card, prices=raised(card.prices, provider.uplift_percent))
    return card


def own_prices_of(
    provider: Provider, model: str, name: str, card: Card | None
) -> tuple[Price, ...] | None:
    """The prices that the user says hold at this provider, by any name of the model, or None."""
    names = (model, name, SNAPSHOT.sub("", name), card.id if card else "")
    return next((provider.prices[each] for each in names if each in provider.prices), None)


def exempt(provider: Provider, card: Card) -> bool:
    """Whether the provider charges no more than the list price for a model."""
    return any(fnmatchcase(card.id, pattern) for pattern in provider.uplift_not_for)


@lru_cache(maxsize=64)
def raised(prices: tuple[Price, ...], percent: Decimal) -> tuple[Price, ...]:
    """Prices with so much on top, exact."""

    with localcontext(EXACT):
        factor = (100 + percent) / 100

    def rate(usd: Decimal | None) -> Decimal | None:
        return None if usd is None else EXACT.multiply(usd, factor)

    def rates(of: Rates) -> Rates:
        into, out = EXACT.multiply(of.input, factor), EXACT.multiply(of.output, factor)
        return Rates(into, out, rate(of.cached), rate(of.cache_write))

    return tuple(
        replace(
            price,
            rates=rates(price.rates),
            long=rates(price.long) if price.long else None,
            source=f"{price.source} {percent:+} %".strip(),
        )
        for price in prices
    )


def charge(
    provider: Provider,
    card: Card | None,
    end: Finished,
    on: date,
    tier: str,
    said_usd: Decimal | None = None,
) -> Charge:
    """What an answer cost, by the tier that served it.

    card: that of the model that answered, at the prices of the provider. Where these say nothing,
    or not all, what the provider says itself counts: said_usd in a header, or in the usage.
    """
    said_usd = said_usd if end.said_cost_usd is None else end.said_cost_usd
    price = card.price(on, tier) if card else None
    tokens = card.nano_usd(end.usage, on, tier) if card and end.usage else None
    unpriced = [use for use in end.hosted if hosted_nano_usd(provider, use) is None]
    if said_usd is not None and (tokens is None or unpriced):
        return Charge(nano_of(said_usd), price_source=AS_SAID, notes=(f"cost {AS_SAID}",))
    hosted = sum(hosted_nano_usd(provider, use) or 0 for use in end.hosted)
    source, since = (price.source, str(price.since or "")) if price else ("", "")
    notes: tuple[str, ...] = ()
    if card and tokens and source.startswith(PACKAGE):
        notes = (f"{card.id} has no card: priced by {source}",)
    if tokens is None:
        return Charge(None, None if unpriced else hosted, source, since)
    if unpriced:
        what = " and ".join(map(str, unpriced))
        least = show_usd(tokens + hosted)
        note = f"at least {least}: what {provider.name} charges for {what} is not known"
        return Charge(None, None, source, since, (*notes, note))
    return Charge(tokens + hosted, hosted, source, since, notes)


def hosted_nano_usd(provider: Provider, use: HostedUse) -> int | None:
    """What the use of a tool costs that the provider runs itself, or None where nobody knows."""
    usd = provider.hosted_tools.get(use.type)
    return None if usd is None or use.calls is None else nano_of(EXACT.multiply(usd, use.calls))


def nano_of(usd: Decimal) -> int:
    """US dollars as nano-dollars, rounded half up."""
    return int(usd.scaleb(9, EXACT).to_integral_value(context=EXACT))
