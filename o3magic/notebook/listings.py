"""What the line magics show of this notebook: its schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from o3magic.render.bundle import Bundle
from o3magic.render.listing import line, table
from o3magic.schemas.lookup import known_types


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
