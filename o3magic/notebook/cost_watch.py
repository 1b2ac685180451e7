"""`%o3_cost --watch`: what was spent, on the page, up to date after every cell and answer."""

from __future__ import annotations

import threading
from datetime import datetime

import ipywidgets as widgets

from o3magic.cost.entries import CostTotal
from o3magic.errors import O3Error
from o3magic.notebook.context import ShellContext
from o3magic.notebook.panel_html import error_html, escape
from o3magic.reports.formatting import cost_cell
from o3magic.reports.query import TITLES, limits, span
from o3magic.reports.report import ReportSpan
from o3magic.session.session import Session

LINES = "border-collapse:collapse;line-height:1.3;color:var(--jp-ui-font-color1,#424242)"
ROW = "padding:2px 22px 2px 0;white-space:nowrap"
NUMBER = f"{ROW};text-align:right;font-variant-numeric:tabular-nums"
SPANS = ("session", "day", "notebook", "month")


class CostWatch:
    """A live view of what was spent. `close()` takes it off the page."""

    def __init__(self, bench: ShellContext, cell_id: str = "") -> None:
        self._bench, self.cell_id = bench, cell_id
        self._lock = threading.RLock()  # answers end in threads of their own
        self.closed = False
        self.said = widgets.HTML(layout=widgets.Layout(flex="1 1 auto"))
        self.stop = widgets.Button(
            icon="times",
            tooltip="Close: take this view off the page",
            layout=widgets.Layout(width="32px", flex="none"),
        )
        self.stop.on_click(lambda _: self.close())
        self.box = widgets.HBox(
            [self.said, self.stop],
            layout=widgets.Layout(
                width="fit-content",
                max_width="100%",
                padding="6px 10px",
                border="1px solid var(--jp-border-color2, #bdbdbd)",
            ),
        )
        bench.put(self)
        self.refresh()

    def __repr__(self) -> str:
        """One line, for where there are no widgets."""
        return "o3magic costs, live (%o3_cost shows them once)"

    def _ipython_display_(self) -> None:
        """Show it."""
        data = dict(self.box._repr_mimebundle_())
        self._bench.shell.display_pub.publish(data | {"text/plain": repr(self)})

    def refresh(self) -> None:
        """Bring it up to the books."""
        with self._lock:
            if self.closed:
                return
            try:
                self.said.value = spent_html(self._bench.session)
            except O3Error as error:
                self.said.value = error_html(error)

    def close(self) -> None:
        """Take it off the page."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        self._bench.take(self)
        for widget in (self.box, self.said, self.stop):
            widget.close()


def spent_html(session: Session) -> str:
    """A line for each span, every word escaped."""
    rows = []
    for of in SPANS:
        if of == "notebook" and not session.notebook:
            continue
        where = limits(of, None, datetime.now().astimezone(), session.id, session.notebook)
        total = (session.ledger.totals(by=(), **where) or [CostTotal()])[0]
        rows.append(row_html(span(TITLES[of], total)))
    head = "".join(
        f'<th scope="col" style="{style};font-weight:600">{name}</th>'
        for name, style in (("", ROW), ("cost", NUMBER), ("calls", NUMBER), ("reasoning", NUMBER))
    )
    return (
        f'<table style="{LINES}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def row_html(said: ReportSpan) -> str:
    """One span: its cost, its calls, and how much of the output was reasoning."""
    live = said.live
    share = f"{live.reasoning_tokens / live.output_tokens:.0%}" if live.output_tokens else "–"
    cells = (f"<b>{escape(cost_cell(live))}</b>", escape(said.calls), escape(share))
    shown = "".join(f'<td style="{NUMBER}">{cell}</td>' for cell in cells)
    style = f"{ROW};text-align:left;font-weight:400"
    return f'<tr><th scope="row" style="{style}">{escape(said.name)}</th>{shown}</tr>'


def open_watch(bench: ShellContext) -> None:
    """Show a view; the one that the same cell made before is closed."""
    CostWatch(bench, bench.place(CostWatch))._ipython_display_()
