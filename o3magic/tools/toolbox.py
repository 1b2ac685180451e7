"""The tools of one question: what is sent of them, and what becomes of the calls that come back.

Whatever a model asks for gets an answer it can read: an unknown tool, broken arguments, a tool that
fails, hangs or gives too much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

from o3magic.errors import BadOption, did_you_mean
from o3magic.events import Answer
from o3magic.interrupts import interruptible
from o3magic.messages import (
    REASONING_CONTENT,
    HostedTool,
    Message,
    Part,
    Raw,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from o3magic.models import Card
from o3magic.prompts.jsonable import cut_words, json_text
from o3magic.redaction import redact
from o3magic.schemas.answer_type import SchemaMismatch
from o3magic.tools.builtin import built_in
from o3magic.tools.execution import ToolJob, run_here, run_jobs
from o3magic.tools.function import ToolFunction, tool_of
from o3magic.wire.strict_schema import OPENAI, StrictLimits

MOST_RESULT_CHARS: Final = 50_000
MOST_CALLS: Final = 64
MOST_AT_ONCE: Final = 8
DECLINED: Final = "the user declined this call"

ToolEnding = Literal["ok", "failed", "late", "declined", "refused"]
ConfirmCall = Callable[[ToolCall], bool]


@dataclass(frozen=True)
class ToolRun:
    """What became of one call.

    text: what the model is told. ending: ok; failed: it raised; late: it took too long;
    declined: by the user; refused: no such tool, broken arguments, too many calls.
    value, error: what the function gave or raised, for the user. printed: what it printed.
    """

    call: ToolCall
    text: str
    ending: ToolEnding = "ok"
    value: Any = None
    error: BaseException | None = None
    printed: str = ""
    notes: tuple[str, ...] = ()
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class _CallOutcome:
    """A tool's value as the model is told it."""

    value: Any
    text: str
    notes: tuple[str, ...]


