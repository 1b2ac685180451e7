"""Files that were uploaded or made by a batch, and the multipart form they come in."""

import email.message
import email.parser
import email.policy
import secrets
import threading
import time
from dataclasses import dataclass, field

from o3magic.simulator.asked import Json
from o3magic.simulator.rejection import Rejection, missing
from o3magic.simulator.reply import Reply

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MOST_BATCH_FILE_BYTES = 200 * 1024 * 1024
MOST_HEAD_BYTES = 16_384
LABEL = {"x-o3magic-simulated": "1"}


@dataclass(frozen=True, slots=True)
class File:
    """One file; `labelled` says that what is in it was simulated."""

    id: str
    name: str
    purpose: str
    content: bytes = field(repr=False)
    created_at: int
    labelled: bool = True

    @property
    def document(self) -> Json:
        """What the API says of it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "expires_at": None,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }

    @property
    def reply(self) -> Reply:
        """Its bytes."""
        headers = LABEL if self.labelled else {}
        return Reply(body=self.content, content_type="application/octet-stream", headers=headers)


class UploadedFiles:
    """All files of a simulator."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._lock = threading.Lock()

    def add(self, name: str, purpose: str, content: bytes, *, labelled: bool = True) -> File:
        """Keep a new file."""
        file_id = f"file-{secrets.token_hex(12)}"
        made = File(file_id, name, purpose, content, int(time.time()), labelled)
        with self._lock:
            self._files[file_id] = made
        return made

    def find(self, file_id: str) -> File | None:
        """The file of that id, or None."""
        return self._files.get(file_id)

    def get(self, file_id: str) -> File:
        """The file of that id; raises `Rejection` where there is none."""
        found = self._files.get(file_id)
        if found is None:
            raise Rejection(f"No such File object: {file_id}", status=404, param="id")
        return found

    def delete(self, file_id: str) -> Json:
        """Forget a file."""
        self.get(file_id)
        with self._lock:
            self._files.pop(file_id, None)
        return {"id": file_id, "object": "file", "deleted": True}

    @property
    def listing(self) -> Json:
        """All of them, the newest first."""
        newest = [each.document for each in reversed(self._files.values())]
        ids = [each["id"] for each in newest]
        ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
        return {"object": "list", "data": newest, "has_more": False, **ends}


def upload(files: UploadedFiles, content_type: str, raw: bytes) -> Json:
    """Take in a form; raises `Rejection` for one the API would refuse."""
    fields = form(content_type, raw)
    purpose = fields.get("purpose", Part("", b"")).content.decode("utf-8", "replace")
    if not purpose:
        raise missing("purpose")
    if purpose not in PURPOSES:
        known = ", ".join(f"'{each}'" for each in PURPOSES)
        raise Rejection(f"'{purpose}' is not one of [{known}] - 'purpose'", param="purpose")
    file = fields.get("file")
    if file is None:
        raise missing("file")
    if not file.content:
        raise Rejection("The file is empty.", param="file")
    if purpose == "batch" and len(file.content) > MOST_BATCH_FILE_BYTES:
        raise Rejection(f"File exceeds the limit of {MOST_BATCH_FILE_BYTES} bytes.", status=413)
    return files.add(file.name or "upload", purpose, file.content).document


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form; `name` is a file's."""

    name: str
    content: bytes = field(repr=False)


def form(content_type: str, raw: bytes) -> dict[str, Part]:
    """The fields of a multipart form; raises `Rejection` for what is none."""
    head = email.message.Message()
    head["content-type"] = content_type
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/form-data" or not boundary:
        raise Rejection("Missing required parameter: 'file'. The body is no multipart form.")
    mark = b"--" + boundary.encode("latin-1", "replace")
    if not raw.startswith(mark) or not raw.rstrip(b"\r\n").endswith(mark + b"--"):
        raise Rejection("There was an error parsing the body: the form does not end.")
    fields: dict[str, Part] = {}
    place = len(mark)
    while raw[place : place + 2] == b"\r\n":
        begun = place + 2
        content = raw.find(b"\r\n\r\n", begun, begun + MOST_HEAD_BYTES)
        after = raw.find(b"\r\n" + mark, content)
        if content < 0 or after < 0:
            raise Rejection("There was an error parsing the body: a part has no end.")
        said = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(raw[begun:content])
        disposition = said["content-disposition"]
        name = disposition.params.get("name", "") if disposition else ""
        file_name = disposition.params.get("filename", "") if disposition else ""
        fields[name] = Part(str(file_name), raw[content + 4 : after])
        place = after + 2 + len(mark)
    return fields
