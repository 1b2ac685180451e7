"""The `o3magic` command: reads its words, calls one room, turns errors into two lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from o3magic.cli import cassettes, cost, local
from o3magic.errors import O3Error
from o3magic.messages import EFFORTS
from o3magic.version import __version__


def add_lite(commands: Any) -> None:
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


NOTEBOOKS = "a notebook, or a folder: all notebooks in and below it"
MODES = ("live", "replay", "auto", "record", "refresh")
TIMEOUT_S = 600.0  # of a check: a build server should not hang


def add_notebooks(commands: Any) -> None:
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

    options = run.RunCommandOptions(
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
        check.CheckOptions(
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. The exit code is 0, 1 for what o3magic can explain, 2 for wrong words."""
    chosen = parser().parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except O3Error as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return code


def parser() -> argparse.ArgumentParser:
    """All words the command knows."""
    top = argparse.ArgumentParser(prog="o3magic", description="Reasoning models in notebooks.")
    top.add_argument("--version", action="version", version=f"o3magic {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="the demo notebooks, without a key",
        description="Write the demo notebooks, and run the first: with a model on this machine "
        "where the extra `local` is installed, else from recorded answers.",
    )
    demo.add_argument("folder", nargs="?", default="o3magic-demo", help="where they are written")
    demo.add_argument("--lab", action="store_true", help="then open them in JupyterLab")
    demo.add_argument("--recorded", action="store_true", help="the recorded tour in any case")
    demo.set_defaults(run=run_demo)

    serve = commands.add_parser("serve", help="an OpenAI-compatible simulator on this machine")
    serve.add_argument("--port", type=int, default=8531)
    serve.add_argument("--delay-s", type=float, default=0.02, help="seconds before each piece")
    serve.add_argument("--key", help="refuse every other key")
    serve.set_defaults(run=run_serve)

    models_here = commands.add_parser("local", help="models on this machine: fetch, list, remove")
    local.add_arguments(models_here)

    costs = commands.add_parser("cost", help="what was used and spent; how it agrees with a bill")
    cost.add_arguments(costs)

    models = commands.add_parser("models", help="prices, windows, efforts, shutdown dates")
    models.set_defaults(run=run_models)

    doctor = commands.add_parser("doctor", help="what is set up, and what is wrong with it")
    doctor.set_defaults(run=run_doctor)

    add_notebooks(commands)
    cassettes.add(commands)
    add_lite(commands)
    return top


def run_demo(chosen: argparse.Namespace) -> int:
    """`o3magic demo`."""
    from o3magic.cli import demo

    return demo.run(chosen.folder, lab=chosen.lab, recorded=chosen.recorded)


def run_serve(chosen: argparse.Namespace) -> int:
    """`o3magic serve`: until Ctrl-C."""
    import threading

    from o3magic.simulator import Simulator

    with Simulator(port=chosen.port, delay_s=chosen.delay_s, key=chosen.key) as simulator:
        print(f"SIMULATED answers, no model behind them: {simulator.base_url}")
        print(f"in a notebook:  %o3_config provider=simulator base_url={simulator.base_url}")
        print("Ctrl-C stops it", flush=True)
        threading.Event().wait()
    return 0


def run_models(_: argparse.Namespace) -> int:
    """`o3magic models`: the cards, with the user's own."""
    from pathlib import Path

    from o3magic.config import load_layers
    from o3magic.models import Catalog
    from o3magic.render.tables import models

    layers = load_layers(os.environ, Path.cwd())
    print(models(Catalog.built_in(layers.models)).data["text/plain"])
    return 0


def run_doctor(_: argparse.Namespace) -> int:
    """`o3magic doctor`."""
    from o3magic.cli import doctor

    return doctor.run()
