"""The frames of an event stream, with the faults a script asks for between them."""

import json
from collections.abc import Iterator

from o3magic.simulator import chat, responses
from o3magic.simulator.answer import SimulatedAnswer
from o3magic.simulator.asked import Api, Asked, Json
from o3magic.simulator.reply import Reply

DONE = b"data: [DONE]\n\n"


def frames(asked: Asked, answer: SimulatedAnswer, reply: Reply) -> Iterator[bytes | None]:
    """The frames of a stream as bytes; None is a moment of thinking."""
    dispatch = asked.api == "responses"
    events = responses.events(asked, answer) if dispatch else chat.chunks(asked, answer)
    comments, number, sent = iter(reply.comments), 0, 0
    for event in events:
        if event is None:
            yield None
            continue
        if sent == reply.error_after:
            break
        if comment := next(comments, None):
            yield f": {comment}\n\n".encode()
        yield _frame({**event, "sequence_number": number} if dispatch else event, dispatch)
        number, sent = number + 1, sent + 1
        if sent == 1:
            for _ in range(reply.keepalives):
                yield _keepalive(number, dispatch)
                number += dispatch
    if reply.error_after is not None or (answer.finish == "failed" and not dispatch):
        yield _error(reply, number, asked.api)
    elif not dispatch:
        yield DONE


def _frame(event: Json, dispatch: bool) -> bytes:
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    name = f"event: {event['type']}\n" if dispatch else ""
    return f"{name}data: {data}\n\n".encode("utf-8", "surrogatepass")


def _keepalive(number: int, dispatch: bool) -> bytes:
    if not dispatch:
        return b": keepalive\n\n"
    return _frame({"type": "keepalive", "sequence_number": number}, dispatch)


def _error(reply: Reply, number: int, api: Api) -> bytes:
    error = reply.error_object
    if reply.flat:
        said = {name: error[name] for name in ("code", "message", "param")}
        return _frame({"type": "error", **said, "sequence_number": number}, dispatch=True)
    if api == "chat":
        return _frame({"error": error}, dispatch=False)
    return _frame({"type": "error", "error": error, "sequence_number": number}, dispatch=True)
