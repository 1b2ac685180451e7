"""The README's tables as the code has them."""

from datetime import date

from o3magic.models import Catalog
from o3magic.notebook.line_parser import default_of, usage_of
from o3magic.settings import options


def option_table() -> str:
    """Every option of `%%o3`."""
    rows = [
        f"| `{usage_of(each).replace('|', chr(92) + '|')}` | {each.flag.help}{default_of(each)} |"
        for each in options()
    ]
    return "\n".join(["| option | what it does |", "|---|---|", *rows])


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
