"""Templates of a job: the prompt and the request that all rows share, filled in for each row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from o3magic.cassettes.request_key import (
    CanonicalRequest,
    compute_digest,
    compute_key,
    normalize_request,
    split_lines,
    trim_blank_lines,
)
from o3magic.client.request import HttpRequest
from o3magic.errors import EmptyPrompt, TemplateError, did_you_mean
from o3magic.messages import Image, Message, Part, Text
from o3magic.prompts.formatting import marked, shown
from o3magic.prompts.images import check_images
from o3magic.prompts.tabular import is_missing
from o3magic.prompts.template import TemplateExpression, pieces, render
from o3magic.session.capability_fallbacks import apply_fallback, format_model_lack
from o3magic.session.default_model import choose_next_default
from o3magic.session.estimate import (
    MOST_IMAGE_TOKENS,
    compute_worst_nano_usd,
    count_bytes,
    count_most_tokens,
    estimate_worst_case,
    find_price,
)
from o3magic.session.plan import Plan, check_window, replace_default
from o3magic.session.spending import is_free

MAX_ROW_CHARS = 4_000_000
# The prompt of the plan that all rows share; replaced by the prompt of each row.
PLACEHOLDER = "o3magic-prompt-of-a-row-8b1f4c6e2d90a753"
STEP_TOKENS = 64
ENCODE = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode

FilledPrompt = str | tuple[Text | Image, ...]


class PromptTemplate:
    """A parsed prompt. `fill` renders it for a row: text, or parts where it has images."""

    def __init__(self, text: str, columns: Sequence[str], folder: Path) -> None:
        self._folder = folder
        self._pieces: list[str | TemplateExpression] = [*pieces(text)] if "{{" in text else [text]
        self._columns = frozenset(columns)

    @classmethod
    def plain(cls, text: str, folder: Path) -> PromptTemplate:
        """Build a template without expressions: braces stay as they are."""
        template = cls("", (), folder)
        template._pieces = [text]
        return template

    def check(self, row: Mapping[str, Any]) -> None:
        """Raise TemplateError, with similar names, for an unknown column."""
        for piece in self._pieces:
            if isinstance(piece, str) or piece.source in self._columns:
                continue
            if piece.source.isidentifier():
                raise build_unknown_column_error(piece.source, piece, self._columns)
            names = TrackedNames({**dict.fromkeys(self._columns, ""), **blank_missing(row)})
            try:
                render(f"{{{{ {piece.source} }}}}", names, folder=self._folder)
            except TemplateError:
                # Another error may concern this row only.
                if names.missing:
                    raise build_unknown_column_error(
                        names.missing[0], piece, self._columns
                    ) from None

    def fill(self, row: Mapping[str, Any]) -> FilledPrompt:
        """Render the prompt of a row. Raises TemplateError."""
        texts: list[str] = []
        parts: list[Text | Image] = []
        for piece in self._pieces:
            if isinstance(piece, str):
                texts.append(piece)
            elif piece.source in row:
                texts.append(format_value(row[piece.source], piece))
            else:
                expression = f"{{{{ {piece.source} }}}}"
                for part in render(expression, blank_missing(row), folder=self._folder).parts:
                    if isinstance(part, Text):
                        texts.append(part.text)
                    else:
                        parts += [Text("".join(texts)), part]
                        texts.clear()
        text = "".join(texts)
        if len(text) > MAX_ROW_CHARS:
            raise TemplateError(f"the row makes a prompt of {len(text):,} characters")
        if not parts:
            return text
        return tuple(part for part in (*parts, Text(text)) if part != Text(""))


class TrackedNames(dict[str, Any]):
    """A namespace that records the names it lacks."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        super().__init__(names)
        self.missing: list[str] = []

    def __contains__(self, name: object) -> bool:
        is_known = super().__contains__(name)
        if not is_known:
            self.missing.append(str(name))
        return is_known


def format_value(value: Any, piece: TemplateExpression) -> str:
    """Format a value of a column for the prompt. Raises TemplateError."""
    if type(value) is not str:
        if is_missing_value(value):
            return ""
        try:
            return marked(shown(value), piece.source)
        except TemplateError as error:
            message = f"line {piece.line} of the prompt, {{{{ {piece.source} }}}}: {error}"
            raise TemplateError(message, hint=error.hint) from None
    return marked(shown(value), piece.source)


def is_missing_value(value: Any) -> bool:
    """Return whether a value is missing: None, NaN of any type, NaT, NA."""
    if value is None or is_missing(value):
        return True
    # NaN is not equal to itself; an array compares by element, so the type is checked first.
    kind = type(value).__name__
    return kind.startswith(("float", "Decimal")) and bool(value != value)


