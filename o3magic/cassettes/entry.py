"""One recorded interaction: a request, its answer, and where the answer came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeVar, get_args

from o3magic.cassettes.request_key import (
    UNNAMED,
    CanonicalRequest,
    compute_digest,
    compute_key,
    iter_texts,
    join_lines,
    normalize_request,
    split_lines,
    to_plain_json,
)
from o3magic.cassettes.scrub import scrub_request, scrub_text, scrub_value
from o3magic.citations import Citation
from o3magic.errors import CassetteError
from o3magic.events import Answer, Finished, FinishReason, HostedUse, Usage
from o3magic.messages import ToolCall
from o3magic.money import usd
from o3magic.version import __version__

MOST_USD = Decimal(10**6)


def format_cost(cost_nano_usd: int | None) -> str | None:
    """Format a cost in dollars as exact text, such as `0.000189`."""
    amount = usd(cost_nano_usd)
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_nano_usd(amount: Decimal) -> int:
    """Convert dollars to whole nano-dollars."""
    return int(amount.scaleb(9).to_integral_value())


def parse_cost(value: Any) -> int | None:
    """Parse the cost of an entry, as nano-dollars. Raises CassetteError."""
    if value is None:
        return None
    try:
        amount = Decimal(str(value)[:40])
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount <= MOST_USD:
        raise CassetteError("cost_usd is not an amount of dollars")
    return to_nano_usd(amount)


WordT = TypeVar("WordT", bound=str)


class EntryFields:
    """Typed access to an object of a cassette. Methods raise CassetteError for a wrong type."""

    def __init__(self, raw: Any, name: str) -> None:
        if raw is not None and not isinstance(raw, Mapping):
            raise CassetteError(f"{name} is not an object")
        self.is_present = raw is not None
        self.raw: Mapping[str, Any] = raw or {}

    def section(self, name: str) -> EntryFields:
        """A nested object; empty if it is missing."""
        return EntryFields(self.raw.get(name), name)

    def word(self, name: str) -> str:
        found = self.raw.get(name)
        if found is not None and not isinstance(found, str):
            raise CassetteError(f"{name} is not a text")
        return found or ""

    def text(self, name: str) -> str:
        """A text, which may be written as a list of lines, or ""."""
        try:
            return join_lines(self.raw.get(name) or "")
        except CassetteError:
            raise CassetteError(f"{name} is neither a text nor a list of lines") from None

    def listed(self, name: str) -> Sequence[Any]:
        found = self.raw.get(name)
        if found is not None and not isinstance(found, list):
            raise CassetteError(f"{name} is not a list")
        return found or []

    def words(self, name: str) -> list[str]:
        found = self.listed(name)
        if not all(isinstance(each, str) for each in found):
            raise CassetteError(f"{name} is not a list of texts")
        return [*found]

    def count(self, name: str, at_least: int = 0) -> int | None:
        found = self.raw.get(name)
        if found is None:
            return None
        if type(found) is not int or found < at_least:
            raise CassetteError(f"{name} is not a whole number of at least {at_least}")
        return found

    def one_of(self, name: str, words: Sequence[WordT], default: WordT) -> WordT:
        found = self.raw.get(name, default)
        for word in words:
            if word == found:
                return word
        raise CassetteError(f"{name} is none of {', '.join(words)}")


def select_cited_items(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Select the message items of an output that has citations, without ids and status.

    Encrypted reasoning and calls are not recorded: the text and calls of the answer suffice.
    """
    if not any(
        isinstance(part, Mapping) and part.get("annotations")
        for item in items
        for part in get_parts(item)
    ):
        return []
    if any(item.get("type") == "function_call" for item in items):
        return []
    return [
        {name: to_plain_json(value) for name, value in item.items() if name not in ("id", "status")}
        for item in items
        if item.get("type") == "message"
    ]


def get_parts(item: Mapping[str, Any]) -> Sequence[Any]:
    content = item.get("content")
    return content if isinstance(content, list | tuple) else ()


