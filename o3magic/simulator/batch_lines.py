"""The lines of a batch: which of them would be refused, and what becomes of the others."""

import json
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from o3magic.simulator.asked import Json, dict_of
from o3magic.simulator.files import File, UploadedFiles
from o3magic.simulator.reply import Reply

MOST_LINES = 50_000
OVER = ("failed", "completed", "expired", "cancelled")
USUAL = ("validating", "in_progress", "finalizing", "completed")
EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}
# What answers one line: the path and body in, status and document out.
Answering = Callable[[str, Json], tuple[int, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchScript:
    """How one batch goes; a field left out means what the simulator does by itself.

    Lines are numbered from 0. It enters the next of `states` each time it is looked at.
    """

    states: tuple[str, ...] = USUAL
    errors: tuple[Json, ...] = ()  # it fails with these when it is first looked at
    done: int | None = None  # how many lines are run, when it does not come to its end
    failing: Mapping[int, Reply] = field(default_factory=dict)  # status and error of these lines
    missing: Collection[int] = ()  # lines that are in no file
    twice: Collection[int] = ()  # lines that are in the output file twice
    replies: Mapping[int, Reply] = field(default_factory=dict)  # what is answered to these lines
    answer: Callable[[Json], Json] | None = None  # makes the answers; then none is labelled
    usage: bool | Json = True  # what the batch says it used; False: nothing
    junk: bytes = b""  # more in the output file
    refuse: Reply | None = None  # said instead of making it
    empty_error_file: bool = False  # as Azure has it where nothing failed
    hang_up: bool = False  # the batch is made, and then the line goes dead
    trouble: tuple[Reply, ...] = ()  # what is said first instead of how it stands


@dataclass(slots=True)
class Batch:
    """One batch and what becomes of it."""

    document: Json
    script: BatchScript
    waiting: deque[str]
    trouble: deque[Reply]
    azure: bool = False

    @property
    def status(self) -> str:
        """Where it stands."""
        return str(self.document["status"])

    def enter(self, status: str) -> None:
        """Change its state."""
        self.document |= {"status": status, f"{status}_at": int(time.time())}


def faults_in(batch: Batch, files: UploadedFiles) -> list[Json]:
    """What is wrong with the file of a batch; nothing for one that can be run."""
    file = files.find(batch.document["input_file_id"])
    lines = lines_of(file) if file else []
    if not lines:
        return [fault("empty_file", "The input file is empty.")]
    if len(lines) > MOST_LINES * (2 if batch.azure else 1):
        return [fault("too_many_tasks", f"The batch input file has {len(lines)} requests.")]
    faults: list[Json] = []
    seen: set[str] = set()
    models: set[str] = set()
    for number, raw in enumerate(lines, 1):
        line = json_of(raw)
        if line is None:
            faults.append(fault("invalid_json_line", "This line is not valid JSON.", number))
            continue
        wrong = fault_of(line, batch.document["endpoint"])
        custom_id = str(line.get("custom_id"))
        if wrong is None and custom_id in seen:
            wrong = ("duplicate_custom_id", f"The custom_id '{custom_id}' is not unique.")
        models.add(str(dict_of(line.get("body")).get("model")))
        if wrong is None and len(models) > 1:
            wrong = ("mismatched_model", "All requests of a batch must be for one model.")
        if wrong is not None:
            faults.append(fault(*wrong, number))
        seen.add(custom_id)
    batch.document["model"] = next(iter(models), None)
    batch.document["request_counts"] = {"total": len(lines), "completed": 0, "failed": 0}
    return faults


def fault_of(line: Json, endpoint: str) -> tuple[str, str] | None:
    """Code and words of what is wrong with one line, or None."""
    for name in ("custom_id", "method", "url", "body"):
        if not line.get(name):
            return "missing_required_parameter", f"Missing required parameter: '{name}'."
    if not isinstance(line["custom_id"], str) or not isinstance(line["body"], dict):
        return "invalid_type", "'custom_id' must be a string and 'body' an object."
    if line["method"] != "POST":
        return "invalid_method", "The method must be 'POST'."
    if line["url"] != endpoint:
        return "invalid_url", f"The URL '{line['url']}' is not the batch endpoint '{endpoint}'."
    if not line["body"].get("model"):
        return "missing_required_parameter", "Missing required parameter: 'body.model'."
    if line["body"].get("stream"):
        return "invalid_request", "Streaming is not supported in a batch."
    return None


def fault(code: str, message: str, line: int | None = None) -> Json:
    """One error of a batch that failed."""
    return {"code": code, "message": message, "param": None, "line": line}


def run(batch: Batch, files: UploadedFiles, answering: Answering) -> None:
    """Answer the lines, as far as the batch came, and make its files."""
    file = files.find(batch.document["input_file_id"])
    lines = [line for raw in (lines_of(file) if file else []) if (line := json_of(raw))]
    script, status = batch.script, batch.status
    done = len(lines) if status == "completed" or script.done is None else script.done
    if status == "cancelled" and script.done is None:
        done = 0
    out: list[Json] = []
    wrong: list[Json] = []
    for number, line in enumerate(lines):
        if number in script.missing or (number >= done and status == "cancelled"):
            continue
        if number >= done:
            wrong.append(result(line, None, EXPIRED))
            continue
        code, document = answered(line, script, number, answering)
        said = result(line, {"status_code": code, "request_id": request_id(), "body": document})
        (out if code < 400 else wrong).extend([said] * (2 if number in script.twice else 1))
    labelled = script.answer is None
    document = batch.document
    completed, failed = (len({each["custom_id"] for each in said}) for said in (out, wrong))
    counts = {"total": len(lines), "completed": completed, "failed": failed}
    document["request_counts"] = counts
    if out or script.junk:
        document["output_file_id"] = made(files, "output", out, labelled, script.junk)
    if wrong or script.empty_error_file:
        document["error_file_id"] = made(files, "error", wrong, labelled)
    if script.usage:
        document["usage"] = usage_of(out) if script.usage is True else script.usage


def answered(
    line: Json, script: BatchScript, number: int, answering: Answering
) -> tuple[int, Json]:
    """Status and document for one line."""
    if number in script.failing:
        reply = script.failing[number]
        return reply.status, {"error": reply.error_object}
    if number in script.replies:
        return 200, json.loads(script.replies[number].raw_bytes)
    if script.answer is not None:
        return 200, script.answer(line["body"])
    return answering(line["url"].removeprefix("/v1"), line["body"])


def result(line: Json, response: Json | None, error: Mapping[str, Any] | None = None) -> Json:
    """One line of an output or error file."""
    ids = {"id": f"batch_req_{secrets.token_hex(8)}", "custom_id": line["custom_id"]}
    return {**ids, "response": response, "error": dict(error) if error else None}


def made(
    files: UploadedFiles, kind: str, lines: list[Json], labelled: bool, junk: bytes = b""
) -> str:
    """The id of a new file with these lines, in no order that could be relied on."""
    mixed = sorted(lines, key=lambda each: sha256(each["custom_id"].encode()).digest())
    content = b"".join(json.dumps(each).encode() + b"\n" for each in mixed)
    name = f"batch_{kind}.jsonl"
    return files.add(name, "batch_output", junk + content, labelled=labelled).id


def usage_of(lines: list[Json]) -> Json:
    """What all lines used, in the names of the Responses API whichever API they came by."""
    sums: Counter[str] = Counter()
    for usage in {
        each["custom_id"]: each["response"]["body"].get("usage") for each in lines
    }.values():
        said = dict_of(usage)
        for into, out in (("input", "output"), ("prompt", "completion")):
            sums["input"] += said.get(f"{into}_tokens", 0)
            sums["output"] += said.get(f"{out}_tokens", 0)
            sums["cached"] += dict_of(said.get(f"{into}_tokens_details")).get("cached_tokens", 0)
            thought = dict_of(said.get(f"{out}_tokens_details")).get("reasoning_tokens", 0)
            sums["reasoning"] += thought
    return {
        "input_tokens": sums["input"],
        "input_tokens_details": {"cached_tokens": sums["cached"]},
        "output_tokens": sums["output"],
        "output_tokens_details": {"reasoning_tokens": sums["reasoning"]},
        "total_tokens": sums["input"] + sums["output"],
    }


def lines_of(file: File) -> list[bytes]:
    """The lines of a file, without empty ones."""
    return [line for line in file.content.split(b"\n") if line.strip()]


def json_of(raw: bytes) -> Json | None:
    """The object of a line, or None; a byte order mark is no part of any JSON."""
    try:
        value = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def request_id() -> str:
    """A new one."""
    return f"req_{secrets.token_hex(16)}"
