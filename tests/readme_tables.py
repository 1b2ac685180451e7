"""The README's tables as the code has them."""

from datetime import date
from textwrap import fill

from o3magic.models import Catalog
from o3magic.notebook.line_parser import format_default, format_usage
from o3magic.settings import options


def option_table() -> str:
    """The common options of `%%o3`."""
    rows = [
        f"| `{format_usage(option).replace('|', chr(92) + '|')}` "
        f"| {option.flag.help}{format_default(option)} |"
        for option in options()
        if option.flag.common
    ]
    return "\n".join(["| option | what it does |", "|---|---|", *rows])


def other_options() -> str:
    """The names of the other options, in lines of the README's width."""
    names = [f"`{option.flag.names[-1]}`" for option in options() if not option.flag.common]
    text = f"There are {len(names)} more, which few need: {', '.join(names)}."
    return fill(text, 104, break_on_hyphens=False)


def model_table() -> str:
    """Every model card, with its newest standard price."""
    rows = []
    for card in Catalog.built_in().cards:
        price = card.price(date.max)
        rates = (price.rates.input, price.rates.cached, price.rates.output) if price else [None] * 3
        mode = f" with `reasoning.mode: {card.replacement_mode}`" if card.replacement_mode else ""
        cells = [
            f"`{card.id}`",
            *("–" if rate is None else f"{rate:f}" for rate in rates),
            f"{card.window_tokens:,}" if card.window_tokens else "–",
            " ".join(card.efforts or ()) or "–",
            f"{card.shutdown}" if card.shutdown else "–",
            f"`{card.replacement}`{mode}" if card.replacement else "–",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    head = "| model | in | cached | out | window | efforts | shutdown | replacement |"
    return "\n".join([head, "|---|--:|--:|--:|--:|---|---|---|", *rows])
