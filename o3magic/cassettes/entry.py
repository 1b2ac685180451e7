"""One entry of a cassette: a question, the answer to it, and where that came from."""

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
    digest,
    joined,
    key_of,
    lines,
    normal_request,
    plain,
    texts_in,
)
from o3magic.cassettes.scrub import safe_request, scrubbed, scrubbed_value
from o3magic.citations import Citation
from o3magic.errors import CassetteError
from o3magic.events import Answer, Finished, FinishReason, HostedUse, Usage
from o3magic.messages import ToolCall
from o3magic.money import usd
from o3magic.version import __version__

MOST_USD = Decimal(10**6)


def shown(cost_nano_usd: int | None) -> str | None:
    """A cost as exact text, such as `0.000189`."""
    amount = usd(cost_nano_usd)
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def nano(amount: Decimal) -> int:
    """Dollars as whole nano-dollars."""
    return int(amount.scaleb(9).to_integral_value())


def cost_of(said: Any) -> int | None:
    """Nano-dollars of what an entry says. Raises CassetteError for what is no amount."""
    if said is None:
        return None
    try:
        amount = Decimal(str(said)[:40])
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(said, bool) or not amount.is_finite() or not 0 <= amount <= MOST_USD:
        raise CassetteError("cost_usd is no amount of dollars")
    return nano(amount)


WordT = TypeVar("WordT", bound=str)


class EntryFields:
    """The fields of one object of a cassette. All methods raise CassetteError for a wrong kind."""

    def __init__(self, raw: Any, name: str) -> None:
        if raw is not None and not isinstance(raw, Mapping):
            raise CassetteError(f"{name} is no object")
        self.said = raw is not None
        self.raw: Mapping[str, Any] = raw or {}

    def section(self, name: str) -> EntryFields:
        """A nested object; an empty one where it is missing."""
        return EntryFields(self.raw.get(name), name)

    def word(self, name: str) -> str:
        """A text of one line, or ""."""
        found = self.raw.get(name)
        if found is not None and not isinstance(found, str):
            raise CassetteError(f"{name} is no text")
        return found or ""

    def text(self, name: str) -> str:
        """A text that may be written as lines, or ""."""
        try:
            return joined(self.raw.get(name) or "")
        except CassetteError:
            raise CassetteError(f"{name} is neither a text nor a list of lines") from None

    def listed(self, name: str) -> Sequence[Any]:
        """A list, or an empty one."""
        found = self.raw.get(name)
        if found is not None and not isinstance(found, list):
            raise CassetteError(f"{name} is no list")
        return found or []

    def words(self, name: str) -> list[str]:
        """A list of texts."""
        found = self.listed(name)
        if not all(isinstance(each, str) for each in found):
            raise CassetteError(f"{name} is no list of texts")
        return [*found]

    def count(self, name: str, at_least: int = 0) -> int | None:
        """A whole number, or None."""
        found = self.raw.get(name)
        if found is None:
            return None
        if type(found) is not int or found < at_least:
            raise CassetteError(f"{name} is no whole number from {at_least} on")
        return found

    def one_of(self, name: str, words: Sequence[WordT], default: WordT) -> WordT:
        """One of some words."""
        found = self.raw.get(name, default)
        for word in words:
            if word == found:
                return word
        raise CassetteError(f"{name} is none of {', '.join(words)}")


