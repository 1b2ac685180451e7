"""Decode server-sent events from bytes that are cut anywhere.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream but
yields only what an answer needs: the data of each event, and a count of comments. The `event:` name
is ignored, because some servers leave it out; the type inside the data decides.
"""

from __future__ import annotations

BOM = b"\xef\xbb\xbf"


class Decoder:
    """Takes bytes and returns the data of complete events.

    Lines end at CRLF, LF or CR only: JSON may hold a bare U+2028, where `str.splitlines` would
    split it. Bytes are split before they are decoded, so a character may span two chunks.
    """

    def __init__(self) -> None:
        # Pieces of an incomplete block; joined once, however many there are.
        self._pieces: list[bytes] = []
        self._after_cr = False
        self._at_start = True
        # Number of blocks without data: comments, pings.
        self.comments = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that this chunk completes, in order."""
        if self._after_cr or b"\r" in chunk:
            chunk = self._newlines(chunk)
        if self._at_start:
            chunk = self._without_bom(chunk)
        pieces = self._pieces
        if pieces and chunk:
            # The blank line may span two chunks.
            ended = b"\n\n" in chunk or (chunk[:1] == b"\n" == pieces[-1][-1:])
            pieces.append(chunk)
            if not ended:
                return []
            chunk = b"".join(pieces)
            pieces.clear()
        blocks = chunk.split(b"\n\n")
        if rest := blocks.pop():
            pieces.append(rest)
        events = []
        for block in blocks:  # for the usual single block a comprehension is slower
            if data := self._data(block):
                events.append(data)
        return events

    def close(self) -> list[bytes]:
        """Return the data behind the last blank line: some servers omit it at the end."""
        data = self._data(b"".join(self._pieces))
        self._pieces.clear()
        return [data] if data else []

    def _newlines(self, chunk: bytes) -> bytes:
        """Normalize line ends to LF, also of a CRLF that spans two chunks."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = chunk.endswith(b"\r") or (self._after_cr and not chunk)
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_bom(self, chunk: bytes) -> bytes:
        """Remove a byte order mark; return nothing while the bytes may be the start of one."""
        data = b"".join([*self._pieces, chunk])
        self._pieces.clear()
        if len(data) < len(BOM) and BOM.startswith(data):
            self._pieces += [data] if data else []
            return b""
        self._at_start = False
        return data.removeprefix(BOM)

    def _data(self, block: bytes) -> bytes:
        """Return the data of a block of lines, and count a block without data."""
        # Nearly every block is one line of data, often below an `event:` line.
        begin = block.find(b"\n") + 1 if block.startswith(b"event: ") else 0
        if block.startswith(b"data: ", begin) and block.find(b"\n", begin) < 0:
            return block[begin + 6 :]
        lines = [
            line[5:].removeprefix(b" ")
            for line in block.split(b"\n")
            if line.startswith(b"data:") or line == b"data"
        ]
        data = b"\n".join(lines)
        self.comments += bool(block and not data)
        return data
