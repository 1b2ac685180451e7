"""An executed notebook as one HTML page, for those who have only a browser. The door of jinja2.

The Markdown in it was made safe when it was shown; text and code are escaped here.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt


def page(notebook: Any, title: str) -> str:
    """The page of a notebook."""
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

    templates = Environment(
        loader=PackageLoader("o3magic.cli", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = templates.get_template("page.html")
    return template.render(
        title=title, cells=map(cell_of, notebook.cells), rendered=renderer.render
    )


def cell_of(cell: Any) -> dict[str, Any]:
    """A cell with the outputs a page can show."""
    outputs = [found for output in cell.get("outputs", ()) if (found := output_of(output))]
    return {"kind": cell.cell_type, "source": cell.source, "outputs": outputs}


def output_of(output: Any) -> tuple[str, str] | None:
    """The kind and the text of an output: Markdown if it has it, then text; None for neither."""
    if output.output_type == "stream":
        return "text", output.text
    if output.output_type == "error":
        return "text", "\n".join(output.traceback)
    data = output.get("data", {})
    if "text/markdown" in data and "application/json" not in data:
        return "markdown", data["text/markdown"]
    return ("text", data["text/plain"]) if "text/plain" in data else None
