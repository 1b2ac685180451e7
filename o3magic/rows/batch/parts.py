"""The input files of a batch: a line for each row, identical rows once, split in parts.

The files contain the prompts. They are in a temporary directory that only the user can read, and
are deleted once they are uploaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import IO, Any, Final

from o3magic.client.request import HttpRequest, encode_body
from o3magic.cost.budgets import Budget
from o3magic.errors import (
    BadOption,
    CassetteMiss,
    EmptyPrompt,
    O3Error,
    OverBudget,
    PromptTooLong,
    TemplateError,
)
from o3magic.money import show_usd
from o3magic.rows.batch.store import NewRow
from o3magic.rows.records import RowOutcome
from o3magic.rows.replay import RowReplay
from o3magic.rows.row_template import FilledPrompt, PromptTemplate, RequestTemplate
from o3magic.rows.sources import RowSource
from o3magic.session.estimate import compute_worst_nano_usd
from o3magic.session.plan import Plan
from o3magic.settings import Settings
from o3magic.wire.batch import build_batch_line
from o3magic.wire.dialects import DIALECTS

TIER: Final = "batch"
MAX_ROWS = 50_000
MAX_BYTES = 200_000_000
# Errors of a single row.
ROW_ERRORS = (TemplateError, EmptyPrompt, PromptTooLong, CassetteMiss)


@dataclass(frozen=True)
class PartLimits:
    """The largest part the provider accepts."""

    rows: int = MAX_ROWS
    bytes: int = MAX_BYTES


@dataclass
class WrittenParts:
    """A file and the rows of each part, and the rows that are in no part.

    broken    rows whose prompt cannot be built
    copies    (index, key) of rows that repeat another
    recorded  by index, rows whose answer is on the cassette, and their copies
    total     all rows
    digest    of the keys of all rows
    """

    folder: Path
    paths: list[Path] = field(default_factory=list)
    parts: list[list[NewRow]] = field(default_factory=list)
    broken: list[NewRow] = field(default_factory=list)
    copies: list[tuple[int, str]] = field(default_factory=list)
    recorded: dict[int, RowOutcome] = field(default_factory=dict)
    total: int = 0
    digest: str = ""

    @property
    def worst_nano_usd(self) -> int:
        """The worst-case cost of all rows."""
        return sum(row.worst_nano_usd for part in self.parts for row in part)

    @property
    def worst_row_nano_usd(self) -> int:
        """The highest worst-case cost of a row."""
        return max((row.worst_nano_usd for part in self.parts for row in part), default=0)


def write_parts(
    source: RowSource,
    form: RequestTemplate,
    template: PromptTemplate,
    folder: Path,
    limits: PartLimits,
    *,
    keep_going: bool,
    replay: RowReplay | None = None,
) -> WrittenParts:
    """Write all rows. keep_going: a row whose prompt cannot be built does not stop the others.

    Raises BadOption where there is no row to ask, and CassetteError.
    """
    first: O3Error | None = None
    with PartWriter(folder, limits, replay) as writer:
        for number, row in enumerate(source.rows):
            if not number:
                template.check(row)
            try:
                writer.add(form, template, row)
            except ROW_ERRORS as error:
                if not keep_going:
                    raise
                first = first or error
                writer.add_broken(error)
    if not writer.written.parts and not writer.written.recorded:
        raise first or BadOption("there are no rows to ask", hint="give one row or more")
    return writer.written


def remove_rows(written: WrittenParts, keys: set[str], limits: PartLimits) -> WrittenParts:
    """The parts without the rows of these keys, in new files."""
    folder = written.folder / "rest"
    folder.mkdir()
    with PartWriter(folder, limits) as writer:
        for path, part in zip(written.paths, written.parts, strict=True):
            with path.open("rb") as file:
                for line, row in zip(file, part, strict=True):
                    if row.key not in keys:
                        writer.write_line(line, row)
            path.unlink()
    return replace(written, folder=folder, paths=writer.written.paths, parts=writer.written.parts)


class PartWriter:
    """Writes rows into the files of their parts."""

    def __init__(self, folder: Path, limits: PartLimits, replay: RowReplay | None = None) -> None:
        self.written = WrittenParts(folder)
        self._replay = replay
        self._recorded: dict[str, RowOutcome] = {}
        self._limits = limits
        self._digest = hashlib.sha256()
        self._seen: set[str] = set()
        self._file: IO[bytes] | None = None
        self._bytes = 0

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        self.written.digest = self._digest.hexdigest()

    def add(self, form: RequestTemplate, template: PromptTemplate, row: Mapping[str, Any]) -> None:
        """Add a row. Raises every error that needs no provider, and then adds nothing."""
        prompt = template.fill(row)
        form.check(prompt)
        key, written = form.key(prompt), self.written
        is_copy = key in self._seen
        if not is_copy and self._replay is not None:
            recorded = self._replay.find(form.question(prompt), key)
            if recorded is not None:
                self._recorded[key] = recorded
        self._seen.add(key)
        index = self._next_index(key)
        if key in self._recorded:
            written.recorded[index] = self._recorded[key]
        elif is_copy:
            written.copies.append((index, key))
        else:
            call = form.call(prompt)
            encoded = DIALECTS[call.api].encode(call.request)
            new_row = NewRow(key, index, estimate_worst_row(form, prompt) or 0)
            self.write_line(
                encode_body(build_batch_line(key, encoded, choose_endpoint(call))) + b"\n", new_row
            )

    def add_broken(self, error: O3Error) -> None:
        """Add a row whose prompt cannot be built."""
        key = build_broken_key(self.written.total)
        index = self._next_index(key)
        self.written.broken.append(NewRow(key, index, 0, str(error), type(error).__name__))

    def _next_index(self, key: str) -> int:
        self._digest.update(key.encode())
        self.written.total += 1
        return self.written.total - 1

    def write_line(self, content: bytes, row: NewRow) -> None:
        """Write the line of a row, in a new part where the last one is full."""
        written, limits = self.written, self._limits
        is_full = written.parts and len(written.parts[-1]) >= limits.rows
        if self._file is None or is_full or self._bytes + len(content) > limits.bytes:
            if self._file is not None:
                self._file.close()
            path = written.folder / f"part-{len(written.parts)}.jsonl"
            written.paths.append(path)
            written.parts.append([])
            self._file, self._bytes = path.open("wb"), 0
        self._file.write(content)
        self._bytes += len(content)
        written.parts[-1].append(row)


def build_broken_key(index: int) -> str:
    """The key of a row whose prompt cannot be built."""
    return f"row {index}"


def is_broken(index: int, key: str) -> bool:
    return key == build_broken_key(index)


def estimate_worst_row(form: RequestTemplate, prompt: FilledPrompt) -> int | None:
    """The worst-case cost of a row at batch prices in nano-dollars; None where it is unknown."""
    card, request = form.plan.priced, form.plan.call.request
    price = card.price(date.today(), TIER)
    output = request.max_output_tokens or card.max_output_tokens or card.window_tokens
    if price is None or output is None:
        return None
    return compute_worst_nano_usd(card, price, form.tokens(prompt), output)


def choose_endpoint(call: HttpRequest) -> str:
    """The url of a line. Azure's has no /v1 for chat (its Global Batch page)."""
    # No other provider has these kinds of authentication.
    is_azure = call.provider.auth in ("api-key", "entra")
    if call.api == "chat" and is_azure:
        return "/chat/completions"
    return f"/v1{DIALECTS[call.api].path}"


