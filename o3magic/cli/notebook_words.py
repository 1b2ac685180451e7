"""The words of `o3magic run`, `check`, `migrate` and `strip`; what runs them is loaded later."""

from __future__ import annotations

import argparse
from typing import Any

from o3magic.messages import EFFORTS

NOTEBOOKS = "a notebook, or a folder: all notebooks in and below it"
MODES = ("live", "replay", "auto", "record", "refresh")
TIMEOUT_S = 600.0  # of a check: a build server should not hang


def add(commands: Any) -> None:
    """Add the commands to those of the parser."""
    add_run(commands)
    add_check(commands)
    add_migrate(commands)
    add_strip(commands)


def add_run(commands: Any) -> None:
    """`o3magic run`."""
    run = commands.add_parser(
        "run",
        help="run notebooks and write their outputs into them",
        description="Run notebooks, in place or into --output. Exit codes: 0 all cells ran, "
        "2 a cell failed, 3 no notebook or no kernel, 130 stopped.",
    )
    run.add_argument("notebooks", nargs="+", metavar="NB", help=NOTEBOOKS)
    run.add_argument("--mode", choices=MODES, help="where answers come from (default: as set)")
    run.add_argument("--output", default="", metavar="FILE|FOLDER", help="write there instead")
    run.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a name behind the cell tagged `parameters`; again for another",
    )
    run.add_argument("--timeout", type=seconds, metavar="S", help="seconds each cell may take")
    run.add_argument("--kernel", default="", metavar="NAME", help="instead of the notebook's own")
    run.add_argument("--budget", default="", metavar="USD", help="the most a notebook may cost")
    run.set_defaults(run=run_notebooks)


def add_check(commands: Any) -> None:
    """`o3magic check`."""
    check = commands.add_parser(
        "check",
        help="run notebooks without network and compare with what is stored in them",
        description="Run notebooks from their cassettes, without keys or network, and compare. "
        "Tags of cells: raises-exception, o3-ignore-output (run, not compared), o3-skip (not "
        "run). Exit codes: 0 same, 1 outputs differ, 2 a cell failed or has no recorded answer, "
        "3 no notebook or no kernel; of several notebooks the worst.",
    )
    check.add_argument("notebooks", nargs="+", metavar="NB", help=NOTEBOOKS)
    check.add_argument("--update", action="store_true", help="write outputs that differ into them")
    check.add_argument("--strict", action="store_true", help="fail on unused or edited answers")
    check.add_argument("--prune", action="store_true", help="delete recorded answers not in use")
    check.add_argument("--json", default="", metavar="FILE", help="the report as JSON")
    check.add_argument("--junit", default="", metavar="FILE", help="the report as JUnit's XML")
    check.add_argument("--kernel", default="", metavar="NAME", help="instead of the notebook's own")
    check.add_argument(
        "--timeout",
        type=seconds,
        default=TIMEOUT_S,
        metavar="S",
        help=f"seconds each cell may take (default: {TIMEOUT_S:g})",
    )
    check.set_defaults(run=check_notebooks)


def add_migrate(commands: Any) -> None:
    """`o3magic migrate`."""
    migrate = commands.add_parser(
        "migrate",
        help="ask another model a notebook's questions, compare, and keep its answers or not",
        description="Run a notebook with another model in the place of the one that answered, "
        "and show what differs: text, fields of typed answers, tokens and cost. Nothing of it "
        "changes before --accept. Exit codes: 0 done, 2 a cell failed, 3 no notebook or cassette.",
    )
    migrate.add_argument("notebook", metavar="NB")
    migrate.add_argument("--to", default="", metavar="MODEL", help="the model to ask")
    migrate.add_argument("--effort", default="", choices=EFFORTS, help="for cells that set none")
    migrate.add_argument("-p", "--provider", default="", metavar="NAME", help="the provider to ask")
    migrate.add_argument("--budget", default="", metavar="USD", help="the most it may cost")
    ends = migrate.add_mutually_exclusive_group()
    ends.add_argument("--accept", action="store_true", help="keep the new answers")
    ends.add_argument("--drop", action="store_true", help="discard the new answers")
    migrate.set_defaults(run=migrate_notebook)


def add_strip(commands: Any) -> None:
    """`o3magic strip`."""
    strip = commands.add_parser(
        "strip",
        help="take outputs out of notebooks, also as a filter of git",
        description="Take outputs out of notebooks, in place; `-` reads one notebook from the "
        "standard input and writes it to the standard output.",
    )
    strip.add_argument("notebooks", nargs="+", metavar="NB", help=f"{NOTEBOOKS}; or -")
    kinds = strip.add_mutually_exclusive_group()
    for kind, told in (
        ("all", "all outputs and counts (default)"),
        ("o3", "answers only"),
        ("unreproducible", "what a check cannot get again: stderr, widgets, unrecorded answers"),
    ):
        word = "--o3-only" if kind == "o3" else f"--{kind}"
        kinds.add_argument(word, dest="kind", action="store_const", const=kind, help=told)
    strip.add_argument("--check", action="store_true", help="only tell; exit code 1 if any would")
    strip.set_defaults(run=strip_notebooks, kind="all")


def seconds(word: str) -> float:
    """A number of seconds above 0."""
    value = float(word)
    if not 0 < value < float("inf"):
        raise ValueError(word)
    return value


def run_notebooks(chosen: argparse.Namespace) -> int:
    """`o3magic run`."""
    from o3magic.cli import run

    options = run.Options(
        mode=chosen.mode or "",
        output=chosen.output,
        kernel=chosen.kernel,
        timeout_s=chosen.timeout,
        budget=run.check_budget(chosen.budget) if chosen.budget else "",
        values=run.values_of(chosen.parameter),
    )
    return run.run(chosen.notebooks, options)


def check_notebooks(chosen: argparse.Namespace) -> int:
    """`o3magic check`."""
    from o3magic.cli import check

    return check.run(
        chosen.notebooks,
        check.Options(
            update=chosen.update,
            strict=chosen.strict,
            prune=chosen.prune,
            kernel=chosen.kernel,
            timeout_s=chosen.timeout,
        ),
        json_file=chosen.json,
        junit_file=chosen.junit,
    )


def migrate_notebook(chosen: argparse.Namespace) -> int:
    """`o3magic migrate`."""
    from o3magic.cli import migrate, run

    if chosen.budget:
        run.check_budget(chosen.budget)
    return migrate.run(chosen)


def strip_notebooks(chosen: argparse.Namespace) -> int:
    """`o3magic strip`."""
    from o3magic.cli import strip

    return strip.run(chosen.notebooks, chosen.kind, check=chosen.check)
