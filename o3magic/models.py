"""Model cards: what a model can do, what it costs and when it goes. A model is data, never code.

The built-in cards are `models.toml` beside this file, with the source and date of each figure.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from functools import cached_property
from importlib.resources import files
from typing import Any

from pydantic import TypeAdapter, ValidationError

from o3magic.errors import BadOption, did_you_mean
from o3magic.events import Usage

SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
GATEWAY = re.compile(r"~?openai/")  # before the name, at OpenRouter, LiteLLM and others
# gpt-oss:20b (Ollama), openai/gpt-oss-20b (vLLM, LM Studio), gpt-oss-20b-mxfp4.gguf (llama.cpp)
OPEN_WEIGHTS = re.compile(r"(?:^|/)(gpt-oss)[-:](\d+b)(?![a-z0-9])", re.IGNORECASE)
NANO_PER_USD_PER_MILLION = 1000  # 1 USD per million tokens is 1,000 nano-dollars a token
# The user's own context may round to a few digits, or trap.
EXACT = Context(prec=100, rounding=ROUND_HALF_UP)
PRICE_FIELDS = ("tier", "since", "source", "long_context")
# Windows, limits and what its Chat API takes are a gateway's own.
OF_A_GATEWAY: dict[str, Any] = {
    "window_tokens": None,
    "max_input_tokens": None,
    "max_output_tokens": None,
    "plain_by_default": False,
    "chat_tools_effort": None,
}
TABLE_FIELDS = ("rates", "since", "source")
RATE_COLUMNS = ("input", "cached", "cache_write", "output")
HINT = "models.toml in the package shows what a card looks like"


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens; None where none is published."""

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """One tier's rates, from `since` on; `long` holds for a whole request above `long_above`."""

    rates: Rates
    tier: str = "default"
    since: date | None = None
    source: str = ""
    long: Rates | None = None
    long_above_tokens: int | None = None

    def is_long(self, usage: Usage) -> bool:
        """Whether a request is over the limit above which other rates hold."""
        limit = self.long_above_tokens
        return limit is not None and (usage.input_tokens or 0) > limit

    def nano_usd(self, usage: Usage, *, writes_cost: bool = False) -> int | None:
        """What `usage` costs in nano-dollars, rounded half up, or None where that is not known.

        writes_cost: the model charges for cache writes, so a tier without their rate is unknown.
        More cached than sent cannot be: it costs no more than what was sent.
        """
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        rates = self.long if self.long is not None and self.is_long(usage) else self.rates
        if usage.cache_write_tokens and writes_cost and rates.cache_write is None:
            return None
        cached = min(usage.cached_tokens or 0, usage.input_tokens)
        written = min(usage.cache_write_tokens or 0, usage.input_tokens - cached)
        fresh = usage.input_tokens - cached - written
        with localcontext(EXACT):
            usd_per_million = (
                fresh * rates.input
                + cached * (rates.input if rates.cached is None else rates.cached)
                + written * (rates.input if rates.cache_write is None else rates.cache_write)
                + usage.output_tokens * rates.output
            )
            return int((usd_per_million * NANO_PER_USD_PER_MILLION).to_integral_value())


