"""Files and batches at the provider. Files are streamed, never whole in memory."""

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
from o3magic.wire.batch import BatchState, parse_batch_state
from o3magic.wire.json_access import get_text, iter_objects, load_object

T = TypeVar("T")

PIECE_BYTES = 262_144
MOST_FILE_BYTES = 8 * 1024**3
SILENCE_S = 120.0
PAGE = 100
JSON = {"content-type": "application/json", "accept": "application/json"}


@dataclass(frozen=True)
class Files:
    """The files and batches of one account. Its repr shows no key.

    Idempotent requests are retried. Creating a batch is not, because a second batch is billed too.
    """

    client: Client
    provider: Provider
    key: SecretStr | None = field(repr=False)
    retries: int = 2
    sleep: Callable[[float], None] = time.sleep

    def upload(self, path: Path, name: str = "o3magic.jsonl") -> str:
        """Upload the input file of a batch and return its id. Raises RequestFailed."""
        return self._retry(lambda: self._upload(path, name))

    def _upload(self, path: Path, name: str) -> str:
        boundary = f"o3magic{secrets.token_hex(16)}"
        head, tail = build_multipart(boundary, name)
        length = len(head) + path.stat().st_size + len(tail)
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        headers |= {"content-length": str(length), "accept": "application/json"}
        document = self._document("POST", "/files", headers, iter_multipart(head, path, tail))
        if not get_text(document, "id"):
            raise BrokenAnswer("the provider did not return the id of the file")
        return get_text(document, "id")

    def download(self, file_id: str, path: Path) -> bool:
        """Write a file to `path`; return whether the simulator sent it. Raises RequestFailed."""
        return self._retry(lambda: self._download(file_id, path))

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
        """Delete a file. Raises RequestFailed."""
        self._retry(lambda: self._document("DELETE", f"/files/{quote(file_id, safe='')}"))

    def create(self, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> BatchState:
        """Create a batch, without retries. Raises RequestFailed; if its `billed` is None, the batch
        may exist nevertheless.
        """
        body = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": dict(metadata),
        }
        return parse_batch_state(
            self._document("POST", "/batches", JSON, json.dumps(body).encode())
        )

    def batch(self, batch_id: str) -> BatchState:
        """Fetch the state of a batch. Raises RequestFailed."""
        address = f"/batches/{quote(batch_id, safe='')}"
        return parse_batch_state(self._retry(lambda: self._document("GET", address)))

    def cancel(self, batch_id: str) -> BatchState:
        """Cancel a batch. Raises RequestFailed."""
        address = f"/batches/{quote(batch_id, safe='')}/cancel"
        return parse_batch_state(self._retry(lambda: self._document("POST", address, JSON, b"{}")))

    def batches(self) -> Iterator[BatchState]:
        """Yield all batches of the account, the newest first. Raises RequestFailed."""
        after, has_more = "", True
        while has_more:
            page = self._page(f"/batches?limit={PAGE}{after}")
            page_batches = [parse_batch_state(batch) for batch in iter_objects(page, "data")]
            yield from page_batches
            has_more = bool(page_batches) and page.get("has_more") is True
            after = f"&after={quote(page_batches[-1].id, safe='')}" if page_batches else ""

    def _page(self, address: str) -> Mapping[str, Any]:
        return self._retry(lambda: self._document("GET", address))

    def _document(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = JSON,
        content: bytes | Iterator[bytes] | None = None,
    ) -> Mapping[str, Any]:
        with self.client.exchange(
            self.provider,
            self.key,
            method,
            path,
            headers=headers,
            content=content,
            timeout_s=SILENCE_S,
        ) as (_, chunks):
            return load_object(b"".join(chunks))

    def _retry(self, attempt: Callable[[], T]) -> T:
        """Run an attempt, and repeat it by the retry policy."""
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


def build_multipart(boundary: str, name: str) -> tuple[bytes, bytes]:
    """Build the parts of a multipart form before and behind the bytes of the file."""
    head = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
        "content-type: application/jsonl\r\n\r\n"
    )
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


def iter_multipart(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    """Yield the form, read from the disk as it is sent."""
    yield head
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
    yield tail
