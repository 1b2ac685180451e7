"""`o3magic migrate`: a notebook's questions asked again of another model, compared, and taken over.

The notebook runs in a kernel with the other model as its default, and cells that name a model that
answered before name the other one instead. What comes is recorded beside the cassette, as a refresh
is; nothing of the notebook changes until it is accepted.

Exit codes: 0 asked, accepted or dropped; 2 a cell failed; 3 no notebook, cassette or migration.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff
from pathlib import Path
from typing import Any

from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.format import CassetteData, EntryKey
from o3magic.cassettes.record_mode import get_cassette_path, get_refresh_path
from o3magic.cassettes.request_key import FIRST_DEFAULT, UNNAMED, compute_key
from o3magic.cli import notebooks
from o3magic.cli.cassettes import answer_of, counted, plain
from o3magic.cli.notebooks import OpenedNotebook, UnreadableNotebook, UnwritableNotebook
from o3magic.cli.run import FAILED, UNREADABLE, RunCommandOptions, RunProgress, conclude
from o3magic.errors import CassetteError, CassetteMiss
from o3magic.events import LABELS
from o3magic.money import show_usd
from o3magic.render.markdown.escape import shorten
from o3magic.session.default_model import MIGRATE_TO

HEAD = "migration"
MOST_DIFF_LINES = 4
MOST_FIELDS = 20


@dataclass(frozen=True)
class AnswerPair:
    """An answer of before and the one that came in its place; either may be missing."""

    old: Recording | None
    new: Recording | None

    @property
    def same(self) -> bool:
        """Whether both say the same; of typed answers the values count, not the text."""
        if self.old is None or self.new is None:
            return False
        if is_typed(self.new):
            return bool(values_of(self.old) == values_of(self.new))
        return answer_of(self.old) == answer_of(self.new)


def run(chosen: argparse.Namespace) -> int:
    """Ask again, accept or drop; what is wrong is told in two lines."""
    path = Path(chosen.notebook)
    try:
        if chosen.accept:
            return accept(path)
        if chosen.drop:
            return drop(path)
        return migrate(path, chosen)
    except (UnreadableNotebook, UnwritableNotebook, CassetteError, CassetteMiss) as error:
        print(plain("\n".join(error.lines())), file=sys.stderr)
        return UNREADABLE


def migrate(path: Path, chosen: argparse.Namespace) -> int:
    """Run the notebook with the other model, and say what became different."""
    if not chosen.to:
        raise UnreadableNotebook("migrate needs a model", hint=f"o3magic migrate {path} --to MODEL")
    opened = notebooks.read(path)
    old = Cassette(get_cassette_path(path, os.environ))
    if not old.exists:
        hint = f"o3magic run --mode record {path} makes one"
        raise CassetteMiss(f"{path} has no cassette, so there is nothing to ask again", hint=hint)
    before = old.entries
    fresh = Cassette(get_refresh_path(old.path))
    if fresh.exists:
        raise UnwritableNotebook(
            f"{fresh.path} already exists: its answers were neither accepted nor dropped",
            hint=f"o3magic migrate {path} --accept, or --drop",
        )
    named = {model for take in before if (model := model_named(take)) not in ("", chosen.to)}
    renamed = rename_models(opened.notebook, named, chosen.to, chosen.effort)
    for line in renamed:
        print(plain(line))
    variables = {MIGRATE_TO: f"{chosen.to} {chosen.effort}".strip()}
    if chosen.provider:
        variables["O3MAGIC_PROVIDER"] = chosen.provider
    options = RunCommandOptions(
        mode="refresh", budget=chosen.budget, variables=variables, goes_on=True
    )
    runner = RunProgress(opened, options)
    try:
        runner.play()
    except KeyboardInterrupt:
        runner.was_stopped = True
    if not fresh.exists:
        raise CassetteMiss(
            "nothing was asked again: no answer came", hint="see what the cells say above"
        )
    notebooks.tidy(opened.notebook)
    notebooks.replace(executed_path(path), notebooks.encoded(opened.notebook))
    told = {"model": chosen.to, "effort": chosen.effort, "notebook": opened.digest.hex()}
    fresh.replace(lambda tape: replace(tape, head={**tape.head, HEAD: told}))
    pairs = paired(before, asked_again(old, fresh))
    print(plain("\n".join(report(path, pairs, chosen.to))))
    print(f"\nkeep them       o3magic migrate {path} --accept")
    print(f"or drop them    o3magic migrate {path} --drop")
    print(f"compare all     o3magic cassettes diff {old.path} {fresh.path}")
    failed = [FAILED for step in runner.steps if step.state == "failed"]
    return max(conclude(path, runner), *failed, 0)


def accept(path: Path) -> int:
    """Take the answers over, and the notebook with its new outputs where it has not changed."""
    opened, old, fresh = opened_migration(path)
    told = fresh.tape().head[HEAD]
    pairs = paired(old.entries, asked_again(old, fresh))
    replaced = {pair.old.place for pair in pairs if pair.old is not None and pair.new is not None}
    again = {pair.new.place for pair in pairs if pair.new is not None}
    kept = again | (set(fresh.tape().places) - replaced)
    head = {name: value for name, value in fresh.tape().head.items() if name != HEAD}
    tape = fresh.tape().only(lambda place: place in kept)
    executed = executed_path(path)
    unchanged = opened.digest.hex() == told.get("notebook")
    old.replace(lambda _: CassetteData(head, tape.entries, tape.places))
    if unchanged and executed.exists():
        notebooks.replace(path, executed.read_bytes())
        print(plain(f"{path}: its cells and outputs are those of the run"))
    else:
        print(plain(f"{path} has changed since, and is left as it is; its answers are new"))
        print(f"  try: name {told.get('model')} where a cell names another model, then run it")
    remove(fresh.path, executed)
    print(plain(f"{old.path}: {counted(old.entries)}"))
    return 0


def drop(path: Path) -> int:
    """Forget the answers of a migration."""
    _, _, fresh = opened_migration(path)
    count = counted(fresh.entries)
    remove(fresh.path, executed_path(path))
    print(plain(f"{fresh.path} is deleted ({count}); {path} is as it was"))
    return 0


def opened_migration(path: Path) -> tuple[OpenedNotebook, Cassette, Cassette]:
    """A notebook, its cassette, and the one that waits to be accepted. Raises CassetteMiss."""
    old = Cassette(get_cassette_path(path, os.environ))
    fresh = Cassette(get_refresh_path(old.path))
    if not fresh.exists or HEAD not in fresh.tape().head:
        raise CassetteMiss(
            f"{path} has no migration to accept or drop", hint=f"o3magic migrate {path} --to MODEL"
        )
    return notebooks.read(path), old, fresh


def executed_path(path: Path) -> Path:
    """Where the notebook as it ran waits."""
    return path.with_name(f"{path.name}.new")


def remove(*paths: Path) -> None:
    """Delete files that may be gone already."""
    for path in paths:
        path.unlink(missing_ok=True)


def model_named(take: Recording) -> str:
    """The model that an entry's question names, or ""."""
    model = str(take.request.get("model", ""))
    return "" if model == UNNAMED else model


