"""Our prices beside those of genai-prices, an optional package. Its door, loaded when it is used.

Only what is bundled with the package is read; nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from importlib.metadata import version
from typing import Any

from o3magic.errors import BadOption
from o3magic.models import Card, Catalog, Price, Rates

INSTALL = "pip install 'genai-prices>=0.2'"
PROVIDER = "openai"
# What a tier is called there.
CONTEXTS: dict[str, dict[str, str]] = {
    "default": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
RATES = {
    "input": "input_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "output": "output_mtok",
}
ISO_DAY = re.compile(r"\b20\d\d-\d\d-\d\d\b")


@dataclass(frozen=True, slots=True)
class RateDifference:
    """One rate of one model, US dollars per million tokens; None where a side has none.

    their_date: when they say that they looked, or since when they say it holds; "" if neither.
    """

    model: str
    rate: str
    ours: Decimal | None
    theirs: Decimal | None
    our_source: str
    their_date: str


@dataclass(frozen=True, slots=True)
class PriceCheck:
    """What was compared, and where it differs."""

    differences: tuple[RateDifference, ...]
    models: int
    unknown: tuple[str, ...]
    version: str

    head = ("model", "rate", "ours", "theirs", "our source", "their date")

    @property
    def said(self) -> str:
        """The outcome in one line."""
        with_what = f"genai-prices {self.version}"
        missing = f"; it does not have {', '.join(self.unknown)}" if self.unknown else ""
        if not self.differences:
            return f"the prices of {self.models} models are those of {with_what}{missing}"
        found = len(self.differences)
        rates = "1 rate differs" if found == 1 else f"{found} rates differ"
        return f"{rates} from {with_what}, USD per million tokens{missing}"

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The differences as text, a cell for each of `head`."""
        return [
            (d.model, d.rate, said(d.ours), said(d.theirs), d.our_source, d.their_date or "–")
            for d in self.differences
        ]


def check(catalog: Catalog, on: date | None = None) -> PriceCheck:
    """Compare the cards' prices of a day with theirs. Raises BadOption where there are none."""
    try:
        providers = snapshot().providers
    except ImportError as error:
        what = "prices are compared with the package genai-prices, which"
        why = "is not installed" if missing(error) else f"cannot be loaded: {error}"
        raise BadOption(f"{what} {why}", hint=INSTALL) from None
    theirs = next(each for each in providers if each.id == PROVIDER)
    when = datetime.now(UTC) if on is None else datetime(on.year, on.month, on.day, 12, tzinfo=UTC)
    found: list[RateDifference] = []
    unknown = []
    for card in catalog.cards:
        model = next((each for each in theirs.models if each.is_match(card.id)), None)
        if model is None:
            unknown.append(card.id)
        else:
            found += differences(card, model, when)
    compared = len(catalog.cards) - len(unknown)
    return PriceCheck(tuple(found), compared, tuple(unknown), version("genai-prices"))


def snapshot() -> Any:
    """The package's prices as bundled with it. Raises ImportError where it is not there."""
    return import_module("genai_prices.data_snapshot").get_snapshot()


def missing(error: ImportError) -> bool:
    """Whether it is the package itself that is not there."""
    return (error.name or "").partition(".")[0] == "genai_prices"


def differences(card: Card, model: Any, when: datetime) -> Iterator[RateDifference]:
    """Where one model's rates differ, tier by tier."""
    for tier, context in CONTEXTS.items():
        price = card.price(when.date(), tier)
        if price is None or not has_tier(model, context, when):
            continue  # a tier that one side does not have is no contradiction
        theirs = model.get_prices(when, context)
        for name, ours, other in pairs(card, price, theirs, of_tier(model, context, when)):
            if ours != other:
                rate = name if tier == "default" else f"{name}, {tier}"
                seen = date_of(model, when)
                yield RateDifference(card.id, rate, ours, other, price.source, seen)


def has_tier(model: Any, context: dict[str, str], when: datetime) -> bool:
    """Whether they have prices of a tier of their own on that day."""
    return not context or bool(of_tier(model, context, when))


def of_tier(model: Any, context: dict[str, str], when: datetime) -> set[str]:
    """The rates that they have for a tier; what they show besides is that of the standard one."""
    if not context:
        return set(RATES.values())
    return {
        key
        for variant in model.price_variants or ()
        if variant.when == context
        and (variant.constraint is None or variant.constraint.active(when))
        for key, usd in vars(variant.prices).items()
        if usd is not None
    }


def pairs(
    card: Card, price: Price, theirs: Any, known: Collection[str]
) -> Iterator[tuple[str, Decimal | None, Decimal | None]]:
    """Each rate with ours and theirs; those of long requests where both have some."""
    for name, key in RATES.items():
        if key not in known:
            continue
        other = getattr(theirs, key, None)
        if other is None and getattr(price.rates, name) is None:
            continue
        if other is None and name.startswith("cache"):
            other = theirs.input_mtok  # no rate of its own: that of any input
        spoken = name.replace("_", " ")
        yield spoken, rate_of(card, price.rates, name), getattr(other, "base", other)
        if price.long is not None and (tiers := getattr(other, "tiers", ())):
            yield f"{spoken}, long", rate_of(card, price.long, name), tiers[-1].price


def rate_of(card: Card, rates: Rates, name: str) -> Decimal | None:
    """What we charge; None where a card whose cache writes cost does not say how much."""
    own: Decimal | None = getattr(rates, name)
    unsaid = name == "cached" or (name == "cache_write" and not card.writes_cost)
    return rates.input if own is None and unsaid else own


def date_of(model: Any, when: datetime) -> str:
    """The latest day their remarks name, or since when their price holds, or ""."""
    days = ISO_DAY.findall(model.price_comments or "")
    conditional = model.prices if isinstance(model.prices, list) else []
    for each in conditional:
        if each.constraint is not None and each.constraint.active(when):
            days += ISO_DAY.findall(str(getattr(each.constraint, "start_date", "")))
    return max(days, default="")


def said(rate: Decimal | None) -> str:
    """A rate to look at, with two digits behind the point at least."""
    if rate is None:
        return "–"
    whole, _, digits = f"{rate.normalize():f}".partition(".")
    return f"{whole}.{digits.ljust(2, '0')}"
