"""Files and batches at the provider: uploaded and fetched piece by piece, never whole in memory."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import SecretStr

from o3magic.client.http import Client
from o3magic.client.retry import RetryPolicy
from o3magic.errors import BrokenAnswer, RequestFailed
from o3magic.providers import Provider
from o3magic.wire.batch import BatchState, state
from o3magic.wire.json_access import load, objects, word

T = TypeVar("T")

PIECE_BYTES = 262_144
MOST_FILE_BYTES = 8 * 1024**3
SILENCE_S = 120.0
PAGE = 100
JSON = {"content-type": "application/json", "accept": "application/json"}


@dataclass(frozen=True)
class Files:
    """The files and batches of one account. Its repr shows no key.

    Everything that may be done twice is tried again after a wait; making a batch is not, for it
    would be paid for twice.
    """

    client: Client
    provider: Provider
    key: SecretStr | None = field(repr=False)
    retries: int = 2
    sleep: Callable[[float], None] = time.sleep

    def upload(self, path: Path, name: str = "o3magic.jsonl") -> str:
        """The id of a file that is to become a batch. Raises RequestFailed."""
        return self._again(lambda: self._upload(path, name))

    def _upload(self, path: Path, name: str) -> str:
        boundary = f"o3magic{secrets.token_hex(16)}"
        head, tail = form(boundary, name)
        length = len(head) + path.stat().st_size + len(tail)
        told = {"content-type": f"multipart/form-data; boundary={boundary}"}
        told |= {"content-length": str(length), "accept": "application/json"}
        said = self._document("POST", "/files", told, pieces(head, path, tail))
        if not word(said, "id"):
            raise BrokenAnswer("the provider did not say which file it has taken")
        return word(said, "id")

    def download(self, file_id: str, path: Path) -> bool:
        """Write a file's bytes to `path`; whether the server says that they are simulated.

        Raises RequestFailed.
        """
        return self._again(lambda: self._download(file_id, path))

    def _download(self, file_id: str, path: Path) -> bool:
        address = f"/files/{quote(file_id, safe='')}/content"
        with (
            self.client.exchange(
                self.provider,
                self.key,
                "GET",
                address,
                timeout_s=SILENCE_S,
                most_bytes=MOST_FILE_BYTES,
            ) as (headers, chunks),
            path.open("wb") as file,
        ):
            for chunk in chunks:
                file.write(chunk)
            return "x-o3magic-simulated" in headers

    def delete(self, file_id: str) -> None:
        """Let the provider forget a file. Raises RequestFailed."""
        self._again(lambda: self._document("DELETE", f"/files/{quote(file_id, safe='')}"))

    def create(self, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> BatchState:
        """A new batch, asked for once. Raises RequestFailed; where its `billed` is None the batch
        may be there in spite of it.
        """
        said = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": dict(metadata),
        }
        return state(self._document("POST", "/batches", JSON, json.dumps(said).encode()))

    def batch(self, batch_id: str) -> BatchState:
        """How a batch stands. Raises RequestFailed."""
        address = f"/batches/{quote(batch_id, safe='')}"
        return state(self._again(lambda: self._document("GET", address)))

    def cancel(self, batch_id: str) -> BatchState:
        """Ask the provider to end a batch. Raises RequestFailed."""
        address = f"/batches/{quote(batch_id, safe='')}/cancel"
        return state(self._again(lambda: self._document("POST", address, JSON, b"{}")))

    def batches(self) -> Iterator[BatchState]:
        """All batches of the account, the newest first, page by page. Raises RequestFailed."""
        after, more = "", True
        while more:
            page = self._page(f"/batches?limit={PAGE}{after}")
            found = [state(each) for each in objects(page, "data")]
            yield from found
            more = bool(found) and page.get("has_more") is True
            after = f"&after={quote(found[-1].id, safe='')}" if found else ""

    def _page(self, address: str) -> Mapping[str, Any]:
        return self._again(lambda: self._document("GET", address))

    def _document(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = JSON,
        content: bytes | Iterator[bytes] | None = None,
    ) -> Mapping[str, Any]:
        """The JSON object that comes back."""
        with self.client.exchange(
            self.provider,
            self.key,
            method,
            path,
            headers=headers,
            content=content,
            timeout_s=SILENCE_S,
        ) as (_, chunks):
            return load(b"".join(chunks))

    def _again(self, attempt: Callable[[], T]) -> T:
        """What an attempt gives, tried again while there is hope."""
        waits = RetryPolicy(self.retries).waits()
        next(waits)
        while True:
            try:
                return attempt()
            except RequestFailed as error:
                try:
                    wait_s = waits.send(error)
                except StopIteration:
                    raise error from None
            self.sleep(wait_s)


def form(boundary: str, name: str) -> tuple[bytes, bytes]:
    """What comes before and behind the bytes of a batch's file in a multipart form."""
    head = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
        "content-type: application/jsonl\r\n\r\n"
    )
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


def pieces(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    """The form, read from the disk as it is sent."""
    yield head
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
    yield tail
