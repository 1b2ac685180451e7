"""The panel: widgets that are the profile, and a question asked in a thread of its own.

What is chosen here is the layer "widget", above %o3_config, so the next `%%o3` uses it. A field
set by %o3_config is taken out of that layer: the newest word counts. An emptied field goes back
to the layers below. The answer is no widget but a display beside them, and is saved as one.
"""

from __future__ import annotations

import threading
from datetime import date
from functools import partial
from typing import Any, get_args

from o3magic.errors import BadOption, O3Error
from o3magic.events import Answer
from o3magic.messages import Effort, ToolCall
from o3magic.models import Card
from o3magic.notebook.background import BackgroundRunner
from o3magic.notebook.completion import card_of, default_model
from o3magic.notebook.context import ShellContext
from o3magic.notebook.display import KernelDisplay
from o3magic.notebook.line_parser import cell_text, check_name
from o3magic.notebook.panel_html import (
    alarm,
    bars_html,
    effort_columns,
    efforts_html,
    error_html,
    meter_html,
    model_html,
    schema_html,
    spent,
    status,
)
from o3magic.notebook.panel_widgets import PanelWidgets, set_options
from o3magic.render import tables
from o3magic.render.answer import request_bundle
from o3magic.schemas.lookup import known_types
from o3magic.session.plan import check_effort, shown_request
from o3magic.settings import Settings

MOST_CHARS = 2_000


class ToolPermission:
    """The question and its two buttons, which are seen only while it is asked.

    row: the widget that holds them. words, allow, decline: what it holds.
    """

    def __init__(self, row: Any, words: Any, allow: Any, decline: Any) -> None:
        self._row, self._words = row, words
        self._answered = threading.Event()
        self._allowed = False
        allow.on_click(lambda _: self.say(True))
        decline.on_click(lambda _: self.say(False))
        self._hide()

    def ask(self, call: ToolCall) -> bool:
        """Whether this call may be made. Waits for a click, or for `say`."""
        said = f"{call.name}({call.arguments})"
        shown = said if len(said) <= MOST_CHARS else f"{said[:MOST_CHARS]}…"
        self._answered.clear()
        self._allowed = False
        self._words.value = alarm(f"The model wants to call {shown}")
        self._row.layout.display = "flex"
        self._answered.wait()
        self._hide()
        return self._allowed

    def say(self, allowed: bool) -> None:
        """Answer, as a click does."""
        self._allowed = allowed
        self._answered.set()

    def _hide(self) -> None:
        self._row.layout.display = "none"
        self._words.value = ""


FIELDS = ("model", "effort", "schema", "developer", "out")
NO_WIDGETS = "a panel needs a notebook; here `%o3_config effort=high` sets what it would"


