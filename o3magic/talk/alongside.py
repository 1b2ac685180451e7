"""Answers for `await` and `async for`: the same generators, at work in a thread of their own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from o3magic.errors import Interrupted
from o3magic.events import Answer, Event
from o3magic.talk.ask import Asking

MOST_WAIT_S = 10.0


async def answer_of(asking: Asking) -> Answer:
    """The whole answer. Cancelled, it stops the provider's work. Raises as iterating would."""
    async with aclosing(events_of(asking)) as events:
        async for _ in events:
            pass
    return asking.answer


async def events_of(asking: Asking) -> AsyncGenerator[Event]:
    """The events as they arrive. Closed or cancelled, it stops the answer and settles its books."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()

    def put(item: Event | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody listens any more
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    def run() -> None:
        try:
            for event in asking:
                put(event)
        except KeyboardInterrupt:  # in a tool
            put(Interrupted("stopped by you", answer=asking.answer))
        except BaseException as error:
            put(error)
        else:
            put(None)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="o3magic-async", daemon=True)
    thread.start()
    try:
        while (item := await arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        asking.stop()  # says nothing to an answer that has ended
        await asyncio.to_thread(thread.join, MOST_WAIT_S)