RecordingSource = Literal["live", "simulated", "hand"]


@dataclass(frozen=True)
class Recording:
    """A recorded request and its answer.

    n               1 for the first identical request of a cell's run, 2 for the second
    source          `live` (a model), `simulated`, or `hand` (written by a person)
    request         the canonical request; written by hand it may be a part of one
    default_model   the model used, if the request named none
    default_effort  the effort sent to it, if none was chosen
    default_reason  why that model was used; model_reason: the same as the answer stated it
    items           the message items of an answer with citations
    citations       citations of an answer without such items, as in the Chat API
    hosted          tools that the provider ran
    cost_nano_usd   cost when it was recorded; None if unknown
    first_ms, total_ms, chunks   timing of the stream
    pieces          lengths of the text deltas, if recorded
    schema_sha      hash of the schema as it was sent
    sha256          hash of the response as recorded, "" if written by hand
    """

    key: str
    n: int = 1
    source: RecordingSource = "live"
    recorded: str = ""
    by: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    reasoning_summary: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    model: str = ""
    id: str = ""
    system_fingerprint: str = ""
    finish_reason: FinishReason = "stop"
    detail: str = ""
    usage: Usage | None = None
    service_tier: str = ""
    notes: tuple[str, ...] = ()
    items: tuple[Mapping[str, Any], ...] = ()
    citations: tuple[Citation, ...] = ()
    hosted: tuple[HostedUse, ...] = ()
    provider: str = ""
    cost_nano_usd: int | None = None
    first_ms: int | None = None
    total_ms: int | None = None
    chunks: int | None = None
    pieces: tuple[int, ...] = ()
    schema_sha: str = ""
    sha256: str = ""
    default_model: str = ""
    default_effort: str = ""
    default_reason: str = ""
    model_reason: str = ""

    @classmethod
    def of(
        cls,
        question: CanonicalRequest,
        n: int,
        answer: Answer,
        finished: Finished,
        *,
        recorded: datetime | None = None,
        pieces: Sequence[int] = (),
        chunks: int | None = None,
        system_fingerprint: str = "",
        scrub: bool = False,
    ) -> Recording:
        """Record the answer to one call, with its cost and times.

        Secrets in the answer are removed. scrub: remove those in the request too; without it they
        raise CassetteError.
        """
        if answer.source == "replayed":
            raise ValueError("an answer from a cassette is not recorded again")
        first_s = answer.first_token_s
        items = tuple(map(scrub_value, select_cited_items(finished.items)))
        recording = cls(
            key=question.key,
            n=n,
            source=answer.source,
            recorded=(recorded or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            by=f"o3magic {__version__}",
            request=scrub_request(question.canonical(), scrub=scrub),
            text=scrub_text(answer.text),
            reasoning_summary=scrub_text(answer.reasoning_summary),
            refusal=scrub_text(answer.refusal),
            tool_calls=tuple(
                ToolCall(call.id, call.name, scrub_text(call.arguments))
                for call in answer.tool_calls
            ),
            model=answer.model,
            id=answer.id,
            system_fingerprint=system_fingerprint,
            finish_reason=finished.reason,
            detail=scrub_text(finished.detail),
            usage=finished.usage,
            service_tier=finished.service_tier,
            notes=tuple(map(scrub_text, finished.notes)),
            items=items,
            citations=() if items else tuple(map(scrub_citation, finished.citations)),
            hosted=finished.hosted,
            provider=answer.provider,
            cost_nano_usd=None if answer.cost_usd is None else to_nano_usd(answer.cost_usd),
            first_ms=None if first_s is None else round(first_s * 1000),
            total_ms=round(answer.elapsed_s * 1000) if answer.elapsed_s else None,
            chunks=chunks,
            pieces=tuple(pieces),
            schema_sha=question.schema_sha,
            default_model="" if question.model else question.default_model,
            default_effort="" if question.model else question.default_effort or "",
            default_reason="" if question.model else question.default_reason,
            model_reason=answer.model_reason,
        )
        return recording.sealed()

    @classmethod
    def from_json(cls, entry: Any, place: str = "the entry") -> Recording:
        """Parse an entry. place: its file and position, for the message of the CassetteError."""
        try:
            return parse_entry(EntryFields(entry, "the entry"))
        except CassetteError as error:
            raise CassetteError(f"{place}: {error}", hint=error.hint) from None

    def to_json(self) -> dict[str, Any]:
        """Return the entry as written to a cassette, its fields in a fixed order."""
        entry = {
            "key": self.key,
            "n": self.n,
            "source": self.source,
            "recorded": self.recorded,
            "by": self.by,
            "request": dict(self.request),
            "default": {
                name: value
                for name, value in (
                    ("model", self.default_model),
                    ("effort", self.default_effort),
                    ("reason", self.default_reason),
                )
                if value
            },
            "response": self._response(),
            "pieces": " ".join(map(str, self.pieces)),
            "schema_sha": self.schema_sha,
            "sha256": self.sha256,
        }
        return {name: value for name, value in entry.items() if value not in ("", {})}

    def sealed(self) -> Recording:
        """Add the hash of the response, which reveals a later edit."""
        return replace(self, sha256=self._sha256())

    @property
    def place(self) -> tuple[str, int]:
        """The key of the entry."""
        return self.key, self.n

    @property
    def edited(self) -> bool:
        """Whether the response was changed after it was recorded."""
        return bool(self.sha256) and self.sha256 != self._sha256()

    @property
    def label(self) -> RecordingSource:
        """The source to show: `hand` for an edited recording."""
        return "hand" if self.edited else self.source

    @property
    def prompt(self) -> str:
        """The text of the last message that has text."""
        texts = [text for each in self.request.get("messages", ()) if (text := message_text(each))]
        return texts[-1] if texts else ""

    @property
    def partial(self) -> bool:
        """Whether it holds a part of a request, and matches every request that contains it."""
        return self.source == "hand" and bool(self.request) and "model" not in self.request

    def answers(self, canonical: Mapping[str, Any]) -> bool:
        """Whether a request contains everything in this partial one."""
        asked = {"api": "auto", **canonical}
        for name, value in self.request.items():
            if name == "messages" and len(value) == 1 and asked.get(name):
                last = asked[name][-1]
                if (last["role"], message_text(last)) != (value[0]["role"], message_text(value[0])):
                    return False
            elif asked.get(name) != value:
                return False
        return True

    def _response(self) -> dict[str, Any]:
        counted = {each.name: getattr(self.usage, each.name, None) for each in fields(Usage)}
        timing = {"first_ms": self.first_ms, "total_ms": self.total_ms, "chunks": self.chunks}
        response: dict[str, Any] = {
            "text": split_lines(self.text),
            "reasoning_summary": split_lines(self.reasoning_summary),
            "refusal": split_lines(self.refusal),
            "tool_calls": [
                {"id": call.id, "name": call.name, "arguments": split_lines(call.arguments)}
                for call in self.tool_calls
            ],
            "model": self.model,
            "model_reason": self.model_reason,
            "id": self.id,
            "system_fingerprint": self.system_fingerprint,
            "finish": self.finish_reason,
            "detail": self.detail,
            "usage": None if self.usage is None else drop_none(counted),
            "service_tier": self.service_tier,
            "notes": [*self.notes],
            "items": [*self.items],
            "citations": [drop_none(asdict(each)) for each in self.citations],
            "hosted": [list(each) for each in self.hosted],
            "provider": self.provider,
            "cost_usd": format_cost(self.cost_nano_usd),
            "timing": drop_none(timing) or None,
        }
        return {name: value for name, value in response.items() if value not in (None, "", [])}

    def _sha256(self) -> str:
        return compute_digest(json.dumps(self._response(), sort_keys=True, separators=(",", ":")))


def parse_entry(entry: EntryFields) -> Recording:
    """Parse an entry; fields that a person left out are computed or unknown."""
    request = normalize_request(entry.section("request").raw)
    key = entry.word("key") or (compute_key(request) if request.get("messages") else "")
    if not key:
        raise CassetteError("it has neither a key nor a request with a prompt or messages")
    response, timing = entry.section("response"), entry.section("response").section("timing")
    usage, default = response.section("usage"), entry.section("default")
    calls = [EntryFields(call, "tool_calls") for call in response.listed("tool_calls")]
    by_hand = not entry.word("sha256")  # only what was recorded has to stay as it is
    return Recording(
        key=key,
        n=entry.count("n", at_least=1) or 1,
        source=entry.one_of("source", get_args(RecordingSource), "hand" if by_hand else "live"),
        recorded=entry.word("recorded"),
        by=entry.word("by"),
        request=request if len(request) > 1 else {},
        text=response.text("text"),
        reasoning_summary=response.text("reasoning_summary"),
        refusal=response.text("refusal"),
        tool_calls=tuple(
            ToolCall(
                call.word("id") or f"call_{number}" * by_hand,
                call.word("name"),
                call.text("arguments"),
            )
            for number, call in enumerate(calls, 1)
        ),
        model=response.word("model")
        or (default.word("model") or requested_model(request)) * by_hand,
        id=response.word("id"),
        system_fingerprint=response.word("system_fingerprint"),
        finish_reason=response.one_of(
            "finish", get_args(FinishReason), "tool_calls" if calls else "stop"
        ),
        detail=response.word("detail"),
        usage=Usage(*(usage.count(each.name) for each in fields(Usage)))
        if usage.is_present
        else None,
        service_tier=response.word("service_tier"),
        notes=tuple(response.words("notes")),
        items=tuple(EntryFields(item, "items").raw for item in response.listed("items")),
        citations=tuple(map(parse_citation, response.listed("citations"))),
        hosted=tuple(map(parse_hosted_use, response.listed("hosted"))),
        provider=response.word("provider"),
        cost_nano_usd=parse_cost(response.raw.get("cost_usd")),
        first_ms=timing.count("first_ms"),
        total_ms=timing.count("total_ms"),
        chunks=timing.count("chunks"),
        pieces=parse_pieces(entry.word("pieces")),
        schema_sha=entry.word("schema_sha"),
        sha256=entry.word("sha256"),
        default_model=default.word("model"),
        default_effort=default.word("effort"),
        default_reason=default.word("reason"),
        model_reason=response.word("model_reason"),
    )


def scrub_citation(citation: Citation) -> Citation:
    return replace(citation, url=scrub_text(citation.url), title=scrub_text(citation.title))


def parse_citation(value: Any) -> Citation:
    citation = EntryFields(value, "citations")
    return Citation(
        citation.word("url"), citation.word("title"), citation.count("start"), citation.count("end")
    )


def parse_hosted_use(value: Any) -> HostedUse:
    """Parse a hosted tool: its type and the number of calls."""
    match value:
        case [str(kind), int(calls)] if not isinstance(calls, bool) and calls >= 0:
            return HostedUse(kind, calls)
        case [str(kind), None]:
            return HostedUse(kind, None)
    raise CassetteError("hosted must be a list of tools, each with its number of calls")


def message_text(message: Mapping[str, Any]) -> str:
    """All text of a canonical message."""
    content = message.get("content", "")
    if isinstance(content, list) and any(isinstance(part, Mapping) for part in content):
        content = [text for part in content for text in iter_texts(part.get("text", ""))]
    return "".join(content)


def requested_model(request: Mapping[str, Any]) -> str:
    """The model in a request, or "" for the default one."""
    model = str(request.get("model", ""))
    return "" if model == UNNAMED else model


def drop_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def parse_pieces(text: str) -> tuple[int, ...]:
    """Parse the lengths of text deltas. Raises CassetteError."""
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in text.split()):
        raise CassetteError("pieces is not a list of lengths")
    return tuple(map(int, text.split()))
