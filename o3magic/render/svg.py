"""SVG primitives and colours of the charts. Every text and tooltip is escaped.

All colours are middle tones on a transparent ground: an SVG that is shown as an image cannot know
whether its page is light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 720, 70, 14  # of an image, and of the margins beside its plot
INK, FAINT = "#7b7f87", "#8b8f9766"
EFFORT_COLOURS = {
    "": "#8a8f98",
    "none": "#7d9a8a",
    "minimal": "#3fa7a0",
    "low": "#3b9fd1",
    "medium": "#4a7fe0",
    "high": "#8566d9",
    "xhigh": "#b857b4",
    "max": "#d65380",
}
UNKNOWN_EFFORT = "#b58436"
FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif\""


def choose_effort_colour(effort: str) -> str:
    """The colour of an effort, the same in every chart."""
    return EFFORT_COLOURS.get(effort, UNKNOWN_EFFORT)


def build_image(parts: Sequence[str], height: int, label: str) -> str:
    """Elements as one SVG document, WIDTH pixels wide; label is read by screen readers."""
    elements = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" {FONT}>\n'
        f"<title>{escape(label)}</title>\n{elements}\n</svg>\n"
    )


def build_rect(
    x: float, y: float, width: float, height: float, fill: str, tooltip: str = ""
) -> str:
    shape = f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    end = f"><title>{escape(tooltip)}</title></rect>" if tooltip else "/>"
    return f'{shape} fill="{fill}"{end}'


def build_path(d: str, stroke: str, attributes: str = "") -> str:
    """A line along `d`, the path's data; attributes: more of them, as they are written."""
    return f'<path d="{d}" stroke="{stroke}"{attributes}/>'


def build_circle(x: float, y: float, radius: float, colour: str, *, is_hollow: bool = False) -> str:
    paint = f'fill="none" stroke="{colour}" stroke-width="2"' if is_hollow else f'fill="{colour}"'
    return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius}" {paint}/>'


def build_text(
    x: float,
    y: float,
    content: str,
    *,
    size: int = 13,
    weight: int = 400,
    anchor: str = "start",
    tooltip: str = "",
) -> str:
    title = f"<title>{escape(tooltip)}</title>" if tooltip else ""
    return (
        f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{INK}">{escape(content)}{title}</text>'
    )
