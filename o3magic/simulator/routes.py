"""From a request to what is answered: which path, whose key, scripted or generated."""

import hmac
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from o3magic.simulator import chat, models, responses, rules
from o3magic.simulator.answer import SimulatedAnswer, call_id, compose
from o3magic.simulator.asked import Asked, Json, RequestTurn, of_chat, of_responses
from o3magic.simulator.files import upload
from o3magic.simulator.listener import Manner
from o3magic.simulator.rejection import Rejection, wrong_key
from o3magic.simulator.reply import Reply
from o3magic.simulator.state import Received, State, Stored

ASKING = {"/responses": of_responses, "/chat/completions": of_chat}
COUNTING = "/responses/input_tokens"


@dataclass(frozen=True, slots=True)
class Plain:
    """A JSON document to be sent."""

    status: int
    document: Any
    reply: Reply = field(default_factory=Reply)


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer to be sent, as a stream or as `document`."""

    asked: Asked
    answer: SimulatedAnswer
    reply: Reply

    @property
    def request_id(self) -> str:
        """The same question has the same id."""
        return f"req_{self.answer.id[:32]}"

    @property
    def document(self) -> Json:
        """The answer in one piece."""
        whole = responses.response if self.asked.api == "responses" else chat.completion
        return whole(self.asked, self.answer)


def outcome(request: Received, manner: Manner, state: State) -> Plain | Spoken | Reply:
    """What a request gets; raises `Rejection` for what the API would refuse."""
    # Azure's addresses begin with /openai.
    path = request.path.removeprefix("/openai").removeprefix("/v1").rstrip("/")
    if path == "/healthz":
        return Plain(200, {"status": "ok", "simulated": True})
    _check_key(request, manner.key)
    getting, posting = request.method == "GET", request.method == "POST"
    if path == "/models" and getting:
        listed = [m for m in models.LISTED if not models.is_retired(m, manner.retired)]
        return Plain(200, {"object": "list", "data": [models.listing(m) for m in listed]})
    if path.startswith("/models/") and getting:
        return Plain(200, _model(unquote(path.removeprefix("/models/")), manner))
    if path in ASKING and posting:
        return _asked(request, path, manner, state)
    if path == COUNTING and posting:
        asked = of_responses(_body(request))
        rules.check_model(asked, manner.retired)
        return Plain(200, {"object": "response.input_tokens", "input_tokens": asked.input_tokens})
    if path.strip("/").split("/")[0] in ("files", "batches"):
        stored = _stored_away(request, path, manner, state)
        if stored is not None:
            return stored if isinstance(stored, Reply) else Plain(200, stored)
    if path in ("/models", COUNTING, *ASKING):
        only = "GET" if path == "/models" else "POST"
        message = f"Only {only} requests are accepted."
        raise Rejection(message, status=405, code="method_not_supported")
    raise Rejection(f"Invalid URL ({request.method} {request.path})", status=404)


def _check_key(request: Received, key: str | None) -> None:
    if key is None:
        return
    given = request.headers.get("authorization", "")
    given = given[7:].strip() if given[:7].lower() == "bearer " else ""
    given = given or request.headers.get("api-key", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), key.encode()):
        raise wrong_key(given)


def _model(model: str, manner: Manner) -> Json:
    if models.is_retired(model, manner.retired):
        raise rules.retired_model(model)
    if models.family_of(model) is None:
        message = f"The model '{model}' does not exist"
        raise Rejection(message, status=404, param="model", code="model_not_found")
    return models.listing(model)


def _body(request: Received) -> Json:
    if isinstance(request.body, dict):
        return request.body
    raise Rejection(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't "
        "using your HTTP library correctly. The OpenAI API expects a JSON payload.)"
    )


def _stored_away(request: Received, path: str, manner: Manner, state: State) -> Json | Reply | None:
    """What a request for files or batches gets; None where there is no such address."""

    def answering(path: str, body: Json) -> tuple[int, Json]:
        return _line(path, body, manner, state)

    files, batches, azure = state.files, state.batches, request.path.startswith("/openai")
    match request.method, path.strip("/").split("/"):
        case "POST", ["files"]:
            return upload(files, request.headers.get("content-type", ""), request.raw)
        case "GET", ["files"]:
            return files.listing
        case "GET", ["files", file_id]:
            return files.get(file_id).document
        case "DELETE", ["files", file_id]:
            return files.delete(file_id)
        case "GET", ["files", file_id, "content"]:
            return files.get(file_id).reply
        case "POST", ["batches"]:
            return batches.create(_body(request), files, azure=azure)
        case "GET", ["batches"]:
            return batches.listing(request.query)
        case "GET", ["batches", batch_id]:
            return batches.look(batch_id, files, answering)
        case "POST", ["batches", batch_id, "cancel"]:
            return batches.cancel(batch_id)
    return None


def _line(path: str, body: Json, manner: Manner, state: State) -> tuple[int, Json]:
    """Status and document for one line of a batch: scripted replies are not for those."""
    try:
        asked = ASKING[path](body)
        rules.check(asked, manner.retired, None)
        answer = compose(asked, Reply(), state.cached_tokens(asked.whole_prompt))
    except Rejection as rejection:
        return rejection.status, {"error": rejection.error}
    return 200, Spoken(asked, answer, Reply()).document


def _asked(request: Received, path: str, manner: Manner, state: State) -> Plain | Spoken | Reply:
    reply = state.next_reply()
    if reply is not None and (reply.raw or reply.hang_up):
        return reply
    asked = ASKING[path](_body(request))
    previous = state.stored(str(asked.body.get("previous_response_id")))
    if previous:
        asked = replace(asked, turns=previous.turns + asked.turns)
    if reply is None:
        rules.check(asked, manner.retired, previous)
        reply = Reply()
    elif _is_error(reply, asked):
        status = reply.status if reply.status >= 400 else 500
        return Plain(status, {"error": reply.error_object}, reply)
    answer = compose(asked, reply, state.cached_tokens(asked.whole_prompt))
    if asked.api == "responses" and asked.body.get("store") is not False:
        state.store(f"resp_{answer.id}", _stored(asked, answer))
    return Spoken(asked, answer, reply)


def _is_error(reply: Reply, asked: Asked) -> bool:
    """Whether an error is all there is: a chat answer cannot say that it failed."""
    if reply.status >= 400:
        return True
    if reply.finish == "failed":
        return asked.api == "chat" and not asked.stream
    if reply.error_after is not None:
        return not asked.stream
    return reply.error is not None


def _stored(asked: Asked, answer: SimulatedAnswer) -> Stored:
    """What was said, the answer included; instructions are not carried over."""
    ids = [call_id(answer, index) for index in range(len(answer.calls))]
    calls = [
        RequestTurn("call", call.arguments, call.name, made)
        for call, made in zip(answer.calls, ids, strict=True)
    ]
    said = [turn for turn in asked.turns if turn.role != "developer"]
    spoken = [RequestTurn("assistant", answer.text)] if answer.text else []
    return Stored((*said, *spoken, *calls), frozenset(ids))
