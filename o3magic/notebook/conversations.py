"""`%o3_conversations`: list, show, fork, undo, rename, delete, export and compact."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from o3magic.render.markdown.escape import plain_text, shorten
from o3magic.render.markdown.sanitize import safe_markdown
from o3magic.render.tables import aligned, line, table
from o3magic.session.session import Session

# The words after each command, and what it does.
COMMANDS = {
    "show": ("NAME [TURN]", "its turns, or one of them in full"),
    "fork": ("NAME [TURN] NEW", "a new one of its first turns, or of all"),
    "undo": ("NAME [COUNT]", "without its last turns (1)"),
    "rename": ("NAME NEW", "another name"),
    "delete": ("NAME", "forget it"),
    "export": ("NAME FILE.md|FILE.ipynb", "as Markdown, or as a notebook that asks it again"),
    "compact": (
        "NAME [KEEP]",
        f"have all but the last turns ({KEEP_TURNS}) summed up by the model; it costs",
    ),
}
MAX_SHOWN_CHARS = 100


def help_text() -> str:
    """The page of `%o3_conversations?`."""
    rows = [("%o3_conversations", "the conversations, their tokens and cost")]
    rows += [(usage(command), description) for command, (_, description) in COMMANDS.items()]
    return aligned(rows)


def usage(command: str) -> str:
    """How a command is written."""
    return f"%o3_conversations {command} {COMMANDS[command][0]}"


def run_command(session: Session, text: str, folder: Path) -> Bundle:
    """Run a line of `%o3_conversations`; return what is to be shown.

    folder: where files are exported to. Raises BadOption, and O3Error for `compact`.
    """
    words = [*split_words(text)]
    if not words:
        return list_conversations(session)
    command, *rest = words
    match command:
        case "show":
            return show(session, rest)
        case "fork":
            return fork(session, rest)
        case "undo":
            return undo(session, rest)
        case "rename":
            return rename(session, rest)
        case "delete":
            return delete(session, rest)
        case "export":
            return export(session, rest, folder)
        case "compact":
            return compact(session, rest)
    if session.conversations.get(command) is not None and not rest:
        return show(session, words)
    hint = did_you_mean(command, [*COMMANDS, *session.conversations.names()], "%o3_conversations?")
    raise BadOption(f"%o3_conversations cannot {command[:40]!r}", hint=hint)


def list_conversations(session: Session) -> Bundle:
    """A row for each conversation."""
    store = session.conversations
    names = store.names()
    if not names:
        return line("no conversation yet: %%o3 -c NAME begins one")
    rows = [format_row(existing(store, name), session) for name in names]
    head = ("conversation", "turns", "last", "model", "tokens", "cost", "")
    title = f"Conversations; kept in {store.kept_in}" if store.kept_in else "Conversations"
    return table(head, rows, title)


def format_row(conversation: Conversation, session: Session) -> tuple[str, ...]:
    """The row of a conversation. Its tokens are those that the next question sends with it."""
    last = conversation.turns[-1] if conversation.turns else None
    tokens = conversation.tokens().likely
    card = session.catalog.find(last.model) if last else None
    card = card or card_of(session, session.layers.profile())
    share = share_of(tokens, card)
    window = "" if share is None else f" ({share:.0%} of the window of {card.id})"
    notes = []
    if conversation.forked_from:
        notes.append(f"forked from {conversation.forked_from}")
    if conversation.summary:
        notes.append(f"{conversation.summarised} turns summed up")
    if share is not None and share >= FULL_SHARE:
        notes.append(f"nearly full: %o3_conversations compact {conversation.name}")
    return (
        conversation.name,
        str(len(conversation.turns)),
        f"{last.at:%Y-%m-%d %H:%M} UTC" if last else "–",
        last.model if last else "–",
        f"about {tokens:,}{window}",
        format_cost(conversation.turns),
        "; ".join((*notes, *conversation.notes)),
    )


def format_cost(turns: Sequence[Turn]) -> str:
    """The cost of turns, and the number of those whose cost is unknown."""
    known = [turn.cost_usd for turn in turns if turn.cost_usd is not None]
    unknown = len(turns) - len(known)
    return show_usd(sum(known, Decimal(0))) + (f" and {unknown} unknown" if unknown else "")


def show(session: Session, rest: list[str]) -> Bundle:
    """The turns of a conversation, or one turn in full."""
    name, *more = check_words("show", rest, 1, 2)
    conversation = existing(session.conversations, name)
    if more:
        return show_turn(conversation, parse_turn(conversation, more[0]))
    rows = [
        (
            str(number),
            shorten(question_of(turn), MAX_SHOWN_CHARS),
            shorten(turn.answer, MAX_SHOWN_CHARS),
            format_cost((turn,)),
        )
        for number, turn in enumerate(conversation.turns, 1)
    ]
    if not rows:
        return line(f"{name} has no turns")
    tokens = format_row(conversation, session)[4]
    return table(("turn", "question", "answer", "cost"), rows, tokens)


def show_turn(conversation: Conversation, number: int) -> Bundle:
    """One turn in full: the question as text, the answer as safe Markdown."""
    turn = conversation.turns[number - 1]
    calls = "".join(f"\n{call}" for call in calls_of(turn))
    plain = f"{plain_text(question_of(turn))}\n{calls}\n\n{plain_text(turn.answer)}"
    markdown = f"## {conversation.name}, turn {number}\n\n{turn_markdown(turn, safe_markdown)}"
    return Bundle({"text/markdown": markdown, "text/plain": plain}, {})


def fork(session: Session, rest: list[str]) -> Bundle:
    """Make a new conversation of the first turns of another."""
    name, *turn, new = check_words("fork", rest, 2, 3)
    store = session.conversations
    conversation = existing(store, name)
    count = parse_turn(conversation, turn[0]) if turn else len(conversation.turns)
    placed(store, conversation.fork(count, new))
    return line(f"{new} has the first {format_count(count)} of {name}: %%o3 -c {new} goes on")


def undo(session: Session, rest: list[str]) -> Bundle:
    """Remove the last turns."""
    name, *more = check_words("undo", rest, 1, 2)
    count = parse_number(more[0]) if more else 1
    existing(session.conversations, name)

    def without_last(conversation: Conversation | None) -> Conversation:
        if conversation is None:
            raise BadOption(f"{name} was deleted meanwhile", hint="%o3_conversations lists them")
        return conversation.undo(count)

    changed = session.conversations.change(name, without_last)
    return line(f"{name} has {format_count(len(changed.turns))} now")


def rename(session: Session, rest: list[str]) -> Bundle:
    """Give a conversation another name."""
    name, new = check_words("rename", rest, 2, 2)
    moved(session.conversations, name, new)
    return line(f"{name} is called {new} now")


def delete(session: Session, rest: list[str]) -> Bundle:
    """Delete a conversation here. Answers that the provider has stored stay there."""
    (name,) = check_words("delete", rest, 1, 1)
    session.conversations.delete(name)
    return line(f"{name} is deleted here; a provider may have kept its answers (--no-store)")


def export(session: Session, rest: list[str], folder: Path) -> Bundle:
    """Write a conversation into a new file."""
    name, file = check_words("export", rest, 2, 2)
    conversation = existing(session.conversations, name)
    path = folder / Path(file).expanduser()
    if path.suffix == ".md":
        text = to_markdown(conversation, safe_markdown)
    elif path.suffix == ".ipynb":
        notebook = to_notebook(conversation, safe_markdown)
        text = json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
    else:
        raise BadOption(f"{file}: neither .md nor .ipynb", hint=usage("export"))
    try:
        with path.open("x", encoding="utf-8", errors="replace", newline="\n") as output:
            output.write(text)
    except FileExistsError:
        raise BadOption(f"{file} is there already", hint="another name, or delete it") from None
    except OSError as error:
        raise BadOption(f"{file} cannot be written: {error.strerror}", hint=f"{folder}") from None
    return line(f"{name} is in {file}: {format_count(len(conversation.turns))}")


def compact(session: Session, rest: list[str]) -> Bundle:
    """Have the oldest turns summed up by the model, and report the cost."""
    name, *more = check_words("compact", rest, 1, 2)
    keep = parse_number(more[0]) if more else KEEP_TURNS
    return line(str(session.compact(name, keep, session.layers.profile())))


def check_words(command: str, rest: list[str], least: int, most: int) -> list[str]:
    """The words after a command. Raises BadOption where there are too few or too many."""
    if not least <= len(rest) <= most:
        message = f"%o3_conversations {command} takes {COMMANDS[command][0]}"
        raise BadOption(message, hint=usage(command))
    return rest


def parse_turn(conversation: Conversation, text: str) -> int:
    """The number of a turn that exists. Raises BadOption."""
    number = parse_number(text)
    count = len(conversation.turns)
    if not 1 <= number <= count:
        message = f"{conversation.name} has no turn {number}"
        raise BadOption(message, hint=f"it has {format_count(count)}")
    return number


def parse_number(text: str) -> int:
    """A number without a sign. Raises BadOption."""
    if not text.isdecimal():
        raise BadOption(f"{text[:40]!r} is not a number", hint="%o3_conversations?")
    return int(text)


def format_count(turns: int) -> str:
    """`1 turn`, `3 turns`."""
    return "1 turn" if turns == 1 else f"{turns} turns"
