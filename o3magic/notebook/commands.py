"""What the magics do: each parses its line, asks the session, and shows what came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from IPython.core.error import StdinNotImplementedError

from o3magic.errors import BadOption, Interrupted, NoKey, O3Error, RequestFailed
from o3magic.events import Answer
from o3magic.messages import ToolCall
from o3magic.notebook import conversations, costs, insert, panel_html
from o3magic.notebook.background import AnswerFuture, BackgroundAnswers, drain, holds
from o3magic.notebook.completion import default_model
from o3magic.notebook.context import ShellContext, cell_key, notebook_path
from o3magic.notebook.display import KernelDisplay
from o3magic.notebook.help import help_bundle
from o3magic.notebook.line_parser import check_name, parse, refuse_words, split_words
from o3magic.render import tables
from o3magic.render.answer import request_bundle
from o3magic.render.comparison import final
from o3magic.render.markdown.sanitize import plain_text
from o3magic.session.comparison import Comparison
from o3magic.session.plan import Plan, shown_request
from o3magic.settings import Settings

MOST_ASKED_CHARS = 2_000
ShownResult = Answer | Comparison | AnswerFuture


class Commands:
    """The magics of one shell at work."""

    def __init__(self, bench: ShellContext) -> None:
        self.bench, self.session, self._ip = bench, bench.session, bench.shell
        self.session.confirm = confirm
        self._cell = ""
        self._shown: ShownResult | None = None
        self._last: ShownResult | None = None
        self._background: BackgroundAnswers | None = None

    def begin_cell(self, text: str) -> None:
        """A cell begins: nothing is shown in it yet."""
        self._cell = text
        self._shown = None
        session = self.session
        session.notebook = notebook_path(self._ip, session.environment, session.notebook)
        key = cell_key(self._ip, text)
        # In a terminal the same words again are another question, not the same cell run again.
        kernel = isinstance(self.bench.front, KernelDisplay)
        self.session.begin_cell(key, turn_key=key if kernel else "")

    def ask(self, line: str, cell: str | None = None) -> Any:
        """Ask a reasoning model; the answer appears as it is written."""
        chosen, rest = parse(line)
        if cell is not None and rest:
            raise BadOption(
                f"{rest[:40]!r} on the %%o3 line belongs to no option",
                hint="the prompt goes below the line; a value with blanks goes in quotes",
            )
        profile = self.session.layers.profile(chosen)
        check_name(profile.out)
        prompt = rest if cell is None else cell.strip("\r\n")
        if profile.dry_run:
            self._show_requests(prompt, profile)
            return None
        if profile.map:
            return self._map(prompt, chosen, profile)
        if profile.compare:
            return self._compare(prompt, profile)
        planned = self.session.plan(prompt, profile, self.bench.names)
        if profile.background and isinstance(self.bench.front, KernelDisplay):
            return self._later(planned)
        answer = self._ask(planned)
        return answer if self.bench.front.returns or cell is None else None

    def _show_requests(self, prompt: str, profile: Settings) -> None:
        """Show what would be sent, and send nothing."""
        names = self.bench.names
        if profile.compare:
            plans = list(self.session.ways(prompt, profile, names).values())
        else:
            plans = [self.session.plan(prompt, profile, names)]
        for planned in plans:
            self.bench.front.show(
                request_bundle(shown_request(planned), self.session.foreseen(planned))
            )

    def _ask(self, planned: Plan) -> Answer:
        """Ask, show and keep. Raises what went wrong, with what had arrived shown and kept."""
        profile = planned.profile
        asking = self.session.begin(planned)
        failed: O3Error | None = None
        if profile.quiet:
            answer, failed = drain(asking, None)
        else:
            with self.bench.front.live(planned, owns_cell=self._owns_cell()) as showing:
                answer, failed = drain(asking, showing)
                if failed and not isinstance(failed, Interrupted) and not holds(answer):
                    showing.dismiss()
                else:
                    showing.finish(answer)
        self._keep(answer, profile)
        if failed is not None:
            raise failed
        return answer

    def _later(self, planned: Plan) -> AnswerFuture:
        """Ask in a thread, and give what becomes the answer."""
        if self._background is None:
            self._background = BackgroundAnswers(self._ip, self.bench.changed)
        later = self._background.start(self.session.begin(planned, attended=False))
        self._keep(later, planned.profile)
        return later

    def _compare(self, prompt: str, profile: Settings) -> Comparison:
        """Ask in several ways at once, show them side by side, and keep the comparison."""
        ways = self.session.ways(prompt, profile, self.bench.names)
        asked = self.session.comparing(ways)
        showing = None if profile.quiet else self.bench.front.comparison(asked.labels)
        if showing is not None:
            showing.begin()
        failed: O3Error | None = None
        events = iter(asked)
        try:
            for place, event in events:
                if showing is not None:
                    showing.add(place, event)
        except KeyboardInterrupt:
            events.close()  # type: ignore[attr-defined]
            failed = Interrupted("stopped by you")
        found = asked.comparison
        if showing is not None:
            showing.finish(final(found.labels, found.answers, found.errors))
        self._keep(found, profile)
        if failed is not None:
            raise failed
        return found

    def _map(self, prompt: str, chosen: Mapping[str, Any], profile: Settings) -> Any:
        """Ask for each row, and keep the table; what was done before an error is kept too."""
        from o3magic.notebook.progress import map_cell

        failed: O3Error | None = None
        try:
            table = map_cell(self.bench, prompt, chosen)
        except O3Error as error:
            table, failed = error.answer, error
        if table is not None:
            if profile.out:
                self.bench.names[profile.out] = table
            self._ip.displayhook.update_user_ns(table)  # type: ignore[no-untyped-call]
        if failed is not None:
            raise failed
        return None if profile.quiet else table

    def jobs(self, line: str) -> Any:
        """List, show, resume, cancel or delete the jobs of rows."""
        from o3magic.notebook.jobs import run_jobs

        return run_jobs(self.bench, line)

    def _owns_cell(self) -> bool:
        """Whether the running cell is one `%%o3`: nothing else writes into its output."""
        return self._cell.lstrip().startswith("%%o3")

    def _keep(self, answer: ShownResult, profile: Settings) -> None:
        """Bind the answer to `_` and to the name the user gave; to no other."""
        self._shown = self._last = answer
        if profile.out:
            self.bench.names[profile.out] = answer
        # What a cell returns gets to `_` by itself; after an error, or where nothing is returned,
        # the display hook is told.
        self._ip.displayhook.update_user_ns(answer)  # type: ignore[no-untyped-call]

    def show(self, answer: ShownResult) -> None:
        """Show what ends a cell, an Answer or several, unless this cell showed it already."""
        if answer is self._shown:
            if not self.bench.front.returns:
                self.bench.front.show(tables.line(repr(answer)))
            return
        if isinstance(answer, AnswerFuture):
            if not answer.done:
                self.bench.front.show(tables.line(repr(answer)))
                return
            answer = answer.now
        if isinstance(answer, Answer):
            self.bench.front.show_answer(answer, self.session.layers.profile())
            return
        for bundle in final(answer.labels, answer.answers, answer.errors):
            self.bench.front.show(bundle)

    def config(self, line: str) -> None:
        """Show the settings, or set some: `%o3_config effort=high model=o4-mini`.

        `name=` with nothing behind it gives a field back to the settings below.
        """
        values: dict[str, Any] = {}
        for word in split_words(line):
            name, equals, value = word.partition("=")
            if not equals:
                raise BadOption(f"{word!r} is no setting", hint="%o3_config effort=high")
            values[name.replace("-", "_")] = value or None
        if values:
            self.session.configure(values)
            # The newest word counts: what a panel said of these fields is over.
            self.session.configure(dict.fromkeys(values), layer="widget")
            self.bench.changed()
        only = tuple(values)
        self.bench.front.show(
            tables.settings(self.session.layers, only, default_model(self.session))
        )

    def close(self) -> None:
        """Stop what is on its way, close what is on the page and the session."""
        if self._background is not None:
            self._background.close()
        self.bench.close()

    def cost(self, line: str) -> None:
        """Show what was used and cost: this session by model and effort, or what `line` asks."""
        costs.show(self.bench, line)

    def models(self, line: str) -> None:
        """Show the models we know beside those the provider lists, if there is one to ask."""
        if line.split() == ["--check"]:
            self.bench.front.show(costs.price_check())
            return
        chosen, rest = parse(line)
        refuse_words(rest, "%o3_models")
        profile = self.session.layers.profile(chosen)
        served, note = None, ""
        try:
            served = {each.id: each.shutdown for each in self.session.served_models(profile)}
        except (NoKey, RequestFailed) as error:
            note = f"what a provider serves is not known: {error}"
        self.bench.front.show(tables.models(self.session.catalog, served, note))

    def schemas(self, line: str) -> None:
        """Show the names in this notebook that `--schema` takes."""
        refuse_words(line, "%o3_schemas")
        self.bench.front.show(panel_html.schemas(self.bench.names, self.session.schemas))

    def conversations(self, line: str) -> None:
        """List the conversations, or do with one of them what the line says."""
        folder = self.session.folder(self.session.layers.profile())
        self.bench.front.show(conversations.run(self.session, line, folder))

    def insert(self, line: str) -> None:
        """Put a block of code of the last answer into a new cell below; it is not run."""
        last = self._last
        if isinstance(last, AnswerFuture):
            last = last.now
        elif isinstance(last, Comparison):
            last = next((each for each in last.answers if insert.blocks(each.text)), None)
        code = insert.insert(self._ip, last, line)
        if getattr(self._ip, "simple_prompt", False):  # it has no line to put it into
            self.bench.front.show(tables.line(code))

    def help(self, line: str) -> None:
        """Show all options and magics with examples, or one of them."""
        magics = self._ip.magics_manager.magics["line"]
        own = {name: magic for name, magic in magics.items() if name.partition("_")[0] == "o3"}
        session = self.session
        self.bench.front.show(help_bundle(line, session.layers, session.providers, own))


def confirm(call: ToolCall) -> bool:
    """Ask the user whether a tool may be called; nothing but y or yes lets it."""
    said = f"{plain_text(call.name)}({plain_text(call.arguments)})"
    shown = said if len(said) <= MOST_ASKED_CHARS else f"{said[:MOST_ASKED_CHARS]}…"
    try:
        answer = input(f"The model wants to call {shown}\nCall it? [y/N] ")
    except (EOFError, StdinNotImplementedError):
        return False  # nobody is there to answer
    return answer.strip().lower() in ("y", "yes")
