"""The work of the magics: parse the line, ask the session, show the result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import StdinNotImplementedError

from o3magic.errors import BadOption, Interrupted, NoKey, O3Error, RequestFailed
from o3magic.events import Answer
from o3magic.interrupts import stop_on_interrupt
from o3magic.messages import ToolCall
from o3magic.notebook.background import AnswerFuture, BackgroundAnswers, consume, has_content
from o3magic.notebook.context import ShellContext, cell_key, notebook_path, sent_cell_id
from o3magic.notebook.display import KernelDisplay
from o3magic.notebook.line_parser import check_name, parse, refuse_words, split_words
from o3magic.render import tables
from o3magic.render.answer import request_bundle
from o3magic.render.markdown.sanitize import plain_text
from o3magic.session.plan import Plan, build_shown_request
from o3magic.settings import Settings

if TYPE_CHECKING:
    from o3magic.session.comparison import Comparison

    ShownResult = Answer | Comparison | AnswerFuture

MAX_CALL_CHARS = 2_000
# Nothing but a `%%o3`, comments above it left out.
QUESTION_CELL = re.compile(r"(?:[ \t]*(?:#.*)?\n)*[ \t]*%%o3")


class Commands:
    """The commands of one shell: a method for each magic, which has its help."""

    def __init__(self, context: ShellContext) -> None:
        self.context, self.session, self._shell = context, context.session, context.shell
        self.session.confirm = confirm_call
        self._cell = ""
        self._shown: ShownResult | None = None  # in the running cell
        self._last: ShownResult | None = None
        self._background: BackgroundAnswers | None = None

    def begin_cell(self, text: str) -> None:
        """Called before each cell with its text."""
        self._cell = text
        self._shown = None
        session = self.session
        session.notebook = notebook_path(self._shell, session.environment, session.notebook)
        session.searches_cassettes = isinstance(self.context.display, KernelDisplay)
        # Where the front end does not name its cells, the same words again are another question:
        # nothing tells two cells from one that is run twice.
        session.begin_cell(cell_key(self._shell, text), turn_key=sent_cell_id(self._shell))

    def ask(self, line: str, cell: str | None = None) -> Any:
        chosen, rest = parse(line)
        if cell is not None and rest:
            raise BadOption(
                f"{rest[:40]!r} on the %%o3 line belongs to no option",
                hint="the prompt goes below the line; a value with blanks goes in quotes",
            )
        settings = self.session.layers.profile(chosen)
        check_name(settings.out)
        prompt = rest if cell is None else cell.strip("\r\n")
        if settings.dry_run:
            self._show_requests(prompt, settings)
            return None
        if settings.map:
            return self._map(prompt, chosen, settings)
        if settings.compare:
            return self._compare(prompt, settings)
        plan = self.session.plan(prompt, settings, self.context.names)
        if settings.background and isinstance(self.context.display, KernelDisplay):
            return self._ask_in_background(plan)
        answer = self._ask(plan)
        return answer if self.context.display.returns_answer or cell is None else None

    def _show_requests(self, prompt: str, settings: Settings) -> None:
        """Show what would be sent, and send nothing."""
        names = self.context.names
        if settings.compare:
            plans = list(self.session.ways(prompt, settings, names).values())
        else:
            plans = [self.session.plan(prompt, settings, names)]
        for plan in plans:
            self.context.display.show(
                request_bundle(build_shown_request(plan), self.session.foreseen(plan))
            )

    def _ask(self, plan: Plan) -> Answer:
        """Ask, show and keep. What had arrived before an error is shown and kept too."""
        stream = self.session.begin(plan)
        error: O3Error | None = None
        with stop_on_interrupt(stream.stop):
            if plan.profile.quiet:
                answer, error = consume(stream, None)
            else:
                # If the running cell is one `%%o3`, nothing else writes into its output.
                owns_cell = QUESTION_CELL.match(self._cell) is not None
                with self.context.display.live(plan, owns_cell=owns_cell) as live:
                    answer, error = consume(stream, live)
                    if error and not isinstance(error, Interrupted) and not has_content(answer):
                        live.dismiss()
                    else:
                        live.finish(answer)
            self._keep(answer, plan.profile)
        if error is not None:
            raise error
        return answer

    def _ask_in_background(self, plan: Plan) -> AnswerFuture:
        if self._background is None:
            self._background = BackgroundAnswers(self._shell, self.context.refresh_views)
        future = self._background.start(self.session.begin(plan, attended=False))
        self._keep(future, plan.profile)
        # A runner (nbconvert, papermill, `o3magic run`) saves the notebook and ends the kernel
        # with its last cell: there the cell waits. Only they refuse to be asked for input.
        if not getattr(getattr(self._shell, "kernel", None), "_allow_stdin", True):
            with stop_on_interrupt(future.stop):
                self._background.wait()
        return future

    def _compare(self, prompt: str, settings: Settings) -> Comparison:
        """Ask in several ways at once, show them side by side, and keep the comparison."""
        from o3magic.render.comparison import final

        ways = self.session.ways(prompt, settings, self.context.names)
        stream = self.session.comparing(ways)
        display = None if settings.quiet else self.context.display.comparison(stream.labels)
        if display is not None:
            display.begin()
        with stop_on_interrupt(stream.stop):
            for index, event in stream:
                if display is not None:
                    display.add(index, event)
            comparison = stream.comparison
            if display is not None:
                display.finish(final(comparison.labels, comparison.answers, comparison.errors))
            self._keep(comparison, settings)
        if stream.is_stopped:
            raise Interrupted("stopped by you")
        return comparison

    def _map(self, prompt: str, chosen: Mapping[str, Any], settings: Settings) -> Any:
        """Ask for each row, and keep the table; the rows before an error are kept too."""
        from o3magic.notebook.progress import map_cell

        error: O3Error | None = None
        try:
            table = map_cell(self.context, prompt, chosen)
        except O3Error as raised:
            table, error = raised.answer, raised
        if table is not None:
            if settings.out:
                self.context.names[settings.out] = table
            self._shell.displayhook.update_user_ns(table)  # type: ignore[no-untyped-call]
        if error is not None:
            raise error
        return None if settings.quiet else table

    def _keep(self, answer: ShownResult, settings: Settings) -> None:
        """Bind the answer to `_` and to the name that the user gave, and to no other."""
        self._shown = self._last = answer
        if settings.out:
            self.context.names[settings.out] = answer
        # The display hook sets `_` to what a cell returns, but not after an error or without it.
        self._shell.displayhook.update_user_ns(answer)  # type: ignore[no-untyped-call]

    def show(self, result: ShownResult) -> None:
        """Show the result of a cell, unless this cell has shown it already."""
        from o3magic.render.comparison import final

        display = self.context.display
        if result is self._shown:
            if not display.returns_answer:
                display.show(tables.line(repr(result)))
            return
        if isinstance(result, AnswerFuture):
            if not result.done:
                display.show(tables.line(repr(result)))
                return
            result = result.now
        if isinstance(result, Answer):
            display.show_answer(result, self.session.layers.profile())
            return
        for bundle in final(result.labels, result.answers, result.errors):
            display.show(bundle)

    def config(self, line: str) -> None:
        from o3magic.notebook.completion import default_model

        values: dict[str, Any] = {}
        for word in split_words(line):
            name, equals, value = word.partition("=")
            if not equals:
                raise BadOption(f"{word!r} is not a setting", hint="%o3_config effort=high")
            values[name.replace("-", "_")] = value or None
        if values:
            self.session.configure(values)
            # The newest choice counts: that of a panel for the same settings is dropped.
            self.session.configure(dict.fromkeys(values), layer="widget")
            self.context.refresh_views()
        self.context.display.show(
            tables.settings(self.session.layers, tuple(values), default_model(self.session))
        )

    def cost(self, line: str) -> None:
        from o3magic.notebook import costs

        costs.show_costs(self.context, line)

    def models(self, line: str) -> None:
        from o3magic.notebook import costs

        if line.split() == ["--check"]:
            self.context.display.show(costs.price_check())
            return
        chosen, rest = parse(line)
        refuse_words(rest, "%o3_models")
        settings = self.session.layers.profile(chosen)
        served, note = None, ""
        try:
            served = {model.id: model.shutdown for model in self.session.served_models(settings)}
        except (NoKey, RequestFailed) as error:
            note = f"what a provider serves is not known: {error}"
        self.context.display.show(tables.models(self.session.catalog, served, note))

    def schemas(self, line: str) -> None:
        from o3magic.notebook import panel_html

        refuse_words(line, "%o3_schemas")
        self.context.display.show(
            panel_html.schemas_table(self.context.names, self.session.schemas)
        )

    def conversations(self, line: str) -> None:
        from o3magic.notebook import conversations

        folder = self.session.folder(self.session.layers.profile())
        self.context.display.show(conversations.run_command(self.session, line, folder))

    def jobs(self, line: str) -> Any:
        from o3magic.notebook.jobs import run_command

        return run_command(self.context, line)

    def insert(self, line: str) -> None:
        from o3magic.notebook import insert

        last = self._last
        if isinstance(last, AnswerFuture):
            last = last.now
        elif last is not None and not isinstance(last, Answer):
            last = next((a for a in last.answers if insert.find_blocks(a.text)), None)
        code = insert.choose_code(last, line.strip())
        self._shell.set_next_input(code)
        if getattr(self._shell, "simple_prompt", False):  # it has no next line to put it into
            self.context.display.show(tables.line(code))

    def help(self, line: str) -> None:
        from o3magic.notebook.help import help_bundle

        magics = self._shell.magics_manager.magics["line"]
        own = {name: magic for name, magic in magics.items() if name.partition("_")[0] == "o3"}
        session = self.session
        self.context.display.show(help_bundle(line, session.layers, session.providers, own))

    def close(self) -> None:
        """Stop the answers that are arriving; close the views and the session."""
        if self._background is not None:
            self._background.close()
        self.context.close()


def confirm_call(call: ToolCall) -> bool:
    """Ask the user whether a tool may be called; every answer but y or yes declines."""
    text = shorten_call(plain_text(call.name), plain_text(call.arguments))
    try:
        answer = input(f"The model wants to call {text}\nCall it? [y/N] ")
    except (EOFError, StdinNotImplementedError):
        return False  # nobody can answer
    return answer.strip().lower() in ("y", "yes")


def shorten_call(name: str, arguments: str) -> str:
    """A call of a tool as text to show, cut where it is long."""
    text = f"{name}({arguments})"
    return text if len(text) <= MAX_CALL_CHARS else f"{text[:MAX_CALL_CHARS]}…"
