"""One question from its plan to its answer: attempts, tool calls, repairs, and their costs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.client.cancellation import CancelToken
from o3magic.client.request import HttpRequest
from o3magic.errors import CassetteMiss, Interrupted, InvalidAnswer, O3Error
from o3magic.events import (
    Answer,
    Event,
    Finished,
    HostedUse,
    Retrying,
    ToolUsed,
    Usage,
    why_cut,
)
from o3magic.messages import Message
from o3magic.money import usd
from o3magic.session.attempts import (
    AttemptState,
    CallSender,
    LocalServer,
    RetryLoop,
    describe_other_tier,
    find_usage_oddities,
)
from o3magic.session.plan import Plan
from o3magic.session.recorder import CassetteUse
from o3magic.session.spending import CallAccounting

if TYPE_CHECKING:
    from o3magic.cassettes.entry import Recording
    from o3magic.session.turns import TurnTarget
    from o3magic.tools.toolbox import ConfirmCall, Toolbox


class AnswerStream:
    """The answer to one question as it arrives. Iterate for events; `answer` is the answer so far.

    Closing the iterator cancels the request; the ledger has the attempt as interrupted.
    """

    def __init__(
        self,
        plan: Plan,
        client: CallSender,
        accounting: CallAccounting,
        *,
        lacks: set[str] | None = None,
        introduced: set[tuple[str, str]] | None = None,
        cassette: CassetteUse | None = None,
        turns: TurnTarget | None = None,
        confirm: ConfirmCall | None = None,
        sleep: Callable[[float], None] | None = None,
        server: LocalServer | None = None,
    ) -> None:
        self._accounting = accounting
        self._cassette = cassette
        self._stop = CancelToken()
        self._attempts = RetryLoop(
            plan,
            client,
            accounting,
            self._stop,
            set() if lacks is None else lacks,
            sleep or self._stop.wait,
            server,
        )
        # The default models that an answer of this session has explained already.
        self._introduced = set() if introduced is None else introduced
        self._model_reason = ""
        self._turns = turns
        self._confirm = confirm
        self._uses: list[ToolUsed] = []
        self._between: tuple[Message, ...] = ()
        self._repaired = False
        self._notes: list[str] = []
        self._parsed: Any = None
        self._data: Any = None

    @property
    def plan(self) -> Plan:
        """The plan as it is now: a fallback may have changed it."""
        return self._attempts.plan

    def __iter__(self) -> Iterator[Event]:
        """Send the question, and a repair where the answer does not fit its schema.

        Raises OverBudget before anything is sent; RequestFailed, InvalidAnswer and Interrupted,
        all with `.answer` set.
        """
        self._accounting.open(self.plan)
        try:
            yield from self._run_rounds()
            if self._turns is not None:
                self._notes += self._turns.keep(
                    self.plan, self.answer, self._between, repaired=self._repaired
                )
        except O3Error as error:
            error.answer = self.answer
            raise
        finally:
            self._accounting.close(self.plan)

    def _run_rounds(self) -> Generator[Event, None, None]:
        """The question, the results of its tools, and its repairs."""
        profile, toolbox = self.plan.profile, self.plan.asked.toolbox
        call, kind, question = self.plan.call, "ask", self.plan.question
        repairs, turns = profile.repairs, profile.turns
        while True:
            if self._cassette is None:
                call = yield from self._ask_provider(call, kind)
            else:
                call = yield from self._answer_with_cassette(self._cassette, question, call, kind)
            last = self._attempts.rounds[-1]
            if (
                toolbox is not None
                and last.draft.tool_calls
                and last.reason in ("tool_calls", "stop")
            ):
                if not turns:
                    self._notes.append(f"stopped after {profile.turns} turns of tools (--turns)")
                    return
                more, kind, turns = (yield from self._run_tools(toolbox, last)), "tool", turns - 1
            else:
                problems = self._validate()
                if not problems:
                    return
                if not repairs or last.reason != "stop":
                    raise self._invalid_answer(problems)
                yield Retrying(f"the answer does not fit {profile.schema}: {problems[0]}", 0)
                self._notes.append(f"asked again: {problems[0]}")
                more = build_repair_messages(last.draft.text, problems)
                kind, repairs, self._repaired = "repair", repairs - 1, True
            call, question = add_messages_to_call(call, more), question.with_messages(*more)

    def _run_tools(
        self, toolbox: Toolbox, last: AttemptState
    ) -> Generator[Event, None, tuple[Message, ...]]:
        """Call the tools that a turn asks for; returns the messages of the next one."""
        from o3magic.tools.toolbox import following

        profile, answer = self.plan.profile, last.draft.answer(last.reason)
        try:
            runs = toolbox.run_all(
                answer.tool_calls, profile.tool_timeout_s, self._confirm, lambda: self._stop.is_set
            )
        except KeyboardInterrupt:
            if not self._stop.is_set:
                raise
        if self._stop.is_set:
            raise Interrupted("stopped by you")
        for run in runs:
            used = ToolUsed(
                run.call.name, run.call.arguments, run.text, run.ending, run.printed, run.notes
            )
            self._uses.append(used)
            yield used
        more = following((), answer, runs, stored=profile.store)
        self._between += more
        return more

    def _answer_with_cassette(
        self, cassette: CassetteUse, question: CanonicalRequest, call: HttpRequest, kind: str
    ) -> Generator[Event, None, HttpRequest]:
        """One answer, from the cassette or the provider; returns the call that was answered."""
        n = cassette.deck.number(question)
        try:
            return (yield from self._replay_or_record(cassette, question, n, call, kind))
        except BaseException:
            cassette.deck.unasked(question)
            raise

    def _ask_provider(self, call: HttpRequest, kind: str) -> Generator[Event, None, HttpRequest]:
        """One answer from the provider. The first of a default model explains the choice."""
        call = yield from self._attempts.answer_with_retries(call, kind)
        choice, who = self.plan.choice, (call.provider.name, call.request.model)
        if not choice.named and who not in self._introduced:
            self._introduced.add(who)
            self._model_reason = choice.reason
        return call

    def _with_asked_default(self, question: CanonicalRequest) -> CanonicalRequest:
        """The question with the default model that was used in the end."""
        planned = self.plan.question
        return replace(
            question,
            default_model=planned.default_model,
            default_effort=planned.default_effort,
            default_reason=planned.default_reason,
        )

    def _replay_or_record(
        self,
        cassette: CassetteUse,
        question: CanonicalRequest,
        n: int,
        call: HttpRequest,
        kind: str,
    ) -> Generator[Event, None, HttpRequest]:
        """Replay the recording, or send the call and record the answer."""
        recording = cassette.find(question, n)
        if recording is not None and self._still_fits(recording, question):
            yield from self._attempts.replay(recording, cassette.speed)
            return call
        if cassette.mode == "replay":
            raise CassetteMiss("the schema has changed, and the recorded answer does not fit it")
        call = yield from self._ask_provider(call, kind)
        question = self._with_asked_default(question)
        last, finished = self._attempts.rounds[-1], self._attempts.rounds[-1].draft.finished
        if cassette.records and finished is not None:
            kept = cassette.keep(
                question, n, self._answer_of_attempt(last), finished, tuple(self._attempts.notes)
            )
            if isinstance(kept, str):
                self._notes.append(kept)
            else:
                last.use_recording(kept)
        return call

    def _still_fits(self, recording: Recording, question: CanonicalRequest) -> bool:
        """Whether a recording is still valid: the same schema, or its JSON fits the new one."""
        wanted = self.plan.answer_type
        if (
            wanted is None
            or not recording.schema_sha
            or recording.schema_sha == question.schema_sha
        ):
            return True
        from o3magic.schemas.answer_type import SchemaMismatch

        try:
            wanted.validate(recording.text)
        except SchemaMismatch:
            return False
        return True

    def _answer_of_attempt(self, last: AttemptState) -> Answer:
        """The answer of one attempt alone, as a cassette stores it."""
        return replace(
            last.draft.answer(last.reason),
            model=last.draft.model or self.plan.call.request.model,
            provider=self.plan.call.provider.name,
            cost_usd=usd(last.cost_nano_usd),
            elapsed_s=last.elapsed_s,
            first_token_s=last.first_token_s,
            source=last.source,
            model_reason=self._model_reason,
        )

    def stop(self) -> None:
        """Stop it, from any thread: the iterator raises Interrupted; the answer so far is kept."""
        self._stop.cancel()

    def _validate(self) -> list[str]:
        """The problems of a structured answer; none for a text or a refusal."""
        last, wanted = self._attempts.rounds[-1], self.plan.answer_type
        answer = last.draft.answer()
        if wanted is None or answer.refusal or answer.finish_reason == "refusal":
            return []
        if answer.finish_reason == "content_filter":
            return ["the provider's filter cut it off"]
        if answer.finish_reason == "length":
            return [f"it was cut off: {why_cut(self.answer)}"]
        from o3magic.schemas.answer_type import SchemaMismatch

        try:
            self._parsed = wanted.validate(answer.text)
        except SchemaMismatch as mismatch:
            return mismatch.problems
        self._data = wanted.dump(self._parsed)
        return []

    def _invalid_answer(self, problems: list[str]) -> InvalidAnswer:
        """The error for a structured answer that does not fit its schema."""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        error = InvalidAnswer(
            f"the answer does not fit {self.plan.profile.schema}: {problems[0]}{more}"
        )
        if self._attempts.rounds[-1].reason == "length":
            error.hint = "a higher --max-output-tokens, or a lower --effort"
        if self._attempts.rounds[-1].reason == "content_filter":
            error.hint = "say it in other words; what had arrived is in _.text"
        return error

    @property
    def answer(self) -> Answer:
        """The answer so far; tokens, cost and time are sums over all attempts."""
        if not self._attempts.rounds:
            return Answer(model=self.plan.profile.model, finish_reason="interrupted")
        last = self._attempts.rounds[-1]
        answer = last.draft.answer(last.reason)
        costs = [attempt.original_nano_usd for attempt in self._attempts.rounds]
        known = None if None in costs else sum(cost or 0 for cost in costs)
        counted = [attempt.usage for attempt in self._attempts.rounds if attempt.usage != Usage()]
        usage = reduce(Usage.plus, counted) if counted else Usage()
        call_notes = () if last.take else (*self._attempts.notes, *self._accounting.notes)
        notes = (*call_notes, *self._notes, *answer.notes, *find_usage_oddities(last, self.plan))
        notes += describe_other_tier(last, self.plan)
        if None in costs[:-1]:
            notes += ("an attempt before this one may have been billed: its cost is unknown",)
        return replace(
            answer,
            parsed=self._parsed,
            data=self._data,
            usage=usage,
            cost_usd=usd(known),
            model=answer.model or self.plan.call.request.model,
            model_reason=last.take.model_reason if last.take else self._model_reason,
            effort=self.plan.effort,
            elapsed_s=sum(attempt.elapsed_s for attempt in self._attempts.rounds),
            first_token_s=self._first_token_s(),
            provider=last.take.provider if last.take else self.plan.call.provider.name,
            request_id=last.request_id,
            source=last.source,
            recorded=last.recorded,
            notes=notes,
            schema_name=self.plan.profile.schema,
            tool_uses=tuple(self._uses),
            hosted=sum_hosted_uses(attempt.draft.finished for attempt in self._attempts.rounds),
        )

    def _first_token_s(self) -> float | None:
        """Seconds to the first token, including earlier attempts that had none."""
        before_s = 0.0
        for attempt in self._attempts.rounds:
            if attempt.first_token_s is not None:
                return before_s + attempt.first_token_s
            before_s += attempt.elapsed_s
        return None


def sum_hosted_uses(ends: Iterable[Finished | None]) -> tuple[HostedUse, ...]:
    """The calls of hosted tools, summed over all attempts."""
    calls: dict[str, int | None] = {}
    for use in (use for end in ends if end for use in end.hosted):
        before = calls.get(use.type, 0)
        calls[use.type] = None if None in (before, use.calls) else (before or 0) + (use.calls or 0)
    return tuple(HostedUse(name, number) for name, number in calls.items())


def build_repair_messages(text: str, problems: list[str]) -> tuple[Message, Message]:
    """The messages of a repair: the answer as it came, and its problems."""
    wrong = "\n".join(f"- {problem}" for problem in problems)
    ask = (
        f"That answer is not valid:\n{wrong}\n"
        "Answer again, whole and corrected, in the same schema, and with nothing else."
    )
    return Message.of("assistant", text), Message.of("user", ask)


def add_messages_to_call(call: HttpRequest, more: tuple[Message, ...]) -> HttpRequest:
    """The call with more messages."""
    messages = (*call.request.messages, *more)
    return replace(call, request=replace(call.request, messages=messages))
