"""The columns of a table that is not computed yet: known from the schema alone, in every partition.

They are those of the table that is computed at once. Their types are fixed, so that a partition
in which a row failed has the same ones: whole numbers are nullable, and money is a number, as
decimals of several partitions have no common scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from o3magic.frames import fixed_frame
from o3magic.jobs.rows import Answered, Ending
from o3magic.jobs.table import OWN, Table, kind_of, properties
from o3magic.schemas.lookup import AnswerType
from o3magic.talk.compare import flat
from o3magic.wire.fillers import resolved

MOST_DEPTH = 8
OWN_KINDS = {"error": "text", "cost_usd": "number"}


class LazyTable(Table):
    """A table whose columns are known before its rows are."""

    def __init__(self, wanted: AnswerType | None, *, flatten: bool) -> None:
        super().__init__(wanted, flatten=flatten)
        self._whole = wanted is not None and not is_object(wanted)
        self.kinds = fields_of(wanted, flatten=flatten)
        self._fields = {name: [] for name in self.kinds}
        own = {name: OWN_KINDS.get(name, "integer") for name in OWN}
        self.kinds |= {f"o3_{n}" if n in self._fields else n: kind for n, kind in own.items()}

    def _values(self, row: Answered | Ending) -> dict[str, Any]:
        """What an answer says, by column."""
        if self._wanted is None:
            return super()._values(row)
        said = row.said if isinstance(row, Answered) else row.answer or {}
        data = said.get("data")
        if self._whole or not isinstance(data, Mapping):
            return {"value": data}
        found = flat(data) if self._flatten else data
        return {name: value for name, value in found.items() if name in self._fields}

    def frame(self, index: Any = None) -> Any:
        """A pandas DataFrame, its columns of the types they always have."""
        return fixed_frame(self.columns(), self.kinds, index)

    def dicts(self) -> list[dict[str, Any]]:
        """Each row as a dict."""
        columns = self.columns()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def is_object(wanted: AnswerType) -> bool:
    """Whether an answer has fields."""
    root = resolved(wanted.schema, wanted.schema.get("$defs", {}))
    return root.get("type") == "object" and bool(root.get("properties"))


def fields_of(wanted: AnswerType | None, *, flatten: bool) -> dict[str, str]:
    """The fields of an answer by name, each with the kind of its column."""
    if wanted is None:
        return {"text": "text"}
    definitions = wanted.schema.get("$defs", {})
    found: dict[str, str] = {}
    for name, field in properties(wanted).items():
        found |= flat_fields(name, field, definitions, MOST_DEPTH if flatten else 0)
    return found


def flat_fields(
    name: str, field: Mapping[str, Any], definitions: Mapping[str, Any], depth: int
) -> dict[str, str]:
    """A field, or the fields within it by their whole names."""
    choices = [c for c in field.get("anyOf", [field]) if c.get("type") != "null"]
    inner = resolved(choices[0], definitions) if len(choices) == 1 else {}
    below = inner.get("properties") if inner.get("type") == "object" else None
    if not depth or not below:
        return {name: kind_of_column(field, definitions)}
    found: dict[str, str] = {}
    for each, said in below.items():
        whole = resolved(said, definitions)
        found |= flat_fields(f"{name}.{each}", whole, definitions, depth - 1)
    return found


def kind_of_column(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What kind of column a field makes: text, integer, number, boolean, date, moment, object."""
    choices = [c for c in field.get("anyOf", [field]) if c.get("type") != "null"]
    if len(choices) != 1:
        return "object"
    one = resolved(choices[0], definitions)
    kind = kind_of(one)
    if kind == "moment" and one.get("format") == "date":
        return "date"
    return kind or ("text" if one.get("type") == "string" else "object")
