"""One question sent at several efforts, to several models, or both, concurrently."""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from o3magic.dataframes import frame
from o3magic.errors import BadOption, O3Error
from o3magic.events import Answer, Event
from o3magic.session.answer_stream import AnswerStream
from o3magic.settings import Settings


@dataclass(frozen=True)
class Comparison:
    """The answer for each label, in the order of the question.

    `errors` has a message for each answer that failed, "" for the others.
    """

    labels: tuple[str, ...]
    answers: tuple[Answer, ...]
    errors: tuple[str, ...]

    def __repr__(self) -> str:
        """One short line."""
        return f"Comparison({', '.join(self.labels)})"

    def rows(self) -> list[dict[str, Any]]:
        """A row for each answer: label, model, effort, seconds, tokens, cost, text, fields."""
        return [
            {
                "label": label,
                "model": answer.model,
                "effort": answer.effort,
                "elapsed_s": answer.elapsed_s,
                "input_tokens": answer.usage.input_tokens,
                "output_tokens": answer.usage.output_tokens,
                "reasoning_tokens": answer.usage.reasoning_tokens,
                "cost_usd": answer.cost_usd,
                "text": answer.text,
                "error": error or None,
                **(flatten_fields(answer.data) if isinstance(answer.data, Mapping) else {}),
            }
            for label, answer, error in zip(self.labels, self.answers, self.errors, strict=True)
        ]

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame. Raises ImportError where pandas is not installed."""
        return frame(self.rows())


def build_variants(
    profile: Settings, efforts: Sequence[str] = (), models: Sequence[str] = (), *, least: int = 2
) -> dict[str, Settings]:
    """The settings of each variant, by its label.

    Raises BadOption where there is nothing to compare.
    """
    asked = tuple(models) or (profile.model,)
    chosen: Sequence[Any] = tuple(efforts) or (profile.effort,)
    found = {}
    for model, effort in itertools.product(asked, chosen):
        words = [model] * (len(asked) > 1) + [effort] * (len(chosen) > 1)
        found[" ".join(words) or model] = replace(profile, model=model, effort=effort)
    if len(found) < least:
        what = f"{asked[0]} has nothing" if asked[0] else "there is nothing"
        raise BadOption(f"{what} to compare", hint="--efforts low,high or --models a,b")
    return found


LOOK_S = 0.2


class ComparisonStream:
    """Several answers at once. Iterate for (index, event) as they arrive.

    An event of None ends that index. Closing the iterator stops all answers.
    """

    def __init__(self, askings: Mapping[str, AnswerStream]) -> None:
        self.labels = tuple(askings)
        self._askings = tuple(askings.values())
        self._errors = [""] * len(self._askings)
        self._queue: SimpleQueue[tuple[int, Event | None]] = SimpleQueue()
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[tuple[int, Event | None]]:
        """Send all questions, each in a thread of its own."""
        for index in range(len(self._askings)):
            context = contextvars.copy_context()
            name = f"o3magic-compare-{index}"
            thread = threading.Thread(
                target=context.run, args=(self._ask, index), name=name, daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # a browser has no threads: one after the other
                self._ask(index)
        running = len(self._askings)
        try:
            while running:
                index, event = self._next()
                running -= event is None
                yield index, event
        finally:
            self._stop()
            while running:  # each thread settles its own ledger rows
                running -= self._next()[1] is None

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Stop the answers that still arrive; their text so far is kept."""
        self._stopped.set()
        self._stop()

    def _stop(self) -> None:
        for asking in self._askings:
            asking.stop()

    def _next(self) -> tuple[int, Event | None]:
        # Some interrupts (those on Windows, for one) do not wake a thread that waits for a lock.
        while True:
            with suppress(Empty):
                return self._queue.get(timeout=LOOK_S)

    def _ask(self, index: int) -> None:
        """Run one question in its thread."""
        events = iter(self._askings[index])
        try:
            for event in events:
                self._queue.put((index, event))
                if self._stopped.is_set():
                    break
        except O3Error as error:
            self._errors[index] = str(error)
        except KeyboardInterrupt:  # in a tool
            self._errors[index] = "stopped by you"
        finally:
            events.close()  # type: ignore[attr-defined]
            self._queue.put((index, None))

    @property
    def comparison(self) -> Comparison:
        """The answers so far."""
        answers = tuple(asking.answer for asking in self._askings)
        return Comparison(self.labels, answers, tuple(self._errors))


def flatten_fields(data: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested fields as `a.b`; lists unchanged."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            found |= flatten_fields(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found