class Panel:
    """Controls for the settings and a prompt. Show it as the last word of a cell."""

    def __init__(self, bench: ShellContext, cell_id: str = "") -> None:
        self._bench, self.cell_id = bench, cell_id
        self._session = bench.session
        self.closed = False
        self._asker = BackgroundRunner(bench.shell, self._over)
        self._lock = threading.RLock()  # widgets change from the kernel's thread and from ours
        self._refreshing = False
        self._said = ""
        self.controls = show = PanelWidgets()
        self._permission = ToolPermission(
            show.permission, show.permission_words, show.allow, show.decline
        )
        for field in FIELDS:
            getattr(self.controls, field).observe(partial(self._changed, field), "value")
        self.controls.run.on_click(lambda _: self.run())
        self.controls.stop.on_click(lambda _: self.stop())
        self.controls.write.on_click(lambda _: self.write())
        bench.put(self)
        self.refresh()

    def __repr__(self) -> str:
        """One line, for where there are no widgets: a saved notebook, a page, a terminal."""
        profile = self._session.layers.profile()
        effort = f", effort {profile.effort}" if profile.effort else ""
        schema = f", schema {profile.schema}" if profile.schema else ""
        model = default_model(self._session)[0]
        return (
            f"o3magic panel: {profile.model or model}{effort}{schema} (%o3_panel shows a live one)"
        )

    def _ipython_display_(self) -> None:
        """The widgets, and below them the display that takes the answers."""
        data = dict(self.controls.box._repr_mimebundle_())
        self._bench.shell.display_pub.publish(data | {"text/plain": repr(self)})
        self._asker.place()

    @property
    def prompt(self) -> str:
        """What stands in the prompt."""
        return str(self.controls.prompt.value).strip("\r\n")

    @property
    def cell(self) -> str:
        """The `%%o3` cell that asks the same."""
        return cell_text(self._session.layers, self.prompt)

    @property
    def running(self) -> bool:
        """Whether an answer is on its way."""
        return self._asker.running

    @property
    def answer(self) -> Answer | None:
        """The last answer, or as much of it as arrived; None before the first."""
        return self._asker.answer

    def refresh(self) -> None:
        """Bring all widgets up to the settings, to the notebook and to the books."""
        with self._lock:
            if self.closed or self._refreshing:
                return
            self._refreshing = True
            try:
                self._refresh(self._session.layers.profile())
            finally:
                self._refreshing = False

    def _refresh(self, profile: Settings) -> None:
        show, session = self.controls, self._session
        card = card_of(self._session, profile)
        efforts = get_args(Effort) if card.efforts is None else card.efforts
        show.model.options = tuple(session.catalog.names)
        for field in ("model", "developer", "out"):
            getattr(show, field).value = getattr(profile, field)
        default, reason = default_model(session)
        show.model.placeholder = f"{default} (default)" if default else ""
        effort = profile.effort or ""
        set_options(
            show.effort,
            [("default", ""), *((each, each) for each in efforts)],
            effort if effort in ("", *efforts) else None,
        )
        types = known_types(self._bench.names, session.schemas)
        if profile.schema and profile.schema not in types:
            types.append(profile.schema)
        set_options(show.schema, [("none", ""), *((each, each) for each in types)], profile.schema)
        why = "" if profile.model or not reason else f"{default}, {reason}: "
        show.model_line.value = model_html(card, session.catalog, date.today(), why)
        show.schema_line.value = schema_html(profile.schema, self._bench.names, session.schemas)
        self._show_books(card, efforts)
        show.status.value = self._problem(profile, card) or self._said
        show.run.disabled = self.running
        show.stop.disabled = not self.running
        if show.cell.layout.display != "none":
            show.cell.value = self.cell

    def _show_books(self, card: Card, efforts: tuple[str, ...]) -> None:
        """What each effort cost and took, and what was spent in all."""
        session = self._session

        def same_model(name: str) -> bool:
            return session.catalog.card(name).id == card.id

        try:
            history = spent(session.ledger.entries(session=session.id), same_model)
            self.controls.meter.value = meter_html(session)
            profile = session.layers.profile()
            self.controls.budget.value = bars_html(session.standing(profile), profile.budget_warn)
        except O3Error as error:
            history = {}
            self.controls.meter.value = error_html(error)
        names = ("default", *efforts)
        columns = effort_columns(efforts, history, card.default_effort)
        self.controls.effort_line.value = efforts_html(names, columns)
        said = zip(names, columns, strict=True)
        self.controls.effort.tooltips = [f"effort {n}: {', '.join(c)}" for n, c in said]

    def _problem(self, profile: Settings, card: Card) -> str:
        """Why this profile cannot be asked, if that can be seen."""
        try:
            check_effort(profile, card)
        except O3Error as error:
            return error_html(error)
        return ""

    def _changed(self, field: str, change: Any) -> None:
        """A widget got another value: from the page, or from `refresh`, which is not news."""
        with self._lock:
            if not self._refreshing:
                self._choose(field, str(change["new"] or "").strip() or None)

    def _choose(self, field: str, value: str | None) -> None:
        """Set a field in the widgets' layer, or give it back, in all panels."""
        layers = self._session.layers
        self._said = ""
        try:
            if field == "out":
                check_name(value or "")
            profile = self._session.configure({field: value}, layer="widget")
            below = getattr(profile, field)
            if value is None and below and self._session.layers.origin(field) != "default":
                origin = self._session.layers.origin(field)
                self._said = status(f"{field} {below} is what {origin} says")
        except O3Error as error:
            self._session.layers = layers
            self._said = error_html(error)
        self._bench.changed()

    def write(self) -> None:
        """Show the cell that asks the same, to copy; it follows what is chosen."""
        self.controls.cell.layout.display = "flex"
        self.controls.cell.value = self.cell

    def run(self) -> None:
        """Ask. Comes back at once: a thread takes the answer, so that Stop can be pressed."""
        if self.running or self.closed:
            return
        try:
            profile = self._session.layers.profile()
            check_name(profile.out)
            planned = self._session.plan(self.prompt, profile, self._bench.names)
        except O3Error as error:
            self._tell(error_html(error))
            return
        if profile.dry_run:
            foreseen = self._session.foreseen(planned)
            self._asker.publish(request_bundle(shown_request(planned), foreseen))
            self._tell(status("nothing was sent: dry_run is set"))
            return
        self._tell(status(f"asking {planned.profile.model} …"))
        self._asker.start(self._session.begin(planned, confirm=self._permission.ask))
        self.refresh()

    def stop(self) -> None:
        """Stop the answer, if one is on its way. What has arrived is kept."""
        stopped = self._asker.stop()
        self._permission.say(False)  # after it: a call that comes now is not asked about any more
        if stopped:
            self._tell(status("stopped by you"))

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the answer is here."""
        self._asker.wait(timeout_s)

    def _over(self, said: str | None) -> None:
        """An answer ended, in its thread."""
        if said is not None:
            self._said = said
        self._bench.changed()

    def _tell(self, said: str) -> None:
        self._said = said
        self.refresh()

    def close(self) -> None:
        """Stop what runs and take the widgets off the page; the last answer stays."""
        self.stop()
        with self._lock:
            if self.closed:
                return
            self.closed = True
        self._bench.take(self)
        self.controls.close()


def open_panel(bench: ShellContext) -> Panel | None:
    """A new panel; the one that the same cell made before is closed. A line in a terminal."""
    if not isinstance(bench.front, KernelDisplay):
        bench.front.show(tables.line(NO_WIDGETS))
        return None
    return Panel(bench, bench.place(Panel))


def insert_cell(bench: ShellContext) -> None:
    """Put the cell that the newest panel writes below the one that runs. Raises BadOption."""
    panels = bench.views(Panel)
    if not panels:
        raise BadOption("there is no panel to write the cell of", hint="%o3_panel opens one")
    bench.shell.set_next_input(panels[-1].cell)