def blank_missing(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with "" for missing values."""
    return {name: "" if is_missing_value(value) else value for name, value in row.items()}


def build_unknown_column_error(
    name: str, piece: TemplateExpression, columns: frozenset[str]
) -> TemplateError:
    known = sorted(columns)
    hint = did_you_mean(name, known, f"the columns are {', '.join(known[:20])}")
    return TemplateError(
        f"line {piece.line} of the prompt, {{{{ {piece.source} }}}}: there is no column {name}",
        hint=hint,
    )


class RequestTemplate:
    """The request that all rows share. It builds the call, the key and the cost of a row."""

    def __init__(self, planned: Plan) -> None:
        normal = {"api": "auto"} | normalize_request(planned.question.canonical(), as_pairs=True)
        whole = ENCODE(normal)
        self._head, self._tail = whole.split(ENCODE(PLACEHOLDER))
        assert compute_digest(whole) == compute_key(planned.question.canonical())
        self._set_plan(planned)

    def _set_plan(self, planned: Plan) -> None:
        """Set the plan, and what depends on its model: tokens, window, price."""
        self.plan = planned
        self._most = estimate_worst_case(planned)
        self._own_tokens = count_most_tokens(planned.call.request) - count_bytes(PLACEHOLDER)
        card = planned.card
        self._window = card.max_input_tokens or card.window_tokens
        self.free = is_free(planned)
        self.worst_nano_usd = lru_cache(4096)(self._worst_nano_usd)

    @property
    def priced(self) -> bool:
        """Whether the highest possible cost of a row is known."""
        return self._most is not None

    @property
    def digest(self) -> str:
        """The hash of the request without the prompt."""
        return compute_digest(f"{self._head}{self._tail}")

    def drop_capability(self, lack: str) -> None:
        """Build all further calls without a capability that the provider turned out to lack."""
        if lack == format_model_lack(self.plan.choice.model):
            choice = choose_next_default(
                self.plan.choice, self.plan.call.provider, self.plan.catalog
            )
            if choice is not None:
                self._set_plan(replace_default(self.plan, choice))
            return
        call, _ = apply_fallback(self.plan.call, lack, self.plan.card)
        self.plan = replace(self.plan, call=call)

    def key(self, prompt: FilledPrompt) -> str:
        """Return the key of a row's request, equal to `CanonicalRequest.key`."""
        if isinstance(prompt, str):
            return compute_digest(
                f"{self._head}{ENCODE(split_lines(trim_blank_lines(prompt)))}{self._tail}"
            )
        return self.question(prompt).key

    def question(self, prompt: FilledPrompt) -> CanonicalRequest:
        """Return the canonical request of a row."""
        question = self.plan.question
        return replace(question, messages=insert_prompt(question.messages, build_parts(prompt)))

    def check(self, prompt: FilledPrompt) -> None:
        """Raise EmptyPrompt or PromptTooLong; BadOption for an error that all rows share."""
        if not isinstance(prompt, str):
            check_images(prompt, self.plan.card, self.plan.catalog)
        elif not prompt.strip():
            raise EmptyPrompt("the row makes no prompt", hint="its columns are empty")
        if self._window is not None and self.tokens(prompt) > self._window:
            check_window(self.call(prompt).request, self.plan.card)

    def call(self, prompt: FilledPrompt) -> HttpRequest:
        """Build the HTTP request of a row."""
        call = self.plan.call
        messages = insert_prompt(call.request.messages, build_parts(prompt))
        return replace(call, request=replace(call.request, messages=messages, stream=False))

    def tokens(self, prompt: FilledPrompt) -> int:
        """Return an upper bound of a row's input tokens, a multiple of STEP_TOKENS."""
        if isinstance(prompt, str):
            own = count_bytes(prompt)
        else:
            own = sum(
                MOST_IMAGE_TOKENS if isinstance(p, Image) else count_bytes(p.text) for p in prompt
            )
        return -(-(self._own_tokens + own) // STEP_TOKENS) * STEP_TOKENS

    def _worst_nano_usd(self, input_tokens: int) -> int:
        """Return the highest possible cost of a call; 0 where it is unknown."""
        card, price = self.plan.priced, find_price(self.plan)
        if self._most is None or price is None:
            return 0
        return compute_worst_nano_usd(card, price, input_tokens, self._most.output_tokens)


def build_parts(prompt: FilledPrompt) -> tuple[Part, ...]:
    """Convert a prompt to parts of a message."""
    return (Text(prompt),) if isinstance(prompt, str) else prompt


def insert_prompt(messages: Sequence[Message], parts: tuple[Part, ...]) -> tuple[Message, ...]:
    """Return the messages with these parts in place of PLACEHOLDER."""
    result = []
    for message in messages:
        if any(isinstance(p, Text) and p.text == PLACEHOLDER for p in message.parts):
            own: list[Part] = []
            for part in message.parts:
                own += parts if isinstance(part, Text) and part.text == PLACEHOLDER else [part]
            message = Message(message.role, tuple(own))
        result.append(message)
    return tuple(result)
