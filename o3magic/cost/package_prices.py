"""The prices of models that have no card here: those of genai-prices, where that is installed.

Only what is bundled with the package is read; nothing is fetched.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from o3magic.catalog import Card, Price, Rates
from o3magic.cost.price_check import CONTEXTS, RATES, date_of, has_tier, snapshot

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
