"""The panel: the settings and a prompt as widgets; its question is asked in a thread.

What is chosen here is the layer "widget" of the settings, above %o3_config, so the next `%%o3` uses
it. Setting a field by %o3_config removes it from that layer: the newest choice counts. A field that
is emptied has the value of the layers below. The answer is no widget but a display below them, so
that the notebook stores it.
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
from o3magic.notebook.background import PanelRunner
from o3magic.notebook.commands import shorten_call
from o3magic.notebook.completion import card_of, default_model
from o3magic.notebook.context import ShellContext
from o3magic.notebook.display import KernelDisplay
from o3magic.notebook.line_parser import cell_text, check_name
from o3magic.notebook.panel_html import (
    alarm,
    average_by_effort,
    bars_html,
    effort_columns,
    efforts_html,
    error_html,
    meter_html,
    model_html,
    schema_html,
    status,
)
from o3magic.notebook.panel_widgets import PanelWidgets, set_options
from o3magic.render import tables
from o3magic.render.answer import request_bundle
from o3magic.schemas.lookup import list_types
from o3magic.session.plan import build_shown_request, check_effort
from o3magic.settings import Settings

FIELDS = ("model", "effort", "schema", "developer", "out")
NO_WIDGETS = "a panel needs a notebook; here `%o3_config effort=high` sets what it would"


def open_panel(context: ShellContext) -> Panel | None:
    """A new panel; an earlier one of the same cell is closed. In a terminal a line, and None."""
    if not isinstance(context.display, KernelDisplay):
        context.display.show(tables.line(NO_WIDGETS))
        return None
    return Panel(context, context.claim_cell(Panel))


def insert_cell(context: ShellContext) -> None:
    """Add the cell of the newest panel below the running cell. Raises BadOption."""
    panels = context.views(Panel)
    if not panels:
        raise BadOption("there is no panel to write the cell of", hint="%o3_panel opens one")
    context.shell.set_next_input(panels[-1].cell)


class Panel:
    """Widgets for the settings and a prompt. As the last value of a cell it is shown."""

    def __init__(self, context: ShellContext, cell_id: str = "") -> None:
        self._context, self.cell_id = context, cell_id
        self._session = context.session
        self.closed = False
        self._runner = PanelRunner(context.shell, self._on_end)
        self._lock = threading.RLock()  # widgets change in the kernel's thread and in the runner's
        self._refreshing = False
        self._message = ""
        self.controls = PanelWidgets()
        self._permission = ToolPermission(self.controls)
        for field in FIELDS:
            getattr(self.controls, field).observe(partial(self._on_change, field), "value")
        self.controls.run.on_click(lambda _: self.run())
        self.controls.stop.on_click(lambda _: self.stop())
        self.controls.write.on_click(lambda _: self.write())
        context.add_view(self)
        self.refresh()

    def __repr__(self) -> str:
        """One line, for a saved notebook and front ends without widgets."""
        settings = self._session.layers.profile()
        model = settings.model or default_model(self._session)[0]
        effort = f", effort {settings.effort}" if settings.effort else ""
        schema = f", schema {settings.schema}" if settings.schema else ""
        return f"o3magic panel: {model}{effort}{schema} (%o3_panel shows a live one)"

    def _ipython_display_(self) -> None:
        """Show the widgets, and below them the display for the answers."""
        data = dict(self.controls.box._repr_mimebundle_())
        self._context.shell.display_pub.publish(data | {"text/plain": repr(self)})
        self._runner.add_display()

    @property
    def prompt(self) -> str:
        """The text of the prompt field."""
        return str(self.controls.prompt.value).strip("\r\n")

    @property
    def cell(self) -> str:
        """The `%%o3` cell that asks the same."""
        return cell_text(self._session.layers, self.prompt)

    @property
    def running(self) -> bool:
        """Whether an answer is arriving."""
        return self._runner.running

    @property
    def answer(self) -> Answer | None:
        """The last answer, as far as it arrived; None before the first."""
        return self._runner.answer

    def run(self) -> None:
        """Ask in a thread, so that Stop can be pressed."""
        if self.running or self.closed:
            return
        try:
            settings = self._session.layers.profile()
            check_name(settings.out)
            plan = self._session.plan(self.prompt, settings, self._context.names)
        except O3Error as error:
            self._show_message(error_html(error))
            return
        if settings.dry_run:
            estimate = self._session.foreseen(plan)
            self._runner.publish(request_bundle(build_shown_request(plan), estimate))
            self._show_message(status("nothing was sent: dry_run is set"))
            return
        self._show_message(status(f"asking {plan.profile.model} …"))
        self._runner.start(self._session.begin(plan, confirm=self._permission.ask))
        self.refresh()

    def stop(self) -> None:
        """Stop the answer that is arriving, if one is. What has arrived is kept."""
        stopped = self._runner.stop()
        self._permission.answer(False)  # after it: for a later call nobody is asked any more
        if stopped:
            self._show_message(status("stopped by you"))

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the last answer has ended."""
        self._runner.wait(timeout_s)

    def write(self) -> None:
        """Show the cell that asks the same, to copy; it follows what is chosen."""
        self.controls.cell.layout.display = "flex"
        self.controls.cell.value = self.cell

    def close(self) -> None:
        """Stop the answer and take the widgets off the page; the last answer stays."""
        self.stop()
        with self._lock:
            if self.closed:
                return
            self.closed = True
        self._context.remove_view(self)
        self.controls.close()

    def refresh(self) -> None:
        """Show the current settings, schemas and sums."""
        with self._lock:
            if self.closed or self._refreshing:
                return
            self._refreshing = True
            try:
                self._refresh(self._session.layers.profile())
            finally:
                self._refreshing = False

    def _refresh(self, settings: Settings) -> None:
        controls, session = self.controls, self._session
        card = card_of(session, settings)
        efforts = get_args(Effort) if card.efforts is None else card.efforts
        controls.model.options = tuple(session.catalog.names)
        for field in ("model", "developer", "out"):
            getattr(controls, field).value = getattr(settings, field)
        default, reason = default_model(session)
        controls.model.placeholder = f"{default} (default)" if default else ""
        effort = settings.effort or ""
        set_options(
            controls.effort,
            [("default", ""), *((name, name) for name in efforts)],
            effort if effort in ("", *efforts) else None,
        )
        types = list_types(self._context.names, session.schemas)
        if settings.schema and settings.schema not in types:
            types.append(settings.schema)
        set_options(
            controls.schema, [("none", ""), *((name, name) for name in types)], settings.schema
        )
        choice = "" if settings.model or not reason else f"{default}, {reason}: "
        controls.model_line.value = model_html(card, session.catalog, date.today(), choice)
        controls.schema_line.value = schema_html(
            settings.schema, self._context.names, session.schemas
        )
        self._refresh_costs(settings, card, efforts)
        controls.status.value = self._message
        try:
            check_effort(settings, card)
        except O3Error as error:
            controls.status.value = error_html(error)
        controls.run.disabled = self.running
        controls.stop.disabled = not self.running
        if controls.cell.layout.display != "none":
            controls.cell.value = self.cell

    def _refresh_costs(self, settings: Settings, card: Card, efforts: tuple[str, ...]) -> None:
        """Show the cost and time of each effort, and the sums."""
        session = self._session
        try:
            spending = average_by_effort(
                session.ledger.entries(session=session.id),
                lambda model: session.catalog.card(model).id == card.id,
            )
            self.controls.meter.value = meter_html(session)
            self.controls.budget.value = bars_html(session.standing(settings), settings.budget_warn)
        except O3Error as error:
            spending = {}
            self.controls.meter.value = error_html(error)
        names = ("default", *efforts)
        columns = effort_columns(efforts, spending, card.default_effort)
        self.controls.effort_line.value = efforts_html(names, columns)
        self.controls.effort.tooltips = [
            f"effort {name}: {', '.join(lines)}" for name, lines in zip(names, columns, strict=True)
        ]

    def _on_change(self, field: str, change: Any) -> None:
        """A widget has another value: from the page, or from `refresh`, which is to be ignored."""
        with self._lock:
            if not self._refreshing:
                self._choose(field, str(change["new"] or "").strip() or None)

    def _choose(self, field: str, value: str | None) -> None:
        """Set a field in the layer "widget", or remove it from there, in all panels."""
        before = self._session.layers
        self._message = ""
        try:
            if field == "out":
                check_name(value or "")
            settings = self._session.configure({field: value}, layer="widget")
            below = getattr(settings, field)
            origin = self._session.layers.origin(field)
            if value is None and below and origin != "default":
                self._message = status(f"{field} {below} is set by {origin}")
        except O3Error as error:
            self._session.layers = before
            self._message = error_html(error)
        self._context.refresh_views()

    def _on_end(self, message: str | None) -> None:
        """An answer has ended; called in its thread."""
        if message is not None:
            self._message = message
        self._context.refresh_views()

    def _show_message(self, message: str) -> None:
        self._message = message
        self.refresh()


class ToolPermission:
    """The question whether a tool may be called, with its two buttons; hidden at other times."""

    def __init__(self, controls: PanelWidgets) -> None:
        self._controls = controls
        self._answered = threading.Event()
        self._allowed = False
        controls.allow.on_click(lambda _: self.answer(True))
        controls.decline.on_click(lambda _: self.answer(False))
        self._hide()

    def ask(self, call: ToolCall) -> bool:
        """Whether this call may be made. Waits for a click, or for `answer`."""
        self._answered.clear()
        self._allowed = False
        text = shorten_call(call.name, call.arguments)
        self._controls.permission_words.value = alarm(f"The model wants to call {text}")
        self._controls.permission.layout.display = "flex"
        self._answered.wait()
        self._hide()
        return self._allowed

    def answer(self, allowed: bool) -> None:
        """Answer, as a click does."""
        self._allowed = allowed
        self._answered.set()

    def _hide(self) -> None:
        self._controls.permission.layout.display = "none"
        self._controls.permission_words.value = ""
