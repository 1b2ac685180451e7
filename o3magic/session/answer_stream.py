"""One question from its plan to its answer: attempts, repairs, and what each of them cost."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial, reduce
from typing import Any

from o3magic.cassettes.entry import Recording
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
from o3magic.messages import Message, ToolCall
from o3magic.money import usd
from o3magic.schemas.lookup import SchemaMismatch
from o3magic.session.attempts import (
    AttemptState,
    CallSender,
    LocalServer,
    RetryLoop,
    odd,
    other_tier,
)
from o3magic.session.interrupts import interruptible
from o3magic.session.plan import Plan
from o3magic.session.prompt_input import TurnTarget
from o3magic.session.recorder import CassetteUse
from o3magic.session.spending import CallAccounting
from o3magic.tools.toolbox import ConfirmCall, following


class AnswerStream:
    """A question being answered. Iterate over it for the events; `answer` is what there is so far.

    Closing the iterator stops the provider's work and books the attempt as interrupted.
    """

    def __init__(
        self,
        plan: Plan,
        client: CallSender,
        books: CallAccounting,
        *,
        lacks: set[str] | None = None,
        introduced: set[tuple[str, str]] | None = None,
        tape: CassetteUse | None = None,
        turns: TurnTarget | None = None,
        confirm: ConfirmCall | None = None,
        sleep: Callable[[float], None] | None = None,
        server: LocalServer | None = None,
    ) -> None:
        self._books = books
        self._tape = tape
        self._stop = CancelToken()
        self._attempts = RetryLoop(
            plan,
            client,
            books,
            self._stop,
            set() if lacks is None else lacks,
            sleep or self._stop.wait,
            server,
        )
        # The defaults of which an answer of this session has said why they are asked.
        self._introduced = set() if introduced is None else introduced
        self._model_reason = ""
        self._turns = turns
        self._confirm = None if confirm is None else partial(confirm_call, confirm)
        self._uses: list[ToolUsed] = []
        self._between: tuple[Message, ...] = ()
        self._repaired = False
        self._notes: list[str] = []
        self._parsed: Any = None
        self._data: Any = None

    @property
    def plan(self) -> Plan:
        """What is asked by now: a provider may turn out not to have what was planned."""
        return self._attempts.plan

    def __iter__(self) -> Iterator[Event]:
        """Ask, and ask again where the answer does not fit its schema.

        Raises OverBudget before anything is sent; RequestFailed, InvalidAnswer and Interrupted,
        all with `.answer` set.
        """
        self._books.open(self.plan)
        try:
            yield from self._rounds_of()
            if self._turns is not None:
                self._notes += self._turns.keep(
                    self.plan, self.answer, self._between, repaired=self._repaired
                )
        except O3Error as error:
            error.answer = self.answer
            raise
        finally:
            self._books.close(self.plan)

    def _rounds_of(self) -> Generator[Event, None, None]:
        """The question, what its tools say, and its repairs."""
        profile, box = self.plan.profile, self.plan.asked.toolbox
        call, kind, question = self.plan.call, "ask", self.plan.question
        repairs, turns = profile.repairs, profile.turns
        while True:
            call = yield from self._answered(question, call, kind)
            last = self._attempts.rounds[-1]
            if box and last.draft.tool_calls and last.reason in ("tool_calls", "stop"):
                if not turns:
                    self._notes.append(f"stopped after {profile.turns} turns of tools (--turns)")
                    return
                more, kind, turns = (yield from self._used(last)), "tool", turns - 1
            else:
                problems = self._validate()
                if not problems:
                    return
                if not repairs or last.reason != "stop":
                    raise self._invalid(problems)
                yield Retrying(f"the answer does not fit {profile.schema}: {problems[0]}", 0)
                self._notes.append(f"asked again: {problems[0]}")
                more = repair(last.draft.text, problems)
                kind, repairs, self._repaired = "repair", repairs - 1, True
            call, question = with_messages(call, more), question.with_messages(*more)

    def _used(self, last: AttemptState) -> Generator[Event, None, tuple[Message, ...]]:
        """Call the tools that a turn asks for; gives what is said in the next one."""
        profile, answer = self.plan.profile, last.draft.answer(last.reason)
        try:
            runs = self.plan.asked.toolbox.run_all(
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

    def _answered(
        self, question: CanonicalRequest, call: HttpRequest, kind: str
    ) -> Generator[Event, None, HttpRequest]:
        """One answer, from the cassette or from the provider; gives the call that was answered."""
        if self._tape is None:
            return (yield from self._asked(call, kind))
        n = self._tape.deck.number(question)
        try:
            return (yield from self._taped(self._tape, question, n, call, kind))
        except BaseException:
            self._tape.deck.unasked(question)
            raise

    def _asked(self, call: HttpRequest, kind: str) -> Generator[Event, None, HttpRequest]:
        """One answer from the provider. The first one of a default model says why it is that."""
        call = yield from self._attempts.answered(call, kind)
        choice, who = self.plan.choice, (call.provider.name, call.request.model)
        if not choice.named and who not in self._introduced:
            self._introduced.add(who)
            self._model_reason = choice.reason
        return call

    def _as_asked(self, question: CanonicalRequest) -> CanonicalRequest:
        """The question with the default model that was asked in the end."""
        planned = self.plan.question
        return replace(
            question,
            default_model=planned.default_model,
            default_effort=planned.default_effort,
            default_reason=planned.default_reason,
        )

    def _taped(
        self, tape: CassetteUse, question: CanonicalRequest, n: int, call: HttpRequest, kind: str
    ) -> Generator[Event, None, HttpRequest]:
        """The same with a cassette."""
        take = tape.find(question, n)
        if take is not None and self._fits(take, question):
            yield from self._attempts.replayed(take, tape.speed)
            return call
        if tape.mode == "replay":
            raise CassetteMiss("the schema has changed, and the recorded answer does not fit it")
        call = yield from self._asked(call, kind)
        question = self._as_asked(question)
        last, finished = self._attempts.rounds[-1], self._attempts.rounds[-1].draft.finished
        if tape.records and finished is not None:
            kept = tape.keep(question, n, self._of(last), finished, tuple(self._attempts.notes))
            if isinstance(kept, str):
                self._notes.append(kept)
            else:
                last.put_on(kept)
        return call

    def _fits(self, take: Recording, question: CanonicalRequest) -> bool:
        """Whether a take is still an answer: its schema as it was, or its JSON fits the new one."""
        wanted = self.plan.answer_type
        if wanted is None or not take.schema_sha or take.schema_sha == question.schema_sha:
            return True
        try:
            wanted.validate(take.text)
        except SchemaMismatch:
            return False
        return True

    def _of(self, last: AttemptState) -> Answer:
        """The answer of one round alone, as a cassette has it."""
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
        """End it from another thread: the iterator raises Interrupted, what had arrived is kept."""
        self._stop.cancel()

    def _validate(self) -> list[str]:
        """What is wrong with a structured answer; nothing for a text or a refusal."""
        last, wanted = self._attempts.rounds[-1], self.plan.answer_type
        answer = last.draft.answer()
        if (
            wanted is None
            or answer.refusal
            or answer.finish_reason in ("refusal", "content_filter")
        ):
            return []
        if answer.finish_reason == "length":
            return [f"it was cut off: {why_cut(self.answer)}"]
        try:
            self._parsed = wanted.validate(answer.text)
        except SchemaMismatch as mismatch:
            return mismatch.problems
        self._data = wanted.dump(self._parsed)
        return []

    def _invalid(self, problems: list[str]) -> InvalidAnswer:
        """The end of a structured answer that does not fit."""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        error = InvalidAnswer(
            f"the answer does not fit {self.plan.profile.schema}: {problems[0]}{more}"
        )
        if self._attempts.rounds[-1].reason == "length":
            error.hint = "a higher --max-output-tokens, or a lower --effort"
        return error

    @property
    def answer(self) -> Answer:
        """The answer as far as it came; tokens, cost and time are those of all attempts."""
        if not self._attempts.rounds:
            return Answer(model=self.plan.profile.model, finish_reason="interrupted")
        last = self._attempts.rounds[-1]
        answer = last.draft.answer(last.reason)
        costs = [each.made_for_nano_usd for each in self._attempts.rounds]
        known = None if None in costs else sum(cost or 0 for cost in costs)
        counted = [each.usage for each in self._attempts.rounds if each.usage != Usage()]
        usage = reduce(Usage.plus, counted) if counted else Usage()
        told = () if last.take else (*self._attempts.notes, *self._books.notes)
        notes = (*told, *self._notes, *answer.notes, *odd(last, self.plan))
        notes += other_tier(last, self.plan)
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
            elapsed_s=sum(each.elapsed_s for each in self._attempts.rounds),
            first_token_s=self._first_token_s(),
            provider=last.take.provider if last.take else self.plan.call.provider.name,
            request_id=last.request_id,
            source=last.source,
            recorded=last.recorded,
            notes=notes,
            schema_name=self.plan.profile.schema,
            tool_uses=tuple(self._uses),
            hosted=all_uses(each.draft.finished for each in self._attempts.rounds),
        )

    def _first_token_s(self) -> float | None:
        """Seconds to the first token of all, those of attempts before it that had none included."""
        before_s = 0.0
        for each in self._attempts.rounds:
            if each.first_token_s is not None:
                return before_s + each.first_token_s
            before_s += each.elapsed_s
        return None


def confirm_call(confirm: ConfirmCall, call: ToolCall) -> bool:
    """Ask the user whether the model may make a call; Ctrl-C there is a KeyboardInterrupt."""
    with interruptible():
        return confirm(call)


def all_uses(ends: Iterable[Finished | None]) -> tuple[HostedUse, ...]:
    """How often the provider ran tools of its own in several rounds together."""
    found: dict[str, int | None] = {}
    for use in (use for end in ends if end for use in end.hosted):
        before = found.get(use.type, 0)
        found[use.type] = None if None in (before, use.calls) else (before or 0) + (use.calls or 0)
    return tuple(HostedUse(*each) for each in found.items())


def repair(text: str, problems: list[str]) -> tuple[Message, Message]:
    """What is said in a repair round: the answer as given, and what is wrong with it."""
    wrong = "\n".join(f"- {each}" for each in problems)
    ask = (
        f"That answer is not valid:\n{wrong}\n"
        "Answer again, whole and corrected, in the same schema, and with nothing else."
    )
    return Message.of("assistant", text), Message.of("user", ask)


def with_messages(call: HttpRequest, more: tuple[Message, ...]) -> HttpRequest:
    """A call that says more."""
    messages = (*call.request.messages, *more)
    return replace(call, request=replace(call.request, messages=messages))