def check_can_batch(plan: Plan) -> None:
    """Raise BadOption where the provider or the model has no Batch API."""
    provider, card = plan.call.provider, plan.card
    if "batch" not in provider.endpoints:
        raise BadOption(
            f"{provider.name} has no Batch API",
            hint="o3.map asks the rows one by one; openai and azure have batches",
        )
    is_known = plan.catalog.find(card.id) is not None
    if is_known and "batch" not in card.endpoints:
        raise BadOption(
            f"{card.id} is not served by the Batch API", hint="o3.map, or choose another model"
        )


def check_tier(profile: Settings) -> None:
    """Raise BadOption where a service tier is set: a batch is a tier of its own."""
    if profile.tier is not None:
        raise BadOption(
            f"a batch has no tier {profile.tier}: the Batch API is a tier of its own",
            hint="tier=None here; o3.map(..., tier='flex') asks at once for the price of a batch",
        )


def check_call_budget(worst_row_nano_usd: int, budgets: Iterable[Budget]) -> None:
    """Raise OverBudget where one row may cost more than the budget of one question."""
    for scope, limit in budgets:
        if scope == "call" and worst_row_nano_usd > limit:
            raise OverBudget(
                f"not sent: one row may cost up to {show_usd(worst_row_nano_usd)}, and the "
                f"budget of one question is {show_usd(limit)}",
                hint="lower max_output_tokens, or raise budget_call",
                left_nano_usd=limit,
                scope="call",
            )