def rename_models(notebook: Any, named: Iterable[str], to: str, effort: str) -> list[str]:
    """Name the other model in the cells that name one of these; gives what was changed."""
    told = []
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        source = cell.source
        for model in named:
            source = renamed(source, model, to, effort)
        if source != cell.source:
            before, after = cell.source.splitlines(), source.splitlines()
            lines = [new for old, new in zip(before, after, strict=False) if old != new]
            told.append(f"cell {number} says: {'; '.join(line.strip() for line in lines)}")
            cell.source = source
    return told


def renamed(source: str, model: str, to: str, effort: str) -> str:
    """The source of a cell with another model where it names this one."""
    name = re.escape(model)
    option = re.compile(rf"(\s(?:-m|--model)[ =])(['\"]?){name}\2(?=\s|$)")
    setting = re.compile(rf"(\smodel=)(['\"]?){name}\2(?=\s|$)")
    argument = re.compile(rf"(\bmodel\s*=\s*)(['\"]){name}\2")
    lines = []
    for line in source.split("\n"):
        words, more = line.lstrip(), ""
        if words.startswith(("%%o3 ", "%o3 ")):
            if effort and not re.search(r"\s(?:-e|--effort)[ =]", line):
                more = f" -e {effort}"
            line = option.sub(rf"\g<1>\g<2>{to}\g<2>{more}", line)
        elif words.startswith("%o3_config "):
            if effort and not re.search(r"\seffort=", line):
                more = f" effort={effort}"
            line = setting.sub(rf"\g<1>\g<2>{to}\g<2>{more}", line)
        elif not words.startswith("%"):
            if effort and not re.search(r"\beffort\s*=", source):
                more = f', effort="{effort}"'
            line = argument.sub(rf"\g<1>\g<2>{to}\g<2>{more}", line)
        lines.append(line)
    return "\n".join(lines)


