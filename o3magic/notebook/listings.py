"""What the line magics show of this notebook: its schemas, its costs, the help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from o3magic.cost.ledger import Ledger
from o3magic.cost.report import report
from o3magic.render.bundle import Bundle
from o3magic.render.listing import line, table
from o3magic.render.safe_markdown import safe_markdown
from o3magic.talk.schemas import known_types

OTHER_MAGICS = {
    "%o3_config": "show the settings, or set some: `%o3_config effort=high`",
    "%o3_cost": "what this session used and cost",
    "%o3_models": "prices, windows, efforts, shutdown dates, replacements",
    "%o3_schemas": "names that `--schema` takes",
    "%o3_panel": "settings and a prompt as widgets",
    "%o3_help": "this page",
}


def schemas(names: Mapping[str, Any], registered: Mapping[str, Any]) -> Bundle:
    """The types `--schema` takes here, with their fields."""
    found = known_types(names, registered)
    if not found:
        return line("no schema here yet: define a pydantic model, dataclass, TypedDict or Enum")
    both = {**registered, **names}
    return table(
        ("schema", "fields"), [(name, ", ".join(field_names(both[name]))) for name in found]
    )


def field_names(python_type: Any) -> list[str]:
    """The names of a type's fields or members."""
    for attribute in ("model_fields", "__dataclass_fields__", "__members__", "__annotations__"):
        if found := getattr(python_type, attribute, None):
            return list(found)
    return []


def costs(ledger: Ledger, session: str) -> Bundle:
    """What one session cost, by model and effort."""
    found = report(ledger.totals(by=("model", "effort"), session=session), "this session")
    return Bundle({"text/markdown": found.markdown(), "text/plain": str(found)}, {})


def help_page(options: str) -> Bundle:
    """The options and the other magics."""
    others = "\n".join(f"  {name:<12}  {told}" for name, told in OTHER_MAGICS.items())
    text = f"%%o3 [options], the prompt below\n\n{options}\n\n{others}"
    return Bundle(
        {"text/markdown": safe_markdown(f"````text\n{text}\n````"), "text/plain": text}, {}
    )
