"""The files of a batch: a line for each row, the same question once, split in parts.

The files hold the prompts. They are in a folder of their own, for their owner's eyes, and are
deleted as soon as the provider has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import IO, Any, Final

from o3magic.client.request import HttpRequest, body
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
from o3magic.providers import Provider
from o3magic.rows.batch.store import NewRow
from o3magic.rows.records import RowOutcome
from o3magic.rows.replay import RowReplay
from o3magic.rows.row_template import FilledPrompt, PromptTemplate, RequestTemplate
from o3magic.rows.sources import RowSource
from o3magic.session.estimate import worst_nano_usd
from o3magic.session.plan import Plan
from o3magic.settings import Settings
from o3magic.wire.batch import line
from o3magic.wire.dialects import DIALECTS

TIER: Final = "batch"


def estimate_worst_row(form: RequestTemplate, prompt: FilledPrompt) -> int | None:
    """The most one row can cost at batch prices, or None where nobody knows."""
    planned = form.plan
    card, request = planned.priced, planned.call.request
    price = card.price(date.today(), TIER)
    out = request.max_output_tokens or card.max_output_tokens or card.window_tokens
    if price is None or out is None:
        return None
    return worst_nano_usd(card, price, form.tokens(prompt), out)


def choose_endpoint(call: HttpRequest) -> str:
    """What a line of this API is sent to. Azure's has no /v1 for chat (its Global Batch page)."""
    if call.api == "chat" and is_azure(call.provider):
        return "/chat/completions"
    return f"/v1{DIALECTS[call.api].path}"


def is_azure(provider: Provider) -> bool:
    """Whether it is Azure: nobody else takes its key that way."""
    return provider.auth in ("api-key", "entra")


def check_can_batch(planned: Plan) -> None:
    """Raise BadOption where the provider or the model has no Batch API."""
    provider, card = planned.call.provider, planned.card
    if "batch" not in provider.endpoints:
        raise BadOption(
            f"{provider.name} has no Batch API",
            hint="o3.map asks the rows one by one; openai and azure have batches",
        )
    known = planned.catalog.find(card.id) is not None
    if known and "batch" not in card.endpoints:
        raise BadOption(
            f"{card.id} is not served by the Batch API", hint="o3.map, or choose another model"
        )


def check_tier(profile: Settings) -> None:
    """Raise BadOption where a tier is asked for: a batch is one by itself."""
    if profile.tier is not None:
        raise BadOption(
            f"a batch has no tier {profile.tier}: the Batch API is a tier of its own",
            hint="tier=None here; o3.map(..., tier='flex') asks at once for the price of a batch",
        )


def check_call_budget(dearest_nano_usd: int, budgets: Iterable[Budget]) -> None:
    """Raise OverBudget where one row may cost more than one question is allowed to."""
    for scope, limit in budgets:
        if scope == "call" and dearest_nano_usd > limit:
            raise OverBudget(
                f"not sent: one row may cost up to {show_usd(dearest_nano_usd)}, and the "
                f"budget of one question is {show_usd(limit)}",
                hint="lower max_output_tokens, or raise budget_call",
                left_nano_usd=limit,
                scope="call",
            )


MAX_ROWS = 50_000
MAX_BYTES = 200_000_000
# Errors of one row alone.
ROW_ERRORS = (TemplateError, EmptyPrompt, PromptTooLong, CassetteMiss)


@dataclass(frozen=True)
class PartLimits:
    """The most a part may have."""

    rows: int = MAX_ROWS
    bytes: int = MAX_BYTES


@dataclass
class WrittenParts:
    """What was written: a file and the rows of each part, rows that cannot be asked, copies.

    taped: rows whose answer is on the cassette, their copies too; they are in no part.
    """

    folder: Path
    paths: list[Path] = field(default_factory=list)
    parts: list[list[NewRow]] = field(default_factory=list)
    broken: list[NewRow] = field(default_factory=list)
    copies: list[tuple[int, str]] = field(default_factory=list)
    taped: dict[int, RowOutcome] = field(default_factory=dict)
    total: int = 0
    digest: str = ""

    @property
    def worst_nano_usd(self) -> int:
        """The most all of it can cost."""
        return sum(row.worst_nano_usd for part in self.parts for row in part)

    @property
    def dearest_nano_usd(self) -> int:
        """The most that one row can cost."""
        return max((row.worst_nano_usd for part in self.parts for row in part), default=0)