def asked_again(old: Cassette, fresh: Cassette) -> list[Recording]:
    """The answers that are new: a refresh begins with a copy of what was there."""
    known = {take.place: take.to_json() for take in old.entries}
    return [take for take in fresh.entries if known.get(take.place) != take.to_json()]


def question_of(take: Recording) -> tuple[str, int]:
    """What was asked, whichever model was asked and at which effort."""
    left_out = ("model", "effort")
    said = {name: value for name, value in take.request.items() if name not in left_out}
    return (compute_key(said) if said.get("messages") else take.key), take.n


def paired(before: Sequence[Recording], after: Sequence[Recording]) -> list[AnswerPair]:
    """Each new answer with that of before to the same question, then those not asked again."""
    left = {take.place: take for take in before}
    found: dict[EntryKey, Recording] = {}
    # What was said before a question differs with the answers: then its own words are enough.
    for meant in (question_of, words_of_question):
        known: dict[Any, list[Recording]] = {}
        for take in left.values():
            known.setdefault(meant(take), []).append(take)
        for take in after:
            same = known.get(meant(take), [])
            if take.place in found or not same:
                continue
            # One question may be there at several efforts.
            old = next((each for each in same if effort_of(each) == effort_of(take)), same[0])
            same.remove(old)
            found[take.place] = left.pop(old.place)
    pairs = [AnswerPair(found.get(take.place), take) for take in after]
    return pairs + [AnswerPair(take, None) for take in left.values()]


def words_of_question(take: Recording) -> tuple[str, str, int]:
    """The last words of a question, and the type of its answer."""
    return take.prompt, str(take.request.get("schema_name", "")), take.n


def effort_of(take: Recording) -> str:
    """The effort that was asked for, or sent where none was."""
    return str(take.request.get("effort", "") or take.default_effort)


def report(path: Path, pairs: Sequence[AnswerPair], to: str) -> Iterator[str]:
    """What became different, question by question, and what it used and cost in all."""
    again = [pair for pair in pairs if pair.new is not None]
    for number, pair in enumerate(again, 1):
        assert pair.new is not None
        yield ""
        yield f"{number}. {shorten(pair.new.prompt)}"
        yield f"   before  {who(pair.old)}"
        yield f"   now     {who(pair.new)}"
        yield from (f"   {line}" for line in differences(pair))
    same = sum(pair.same for pair in again)
    yield ""
    yield f"{path}: {counted_answers(len(again))} by {to}, {same} of them the same as before"
    if left := sum(pair.new is None for pair in pairs):
        yield f"not asked again: {counted_answers(left)}; they stay unless they were replaced"
    elsewhere = {
        model
        for pair in again
        if pair.new is not None and (model := model_named(pair.new)) not in ("", to)
    }
    if elsewhere:
        names = ", ".join(sorted(elsewhere))
        yield f"still asked for {names}: a settings file, O3MAGIC_MODEL or --models names it"
    old = [pair.old for pair in again if pair.old is not None]
    yield f"before  {totals(old)}"
    yield f"now     {totals([pair.new for pair in again if pair.new is not None])}"


def counted_answers(count: int) -> str:
    """`1 answer`."""
    return "1 answer" if count == 1 else f"{count:,} answers"