@dataclass(frozen=True)
class Card:
    """What is known of one model; empty or None where nothing is.

    efforts: () where none can be said, None where it is not known which.
    default_output_tokens: the limit that is sent where none is chosen.
    abilities: stream, developer (messages), schema, tools, summary (of the reasoning), images,
    and pro (`reasoning.mode: pro`). chat_tools_effort: the one effort at which the Chat API takes
    function tools, "" where it never does. replacement_mode: the reasoning.mode to ask the
    replacement with.
    """

    id: str
    snapshot: str = ""
    aliases: tuple[str, ...] = ()
    window_tokens: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    efforts: tuple[str, ...] | None = None
    default_effort: str | None = None
    default_output_tokens: int | None = None
    abilities: frozenset[str] = frozenset({"stream", "developer", "schema", "tools", "summary"})
    endpoints: tuple[str, ...] = ("responses", "chat")
    plain_by_default: bool = False
    chat_tools_effort: str | None = None
    shutdown: date | None = None
    replacement: str | None = None
    replacement_mode: str = ""
    also_suggested: tuple[str, ...] = ()
    prices: tuple[Price, ...] = ()

    def price(self, on: date, tier: str = "default") -> Price | None:
        """The price of `tier` on that day, or None where it is not known."""
        # The service answers "default" or nothing for its standard tier, "fast" for priority.
        tier = {"": "default", "auto": "default", "standard": "default", "fast": "priority"}.get(
            tier, tier
        )
        known = [p for p in self.prices if p.tier == tier and (p.since is None or p.since <= on)]
        return max(known, key=lambda p: p.since or date.min, default=None)

    def nano_usd(self, usage: Usage, on: date, tier: str = "default") -> int | None:
        """What `usage` cost on that day in nano-dollars, or None where that is not known."""
        price, usual = self.price(on, tier), self.price(on)
        if price is None:
            return None
        if price.long is None and usual and usual.is_long(usage):
            return None  # the model charges more for long requests, but nobody says what here
        return price.nano_usd(usage, writes_cost=self.writes_cost)

    def dearest(self, on: date, tier: str | None = None) -> Price | None:
        """The price of a tier that is asked for, or None where it is not known.

        `auto` is whatever the project is set to, which may be priority: the dearer of it and the
        standard tier. Where nothing is said the standard one counts. A tier that is asked for is
        not left for a dearer one: flex without room answers 429, priority that grows too fast is
        served and billed as standard. Source: OpenAI's guides to both (2026-11-30).
        """
        if tier != "auto":
            return self.price(on, tier or "default")
        known = [p for p in (self.price(on), self.price(on, "priority")) if p is not None]
        return max(known, key=lambda p: (p.rates.output, p.rates.input), default=None)

    @cached_property
    def writes_cost(self) -> bool:
        """Whether some tier charges for cache writes."""
        return any(p.rates.cache_write is not None for p in self.prices)

    @property
    def reasons(self) -> bool:
        """Whether reasoning can come back from it, encrypted or in short; True where unknown."""
        return self.efforts != ()

    def retired(self, on: date) -> bool:
        """Whether its announced shutdown date has come."""
        return self.shutdown is not None and self.shutdown <= on

    @property
    def replacements(self) -> tuple[str, ...]:
        """What to use instead, the provider's own word first."""
        own = (self.replacement,) if self.replacement else ()
        return own + self.also_suggested

    @property
    def replacement_said(self) -> str:
        """The provider's own word, such as `gpt-5.6-sol with reasoning.mode: pro`, or ""."""
        mode = f" with reasoning.mode: {self.replacement_mode}" if self.replacement_mode else ""
        return f"{self.replacement}{mode}" if self.replacement else ""


class Catalog:
    """The cards by name, with the user's own laid over the built-in ones."""

    def __init__(self, cards: Iterable[Card]) -> None:
        self.cards = tuple(cards)
        self._by_name: dict[str, Card] = {}
        for card in self.cards:
            for name in (card.id, card.snapshot, *card.aliases):
                if name:
                    self._by_name[name] = card

    @classmethod
    def built_in(cls, own: Mapping[str, Mapping[str, Any]] | None = None) -> Catalog:
        """The cards of `models.toml`, then `own` ({name: fields}, as in the user's file).

        An own card may name only what differs; `like = "o3-mini"` starts from another card.
        Raises BadOption for a field that no card has, and for a value it cannot have.
        """
        text = files("o3magic").joinpath("models.toml").read_text(encoding="utf-8")
        cards = {row["id"]: card_of(row) for row in tomllib.loads(text)["model"]}
        for name, row in (own or {}).items():
            like = row.get("like", name)
            if like not in cards and like != name:
                hint = did_you_mean(str(like), list(cards), "%o3_models lists the models")
                raise BadOption(f"[models.{name}] like = {like!r}: no such model", hint=hint)
            cards[name] = own_card(name, dict(row), cards.get(like, Card(name)))
        return cls(cards.values())

    def with_shutdowns(self, shutdowns: Mapping[str, date | None]) -> Catalog:
        """The same cards with the days that OpenAI's list says; each of a model's names counts."""
        changed = []
        for card in self.cards:
            names = (card.id, card.snapshot, *card.aliases)
            last = next((shutdowns[name] for name in names if name in shutdowns), card.shutdown)
            changed.append(card if last == card.shutdown else replace(card, shutdown=last))
        return Catalog(changed)

    def find(self, model: str) -> Card | None:
        """The card of a model by its id, its snapshot or any dated snapshot, or None.

        Also as local servers call open weights (`gpt-oss:20b`), and as gateways call it
        (`openai/o3-mini`): then without the limits and rules of OpenAI's own API.
        """
        if card := self._by_name.get(model) or self._by_name.get(SNAPSHOT.sub("", model)):
            return card
        if opened := OPEN_WEIGHTS.search(model):
            return self._by_name.get("-".join(opened.groups()).lower())
        if gateway := GATEWAY.match(model):
            card = self.find(model[gateway.end() :])
        return card and replace(card, **OF_A_GATEWAY)

    def card(self, model: str) -> Card:
        """The card of a model, or for one we do not know a card that refuses nothing."""
        return self.find(model) or Card(model)

    @property
    def names(self) -> list[str]:
        """The ids of all cards, in the file's order."""
        return [card.id for card in self.cards]


