"""What can go wrong, one class per thing a user can do about it.

O3Error
├── BadOption             a word on the magic's line, in a config file or in the environment
├── UnknownSchema         no schema of that name
├── NotASchema            the name is there, but is no type an answer can have
├── NotStrict             the schema cannot be said in OpenAI's strict subset
├── TemplateError         a {{ }} in the prompt that cannot be filled in
├── EmptyPrompt           nothing to ask
├── PromptTooLong         more than the model's window
├── NoKey                 no key, no cassette, no provider
├── LocalModelError       no model file, no room for it, or its server did not start
├── OverBudget            it may cost more than a budget has left, so it was not sent
├── RequestFailed         the provider was asked and did not answer as it should
│   ├── WrongKey          401
│   ├── NoAccess          403, unverified organization, usage tier
│   ├── ModelNotFound     no model of that name there
│   │   └── ModelRetired  there was one
│   ├── RateLimited       429, wait and ask again
│   ├── QuotaExhausted    429, waiting does not help
│   ├── TooLarge          429, this one request is over the limit for ever
│   ├── RequestRefused    another 4xx: the request is wrong
│   ├── ContentFiltered   the provider's policy stopped it
│   ├── ProviderDown      5xx
│   ├── NoConnection      nobody there, or the line broke before the first byte
│   ├── BatchUnfinished   a batch ended before this was run; it costs nothing
│   └── BrokenAnswer      it came, but not to its end, or not in the protocol
├── InvalidAnswer         a structured answer that does not validate, after its repairs
├── Interrupted           the user stopped it
├── LedgerUnavailable     the ledger's file cannot be written or is of a newer version
├── CassetteError         the cassette cannot be read or written as it is
└── CassetteMiss          the answer is to be replayed, and was never recorded

Each says what happened (`str(error)`) and the next thing to try (`hint`). In a notebook an error
shows as these lines and no traceback; the cell still fails.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class O3Error(Exception):
    """Something o3magic can explain.

    hint: the next thing to try, or "". answer: what had arrived when it happened, or None.
    """

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "", answer: Any = None) -> None:
        super().__init__(message)
        self.hint = hint or type(self).hint
        self.answer = answer

    def lines(self) -> list[str]:
        """The message and, if there is one, the next thing to try: one or two lines of text."""
        first = f"{type(self).__name__}: {self}"
        return [first, f"  try: {self.hint}"] if self.hint else [first]

    def _render_traceback_(self) -> list[str]:
        """Show these lines instead of a traceback (IPython's protocol)."""
        return self.lines()


class BadOption(O3Error):
    hint = "%%o3? lists the options"


class UnknownSchema(O3Error):
    pass


class NotASchema(O3Error):
    hint = "a pydantic model, dataclass, TypedDict, Enum or list[...] of one"


class NotStrict(O3Error):
    """path: where in the schema, as a JSON pointer such as `/properties/rates`."""

    def __init__(self, message: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path


class TemplateError(O3Error):
    hint = "--no-template sends the prompt as it is written"


class EmptyPrompt(O3Error):
    hint = "write the prompt below the %%o3 line"


class PromptTooLong(O3Error):
    hint = "send less, or choose a model with a larger window (%o3_models)"


class NoKey(O3Error):
    pass


class LocalModelError(O3Error):
    pass


class OverBudget(O3Error):
    """left_nano_usd: what the tightest budget still has. scope: which one that is."""

    def __init__(
        self, message: str, *, hint: str = "", left_nano_usd: int = 0, scope: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.left_nano_usd = left_nano_usd
        self.scope = scope


class RequestFailed(O3Error):
    """status: HTTP status or None; code: the provider's own; request_id: to quote to its support.

    billed: None where nobody can know, False where the provider charges nothing for it.
    retry_after_s, should_retry: what the provider itself says about asking again, or None.
    """

    billed: bool | None = False
    retry_after_s: float | None = None
    should_retry: bool | None = None

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        answer: Any = None,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, answer=answer)
        self.status = status
        self.code = code
        self.param = param
        self.request_id = request_id

    def lines(self) -> list[str]:
        """As O3Error's, with the request id on a line of its own."""
        asked = [f"  request id: {self.request_id}"] if self.request_id else []
        return super().lines() + asked


class WrongKey(RequestFailed):
    hint = "check the key in the environment variable; keys are made on the provider's site"


class NoAccess(RequestFailed):
    hint = "check the project's permissions and usage tier on the provider's site"


class ModelNotFound(RequestFailed):
    hint = "%o3_models lists the models"


class ModelRetired(ModelNotFound):
    pass


class RateLimited(RequestFailed):
    hint = "run the cell again in a moment"


class QuotaExhausted(RequestFailed):
    hint = "add credit or raise the limit on the provider's billing page; waiting does not help"


class TooLarge(RequestFailed):
    hint = "send less in one request, or lower --max-output-tokens"


class RequestRefused(RequestFailed):
    hint = "%%o3 --dry-run shows the request"


class ContentFiltered(RequestFailed):
    hint = "say it in other words"


class ProviderDown(RequestFailed):
    hint = "run the cell again in a moment"
    billed: bool | None = None


class NoConnection(RequestFailed):
    hint = "check the network and the provider's base URL (%o3_config)"
    billed: bool | None = None


class BatchUnfinished(RequestFailed):
    hint = "job.retry(rows) asks what has no answer at once; o3.batch(...) asks it in a new batch"


class BrokenAnswer(RequestFailed):
    hint = "run the cell again; what had arrived is kept in _"
    billed: bool | None = None


class InvalidAnswer(O3Error):
    hint = "--repairs 2 asks again twice; the raw text is in _.text"


class Interrupted(O3Error):
    hint = "what had arrived is kept in _"
    billed: bool | None = None

    def lines(self) -> list[str]:
        """As O3Error's; what is known of the answer is nothing to try."""
        return [f"{type(self).__name__}: {self}", f"  {self.hint}"]


class LedgerUnavailable(O3Error):
    hint = "set O3MAGIC_LEDGER to a file that can be written, or to :memory:"


class CassetteError(O3Error):
    pass


class CassetteMiss(O3Error):
    hint = "--mode auto asks the provider and records the answer"


def near(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The names in `known` that someone who typed `word` may have meant, best first."""
    by_folded: dict[str, str] = {}
    for name in known:
        by_folded.setdefault(name.casefold(), name)
    found = get_close_matches(word.casefold(), by_folded, n=most, cutoff=0.6)
    return [by_folded[name] for name in found]


def did_you_mean(word: str, known: Sequence[str], otherwise: str = "") -> str:
    """`did you mean X or Y?`, or `otherwise` where nothing is near."""
    names = near(word, known)
    return f"did you mean {' or '.join(names)}?" if names else otherwise
