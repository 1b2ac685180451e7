"""Batches: checked, run line by line, and moved from state to state each time they are looked at.

Follows https://platform.openai.com/docs/guides/batch and, below /openai, Azure's Global Batch.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping

from o3magic.simulator.asked import Json
from o3magic.simulator.batch_lines import (
    OVER,
    USUAL,
    Answering,
    Batch,
    BatchScript,
    faults_in,
    run,
)
from o3magic.simulator.files import UploadedFiles
from o3magic.simulator.rejection import Rejection, missing, wrong_type
from o3magic.simulator.reply import Reply

ENDPOINTS = ("/v1/responses", "/v1/chat/completions")
AZURE_ENDPOINTS = (*ENDPOINTS, "/chat/completions")
MOST_PAIRS = 16
PAGE = 20


class Batches:
    """All batches of a simulator."""

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}
        self._script: deque[BatchScript] = deque()
        self._lock = threading.RLock()

    def script(self, scripts: Iterable[BatchScript]) -> None:
        """The next batches go like this."""
        with self._lock:
            self._script.extend(scripts)

    @property
    def documents(self) -> list[Json]:
        """How each stands, in the order they were made."""
        return [dict(each.document) for each in self._batches.values()]

    def create(self, body: Json, files: UploadedFiles, *, azure: bool) -> Json | Reply:
        """A new batch; raises `Rejection` for one the API would refuse."""
        self._check(body, files, azure)
        with self._lock:
            script = self._script.popleft() if self._script else BatchScript()
            if script.refuse is not None:
                return script.refuse
            made = Batch(new(body), script, deque(script.states[1:]), deque(script.trouble), azure)
            self._batches[made.document["id"]] = made
        return Reply(hang_up=True) if script.hang_up else dict(made.document)

    def look(self, batch_id: str, files: UploadedFiles, answering: Answering) -> Json | Reply:
        """How a batch stands, a step further than at the last look."""
        with self._lock:
            batch = self._get(batch_id)
            if batch.trouble:
                return batch.trouble.popleft()
            if batch.status == "validating":
                faults = [*batch.script.errors] or faults_in(batch, files)
                if faults:
                    batch.document["errors"] = {"object": "list", "data": faults}
                    batch.waiting = deque(["failed"])
            if batch.waiting:
                batch.enter(batch.waiting.popleft())
                if batch.status in OVER and batch.status != "failed":
                    run(batch, files, answering)
            return dict(batch.document)

    def cancel(self, batch_id: str) -> Json:
        """Begin to end it."""
        with self._lock:
            batch = self._get(batch_id)
            if batch.status in OVER:
                message = f"Cannot cancel a batch with status '{batch.status}'."
                raise Rejection(message, status=409)
            batch.enter("cancelling")
            batch.waiting = deque(["cancelled"])
            return dict(batch.document)

    def listing(self, query: Mapping[str, str]) -> Json:
        """A page of them, the newest first."""
        said = query.get("limit", str(PAGE))
        limit = max(1, min(int(said), 100)) if said.isdigit() else PAGE
        newest = [dict(each.document) for each in reversed(self._batches.values())]
        if after := query.get("after"):
            ids = [each["id"] for each in newest]
            newest = newest[ids.index(after) + 1 :] if after in ids else []
        page = newest[:limit]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
        return {
            "object": "list",
            "data": page,
            "first_id": None,
            "last_id": None,
            **ends,
            "has_more": len(newest) > limit,
        }

    def _get(self, batch_id: str) -> Batch:
        found = self._batches.get(batch_id)
        if found is None:
            raise Rejection(f"No batch found with id '{batch_id}'.", status=404)
        return found

    def _check(self, body: Json, files: UploadedFiles, azure: bool) -> None:
        for name in ("input_file_id", "endpoint", "completion_window"):
            if body.get(name) is None:
                raise missing(name)
        endpoint = body["endpoint"]
        known = AZURE_ENDPOINTS if azure else ENDPOINTS
        if endpoint not in known:
            listed = ", ".join(f"'{each}'" for each in known)
            message = f"Invalid value: '{endpoint}'. Supported values are: {listed}."
            raise Rejection(message, param="endpoint", code="invalid_value")
        if body["completion_window"] != "24h":
            message = f"Invalid value: '{body['completion_window']}'. Value must be '24h'."
            raise Rejection(message, param="completion_window", code="invalid_value")
        metadata = body.get("metadata") or {}
        if not isinstance(metadata, dict) or len(metadata) > MOST_PAIRS:
            raise wrong_type("metadata", "an object of at most 16 pairs", metadata)
        for name, value in metadata.items():
            if not isinstance(value, str):
                raise wrong_type(f"metadata.{name}", "a string", value)
        file = files.find(str(body["input_file_id"]))
        if file is None or file.purpose != "batch":
            message = f"No such batch input file: {body['input_file_id']}"
            raise Rejection(message, status=404, param="input_file_id")


def new(body: Json) -> Json:
    """The object of a batch that has just been made."""
    now = int(time.time())
    moments = [f"{name}_at" for name in (*USUAL[1:], *OVER[:1], *OVER[2:], "cancelling")]
    return {
        "id": f"batch_{secrets.token_hex(12)}",
        "object": "batch",
        "endpoint": body["endpoint"],
        "model": None,
        "errors": None,
        "input_file_id": body["input_file_id"],
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        **dict.fromkeys(moments),
        "expires_at": now + 86_400,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": None,
        "metadata": body.get("metadata"),
    }
