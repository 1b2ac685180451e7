"""`%o3_cost --watch`: the costs on the page, refreshed after every cell and answer."""

from __future__ import annotations

import threading
from datetime import datetime

import ipywidgets as widgets

from o3magic.cost.entries import CostTotal
from o3magic.errors import O3Error
from o3magic.notebook.context import ShellContext
from o3magic.notebook.panel_html import error_html, escape
from o3magic.reports.formatting import format_cost
from o3magic.reports.query import SCOPE_TITLES, build_ledger_filter, build_span
from o3magic.reports.report import ReportSpan
from o3magic.session.session import Session

TABLE_STYLE = "border-collapse:collapse;line-height:1.3;color:var(--jp-ui-font-color1,#424242)"
CELL_STYLE = "padding:2px 22px 2px 0;white-space:nowrap"
NUMBER_STYLE = f"{CELL_STYLE};text-align:right;font-variant-numeric:tabular-nums"
SPANS = ("session", "day", "notebook", "month")


class CostWatch:
    """A live view of the costs. `close()` takes it off the page."""

    def __init__(self, context: ShellContext, cell_id: str = "") -> None:
        self._context, self.cell_id = context, cell_id
        self._lock = threading.RLock()  # answers end in threads of their own
        self.closed = False
        self.table = widgets.HTML(layout=widgets.Layout(flex="1 1 auto"))
        self.stop = widgets.Button(
            icon="times",
            tooltip="Close: take this view off the page",
            layout=widgets.Layout(width="32px", flex="none"),
        )
        self.stop.on_click(lambda _: self.close())
        self.box = widgets.HBox(
            [self.table, self.stop],
            layout=widgets.Layout(
                width="fit-content",
                max_width="100%",
                padding="6px 10px",
                border="1px solid var(--jp-border-color2, #bdbdbd)",
            ),
        )
        context.add_view(self)
        self.refresh()

    def __repr__(self) -> str:
        """One line, for front ends without widgets."""
        return "o3magic costs, live (%o3_cost shows them once)"

    def _ipython_display_(self) -> None:
        data = dict(self.box._repr_mimebundle_())
        self._context.shell.display_pub.publish(data | {"text/plain": repr(self)})

    def refresh(self) -> None:
        """Show the current sums."""
        with self._lock:
            if self.closed:
                return
            try:
                self.table.value = costs_html(self._context.session)
            except O3Error as error:
                self.table.value = error_html(error)

    def close(self) -> None:
        """Take it off the page."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        self._context.remove_view(self)
        for widget in (self.box, self.table, self.stop):
            widget.close()


def open_watch(context: ShellContext) -> None:
    """Show a view; an earlier one of the same cell is closed."""
    CostWatch(context, context.claim_cell(CostWatch))._ipython_display_()


def costs_html(session: Session) -> str:
    """A row for each span, every word escaped."""
    rows = []
    for of in SPANS:
        if of == "notebook" and not session.notebook:
            continue
        where = build_ledger_filter(
            of, None, datetime.now().astimezone(), session.id, session.notebook
        )
        total = (session.ledger.totals(by=(), **where) or [CostTotal()])[0]
        rows.append(row_html(build_span(SCOPE_TITLES[of], total)))
    columns = (
        ("", CELL_STYLE),
        ("cost", NUMBER_STYLE),
        ("calls", NUMBER_STYLE),
        ("reasoning", NUMBER_STYLE),
    )
    head = "".join(
        f'<th scope="col" style="{style};font-weight:600">{name}</th>' for name, style in columns
    )
    return (
        f'<table style="{TABLE_STYLE}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def row_html(row: ReportSpan) -> str:
    """One span: its cost, its calls, and the share of the output that was reasoning."""
    live = row.live
    share = f"{live.reasoning_tokens / live.output_tokens:.0%}" if live.output_tokens else "–"
    texts = (f"<b>{escape(format_cost(live))}</b>", escape(row.calls), escape(share))
    cells = "".join(f'<td style="{NUMBER_STYLE}">{text}</td>' for text in texts)
    style = f"{CELL_STYLE};text-align:left;font-weight:400"
    return f'<tr><th scope="row" style="{style}">{escape(row.name)}</th>{cells}</tr>'
