"""What is said: a request and the messages in it, the same for every dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

Role = Literal["developer", "system", "user", "assistant", "tool"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Api = Literal["responses", "chat"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
Tier = Literal["auto", "default", "flex", "priority"]
Verbosity = Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: `url` is an https address or a `data:` URL."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for; `arguments` is the JSON text as it came, valid or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call gave, for the model to read."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Raw:
    """Output items of the Responses API, to be sent back word for word.

    There they stand for all other parts of their message; every other dialect passes them over.
    """

    items: tuple[Mapping[str, Any], ...]


Part = Text | Image | ToolCall | ToolResult | Raw


REASONING_CONTENT = "reasoning_content"  # the type of a Raw item: what Chat servers call it


@dataclass(frozen=True, slots=True)
class Message:
    """One turn's words of one role."""

    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: Role, text: str) -> Message:
        """A message of words only."""
        return cls(role, (Text(text),))

    @property
    def text(self) -> str:
        """All its words, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """The JSON Schema an answer must follow; already in the strict subset where `strict`.

    by_instruction: the provider has no schemas, so it is asked for JSON and told the schema.
    """

    name: str
    schema: Mapping[str, Any]
    strict: bool = True
    by_instruction: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may ask for; `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = True


@dataclass(frozen=True, slots=True)
class HostedTool:
    """A tool that the provider runs itself, by its type: `web_search`. Only Responses has them."""

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.type

    @property
    def description(self) -> str:
        """Nothing: the model knows it."""
        return ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Its options."""
        return self.options

    @property
    def strict(self) -> bool:
        """Whether its arguments are held to a schema of ours: no."""
        return False


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """What a provider has already: the response it ends with, and the messages that it stands for.

    hidden_tokens: of reasoning in it, which may count again and is in no message.
    """

    response_id: str
    messages: tuple[Message, ...]
    hidden_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One question, before a dialect puts it into its own words.

    None means: not said, so the model's own default holds and nothing is sent.
    max_tokens_word: what the Chat API of this provider calls the limit.
    kept: what was said before `messages` and is named by its id alone, where it is.
    echo_reasoning: the reasoning of earlier turns goes back with their tool calls (Chat alone).
    tier: how it is to be served and billed. options: ours, of one API alone; params: the user's own
    fields of the body, laid over everything else.
    """

    model: str
    messages: tuple[Message, ...]
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    max_output_tokens: int | None = None
    answer_schema: AnswerSchema | None = None
    tools: tuple[Tool | HostedTool, ...] = ()
    stream: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    stream_usage: bool = True
    max_tokens_word: str = "max_completion_tokens"
    kept: StoredOutput | None = None
    tier: Tier | None = None
    verbosity: Verbosity | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    echo_reasoning: bool = False

    @property
    def whole(self) -> tuple[Message, ...]:
        """All that the model reads: what the provider has kept, and what is sent."""
        return (*self.kept.messages, *self.messages) if self.kept else self.messages

    @property
    def sent_whole(self) -> Request:
        """The same question with nothing left to the provider's memory."""
        return replace(self, messages=self.whole, kept=None)
