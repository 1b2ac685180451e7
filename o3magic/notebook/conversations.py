"""`%o3_conversations`: lists, shows, forks, undoes, renames, deletes, exports, sums up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

from o3magic.conversations.compaction import FULL_SHARE, KEEP_TURNS, share_of
from o3magic.conversations.conversation import Conversation, Turn
from o3magic.conversations.export import (
    calls_of,
    question_of,
    to_markdown,
    to_notebook,
    turn_markdown,
)
from o3magic.conversations.store import existing, moved, placed
from o3magic.errors import BadOption, did_you_mean
from o3magic.money import show_usd
from o3magic.notebook.completion import card_of
from o3magic.notebook.line_parser import split_words
from o3magic.render.answer import Bundle
from o3magic.render.markdown.sanitize import plain_text, safe_markdown
from o3magic.render.tables import aligned, line, table
from o3magic.session.session import Session

USAGE = {
    "show": "NAME [TURN]",
    "fork": "NAME [TURN] NEW",
    "undo": "NAME [COUNT]",
    "rename": "NAME NEW",
    "delete": "NAME",
    "export": "NAME FILE.md|FILE.ipynb",
    "compact": "NAME [KEEP]",
}
MOST_SHOWN_CHARS = 100


def help_text() -> str:
    """What `%o3_conversations?` shows."""
    told = {
        "show": "its turns, or one of them in full",
        "fork": "a new one of its first turns, or of all",
        "undo": "without its last turns (1)",
        "rename": "another name",
        "delete": "forget it",
        "export": "as Markdown, or as a notebook that asks it again",
        "compact": f"have all but the last turns ({KEEP_TURNS}) summed up by the model; it costs",
    }
    rows = [("%o3_conversations", "the conversations, their tokens and cost")]
    rows += [(f"%o3_conversations {word} {USAGE[word]}", told[word]) for word in USAGE]
    return aligned(rows)


def run(session: Session, said: str, folder: Path) -> Bundle:
    """Do what a line says; what is to be shown. Raises BadOption, and O3Error for `compact`."""
    given = [*split_words(said)]
    if not given:
        return listed(session)
    word, *rest = given
    doing: Mapping[str, Callable[[], Bundle]] = {
        "show": lambda: show(session, rest),
        "fork": lambda: fork(session, rest),
        "undo": lambda: undo(session, rest),
        "rename": lambda: rename(session, rest),
        "delete": lambda: delete(session, rest),
        "export": lambda: export(session, rest, folder),
        "compact": lambda: compact(session, rest),
    }
    if word not in doing:
        if session.conversations.get(word) is not None and not rest:
            return show(session, given)
        hint = did_you_mean(word, [*doing, *session.conversations.names()], "%o3_conversations?")
        raise BadOption(f"%o3_conversations cannot {word[:40]!r}", hint=hint)
    return doing[word]()


def listed(session: Session) -> Bundle:
    """A line for each conversation."""
    store = session.conversations
    names = store.names()
    if not names:
        return line("no conversation yet: %%o3 -c NAME begins one")
    rows = [row(existing(store, name), session) for name in names]
    head = ("conversation", "turns", "last", "model", "tokens", "cost", "")
    kept = f"Conversations; kept in {store.kept_in}" if store.kept_in else "Conversations"
    return table(head, rows, kept)


def row(talk: Conversation, session: Session) -> tuple[str, ...]:
    """One conversation's line. Its tokens are those that the next question takes with it."""
    last = talk.turns[-1] if talk.turns else None
    tokens = talk.tokens().likely
    card = session.catalog.find(last.model) if last else None
    card = card or card_of(session, session.layers.profile())
    share = share_of(tokens, card)
    full = "" if share is None else f" ({share:.0%} of the window of {card.id})"
    notes = [f"forked from {talk.forked_from}"] * bool(talk.forked_from)
    notes += [f"{talk.summarised} turns summed up"] * bool(talk.summary)
    notes += [f"nearly full: %o3_conversations compact {talk.name}"] * (
        share is not None and share >= FULL_SHARE
    )
    return (
        talk.name,
        str(len(talk.turns)),
        f"{last.at:%Y-%m-%d %H:%M} UTC" if last else "–",
        last.model if last else "–",
        f"about {tokens:,}{full}",
        cost_of(talk.turns),
        "; ".join((*notes, *talk.notes)),
    )


def cost_of(turns: tuple[Turn, ...]) -> str:
    """What turns cost when they were asked; those that nobody knows of are said."""
    known = [turn.cost_usd for turn in turns if turn.cost_usd is not None]
    unknown = len(turns) - len(known)
    more = f" and {unknown} unknown" if unknown else ""
    return f"{show_usd(sum(known, Decimal(0)))}{more}"


def show(session: Session, rest: list[str]) -> Bundle:
    """The turns of one, or one turn in full."""
    name, *more = expected("show", rest, 1, 2)
    talk = existing(session.conversations, name)
    if more:
        return whole(talk, at_turn(talk, more[0]))
    rows = [
        (str(place), short(question_of(turn)), short(turn.answer), cost_of((turn,)))
        for place, turn in enumerate(talk.turns, 1)
    ]
    if not rows:
        return line(f"{name} has no turns")
    return table(("turn", "question", "answer", "cost"), rows, row(talk, session)[4])


