"""The file beside a notebook in which its questions and answers are kept.

Read when it is first needed and again when it has changed. Every change is made under a lock, to
the file as it is then, in a new file that takes the old one's place whole or not at all.
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
READ_ONLY = "check the permissions and the room on the disk; --mode live records nothing"
FileStamp = tuple[int, int, int]


class Cassette:
    """The takes of one notebook, in its order. Making one touches no file.

    May be used by several threads, and the file by several processes. All methods raise
    CassetteError, with a hint, where the file fails them; then it is as it was.
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
        self._tape = CassetteData()
        self._stamp: FileStamp | None = None
        self._partial: list[Recording] | None = None
        self._texts: dict[EntryKey, tuple[Mapping[str, Any], str]] = {}
        self._mutex = threading.RLock()

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    @property
    def entries(self) -> tuple[Recording, ...]:
        """All takes, in the order of the notebook."""
        tape = self._read()
        return tuple(self._take(tape, at) for at in range(len(tape.entries)))

    def find(self, question: CanonicalRequest | str, n: int = 1) -> Recording | None:
        """The take of a question, or of a key, that was asked for the n-th time; or None.

        A take that was written by hand may say less than a whole question: it answers each one
        that has what it says, where there is no other.
        """
        tape = self._read()
        for key in (question,) if isinstance(question, str) else question.keys:
            at = tape.index.get((key, n))
            if at is not None:
                return self._take(tape, at)
        if isinstance(question, str):
            return None
        canonical = question.canonical()
        return next((t for t in self._partials(tape) if t.n == n and t.answers(canonical)), None)

    @property
    def newest_default(self) -> Recording | None:
        """The last take of a question that named no model, where it is said which one that was."""
        tape = self._read()
        last: tuple[str, int] | None = None
        for at, entry in enumerate(tape.entries):
            if isinstance(entry.get("default"), Mapping):
                last = max(last or ("", at), (str(entry.get("recorded", "")), at))
        return None if last is None else self._take(tape, last[1])

    def keep(self, take: Recording, after: EntryKey | None = None) -> None:
        """Write a take down, behind the one used just before it, or at the end.

        It takes the place of one with the same key and number.
        """
        self.keep_all([take], after)

    def keep_all(self, takes: Sequence[Recording], after: EntryKey | None = None) -> None:
        """Write several down, one behind the other, in one change of the file."""
        entries = [(take.place, take.to_json()) for take in takes]

        def change(tape: CassetteData) -> CassetteData:
            return tape.put_all(entries, after)

        self._change(change)

    def unused(self, used: Collection[EntryKey]) -> list[Recording]:
        """The takes that are not among these keys and numbers."""
        return [take for take in self.entries if take.place not in used]

    def prune(self, keep: Callable[[Recording], bool] | Collection[EntryKey]) -> list[Recording]:
        """Remove the takes that are not to be kept, and give them."""
        gone: list[Recording] = []

        def change(tape: CassetteData) -> CassetteData:
            takes = [self._take(tape, at) for at in range(len(tape.entries))]
            gone[:] = [t for t in takes if not (keep(t) if callable(keep) else t.place in keep)]
            places = {take.place for take in gone}
            return tape.only(lambda place: place not in places) if gone else tape

        self._change(change)
        return gone

    def replace(self, change: Callable[[CassetteData], CassetteData]) -> None:
        """Put another tape in the place of this one, made from what it is now."""
        self._change(change)

    def tape(self) -> CassetteData:
        """The file's content as it is now."""
        return self._read()

    def _take(self, tape: CassetteData, at: int) -> Recording:
        key, n = tape.places[at]
        where = f"{self.path}, entry {at + 1}"
        return Recording.from_json({**tape.entries[at], "key": key, "n": n}, where)

    def _partials(self, tape: CassetteData) -> list[Recording]:
        """The takes that say less than a whole question."""
        with self._mutex:
            if self._partial is None:
                asked = [entry.get("request") for entry in tape.entries]
                some = [at for at, each in enumerate(asked) if each and "model" not in each]
                self._partial = [t for at in some if (t := self._take(tape, at)).partial]
            return self._partial

    def _read(self) -> CassetteData:
        """The tape, read anew where the file has changed."""
        with self._mutex, explained(self.path, "read"):
            try:
                stamp = file_stamp(self.path.stat())
            except FileNotFoundError:
                self._set(CassetteData(), None)
                return self._tape
            if stamp != self._stamp:
                name, migrations = str(self.path), self._migrations
                self._set(format.read(self.path.read_bytes(), name, migrations=migrations), stamp)
            return self._tape

    def _set(self, tape: CassetteData, stamp: FileStamp | None) -> None:
        self._tape, self._stamp, self._partial = tape, stamp, None

    def _change(self, change: Callable[[CassetteData], CassetteData]) -> None:
        """Make a change to the file as it is at this moment."""
        with self._mutex, explained(self.path, "written"):
            target = self.path.resolve()  # a link stays one
            target.parent.mkdir(parents=True, exist_ok=True)
            with lock_file(target, LOCK_WAIT_S):
                before = self._read()
                after = change(before)
                if after is not before:
                    self._write(target, after)

    def _write(self, target: Path, tape: CassetteData) -> None:
        texts = {}
        for place, entry in zip(tape.places, tape.entries, strict=True):
            known, text = self._texts.get(place, (None, ""))
            texts[place] = (entry, text if known == entry else format.entry_text(entry))
        data = format.dump(tape.head, self._notebook, [text for _, text in texts.values()])
        stamp = file_stamp(write_atomically(target, data))
        self._texts = texts
        self._set(tape, stamp)


def write_over(path: Path, tape: CassetteData) -> None:
    """Put a tape into the place of a file, whatever is in that."""
    with explained(path, "written"):
        target = path.resolve()
        notebook = f"{target.name.partition(SUFFIX)[0]}.ipynb"
        data = format.dump(tape.head, notebook, [*map(format.entry_text, tape.entries)])
        with lock_file(target, LOCK_WAIT_S):
            write_atomically(target, data)


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Say which file could not be read or written, and why."""
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
