"""The README's tables as the code has them."""

from o3magic.catalog import Catalog
from o3magic.notebook.options import default_of, usage_of
from o3magic.profile import options


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
        price = max(
            (p for p in card.prices if p.tier == "default"), key=lambda p: str(p.since or "")
        )
        rates = (price.rates.input, price.rates.cached, price.rates.output)
        cells = [
            f"`{card.id}`",
            *("–" if rate is None else f"{rate:f}" for rate in rates),
            f"{card.window_tokens:,}",
            " ".join(card.efforts) or "–",
            f"{card.shutdown}" if card.shutdown else "–",
            f"`{card.replacement}`" if card.replacement else "–",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    head = "| model | in | cached | out | window | efforts | shutdown | replacement |"
    return "\n".join([head, "|---|--:|--:|--:|--:|---|---|---|", *rows])
