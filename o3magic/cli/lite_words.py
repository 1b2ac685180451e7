"""The words of `o3magic lite`, read without loading what builds."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the command to those of the parser."""
    lite = commands.add_parser(
        "lite",
        help="notebooks as a site of plain files: Python in the browser, answers replayed",
        description="Build a JupyterLite site of notebooks and their cassettes. Pyodide is fetched "
        "by npm and wheels by pip, with your settings; once built, the site asks nobody but "
        "itself. Answers come from the cassettes only.",
    )
    lite.add_argument("output", metavar="OUTPUT", help="a folder that is not there yet, or a site")
    lite.add_argument(
        "notebooks",
        nargs="*",
        metavar="NB",
        help="notebooks, each taken with its cassette, or folders, taken with all that is in them "
        "(default: the demo notebooks)",
    )
    lite.add_argument(
        "--pyodide", default="", metavar="FILE", help="made by `npm pack pyodide`, else fetched"
    )
    lite.set_defaults(run=build)


def build(chosen: argparse.Namespace) -> int:
    """`o3magic lite`."""
    from o3magic.cli import lite

    return lite.run(chosen.output, chosen.notebooks, chosen.pyodide)
