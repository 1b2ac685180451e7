"""The cassette file beside a notebook: its recorded requests and answers.

The file is read on first use, and again when it has changed on disk. A change takes the file lock,
reads the present file, and replaces it atomically.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from o3magic.atomic_file import lock_file, write_atomically
from o3magic.cassettes import format
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.format import MIGRATIONS, CassetteData, EntryKey, Migration
from o3magic.cassettes.record_mode import SUFFIX
from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.errors import CassetteError

LOCK_WAIT_S = 30.0
READ_ONLY = "check the permissions and the free space; --mode live records nothing"
FileStamp = tuple[int, int, int]


class Cassette:
    """The recordings of one notebook, in the order of its cells. The constructor opens no file.

    Several threads may use it, and several processes the file. All methods raise CassetteError,
    with a hint, if the file cannot be read or written; the file is then unchanged.
    """

    def __init__(
        self,
        path: Path | str,
        notebook: str = "",
        *,
        migrations: Mapping[int, Migration] = MIGRATIONS,
    ) -> None:
        self.path = Path(path)
        self._notebook = notebook or f"{self.path.name.partition(SUFFIX)[0]}.ipynb"
        self._migrations = migrations
        self._data = CassetteData()
        self._stamp: FileStamp | None = None
        self._partial: list[Recording] | None = None
        self._texts: dict[EntryKey, tuple[Mapping[str, Any], str]] = {}
        self._mutex = threading.RLock()

    @property
    def exists(self) -> bool:
        return self.path.exists()

    @property
    def entries(self) -> tuple[Recording, ...]:
        """All recordings, in the order of the notebook."""
        data = self._read()
        return tuple(self._recording(data, index) for index in range(len(data.entries)))

    def find(self, request: CanonicalRequest | str, n: int = 1) -> Recording | None:
        """Find the n-th recording of a request or key, or None.

        A recording written by hand may hold a part of a request. It matches every request that
        contains this part and has no recording of its own.
        """
        data = self._read()
        for key in (request,) if isinstance(request, str) else request.keys:
            index = data.index.get((key, n))
            if index is not None:
                return self._recording(data, index)
        if isinstance(request, str):
            return None
        canonical = request.canonical()
        return next(
            (t for t in self._partial_recordings(data) if t.n == n and t.answers(canonical)), None
        )

    @property
    def newest_default(self) -> Recording | None:
        """The last recording of a request without a model that notes the default model used."""
        data = self._read()
        last: tuple[str, int] | None = None
        for index, entry in enumerate(data.entries):
            if isinstance(entry.get("default"), Mapping):
                last = max(last or ("", index), (str(entry.get("recorded", "")), index))
        return None if last is None else self._recording(data, last[1])

    def keep(self, recording: Recording, after: EntryKey | None = None) -> None:
        """Write a recording behind the one of key `after`, or at the end.

        It replaces a recording with the same key and number.
        """
        self.keep_all([recording], after)

    def keep_all(self, recordings: Sequence[Recording], after: EntryKey | None = None) -> None:
        """Write several recordings, one behind the other, in one change of the file."""
        entries = [(recording.place, recording.to_json()) for recording in recordings]

        def change(data: CassetteData) -> CassetteData:
            return data.put_all(entries, after)

        self._change(change)

    def unused(self, used: Collection[EntryKey]) -> list[Recording]:
        """Recordings whose keys are not in `used`."""
        return [recording for recording in self.entries if recording.place not in used]

    def prune(self, keep: Callable[[Recording], bool] | Collection[EntryKey]) -> list[Recording]:
        """Remove the recordings that are not to be kept, and return them."""
        gone: list[Recording] = []

        def change(data: CassetteData) -> CassetteData:
            recordings = [self._recording(data, index) for index in range(len(data.entries))]
            gone[:] = [
                t for t in recordings if not (keep(t) if callable(keep) else t.place in keep)
            ]
            places = {recording.place for recording in gone}
            return data.only(lambda place: place not in places) if gone else data

        self._change(change)
        return gone

    def replace(self, change: Callable[[CassetteData], CassetteData]) -> None:
        """Replace the content of the file by what `change` makes of the present content."""
        self._change(change)

    def tape(self) -> CassetteData:
        """Return the present content of the file."""
        return self._read()

    def _recording(self, data: CassetteData, index: int) -> Recording:
        key, n = data.places[index]
        where = f"{self.path}, entry {index + 1}"
        return Recording.from_json({**data.entries[index], "key": key, "n": n}, where)

    def _partial_recordings(self, data: CassetteData) -> list[Recording]:
        """Recordings that match every request which contains theirs."""
        with self._mutex:
            if self._partial is None:
                asked = [entry.get("request") for entry in data.entries]
                some = [index for index, each in enumerate(asked) if each and "model" not in each]
                self._partial = [t for index in some if (t := self._recording(data, index)).partial]
            return self._partial

    def _read(self) -> CassetteData:
        """Return the content, read again if the file has changed."""
        with self._mutex, convert_os_errors(self.path, "read"):
            try:
                stamp = file_stamp(self.path.stat())
            except FileNotFoundError:
                self._set(CassetteData(), None)
                return self._data
            if stamp != self._stamp:
                name, migrations = str(self.path), self._migrations
                self._set(
                    format.parse_cassette(self.path.read_bytes(), name, migrations=migrations),
                    stamp,
                )
            return self._data

    def _set(self, data: CassetteData, stamp: FileStamp | None) -> None:
        self._data, self._stamp, self._partial = data, stamp, None

    def _change(self, change: Callable[[CassetteData], CassetteData]) -> None:
        """Apply a change to the present content of the file, under its lock."""
        with self._mutex, convert_os_errors(self.path, "written"):
            target = self.path.resolve()  # a link stays one
            target.parent.mkdir(parents=True, exist_ok=True)
            with lock_file(target, LOCK_WAIT_S):
                before = self._read()
                after = change(before)
                if after is not before:
                    self._write(target, after)

    def _write(self, target: Path, data: CassetteData) -> None:
        texts = {}
        for place, entry in zip(data.places, data.entries, strict=True):
            known, text = self._texts.get(place, (None, ""))
            texts[place] = (entry, text if known == entry else format.format_entry(entry))
        file_bytes = format.dump(data.head, self._notebook, [text for _, text in texts.values()])
        stamp = file_stamp(write_atomically(target, file_bytes))
        self._texts = texts
        self._set(data, stamp)


def overwrite_cassette(path: Path, data: CassetteData) -> None:
    """Replace a file, whatever it contains."""
    with convert_os_errors(path, "written"):
        target = path.resolve()
        notebook = f"{target.name.partition(SUFFIX)[0]}.ipynb"
        file_bytes = format.dump(data.head, notebook, [*map(format.format_entry, data.entries)])
        with lock_file(target, LOCK_WAIT_S):
            write_atomically(target, file_bytes)


@contextmanager
def convert_os_errors(path: Path, what: str) -> Iterator[None]:
    """Raise an OSError as a CassetteError with the file and the reason. what: "read", "written"."""
    try:
        yield
    except TimeoutError:
        raise CassetteError(
            f"{path} is locked by another program",
            hint="close the program that records into it; --mode live records nothing",
        ) from None
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        hint = READ_ONLY if what == "written" else ""
        raise CassetteError(f"{path} cannot be {what}: {why}", hint=hint) from None


def file_stamp(status: os.stat_result) -> FileStamp:
    """A value that changes when the file does."""
    return status.st_mtime_ns, status.st_size, status.st_ino
