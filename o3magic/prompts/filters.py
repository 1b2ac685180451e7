"""What may stand behind a `|` in a prompt: `{{ df | head(20) | csv }}`.

| filter | gives |
|---|---|
| json, csv, csv(500) | the value as JSON; the rows of a table as CSV |
| head(20) | the first rows, items or lines |
| schema | columns and types of a table; the JSON Schema of a class |
| describe | shape, types, missing values and statistics of a table |
| file, code, image | text of a file; source of a function; a picture |
| text, inline | the value as words; the same without a mark that it is data |
| join(", "), default("none"), upper, lower, title, capitalize, trim | as in Jinja |
| length, first, last, round, int, float, abs, min, max, sum, sort, unique | as in Jinja |
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from o3magic.errors import O3Error, TemplateError
from o3magic.events import Answer
from o3magic.messages import Image
from o3magic.prompts.files import code_of, file_within, text_of_file
from o3magic.prompts.formatting import MOST_CHARS, MOST_ROWS, FormattedValue, as_csv, as_json, shown
from o3magic.prompts.images import image_of
from o3magic.prompts.jsonable import plain
from o3magic.prompts.tabular import is_arrow_table, is_frame, is_lazy, is_series
from o3magic.schemas.answer_type import answer_type, is_schema_class

FROM_JINJA: Final = frozenset(
    (
        *("abs", "capitalize", "count", "d", "default", "first", "float", "int", "last", "length"),
        *("lower", "max", "min", "round", "sort", "sum", "title", "trim", "unique", "upper"),
    )
)
MOST_JOINED: Final = 100_000


def filters(folder: Path) -> dict[str, Callable[..., Any]]:
    """The filters of our own, for a notebook in `folder`."""

    def file(value: Any) -> FormattedValue:
        return FormattedValue(*text_of_file(file_within(folder, value)))

    def image(value: Any, detail: str = "auto") -> Image:
        return image_of(value, folder, detail)

    return {
        "code": lambda value: FormattedValue(code_of(value)),
        "csv": csv,
        "describe": describe,
        "file": file,
        "head": head,
        "image": image,
        "inline": inline,
        "join": join,
        "json": as_data,
        "schema": schema,
        "text": text,
    }


def as_data(value: Any) -> FormattedValue:
    """`| json`."""
    return as_json(value.text if isinstance(value, FormattedValue) else value)


def csv(value: Any, rows: int = MOST_ROWS) -> FormattedValue:
    """`| csv`, with more or fewer rows."""
    return as_csv(value, _whole(rows, "csv"))


def head(value: Any, count: int = 5) -> Any:
    """The first rows, items or lines."""
    count = _whole(count, "head")
    if is_lazy(value):
        return value.head(count).collect()
    if is_arrow_table(value):
        return value.slice(0, count)
    if is_frame(value):
        return value.head(count)
    if is_series(value) or isinstance(value, list | tuple | range):
        return value[:count]
    if isinstance(value, FormattedValue | Answer):
        value = value.text
    if isinstance(value, str):
        return "\n".join(value.splitlines()[:count])
    if isinstance(value, Mapping):
        return dict(islice(value.items(), count))
    if hasattr(value, "shape") and value.shape:
        return value[:count]
    raise TemplateError(f"a {type(value).__name__} has no first rows")


def text(value: Any) -> FormattedValue:
    """A value as its words: an answer's text even where it is structured."""
    return FormattedValue(value.text) if isinstance(value, Answer) else shown(value)


def inline(value: Any) -> FormattedValue:
    """The words of the user's own prompt, put where they are wanted and not marked as data."""
    said = text(value)
    return FormattedValue(said.text, said.notes, inline=True)


def join(values: Any, between: str = "", attribute: str | None = None) -> str:
    """The items in one line."""
    if attribute is not None:
        raise TemplateError("join takes no attribute", hint="make the list in a cell")
    if not isinstance(values, Iterable) or isinstance(values, str | bytes) or is_frame(values):
        raise TemplateError(f"a {type(values).__name__} has no items to join")
    said = [shown(value).text for value in islice(values, MOST_JOINED)]
    if sum(map(len, said)) + len(said) * len(str(between)) > 10 * MOST_CHARS:
        raise TemplateError("what is joined gets too long", hint="| head(100) | join(', ')")
    return str(between).join(said)


def schema(value: Any) -> FormattedValue:
    """What a table's columns or a class's fields are."""
    if is_frame(value) or is_lazy(value):
        return FormattedValue("\n".join(f"{name}: {kind}" for name, kind in _columns(value)))
    try:
        if is_schema_class(value) or not isinstance(value, type):
            found = answer_type(value if is_schema_class(value) else type(value)).schema
            return FormattedValue(json.dumps(found, ensure_ascii=False))
    except O3Error:
        pass
    raise TemplateError(f"a {type(value).__name__} has no schema", hint="a DataFrame or a model")


def describe(value: Any) -> FormattedValue:
    """A table in a few lines: shape, and of each column the type, what is missing, statistics."""
    if isinstance(value, Answer):
        value = value.data
    if is_series(value) and hasattr(value, "to_frame"):
        value = value.to_frame()
    if not is_frame(value):
        raise TemplateError(f"a {type(value).__name__} is no table", hint="{{ df | describe }}")
    if is_arrow_table(value):
        value = value.to_pandas()
    lines = [f"{len(value):,} rows x {len(value.columns):,} columns"]
    for place, (name, kind) in enumerate(islice(_columns(value), MOST_ROWS)):
        column = value.iloc[:, place] if hasattr(value, "iloc") else value[name]
        lines.append(f"{name}: {kind}{_missing(column)}{_statistics(column)}")
    if len(value.columns) > MOST_ROWS:
        lines.append(f"[... {len(value.columns) - MOST_ROWS:,} more columns]")
    return FormattedValue("\n".join(lines))


def _columns(frame: Any) -> list[tuple[str, str]]:
    """Names and types of all columns."""
    if is_arrow_table(frame):
        return [(field.name, str(field.type)) for field in frame.schema]
    if is_lazy(frame):
        return [(name, str(kind)) for name, kind in frame.collect_schema().items()]
    return [(str(n), str(k)) for n, k in zip(frame.columns, frame.dtypes, strict=True)]


def _missing(column: Any) -> str:
    count = int(column.isna().sum()) if hasattr(column, "isna") else int(column.null_count())
    return f", {count:,} missing" if count else ""


def _statistics(column: Any) -> str:
    """Range and mean of numbers; of anything else how many values there are, and the first."""
    kind = str(column.dtype).lower()
    numeric = kind.startswith(("int", "uint", "float", "decimal"))
    try:
        if numeric or kind.startswith(("datetime", "date", "time", "duration")):
            said = f", {_short(column.min())} to {_short(column.max())}"
            return said + (f", mean {_short(column.mean())}" if numeric else "")
        count = column.nunique() if hasattr(column, "nunique") else column.n_unique()
        first = next((each for each in column if each is not None), None)
        return f", {count:,} different, such as {_short(first)}"
    except Exception:  # lists in cells, mixed types: some libraries refuse to compare them
        return ""


def _short(value: Any) -> str:
    said = plain(value, 60)
    if isinstance(said, float):
        return f"{said:.6g}" if math.isfinite(said) else "none"
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _whole(count: Any, name: str) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise TemplateError(f"| {name} takes a number of rows", hint=f"{{{{ df | {name}(20) }}}}")
    return count
