"""Server-sent events out of bytes, however the network cut them.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream but
gives only what an answer needs: the data of each event, and whether there was any sign of life.
The `event:` name is not kept, for some servers leave it out; the type inside the data decides.
"""

from __future__ import annotations

BOM = b"\xef\xbb\xbf"


class Decoder:
    """Feed it bytes, get the data of the events that became whole.

    Lines end at CRLF, LF or CR and nowhere else: JSON may hold a bare U+2028, and a decoder of
    text lines tears it there. Bytes are cut first and decoded after, so a character may be cut
    between two chunks.
    """

    def __init__(self) -> None:
        # Pieces of a block whose end has not come; joined once, however many they are.
        self._pieces: list[bytes] = []
        self._after_cr = False
        self._at_start = True
        # Counts blocks without data (comments, pings): signs of life.
        self.comments = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that this chunk completes, in order."""
        if self._after_cr or b"\r" in chunk:
            chunk = self._newlines(chunk)
        if self._at_start:
            chunk = self._without_bom(chunk)
        pieces = self._pieces
        if pieces and chunk:
            # The blank line may lie across the cut.
            ended = b"\n\n" in chunk or (chunk[:1] == b"\n" == pieces[-1][-1:])
            pieces.append(chunk)
            if not ended:
                return []
            chunk = b"".join(pieces)
            pieces.clear()
        blocks = chunk.split(b"\n\n")
        if rest := blocks.pop():
            pieces.append(rest)
        found = []
        for block in blocks:  # no comprehension: for one block, as usual, its call costs more
            if data := self._data(block):
                found.append(data)
        return found

    def close(self) -> list[bytes]:
        """What stands behind the last blank line. Servers do forget the blank line at the end."""
        data = self._data(b"".join(self._pieces))
        self._pieces.clear()
        return [data] if data else []

    def _newlines(self, chunk: bytes) -> bytes:
        """The chunk with LF for every line end; an LF behind a CR that ended the last is none."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = chunk.endswith(b"\r") or (self._after_cr and not chunk)
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_bom(self, chunk: bytes) -> bytes:
        """The first bytes without a byte order mark, or none as long as they may be one."""
        begun = b"".join([*self._pieces, chunk])
        self._pieces.clear()
        if len(begun) < len(BOM) and BOM.startswith(begun):
            self._pieces += [begun] if begun else []
            return b""
        self._at_start = False
        return begun.removeprefix(BOM)

    def _data(self, block: bytes) -> bytes:
        """The data of one block of lines; none, or an empty one, is a sign of life at most."""
        # Nearly every block is one line of data, perhaps below the name of its event.
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