class PartWriter:
    """Writes rows into the files of their parts."""

    def __init__(
        self, folder: Path, limits: PartLimits, replaying: RowReplay | None = None
    ) -> None:
        self.written = WrittenParts(folder)
        self._replaying = replaying
        self._taped: dict[str, RowOutcome] = {}
        self._limits = limits
        self._digest = hashlib.sha256()
        self._seen: set[str] = set()
        self._file: IO[bytes] | None = None
        self._bytes = 0

    def __enter__(self) -> PartWriter:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the last file."""
        if self._file is not None:
            self._file.close()
        self.written.digest = self._digest.hexdigest()

    def add(self, form: RequestTemplate, filling: PromptTemplate, row: Mapping[str, Any]) -> None:
        """The next row. Raises every error that needs no provider, and then nothing is added."""
        prompt = filling.fill(row)
        form.check(prompt)
        key, written = form.key(prompt), self.written
        fresh = key not in self._seen
        if fresh and self._replaying is not None:
            taped = self._replaying.find(form.question(prompt), key)
            if taped is not None:
                self._taped[key] = taped
        self._seen.add(key)
        place = self._next()
        self._digest.update(key.encode())
        if key in self._taped:
            written.taped[place] = self._taped[key]
        elif not fresh:
            written.copies.append((place, key))
        else:
            self._ask(form, prompt, NewRow(key, place, estimate_worst_row(form, prompt) or 0))

    def _ask(self, form: RequestTemplate, prompt: FilledPrompt, draft: NewRow) -> None:
        """A line that asks a row."""
        call = form.call(prompt)
        encoded = DIALECTS[call.api].encode(call.request)
        self._write(body(line(draft.key, encoded, choose_endpoint(call))) + b"\n", draft)

    def broken(self, error: O3Error) -> None:
        """The next row, which cannot be asked: its place stands for a key."""
        place = self._next()
        draft = NewRow(build_broken_key(place), place, 0, str(error), type(error).__name__)
        self._digest.update(draft.key.encode())
        self.written.broken.append(draft)

    def again(self, raw: bytes, draft: NewRow) -> None:
        """A line that was written before."""
        self._write(raw, draft)

    def _next(self) -> int:
        self.written.total += 1
        return self.written.total - 1

    def _write(self, said: bytes, draft: NewRow) -> None:
        written, limits = self.written, self._limits
        full = written.parts and len(written.parts[-1]) >= limits.rows
        if self._file is None or full or self._bytes + len(said) > limits.bytes:
            if self._file is not None:
                self._file.close()
            path = written.folder / f"part-{len(written.parts)}.jsonl"
            written.paths.append(path)
            written.parts.append([])
            self._file, self._bytes = path.open("wb"), 0
        self._file.write(said)
        self._bytes += len(said)
        written.parts[-1].append(draft)


def build_broken_key(place: int) -> str:
    """What stands for the key of a row that cannot be asked."""
    return f"row {place}"


def is_broken(place: int, key: str) -> bool:
    """Whether a row could not be asked at all."""
    return key == build_broken_key(place)


def write_parts(
    source: RowSource,
    form: RequestTemplate,
    filling: PromptTemplate,
    folder: Path,
    limits: PartLimits,
    *,
    keep_going: bool,
    replaying: RowReplay | None = None,
) -> WrittenParts:
    """Write all rows. keep_going: one that cannot be asked does not stop the others.

    Raises BadOption where there is nothing to ask, and CassetteError.
    """
    first: O3Error | None = None
    with PartWriter(folder, limits, replaying) as writer:
        for number, row in enumerate(source.rows):
            if not number:
                filling.check(row)
            try:
                writer.add(form, filling, row)
            except ROW_ERRORS as error:
                if not keep_going:
                    raise
                first = first or error
                writer.broken(error)
    if not writer.written.parts and not writer.written.taped:
        raise first or BadOption("there are no rows to ask", hint="give one row or more")
    return writer.written


def remove_rows(written: WrittenParts, keys: set[str], limits: PartLimits) -> WrittenParts:
    """The same without the rows of these keys, in new files."""
    with PartWriter(written.folder, limits) as writer:
        folder = written.folder / "rest"
        folder.mkdir()
        writer.written.folder = folder
        for path, part in zip(written.paths, written.parts, strict=True):
            with path.open("rb") as file:
                for raw, draft in zip(file, part, strict=True):
                    if draft.key not in keys:
                        writer.again(raw, draft)
            path.unlink()
    return replace(written, folder=folder, paths=writer.written.paths, parts=writer.written.parts)