class Toolbox:
    """Functions and hosted tools by their names."""

    def __init__(
        self,
        functions: Sequence[ToolFunction] = (),
        hosted: Sequence[HostedTool] = (),
        *,
        most_result_chars: int = MOST_RESULT_CHARS,
    ) -> None:
        self.functions = {function.name: function for function in functions}
        self.hosted = tuple(hosted)
        self._most_chars = most_result_chars

    def __bool__(self) -> bool:
        """Whether there is a tool in it."""
        return bool(self.functions or self.hosted)

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return (*self.functions, *(each.name for each in self.hosted))

    def request_tools(self, limits: StrictLimits = OPENAI) -> tuple[Tool | HostedTool, ...]:
        """What is sent of them."""
        return (*(each.request_tool(limits) for each in self.functions.values()), *self.hosted)

    def run(self, call: ToolCall, timeout_s: float, confirm: ConfirmCall | None = None) -> ToolRun:
        """Do one call. Raises KeyboardInterrupt where it is interrupted."""
        return self.run_all((call,), timeout_s, confirm)[0]

    def run_all(
        self,
        calls: Sequence[ToolCall],
        timeout_s: float,
        confirm: ConfirmCall | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[ToolRun, ...]:
        """Do the calls of one turn, several at once; what became of them, in the same order.

        confirm: asked, here and one after the other, before a dangerous tool is called; without
        it there is nobody to ask, and the call is declined. `stopped` is looked at now and then.
        Raises KeyboardInterrupt where the user stops it.
        """
        runs: list[ToolRun | ToolJob] = []
        for place, call in enumerate(calls):
            if place < MOST_CALLS:
                runs.append(self._prepared(call, confirm))
            else:
                text = f"not called: at most {MOST_CALLS} calls at once"
                runs.append(ToolRun(call, text, "refused"))
        jobs = [each for each in runs if isinstance(each, ToolJob)]
        for job in jobs:
            if not job.in_thread:
                run_here(job)
        run_jobs([job for job in jobs if job.in_thread], timeout_s, MOST_AT_ONCE, stopped)
        return tuple(
            self._ended(each, call, timeout_s) if isinstance(each, ToolJob) else each
            for each, call in zip(runs, calls, strict=True)
        )

    def _prepared(self, call: ToolCall, confirm: ConfirmCall | None) -> ToolRun | ToolJob:
        """The work of a call, or why there is none."""
        function = self.functions.get(call.name)
        if function is None:
            has = ", ".join(self.functions) or "none"
            return ToolRun(
                call, f"there is no tool {redact(call.name)!r}; the tools: {has}", "refused"
            )
        try:
            bound = function.bound(call.arguments)
        except SchemaMismatch as mismatch:
            problems = "; ".join(mismatch.problems[:5])
            return ToolRun(call, _sendable(f"the arguments are not valid: {problems}"), "refused")
        except Exception as error:  # a validator of the user's own
            return ToolRun(call, told_error(error), "failed", error=error)
        if function.dangerous and confirm is None:
            return ToolRun(call, f"not called: nobody is there to confirm {call.name}", "declined")
        if function.dangerous and confirm is not None:
            with interruptible():
                allowed = confirm(call)
            if not allowed:
                return ToolRun(call, DECLINED, "declined")

        def work() -> _CallOutcome:
            # Its value is put into words here, where code of its own may take its time too.
            return self._told(function.call(bound))

        return ToolJob(work, in_thread=function.thread)

    def _told(self, value: Any) -> _CallOutcome:
        if not isinstance(value, str):
            return _CallOutcome(value, *json_text(value, self._most_chars))
        kept = _sendable(value[: self._most_chars])
        if len(value) <= self._most_chars:
            return _CallOutcome(value, kept, ())
        note = cut_words(self._most_chars, len(value), "characters")
        return _CallOutcome(value, kept + note, (note.strip("[.] "),))

    def _ended(self, job: ToolJob, call: ToolCall, timeout_s: float) -> ToolRun:
        """What became of the work."""
        made = partial(ToolRun, call, printed=str(job.printed), elapsed_s=job.elapsed_s)
        if job.late:
            note = f"{call.name} did not end within {timeout_s:g} s and was left behind"
            return made(f"not ended within {timeout_s:g} s", "late", notes=(note,))
        if job.error is not None:
            return made(told_error(job.error), "failed", error=job.error)
        told: _CallOutcome = job.value
        text = told.text
        if self.functions[call.name].tells_prints and str(job.printed):
            room = self._most_chars
            printed = str(job.printed)
            if len(printed) > room:
                printed = printed[:room] + cut_words(room, len(printed), "characters")
            text = f"printed:\n{_sendable(printed)}\nresult: {text}"
        return made(text, "ok", value=told.value, notes=told.notes)


def toolbox(
    names: Sequence[str],
    namespace: Mapping[str, Any],
    registered: Mapping[str, ToolFunction],
    *,
    most_result_chars: int = MOST_RESULT_CHARS,
) -> Toolbox:
    """The tools of these names: registered ones, functions of the notebook, built-in ones.

    Raises BadOption for a name that is none of them, and for a function that cannot be a tool.
    """
    functions: list[ToolFunction] = []
    hosted: list[HostedTool] = []
    for name in dict.fromkeys(names):
        found = registered.get(name)
        if found is None and callable(namespace.get(name)):
            found = tool_of(namespace[name], name=name)
        made = found or built_in(name, namespace)
        if made is None:
            raise _unknown(name, namespace, registered)
        if isinstance(made, HostedTool):
            hosted.append(made)
        else:
            functions.append(made)
    twice = [name for name, count in Counter(each.name for each in functions).items() if count > 1]
    if twice:
        raise BadOption(f"two tools are called {twice[0]}", hint='@tool(name="...") renames one')
    return Toolbox(functions, hosted, most_result_chars=most_result_chars)


def _unknown(name: str, namespace: Mapping[str, Any], registered: Mapping[str, Any]) -> BadOption:
    if name in namespace:
        return BadOption(f"{name} is no function, so it is no tool", hint="name a function")
    own = [n for n, v in [*namespace.items()] if callable(v) and not n.startswith("_")]
    known = [*registered, *own, "python", "sql", "web_search"]
    hint = did_you_mean(name, known, "define the function in a cell first")
    return BadOption(f"there is no tool {name}", hint=hint)


def check_tools(
    box: Toolbox, card: Card, api: str, effort: str | None, *, strict: bool = True
) -> None:
    """Raise BadOption where this model, or this API, does not take these tools.

    strict: the rules of OpenAI's own Chat API hold. They do not for a default at another server,
    which nobody has chosen for what it can do.
    """
    if not box:
        return
    if "tools" not in card.abilities:
        raise BadOption(f"{card.id} takes no tools", hint="choose another --model")
    if api != "chat":
        return
    if box.hosted:
        name = box.hosted[0].name
        raise BadOption(f"the Chat API has no {name}", hint="--api responses")
    needed = card.chat_tools_effort if strict else None
    if box.functions and needed == "":
        said = f"{card.id} takes tools by the Responses API alone"
        raise BadOption(said, hint="--api responses")
    if box.functions and needed is not None and (effort or card.default_effort) != needed:
        hint = f"--api responses, or --effort {needed}"
        raise BadOption(f"{card.id} takes tools by the Chat API only at effort {needed}", hint=hint)


def following(
    messages: Sequence[Message],
    answer: Answer,
    runs: Sequence[ToolRun],
    *,
    stored: bool = True,
) -> tuple[Message, ...]:
    """The messages of the next turn: what was said, what was called, and what came of it.

    `runs` are those of `answer.tool_calls`, in their order. stored: the provider keeps its answers
    (the request did not say `store: false`), so that reasoning can be named by its id alone.
    """
    calls = answer.tool_calls
    whole = stored or all(i.get("encrypted_content") for i in answer.items if is_reasoning(i))
    items = answer.items if whole else ()
    ids = {call.id for call in calls}
    if len(ids) < len(calls) or "" in ids:  # some servers give none: then ours go both ways
        calls = tuple(replace(call, id=f"call_{n}") for n, call in enumerate(calls, 1))
        items = ()
    if not answer.items and answer.reasoning_summary:  # of the Chat API
        items = ({"type": REASONING_CONTENT, "text": answer.reasoning_summary},)
    said: list[Part] = [Raw(items)] if items else []
    said += [Text(answer.text)] if answer.text else []
    results = [ToolResult(call.id, run.text) for call, run in zip(calls, runs, strict=True)]
    turn = Message("assistant", (*said, *calls))
    return (*messages, turn, Message("tool", tuple(results)))


def is_reasoning(item: Mapping[str, Any]) -> bool:
    """Whether an output item is the model's reasoning."""
    return item.get("type") == "reasoning"


def told_error(error: BaseException) -> str:
    """An exception in one line for the model: no traceback, no path, no key."""
    said = redact(str(error).strip().partition("\n")[0])
    kind = type(error).__name__
    return f"{kind}: {said}" if said else kind


def _sendable(text: str) -> str:
    """Text that can be sent: a lone surrogate cannot."""
    return text.encode("utf-8", "replace").decode()