def own_card(name: str, row: dict[str, Any], base: Card) -> Card:
    """A card of the user's own: `base` with what `row` says changed."""
    if row.pop("like", name) != name:
        # Its dated names stay with the card it is like.
        base = replace(base, snapshot="", aliases=())
    known = [f.name for f in fields(Card) if f.name not in ("id", "prices")]
    priced = ["price", *(TABLE_FIELDS if "rates" in row else ("rates",))]
    check_fields(row, known + priced, f"[models.{name}]")
    changed: dict[str, Any] = {}
    if prices := {key: row.pop(key) for key in priced if key in row}:
        where = f"[[models.{name}.price]]" if "price" in prices else f"[models.{name}]"
        changed["prices"] = own_prices(prices, where)
    try:
        said = TypeAdapter(Card).validate_python({"id": name, **row})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadOption(f"[models.{name}] {first['loc'][0]}: {first['msg']}", hint=HINT) from None
    if said.window_tokens is not None:
        # What the other model takes and gives is no more than this window has room for.
        changed["max_input_tokens"] = None
        if (base.max_output_tokens or 0) > said.window_tokens:
            changed["max_output_tokens"] = None
    changed |= {key: getattr(said, key) for key in row}
    return replace(base, id=name, **changed)


def own_prices(row: Mapping[str, Any], where: str) -> tuple[Price, ...]:
    """Prices of the user's own, that stand at `where`. Raises BadOption for one that is none."""
    try:
        for each in row.get("price", ()):
            check_fields(each, [*PRICE_FIELDS, *RATE_COLUMNS], where)
        said = [asdict(price) for price in prices_of(row)]
        return TypeAdapter(tuple[Price, ...]).validate_python(said)
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        raise BadOption(f"{where} holds no price", hint=HINT) from None


def check_fields(row: Iterable[str], known: list[str], where: str) -> None:
    """Raise BadOption for a field that is none of those known."""
    for key in row:
        if key not in known:
            hint = did_you_mean(key, known, f"the fields are {', '.join(known)}")
            raise BadOption(f"{where} has no field {key!r}", hint=hint)


def card_of(row: Mapping[str, Any]) -> Card:
    """A card from one table of the file."""
    plain = {f.name: row[f.name] for f in fields(Card) if f.name in row}
    for name in ("aliases", "efforts", "endpoints", "also_suggested"):
        if name in plain:
            plain[name] = tuple(plain[name])
    if "abilities" in plain:
        plain["abilities"] = frozenset(plain["abilities"])
    return Card(**plain, prices=prices_of(row))


def prices_of(row: Mapping[str, Any]) -> tuple[Price, ...]:
    """The prices of a card, those of its `rates` first."""
    since, source = row.get("since"), row.get("source", "")
    return (
        *price_table(row.get("rates", ""), since, source),
        *(price_of(each) for each in row.get("price", ())),
    )


def price_table(text: str, since: date | None, source: str) -> Iterator[Price]:
    """The prices of a table: a line for each tier, and `tier>TOKENS` for requests above that.

    Raises ValueError and ArithmeticError for one that is none.
    """
    rates: dict[str, Rates] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        tier, *columns = line.split()
        said = zip(RATE_COLUMNS, columns, strict=True)
        rates[tier] = rates_of({name: usd for name, usd in said if usd != "-"})
    above = {tier.partition(">")[0]: tier for tier in rates if ">" in tier}
    for tier in rates:
        if ">" in tier:
            continue
        long = above.pop(tier, None)
        limit = int(long.partition(">")[2]) if long else None
        yield Price(rates[tier], tier, since, source, rates[long] if long else None, limit)
    if above:
        raise ValueError(f"{', '.join(above.values())}: the tier has no price below")


def price_of(row: Mapping[str, Any]) -> Price:
    """A price from one table of the file."""
    long = row.get("long_context")
    return Price(
        rates=rates_of(row),
        tier=row.get("tier", "default"),
        since=row.get("since"),
        source=row.get("source", ""),
        long=rates_of(long) if long else None,
        long_above_tokens=long["above_tokens"] if long else None,
    )


def rates_of(row: Mapping[str, Any]) -> Rates:
    """Rates from one table of the file."""

    def rate(name: str) -> Decimal:
        usd = Decimal(str(row[name]))
        if not usd.is_finite() or usd < 0:
            raise ArithmeticError(f"{name} = {usd} is no rate")
        return usd

    return Rates(
        input=rate("input"),
        output=rate("output"),
        cached=rate("cached") if "cached" in row else None,
        cache_write=rate("cache_write") if "cache_write" in row else None,
    )
