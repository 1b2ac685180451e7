"""An answer type known only by its JSON Schema, where its Python type is gone (a new kernel)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Final

from o3magic.schemas.lookup import AnswerType, SchemaMismatch
from o3magic.wire.optional_fields import drop_fillers

MAX_PROBLEMS: Final = 20
MAX_VALUE_CHARS: Final = 60


@dataclass(frozen=True)
class StoredAnswerType(AnswerType):
    """The type of a job's answers, of which only the name and the JSON Schema are stored."""

    kept: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema, as pydantic made it."""
        return dict(self.kept)

    def validate(self, text: str) -> Any:
        """Return the data of an answer. Raises SchemaMismatch."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise SchemaMismatch(["it is not JSON"]) from None
        if self._wrapper and isinstance(data, dict) and data.keys() == {self._wrapper}:
            data = data[self._wrapper]
        data = drop_fillers(data, self.schema)
        if problems := find_problems(data, self.kept):
            raise SchemaMismatch(problems)
        return data

    def dump(self, parsed: Any) -> Any:
        """Return the data unchanged."""
        return parsed


def find_problems(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Describe in one line each what is wrong with a value. Nothing is fetched for a `$ref`."""
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    def describe(error: ValidationError) -> str:
        while error.context:  # of a union: the member with the fewest errors
            members: dict[Any, list[ValidationError]] = {}
            for inner in error.context:
                members.setdefault(inner.schema_path[0], []).append(inner)
            error = min(members.values(), key=len)[0]
        path = format_path(error.absolute_path)
        quoted = repr(error.instance)
        message = error.message.removeprefix(quoted)
        if message != error.message:
            short = quoted if len(quoted) <= MAX_VALUE_CHARS else f"{quoted[:MAX_VALUE_CHARS]}…"
            message = short + message
        return f"{path}: {message}" if path else message

    # pydantic writes patterns in Rust's syntax, which `re` does not know.
    skipped = dict.fromkeys(("pattern", "patternProperties"), lambda *_: None)
    validator = extend(Draft202012Validator, skipped)(schema, registry=Registry())
    try:
        return [describe(error) for error in islice(validator.iter_errors(value), MAX_PROBLEMS)]
    except RecursionError:
        return ["it is nested too deeply"]
    except Unresolvable as error:
        return [f"its schema refers to {error.ref!r}, which it does not contain"]


def format_path(steps: Iterable[str | int]) -> str:
    """Write the way to a value as `parts[0].name`."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return path.removeprefix(".")
