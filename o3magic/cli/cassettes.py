"""`o3magic cassettes`: what is recorded, compared, merged, pruned and accepted.

Exit codes: 0 done or the same, 1 differs, 2 not found or wrong words, 3 unreadable.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any
from unicodedata import category

from o3magic.cassettes import format
from o3magic.cassettes.cassette import Cassette, overwrite_cassette
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.format import merge_cassettes, resolve_conflict
from o3magic.cassettes.record_mode import get_refresh_path
from o3magic.errors import CassetteError, CassetteMiss
from o3magic.money import show_usd

FEWEST_DIGITS = 4
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
SAME, DIFFERS, NOT_FOUND, UNREADABLE = 0, 1, 2, 3


def add(commands: Any) -> None:
    """Add the command to those of the parser."""
    cassettes = commands.add_parser(
        "cassettes",
        help="what is recorded beside a notebook: list, show, diff, merge, prune, accept",
        description=__doc__.partition("\n\n")[2],
    )
    verbs = cassettes.add_subparsers(dest="verb", required=True, metavar="VERB")

    listing = verbs.add_parser("list", help="all entries, in the order of the notebook")
    listing.add_argument("files", nargs="+", metavar="FILE")
    listing.set_defaults(run=told(list_entries))

    show = verbs.add_parser("show", help="one question and its answer")
    show.add_argument("file", metavar="FILE")
    show.add_argument("key", metavar="KEY", help="its first digits are enough")
    show.add_argument("--n", type=int, default=None, help="of several with this key, which")
    show.set_defaults(run=told(show_entry))

    diff = verbs.add_parser("diff", help="answers of two files that differ")
    diff.add_argument("old", metavar="OLD")
    diff.add_argument("new", metavar="NEW")
    diff.set_defaults(run=told(diff_files))

    merge = verbs.add_parser(
        "merge",
        help="two files into the first; of one file, its merge conflict",
        description="As git's merge driver: git config merge.o3magic.driver "
        "'o3magic cassettes merge --driver %O %A %B', and in .gitattributes: "
        "*.o3.json merge=o3magic",
    )
    merge.add_argument(
        "files", nargs="+", metavar="FILE", help="OURS THEIRS, or one with a conflict"
    )
    merge.add_argument("--driver", action="store_true", help="the files are BASE OURS THEIRS")
    merge.add_argument("-o", "--output", default="", metavar="FILE", help="write there instead")
    merge.set_defaults(run=told(merge_files))

    prune = verbs.add_parser("prune", help="remove entries")
    prune.add_argument("file", metavar="FILE")
    prune.add_argument("keys", nargs="*", metavar="KEY")
    prune.add_argument("--source", choices=("live", "simulated", "hand"), help="all of this source")
    prune.set_defaults(run=told(prune_entries))

    accept = verbs.add_parser("accept", help="take over what `--mode refresh` recorded")
    accept.add_argument("file", metavar="FILE")
    accept.add_argument("--drop", action="store_true", help="drop what was not asked again")
    accept.set_defaults(run=told(accept_refresh))


def told(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The same, with what a cassette can do wrong as two lines and an exit code."""

    def telling(chosen: argparse.Namespace) -> int:
        try:
            return run(chosen)
        except (CassetteError, CassetteMiss) as error:
            print("\n".join(error.lines()), file=sys.stderr)
            return UNREADABLE if isinstance(error, CassetteError) else NOT_FOUND

    return telling


def opened(name: str, hint: str = "ls *.o3.json") -> Cassette:
    """A cassette that is there. Raises CassetteMiss for none."""
    cassette = Cassette(name)
    if not cassette.exists:
        raise CassetteMiss(f"there is no file {name}", hint=hint)
    return cassette


def list_entries(chosen: argparse.Namespace) -> int:
    """`o3magic cassettes list`."""
    for name in chosen.files:
        takes = opened(name).entries
        live = sum(take.label == "live" for take in takes)
        print(plain(f"{name}: {counted(takes)}, {live} of them live"))
        for take in takes:
            print(plain(one_line(take)))
    return SAME


def counted(entries: Sequence[Any]) -> str:
    """How many entries there are."""
    return "1 entry" if len(entries) == 1 else f"{len(entries)} entries"


def one_line(take: Recording) -> str:
    """An entry in short."""
    said = " ".join(take.prompt.split())
    words = said if len(said) <= 48 else f"{said[:47]}…"
    cost = "unknown" if take.cost_nano_usd is None else show_usd(take.cost_nano_usd)
    day = take.recorded[:10] or "-"
    model = take.model or "-"
    return f"{take.key:<16} {take.n} {take.label:<9} {day:<10} {model:<20} {cost:>10}  {words}"


def show_entry(chosen: argparse.Namespace) -> int:
    """`o3magic cassettes show`."""
    takes = entries_of(opened(chosen.file), chosen.key)
    if chosen.n is not None:
        takes = [take for take in takes if take.n == chosen.n]
        if not takes:
            hint = f"o3magic cassettes list {chosen.file}"
            what = f"there is no entry {chosen.key} with the number {chosen.n}"
            raise CassetteMiss(what, hint=hint)
    for take in takes:
        edited = ", edited after it was recorded" if take.edited else ""
        print(plain(f"{one_line(take)}{edited}"))
        if take.default_model:
            why = f", {take.default_reason}" if take.default_reason else ""
            print(plain(f"no model was named: {take.default_model} was asked{why}"))
        print()
        print(plain(format.format_json(dict(take.request))))
        print(plain(f"\n{answer_of(take)}\n"))
    return SAME