def cited_items(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages among output items, if they cite something, without the ids of one run.

    Encrypted reasoning and calls are not kept: the answer's own words and calls say enough.
    """
    if not any(
        isinstance(part, Mapping) and part.get("annotations")
        for item in items
        for part in listed_content(item)
    ):
        return []
    if any(item.get("type") == "function_call" for item in items):
        return []
    return [
        {name: plain(value) for name, value in item.items() if name not in ("id", "status")}
        for item in items
        if item.get("type") == "message"
    ]


def listed_content(item: Mapping[str, Any]) -> Sequence[Any]:
    """The parts of an output item."""
    content = item.get("content")
    return content if isinstance(content, list | tuple) else ()


RecordingSource = Literal["live", "simulated", "hand"]


@dataclass(frozen=True)
class Recording:
    """What was asked and answered.

    n               1 for the first identical question of a cell's run, 2 for the second
    source          who answered: a model, the simulator, or a person who wrote it by hand
    request         the question in its one form; written by hand it may be less than whole
    default_model   the model that was asked, where the question named none
    default_effort  the effort that was sent to it, where none was chosen
    default_reason  why it was that model; model_reason: the same, where the answer said it
    items           the parts of a web search's answer with what they cite
    citations       what an answer cites that has no such parts, as those of the Chat API
    hosted          the tools that the provider ran itself
    cost_nano_usd   what it cost when it was recorded; None where nobody knows
    first_ms, total_ms, chunks   how it came
    pieces          lengths of the pieces of text, where they were kept
    schema_sha      of the schema as it was sent
    sha256          of the response as it was recorded, "" where it was written by hand
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
        """A take of what arrived; `answer` is that of this one call, its cost and times included.

        Secrets in the answer are removed. Raises CassetteError for one in the question, unless
        `scrub` says to remove those too.
        """
        if answer.source == "replayed":
            raise ValueError("an answer from a cassette is not recorded again")
        first_s = answer.first_token_s
        items = tuple(map(scrubbed_value, cited_items(finished.items)))
        take = cls(
            key=question.key,
            n=n,
            source=answer.source,
            recorded=(recorded or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            by=f"o3magic {__version__}",
            request=safe_request(question.canonical(), scrub=scrub),
            text=scrubbed(answer.text),
            reasoning_summary=scrubbed(answer.reasoning_summary),
            refusal=scrubbed(answer.refusal),
            tool_calls=tuple(
                ToolCall(call.id, call.name, scrubbed(call.arguments)) for call in answer.tool_calls
            ),
            model=answer.model,
            id=answer.id,
            system_fingerprint=system_fingerprint,
            finish_reason=finished.reason,
            detail=scrubbed(finished.detail),
            usage=finished.usage,
            service_tier=finished.service_tier,
            notes=tuple(map(scrubbed, finished.notes)),
            items=items,
            citations=() if items else tuple(map(without_secrets, finished.citations)),
            hosted=finished.hosted,
            provider=answer.provider,
            cost_nano_usd=None if answer.cost_usd is None else nano(answer.cost_usd),
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
        return take.sealed()

    @classmethod
    def from_json(cls, entry: Any, place: str = "the entry") -> Recording:
        """A take out of a cassette's entry. Raises CassetteError, with the place, for no entry."""
        try:
            return read_entry(EntryFields(entry, "the entry"))
        except CassetteError as error:
            raise CassetteError(f"{place}: {error}", hint=error.hint) from None

    def to_json(self) -> dict[str, Any]:
        """The entry as a cassette has it, its fields always in the same order."""
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
        """The same with the hash of its response, by which a later edit is known."""
        return replace(self, sha256=self._sha256())

    @property
    def place(self) -> tuple[str, int]:
        """What it is found by."""
        return self.key, self.n

    @property
    def edited(self) -> bool:
        """Whether somebody changed the response after it was recorded."""
        return bool(self.sha256) and self.sha256 != self._sha256()

    @property
    def label(self) -> RecordingSource:
        """What to call its source: edited by hand is `hand`."""
        return "hand" if self.edited else self.source

    @property
    def prompt(self) -> str:
        """The words of the last message that has some."""
        said = [text for each in self.request.get("messages", ()) if (text := words_of(each))]
        return said[-1] if said else ""

    @property
    def partial(self) -> bool:
        """Whether it says only a part of a question, and so answers every one that has this."""
        return self.source == "hand" and bool(self.request) and "model" not in self.request

    def answers(self, canonical: Mapping[str, Any]) -> bool:
        """Whether a question has everything that this partial one says."""
        asked = {"api": "auto", **canonical}
        for name, value in self.request.items():
            if name == "messages" and len(value) == 1 and asked.get(name):
                last = asked[name][-1]
                if (last["role"], words_of(last)) != (value[0]["role"], words_of(value[0])):
                    return False
            elif asked.get(name) != value:
                return False
        return True

    def _response(self) -> dict[str, Any]:
        counted = {each.name: getattr(self.usage, each.name, None) for each in fields(Usage)}
        timing = {"first_ms": self.first_ms, "total_ms": self.total_ms, "chunks": self.chunks}
        response: dict[str, Any] = {
            "text": lines(self.text),
            "reasoning_summary": lines(self.reasoning_summary),
            "refusal": lines(self.refusal),
            "tool_calls": [
                {"id": call.id, "name": call.name, "arguments": lines(call.arguments)}
                for call in self.tool_calls
            ],
            "model": self.model,
            "model_reason": self.model_reason,
            "id": self.id,
            "system_fingerprint": self.system_fingerprint,
            "finish": self.finish_reason,
            "detail": self.detail,
            "usage": None if self.usage is None else known(counted),
            "service_tier": self.service_tier,
            "notes": [*self.notes],
            "items": [*self.items],
            "citations": [known(asdict(each)) for each in self.citations],
            "hosted": [list(each) for each in self.hosted],
            "provider": self.provider,
            "cost_usd": shown(self.cost_nano_usd),
            "timing": known(timing) or None,
        }
        return {name: value for name, value in response.items() if value not in (None, "", [])}

    def _sha256(self) -> str:
        return digest(json.dumps(self._response(), sort_keys=True, separators=(",", ":")))


def read_entry(entry: EntryFields) -> Recording:
    """A take; what a person left out is computed or left unknown."""
    request = normal_request(entry.section("request").raw)
    key = entry.word("key") or (key_of(request) if request.get("messages") else "")
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
        model=response.word("model") or (default.word("model") or named(request)) * by_hand,
        id=response.word("id"),
        system_fingerprint=response.word("system_fingerprint"),
        finish_reason=response.one_of(
            "finish", get_args(FinishReason), "tool_calls" if calls else "stop"
        ),
        detail=response.word("detail"),
        usage=Usage(*(usage.count(each.name) for each in fields(Usage))) if usage.said else None,
        service_tier=response.word("service_tier"),
        notes=tuple(response.words("notes")),
        items=tuple(EntryFields(item, "items").raw for item in response.listed("items")),
        citations=tuple(map(citation_of, response.listed("citations"))),
        hosted=tuple(map(use_of, response.listed("hosted"))),
        provider=response.word("provider"),
        cost_nano_usd=cost_of(response.raw.get("cost_usd")),
        first_ms=timing.count("first_ms"),
        total_ms=timing.count("total_ms"),
        chunks=timing.count("chunks"),
        pieces=pieces_of(entry.word("pieces")),
        schema_sha=entry.word("schema_sha"),
        sha256=entry.word("sha256"),
        default_model=default.word("model"),
        default_effort=default.word("effort"),
        default_reason=default.word("reason"),
        model_reason=response.word("model_reason"),
    )


def without_secrets(cited: Citation) -> Citation:
    """A citation with the secrets in it removed."""
    return replace(cited, url=scrubbed(cited.url), title=scrubbed(cited.title))


def citation_of(said: Any) -> Citation:
    """A citation out of an entry."""
    cited = EntryFields(said, "citations")
    return Citation(
        cited.word("url"), cited.word("title"), cited.count("start"), cited.count("end")
    )


def use_of(said: Any) -> HostedUse:
    """How often the provider ran a tool of its own: its type and the number."""
    match said:
        case [str(kind), int(calls)] if not isinstance(calls, bool) and calls >= 0:
            return HostedUse(kind, calls)
        case [str(kind), None]:
            return HostedUse(kind, None)
    raise CassetteError("hosted must be a list of tools, each with its number of calls")


def words_of(message: Mapping[str, Any]) -> str:
    """All words of a message in its one form."""
    content = message.get("content", "")
    if isinstance(content, list) and any(isinstance(part, Mapping) for part in content):
        content = [text for part in content for text in texts_in(part.get("text", ""))]
    return "".join(content)


def named(request: Mapping[str, Any]) -> str:
    """The model that a request names, or ""."""
    model = str(request.get("model", ""))
    return "" if model == UNNAMED else model


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def pieces_of(said: str) -> tuple[int, ...]:
    """The lengths of the pieces. Raises CassetteError where they are no numbers."""
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in said.split()):
        raise CassetteError("pieces is no list of lengths")
    return tuple(map(int, said.split()))