def who(take: Recording | None) -> str:
    """Who answered, at which effort, what it used and cost."""
    if take is None:
        return "not asked before"
    model = take.model or take.default_model or model_named(take) or FIRST_DEFAULT
    label = LABELS.get(take.label, "").partition(",")[0]
    said = [label, model, effort_of(take), used(take)]
    if take.cost_nano_usd is None:
        said.append("cost unknown")
    else:
        said.append(show_usd(take.cost_nano_usd))
    return " · ".join(filter(None, said))


def used(take: Recording) -> str:
    """The tokens of an answer, or ""."""
    usage = take.usage
    if usage is None or usage.output_tokens is None:
        return ""
    return f"{usage.input_tokens or 0:,} in, {usage.output_tokens:,} out"


def totals(takes: Sequence[Recording]) -> str:
    """Tokens and cost of several answers; what is not known is counted."""
    counted_in = [t.usage.input_tokens for t in takes if t.usage and t.usage.input_tokens]
    counted_out = [t.usage.output_tokens for t in takes if t.usage and t.usage.output_tokens]
    unknown_tokens = len(takes) - len(counted_out)
    known = [t.cost_nano_usd for t in takes if t.cost_nano_usd is not None]
    if not counted_out:
        said = "tokens not counted"
    else:
        said = f"{sum(counted_in):,} in, {sum(counted_out):,} out"
        said += f" ({unknown_tokens} without a count)" if unknown_tokens else ""
    said += f" · {show_usd(sum(known))}"
    unknown = len(takes) - len(known)
    return said + (f" and {unknown} of unknown cost" if unknown else "")


def differences(pair: AnswerPair) -> list[str]:
    """What differs between two answers: fields of a typed one, lines of a text."""
    if pair.old is None or pair.new is None:
        return []
    if pair.same:
        return ["the same"]
    if is_typed(pair.new):
        old, new = values_of(pair.old), values_of(pair.new)
        if isinstance(old, dict) and isinstance(new, dict):
            return field_differences(old, new)
    one, two = answer_of(pair.old).splitlines(), answer_of(pair.new).splitlines()
    lines = [line for line in unified_diff(one, two, lineterm="", n=0) if line[:2] != "@@"][2:]
    gone = [line for line in lines if line[0] == "-" and line[1:].strip()]
    came = [line for line in lines if line[0] == "+" and line[1:].strip()]
    return [*first_lines(gone), *first_lines(came)]


def first_lines(lines: Sequence[str]) -> list[str]:
    """The first lines of one side of a difference."""
    left = len(lines) - MOST_DIFF_LINES
    shown = [f"{line[0]} {shorten(line[1:])}" for line in lines[:MOST_DIFF_LINES]]
    return shown + ([f"{lines[0][0]} ... {left} more lines"] if left > 0 else [])


def field_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each field that has another value."""
    changed = [
        name
        for name in [*old, *(n for n in new if n not in old)]
        if old.get(name, ...) != new.get(name, ...)
    ]
    width = max(map(len, changed))
    lines = [
        f"{name or 'value':{width}}  {as_json(old, name)} -> {as_json(new, name)}"
        for name in changed[:MOST_FIELDS]
    ]
    left = len(changed) - MOST_FIELDS
    return lines + ([f"... and {left} more fields"] if left > 0 else [])


def as_json(values: Mapping[str, Any], name: str) -> str:
    """A field's value, cut where it is long."""
    if name not in values:
        return "–"
    return shorten(json.dumps(values[name], ensure_ascii=False))


def is_typed(take: Recording) -> bool:
    """Whether the answer was to follow a schema."""
    return "schema" in take.request or bool(take.schema_sha)


def values_of(take: Recording) -> Any:
    """The fields of a typed answer by their paths, or its text where it is not JSON."""
    try:
        return dict(leaves(json.loads(take.text)))
    except (ValueError, RecursionError):
        return answer_of(take)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a value: `lines[0].item` and what stands there."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from leaves(each, f"{path}[{index}]")
    else:
        yield path, value
