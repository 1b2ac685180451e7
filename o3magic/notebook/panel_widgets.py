"""The widgets of the panel and their layout. ipywidgets is loaded with the first panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from o3magic.notebook.panel_html import BUTTON_WIDTH

LABEL_WIDTH = "82px"
INDENT = "90px"  # below the controls, not below their labels
FIELD_WIDTH = "400px"


class PanelWidgets:
    """All widgets of one panel, in the order TAB goes; `box` holds them."""

    def __init__(self) -> None:
        self.model = widgets.Combobox(
            description="Model",
            ensure_option=False,
            continuous_update=False,
            tooltip="Model: one of the list, or any name the provider knows; empty: not chosen",
            **labelled(FIELD_WIDTH),
        )
        # Without a description, which would stand above the buttons.
        self.effort = widgets.ToggleButtons(tooltip="Reasoning effort")
        self.effort.style.button_width = BUTTON_WIDTH
        self.schema = widgets.Dropdown(
            description="Schema",
            tooltip="Type of the answer: the schemas of this notebook",
            **labelled(FIELD_WIDTH),
        )
        self.developer = text_area("Developer", "how to answer; stands above the prompt", 2)
        self.prompt = text_area("Prompt", "what to ask", 5)
        self.out = widgets.Text(
            description="Name",
            placeholder="a variable that gets the answer",
            continuous_update=False,
            tooltip="Name of the variable that gets the answer",
            **labelled(FIELD_WIDTH),
        )
        self.run = button("Run", "play", "Ask the model", "primary")
        self.stop = button("Stop", "stop", "Stop the answer; what has arrived is kept")
        self.stop.disabled = True
        self.write = button("Write the cell", "code", "Show the %%o3 cell that asks the same")
        self.cell = text_area("Cell", "", 4)
        self.cell.layout.display = "none"
        self.permission_words = note()
        self.allow = button("Call it", "check", "Let the tool be called, once")
        self.decline = button("Decline", "times", "Tell the model that you declined")
        self.permission = row(self.permission_words, self.allow, self.decline)
        self.model_line, self.schema_line, self.status = (note() for _ in range(3))
        self.effort_line = widgets.HTML()
        self.meter = note()
        self.budget = widgets.HTML()
        self.box = self._box()

    def _box(self) -> Any:
        """All of them, one below the other."""
        title = widgets.HTML("<b>o3magic</b>", layout=widgets.Layout(flex="0 0 auto"))
        label = widgets.HTML(
            '<div style="text-align:right">Effort</div>',
            layout=widgets.Layout(width=LABEL_WIDTH, flex="none", margin="2px 6px 2px 2px"),
        )
        column = widgets.VBox(
            [self.effort, self.effort_line], layout=widgets.Layout(flex="1 1 0", min_width="0")
        )
        efforts = widgets.HBox([label, column])
        buttons = row(self.run, self.stop, self.write, self.status)
        buttons.layout.margin = f"4px 0 0 {INDENT}"
        return widgets.VBox(
            [
                row(title, self.meter),
                self.budget,
                row(self.model, self.model_line),
                efforts,
                row(self.schema, self.schema_line),
                self.developer,
                self.prompt,
                self.out,
                buttons,
                self.permission,
                self.cell,
            ],
            layout=widgets.Layout(
                max_width="960px",
                padding="8px 12px",
                margin="0 0 10px",
                border="1px solid var(--jp-border-color2, #bdbdbd)",
            ),
        )

    def close(self) -> None:
        """Take all of them off the page."""
        pending = [self.box]
        while pending:
            widget = pending.pop()
            pending += getattr(widget, "children", ())
            widget.close()


def labelled(width: str) -> dict[str, Any]:
    """The style and layout of a control with its label to the left."""
    return {
        "style": {"description_width": LABEL_WIDTH},
        # 4px: the margins of 2px on both sides.
        "layout": widgets.Layout(width=width, max_width="calc(100% - 4px)"),
    }


def row(*children: Any) -> Any:
    """Widgets side by side; below one another where the page is narrow."""
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap", align_items="center"))


def text_area(label: str, placeholder: str, rows: int) -> Any:
    """A field for several lines. Its value changes when the field loses the focus."""
    return widgets.Textarea(
        description=label,
        placeholder=placeholder,
        rows=rows,
        continuous_update=False,
        tooltip=f"{label}: {placeholder}" if placeholder else label,
        **labelled("auto"),
    )


def note() -> Any:
    """A text that takes the rest of its row."""
    return widgets.HTML(layout=widgets.Layout(flex="1 1 260px", min_width="0", margin="2px 8px"))


def button(label: str, icon: str, tooltip: str, style: str = "") -> Any:
    """A button as wide as its label."""
    return widgets.Button(
        description=label,
        icon=icon,
        tooltip=tooltip,
        button_style=style,
        layout=widgets.Layout(width="auto"),
    )


def set_options(widget: Any, options: Sequence[tuple[str, str]], value: str | None) -> None:
    """Set the options and the value of a selection; only differences are sent."""
    if tuple(widget.options) != tuple(options):
        widget.options = tuple(options)
    if widget.value != value:
        widget.value = value