def whole(talk: Conversation, place: int) -> Bundle:
    """One turn in full: the question as text, the answer made safe."""
    turn = talk.turns[place - 1]
    called = "".join(f"\n{each}" for each in calls_of(turn))
    plain = f"{plain_text(question_of(turn))}\n{called}\n\n{plain_text(turn.answer)}"
    markdown = f"## {talk.name}, turn {place}\n\n{turn_markdown(turn, safe_markdown)}"
    return Bundle({"text/markdown": markdown, "text/plain": plain}, {})


def fork(session: Session, rest: list[str]) -> Bundle:
    """A new conversation of the first turns of another."""
    name, *at, new = expected("fork", rest, 2, 3)
    store = session.conversations
    talk = existing(store, name)
    count = at_turn(talk, at[0]) if at else len(talk.turns)
    placed(store, talk.fork(count, new))
    return line(f"{new} has the first {turns(count)} of {name}: %%o3 -c {new} goes on")


def undo(session: Session, rest: list[str]) -> Bundle:
    """The same without its last turns."""
    name, *more = expected("undo", rest, 1, 2)
    count = number(more[0]) if more else 1
    existing(session.conversations, name)
    made = session.conversations.change(name, lambda talk: there(talk, name).undo(count))
    return line(f"{name} has {turns(len(made.turns))} now")


def rename(session: Session, rest: list[str]) -> Bundle:
    """Another name."""
    name, new = expected("rename", rest, 2, 2)
    moved(session.conversations, name, new)
    return line(f"{name} is called {new} now")


def delete(session: Session, rest: list[str]) -> Bundle:
    """Forget it here; what the provider has stored is not ours to delete."""
    (name,) = expected("delete", rest, 1, 1)
    session.conversations.delete(name)
    return line(f"{name} is deleted here; a provider may have kept its answers (--no-store)")


def export(session: Session, rest: list[str], folder: Path) -> Bundle:
    """Write it into a file that is not there yet."""
    name, file = expected("export", rest, 2, 2)
    talk = existing(session.conversations, name)
    path = folder / Path(file).expanduser()
    if path.suffix == ".md":
        text = to_markdown(talk, safe_markdown)
    elif path.suffix == ".ipynb":
        text = json.dumps(to_notebook(talk, safe_markdown), ensure_ascii=False, indent=1) + "\n"
    else:
        raise BadOption(
            f"{file}: neither .md nor .ipynb", hint=f"%o3_conversations {usage('export')}"
        )
    try:
        with path.open("x", encoding="utf-8", errors="replace", newline="\n") as written:
            written.write(text)
    except FileExistsError:
        raise BadOption(f"{file} is there already", hint="another name, or delete it") from None
    except OSError as error:
        raise BadOption(f"{file} cannot be written: {error.strerror}", hint=f"{folder}") from None
    return line(f"{name} is in {file}: {turns(len(talk.turns))}")


def compact(session: Session, rest: list[str]) -> Bundle:
    """Have the oldest turns summed up, and say what that cost."""
    name, *more = expected("compact", rest, 1, 2)
    keep = number(more[0]) if more else KEEP_TURNS
    made = session.compact(name, keep, session.layers.profile())
    return line(str(made))


def there(talk: Conversation | None, name: str) -> Conversation:
    """A conversation that was there a moment ago. Raises BadOption where it is gone."""
    if talk is None:
        raise BadOption(f"{name} was deleted meanwhile", hint="%o3_conversations lists them")
    return talk


def expected(word: str, rest: list[str], least: int, most: int) -> list[str]:
    """The words behind a word. Raises BadOption where they are too few or too many."""
    if not least <= len(rest) <= most:
        raise BadOption(f"%o3_conversations {word} takes {USAGE[word]}", hint=usage(word))
    return rest


def usage(word: str) -> str:
    """How it is written."""
    return f"%o3_conversations {word} {USAGE[word]}"


def number(text: str) -> int:
    """A whole number. Raises BadOption for anything else."""
    if not text.isdecimal():
        raise BadOption(f"{text[:40]!r} is no number", hint="%o3_conversations?")
    return int(text)


def at_turn(talk: Conversation, text: str) -> int:
    """The number of a turn that is there. Raises BadOption."""
    place = number(text)
    if not 1 <= place <= len(talk.turns):
        has = turns(len(talk.turns))
        raise BadOption(f"{talk.name} has no turn {place}", hint=f"it has {has}")
    return place


def turns(count: int) -> str:
    """`1 turn`, `3 turns`."""
    return "1 turn" if count == 1 else f"{count} turns"


def short(text: str) -> str:
    """The beginning, on one line."""
    one = " ".join(plain_text(text[:1000]).split())
    return one if len(one) <= MOST_SHOWN_CHARS else f"{one[: MOST_SHOWN_CHARS - 1]}…"
