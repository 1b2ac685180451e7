"""The magics and their help. Their work is in `commands`, which is loaded at the first use.

So `%load_ext` costs a notebook next to nothing.
"""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleMatcherResult, context_matcher
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from o3magic.errors import O3Error
from o3magic.interrupts import raise_interrupted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from o3magic.notebook.commands import Commands, ShownResult
    from o3magic.notebook.panel import Panel
    from o3magic.session.session import Session


@magics_class
class O3Magics(Magics):
    """The magics of one shell. All state is here and in `actions`; no module has any."""

    def __init__(
        self, shell: InteractiveShell, environment: Mapping[str, str], folder: Path
    ) -> None:
        super().__init__(shell)
        self._shell = shell
        self._environment = environment
        self._folder = folder
        self._cell = ""

    @cached_property
    def actions(self) -> Commands:
        """The commands. Raises BadOption for a bad settings file, until the file is mended."""
        from o3magic.notebook.commands import Commands
        from o3magic.notebook.context import ShellContext

        commands = Commands(ShellContext(self._shell, self.session))
        commands.begin_cell(self._cell)
        return commands

    @property
    def opened(self) -> Commands | None:
        """The commands, or None where nothing has needed them yet."""
        commands: Commands | None = self.__dict__.get("actions")
        return commands

    @cached_property
    def session(self) -> Session:
        """The session of all magics. Raises BadOption as `actions` does."""
        from o3magic.session.session import Session

        return Session.start(self._environment, self._folder)

    @cached_property
    def matcher(self) -> Any:
        """The matcher of TAB. It loads less than `actions`: JupyterLab waits a second at most."""
        from o3magic.notebook.completion import build_matcher

        return build_matcher(self.session, self._shell.user_ns)

    def close(self) -> None:
        """Stop the answers that are arriving, and close the session, if one was opened."""
        if self.opened:
            self.opened.close()

    def on_cell(self, info: Any) -> None:
        """Called before each cell: keep its text."""
        self._cell = info.raw_cell or ""
        if self.opened:
            self.opened.begin_cell(self._cell)

    @context_matcher(identifier="o3magic")  # type: ignore[untyped-decorator]
    def complete(self, context: CompletionContext) -> SimpleMatcherResult:
        """The completions of a line of `%%o3`, `%o3` or `%o3_config`; other lines load nothing.

        None where a settings file is wrong: the magic itself reports it.
        """
        if not any(name in context.line_with_cursor for name in ("%o3 ", "%o3_config ")):
            return {"completions": []}
        try:
            result: SimpleMatcherResult = self.matcher(context)
        except O3Error:
            return {"completions": []}
        return result

    def show(self, result: ShownResult) -> None:
        """Show the result of a cell."""
        self.actions.show(result)

    @no_var_expand
    @line_cell_magic
    def o3(self, line: str, cell: str | None = None) -> ShownResult | None:
        """Ask a reasoning model; the answer appears as it is written."""
        with raise_interrupted():
            answer = self.actions.ask(line, cell)
        # A browser's kernel would send an empty result for it, and `_` is set already.
        return answer if cell is None or sys.platform != "emscripten" else None

    @no_var_expand
    @line_magic
    def o3_config(self, line: str) -> None:
        """Show the settings, or set some: `%o3_config effort=high model=o4-mini`.

        `name=` unsets it: the value of the settings files or of the environment counts again.
        """
        self.actions.config(line)

    @line_magic
    def o3_cost(self, line: str) -> None:
        """Show what was used and cost: `%o3_cost --of month --by day`; `%o3_cost?` has more."""
        self.actions.cost(line)

    @line_magic
    def o3_models(self, line: str) -> None:
        """Show the known models beside those that the provider lists: `%o3_models -p ollama`.

        `%o3_models --check` compares the built-in prices with those of genai-prices.
        """
        self.actions.models(line)

    @line_magic
    def o3_schemas(self, line: str) -> None:
        """Show the names in this notebook that `--schema` takes."""
        self.actions.schemas(line)

    @line_magic
    def o3_panel(self, line: str) -> Panel | None:
        """Show the settings and a prompt as widgets; `%o3_panel cell` writes its `%%o3` cell."""
        return self.panel(line.strip())

    def panel(self, word: str = "") -> Panel | None:
        """A new panel, or None in a terminal; the word `cell` adds its cell below this one.

        Raises BadOption for another word, and where ipywidgets is not installed.
        """
        from o3magic.errors import BadOption

        try:
            from o3magic.notebook.panel import insert_cell, open_panel
        except ModuleNotFoundError as error:
            if error.name != "ipywidgets":
                raise
            raise BadOption(
                "the panel needs ipywidgets, which is not installed", hint="pip install ipywidgets"
            ) from None
        if word == "cell":
            insert_cell(self.actions.context)
            return None
        if word:
            raise BadOption(f"%o3_panel takes no {word!r}", hint="%o3_panel or %o3_panel cell")
        return open_panel(self.actions.context)

    @no_var_expand
    @line_magic
    def o3_conversations(self, line: str) -> None:
        """List the conversations; show, fork, undo, rename, delete, export or compact one."""
        self.actions.conversations(line)

    @line_magic
    def o3_jobs(self, line: str) -> Any:
        """List the jobs of o3.map and o3.batch; `%o3_jobs show|resume|cancel|delete JOB`."""
        return self.actions.jobs(line)

    @line_magic
    def o3_insert(self, line: str) -> None:
        """Put a block of code of the last answer below: its first Python, or `%o3_insert 2`."""
        self.actions.insert(line)

    @line_magic
    def o3_help(self, line: str) -> None:
        """Show common options and magics with examples; `%o3_help all`, `%o3_help effort`."""
        self.actions.help(line)


def help_page() -> str:
    """The page of `%%o3?`."""
    from o3magic.notebook.help import cell_help

    return cell_help()


def cost_page() -> str:
    """The page of `%o3_cost?`."""
    from o3magic.notebook.costs import help_text

    return help_text()


def conversations_page() -> str:
    """The page of `%o3_conversations?`."""
    from o3magic.notebook.conversations import help_text

    return help_text()


# IPython calls this in place of reading the docstring, so a page is built when it is read.
O3Magics.o3.getdoc = help_page  # type: ignore[union-attr]
O3Magics.o3_cost.getdoc = cost_page  # type: ignore[union-attr]
O3Magics.o3_conversations.getdoc = conversations_page  # type: ignore[union-attr]
