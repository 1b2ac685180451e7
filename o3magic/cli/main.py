"""The `o3magic` command: reads its words, calls one room, turns errors into two lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from o3magic.cli import cassettes, cost, lite_words, local, notebook_words
from o3magic.errors import O3Error
from o3magic.version import __version__


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

    notebook_words.add(commands)
    cassettes.add(commands)
    lite_words.add(commands)
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

    from o3magic.catalog import Catalog
    from o3magic.render.listing import models
    from o3magic.settings import load_layers

    layers = load_layers(os.environ, Path.cwd())
    print(models(Catalog.built_in(layers.models)).data["text/plain"])
    return 0


def run_doctor(_: argparse.Namespace) -> int:
    """`o3magic doctor`."""
    from o3magic.cli import doctor

    return doctor.run()
