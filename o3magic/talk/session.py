"""A session, and the ways to ask with it from Python: wait, take the events, compare, await."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from o3magic.events import Answer, Event
from o3magic.schemas.lookup import AnswerType, answer_type
from o3magic.talk import alongside
from o3magic.talk.ask import Asking
from o3magic.talk.compare import Comparison
from o3magic.talk.hub import Hub
from o3magic.tools.function import ToolFunction, tool_of


class Session(Hub):
    """One shell's: its settings, connections, books and schemas, and all ways to ask with them."""

    def compare(
        self,
        prompt: str,
        *,
        efforts: Sequence[str] = (),
        models: Sequence[str] = (),
        schema: Any = None,
        **options: Any,
    ) -> Comparison:
        """Ask at several efforts or models at once, and wait for all. Raises as `ask` does.

        A question that fails does not stop the others: see `Comparison.errors`.
        """
        chosen = {**options, "efforts": ",".join(efforts), "models": ",".join(models)}
        wanted, chosen = self._wanted(schema, chosen)
        names, tools = taken(chosen)
        asked = self.comparing(self.ways(prompt, self.layers.profile(chosen), names, wanted, tools))
        for _ in asked:
            pass
        return asked.comparison

    def ask(self, prompt: str, *, schema: Any = None, **options: Any) -> Answer:
        """Ask and wait for the answer. `schema` is a type or the name of a registered one.

        names: what `{{ name }}` in the prompt is filled in from; without it nothing is. tools: the
        functions the model may call, or their names. The other options are Profile's fields.
        Raises O3Error; one that comes after the request left holds what arrived in `.answer`.
        """
        asking = self._asking(prompt, schema, options)
        for _ in asking:
            pass
        return asking.answer

    def stream(self, prompt: str, *, schema: Any = None, **options: Any) -> Iterator[Event]:
        """Ask and yield the events as they arrive. Closing the iterator stops the answer."""
        return iter(self._asking(prompt, schema, options))

    async def aask(self, prompt: str, *, schema: Any = None, **options: Any) -> Answer:
        """The same as `ask` for `await`. Calls that have to be confirmed are declined."""
        asking = self._asking(prompt, schema, options, attended=False)
        return await alongside.answer_of(asking)

    async def astream(
        self, prompt: str, *, schema: Any = None, **options: Any
    ) -> AsyncGenerator[Event]:
        """The same as `stream` for `async for`; closing or cancelling it stops the answer."""
        asking = self._asking(prompt, schema, options, attended=False)
        async with aclosing(alongside.events_of(asking)) as events:
            async for event in events:
                yield event

    def _asking(
        self, prompt: str, schema: Any, options: Mapping[str, Any], *, attended: bool = True
    ) -> Asking:
        wanted, chosen = self._wanted(schema, options)
        names, tools = taken(chosen)
        profile = self.layers.profile(chosen)
        return self.begin(self.plan(prompt, profile, names, wanted, tools), attended=attended)

    def _wanted(
        self, schema: Any, options: Mapping[str, Any]
    ) -> tuple[AnswerType | None, dict[str, Any]]:
        """The type of a schema that was given as one, and the options that name it."""
        if schema is None:
            return None, {**options}
        if isinstance(schema, str):
            return None, {**options, "schema": schema}
        wanted = answer_type(schema)
        return wanted, {**options, "schema": wanted.name}


def taken(chosen: dict[str, Any]) -> tuple[Mapping[str, Any] | None, dict[str, ToolFunction]]:
    """The names and the functions among options; what is left of `tools` are their names."""
    names, given = chosen.pop("names", None), chosen.get("tools") or ""
    if isinstance(given, str):
        return names, {}
    tools = {each.name: each for each in map(tool_of, given)}
    chosen["tools"] = ",".join(tools)
    return names, tools