def entries_of(cassette: Cassette, digits: str) -> list[Recording]:
    """The entries of one key, by its first digits. Raises CassetteMiss for none or several keys."""
    exact = [take for take in cassette.entries if take.key == digits]
    if exact:
        return exact
    some = [take for take in cassette.entries if take.key.startswith(digits)]
    keys = {take.key for take in some}
    if len(digits) < FEWEST_DIGITS or len(keys) != 1:
        why = f"{len(keys)} keys begin" if len(keys) > 1 else "no key begins"
        why = f"{why} with {digits}" if len(digits) >= FEWEST_DIGITS else f"{digits} is too short"
        raise CassetteMiss(
            f"{cassette.path}: {why}", hint=f"o3magic cassettes list {cassette.path}"
        )
    return some


def answer_of(take: Recording) -> str:
    """What came, as text: the words, a refusal, calls, and how it ended if not by itself."""
    parts = [take.text]
    parts += [f"refused: {take.refusal}"] if take.refusal else []
    parts += [f"calls {call.name}({call.arguments})" for call in take.tool_calls]
    parts += [f"ended by: {take.finish_reason}"] if take.finish_reason != "stop" else []
    return "\n".join(part for part in parts if part)


def diff_files(chosen: argparse.Namespace) -> int:
    """`o3magic cassettes diff`."""
    return show_difference(opened(chosen.old), opened(chosen.new))


def show_difference(old: Cassette, new: Cassette) -> int:
    """Print what differs between two cassettes; DIFFERS where something does."""
    lines = list(differences(old.entries, new.entries))
    print(plain("\n".join(lines) or "the answers are the same"))
    return DIFFERS if lines else SAME


def differences(old: Sequence[Recording], new: Sequence[Recording]) -> Iterator[str]:
    """The answers that differ as unified diffs, and the entries of one side only."""
    before, after = ({take.place: take for take in takes} for takes in (old, new))
    for place, take in after.items():
        known = before.get(place)
        if known is None:
            yield f"only in the new one: {one_line(take)}"
        elif answer_of(known) != answer_of(take):
            yield one_line(take)
            one, two = answer_of(known).splitlines(), answer_of(take).splitlines()
            names = (known.recorded or "old", take.recorded or "new")
            yield from unified_diff(one, two, *names, lineterm="", n=2)
    for place, take in before.items():
        if place not in after:
            yield f"only in the old one: {one_line(take)}"


def merge_files(chosen: argparse.Namespace) -> int:
    """`o3magic cassettes merge`."""
    files = [Path(name) for name in chosen.files]
    if len(files) != 3 if chosen.driver else len(files) > 2:
        raise CassetteMiss(
            "merge takes one or two files", hint="with --driver three: BASE OURS THEIRS"
        )
    base = files.pop(0) if chosen.driver else None
    if len(files) == 1:
        tape, said = resolve_conflict(bytes_of(files[0]), str(files[0]))
    else:
        ours, theirs = (format.parse_cassette(bytes_of(path), str(path)) for path in files)
        ancestor = bytes_of(base) if base else b""
        old = format.parse_cassette(ancestor, str(base)) if ancestor.strip() else None
        tape, said = merge_cassettes(ours, theirs, old)
    print(plain("\n".join([*said, counted(tape.entries)])), file=sys.stderr)
    target = Path(chosen.output) if chosen.output else files[0]
    overwrite_cassette(target, tape)
    return SAME


def bytes_of(path: Path) -> bytes:
    """A file's bytes. Raises CassetteMiss for none, CassetteError where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CassetteMiss(f"there is no file {path}", hint="ls *.o3.json") from None
    except OSError as error:
        raise CassetteError(f"{path} cannot be read: {error.strerror}") from None


def prune_entries(chosen: argparse.Namespace) -> int:
    """`o3magic cassettes prune`."""
    if not chosen.keys and not chosen.source:
        raise CassetteMiss("there is nothing to remove", hint="name keys, or --source simulated")
    cassette = opened(chosen.file)
    places = {take.place for key in chosen.keys for take in entries_of(cassette, key)}
    gone = cassette.prune(
        lambda take: take.place not in places and take.label != (chosen.source or "")
    )
    for take in gone:
        print(plain(one_line(take)))
    print(f"{counted(gone)} removed")
    return SAME


def accept_refresh(chosen: argparse.Namespace) -> int:
    """`o3magic cassettes accept`: show what changes, then take it over."""
    hint = "o3magic run --mode refresh NOTEBOOK makes one"
    old, new = Cassette(chosen.file), opened(str(get_refresh_path(Path(chosen.file))), hint)
    show_difference(old, new)
    fresh = new.tape()
    left = [place for place in old.tape().places if place not in fresh.index]
    if left:
        what = "removed" if chosen.drop else "kept; --drop removes what is not asked any more"
        print(f"not asked again: {counted(left)}, {what}")

    def taken_over(tape: format.CassetteData) -> format.CassetteData:
        return fresh if chosen.drop else merge_cassettes(fresh, tape, None, ours_wins=True)[0]

    old.replace(taken_over)
    new.path.unlink()
    print(plain(f"{old.path}: {counted(old.entries)}"))
    return SAME


def plain(text: str) -> str:
    """A text for a terminal: what a model or a file says may not move its cursor."""
    return "".join(c if shown(c) else "�" for c in text)


def shown(char: str) -> bool:
    """Whether a character is one to look at; a joiner of emoji is part of one."""
    return char in "\n\t\u200d" or category(char) not in UNSEEN
