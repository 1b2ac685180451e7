"""Wheels for the browser: o3magic's own, those of what it needs, and the list Pyodide reads.

Everything is fetched by pip, with the settings of whoever builds, and only while the site is built.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import Parser
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from o3magic.cli.lite_tools import finished
from o3magic.errors import O3Error
from o3magic.version import __version__

# What o3magic itself needs there, in the versions its own metadata asks for.
NEEDED = ("ipython", "ipywidgets", "httpx", "pydantic", "jinja2", "platformdirs", "comm")
KERNEL = ("micropip",)
# JupyterLab's part of ipywidgets: the page has it already.
IN_THE_PAGE = {"jupyterlab-widgets", "widgetsnbextension"}
# Their compiled modules only make them faster: without these they are plain Python.
ALSO_PURE = {"markupsafe"}
# Left out of the wheel: JupyterLab's part of it, and the notebooks, which the site has as files.
LEFT_OUT = {"__pycache__", "labextension", "notebooks"}
COMPILED = (".so", ".pyd", ".dylib", ".c", ".pyi")
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Python:
    """The Python in the browser, as Pyodide's own list names it."""

    version: str
    abi: str

    @property
    def marks(self) -> dict[str, str]:
        """What the conditions in a wheel's requirements are judged by."""
        return {
            "sys_platform": "emscripten",
            "platform_system": "Emscripten",
            "platform_machine": "wasm32",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "python_version": self.version.rpartition(".")[0],
            "python_full_version": self.version,
            "extra": "",
        }

    @property
    def pip_options(self) -> list[str]:
        """The same for pip."""
        short = self.version.rpartition(".")[0]
        return [
            *("--platform", f"pyemscripten_{self.abi}_wasm32"),
            *("--python-version", short, "--implementation", "cp"),
            *("--abi", f"cp{short.replace('.', '')}", "--abi", "none"),
        ]


def fetch(wanted: Iterable[Requirement], python: Python, folder: Path) -> None:
    """Fetch wheels for these, and for all they and the wheels there need, into `folder`."""
    seen = set(folder.glob("*.whl"))
    asked = {canonicalize_name(str(metadata(wheel)["Name"])) for wheel in seen}
    level = list(wanted)
    while level:
        fresh = {canonicalize_name(each.name): each for each in level}
        fresh = {n: each for n, each in fresh.items() if n not in asked and n not in IN_THE_PAGE}
        asked |= set(fresh)
        compiled = [each for name, each in fresh.items() if name in ALSO_PURE]
        plain = [each for name, each in fresh.items() if name not in ALSO_PURE]
        download(plain, python.pip_options, folder)
        for each in compiled:
            here = folder / "compiled"
            download([each], [], here)
            for wheel in here.glob("*.whl"):
                pure(wheel, folder)
                wheel.unlink()
            here.rmdir()
        wheels = set(folder.glob("*.whl")) - seen
        seen |= wheels
        level = [each for wheel in sorted(wheels) for each in requirements(wheel, python)]


def download(wanted: Iterable[Requirement], options: list[str], folder: Path) -> None:
    """Have pip fetch exactly these."""
    said = [f"{each.name}{each.specifier}" for each in wanted]
    if not said:
        return
    folder.mkdir(exist_ok=True)
    finished(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--disable-pip-version-check", "--only-binary", ":all:"),
            *(*options, "--dest", str(folder), *said),
        ],
        folder,
        f"pip could not fetch {', '.join(said)}",
        hint="see that pip reaches its index, and has wheels there for Pyodide's Python",
    )


def requirements(wheel: Path, python: Python) -> Iterator[Requirement]:
    """What a wheel needs in the browser."""
    for line in metadata(wheel).get_all("Requires-Dist") or []:
        each = Requirement(line)
        if each.marker is None or each.marker.evaluate(python.marks):
            yield each


def metadata(wheel: Path) -> Any:
    """A wheel's own description."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def pure(wheel: Path, folder: Path) -> Path:
    """The same wheel without its compiled modules, for any Python."""
    name, version = wheel.name.split("-")[:2]
    with zipfile.ZipFile(wheel) as archive:
        inside = {each: archive.read(each) for each in archive.namelist()}
    kept = {each: data for each, data in inside.items() if not each.endswith(COMPILED)}
    return write(folder, name, version, kept)


def own(folder: Path) -> Path:
    """The wheel of the o3magic that runs, from its own files: also of one that is being edited."""
    package = Path(str(files("o3magic")))
    inside = {
        f"o3magic/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and not LEFT_OUT & set(path.relative_to(package).parts)
    }
    info = f"o3magic-{__version__}.dist-info"
    said = f"Metadata-Version: 2.1\nName: o3magic\nVersion: {__version__}\n"
    return write(folder, "o3magic", __version__, inside | {f"{info}/METADATA": said.encode()})


def write(folder: Path, name: str, version: str, inside: Mapping[str, bytes]) -> Path:
    """A wheel of pure Python. The same files are always the same bytes."""
    info = f"{name}-{version}.dist-info"
    said = "Wheel-Version: 1.0\nGenerator: o3magic\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = f"{info}/RECORD"
    whole = {**inside, f"{info}/WHEEL": said.encode(), record: b""}
    whole[record] = "".join(f"{each},,\n" for each in sorted(whole)).encode()
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(whole):
            archive.writestr(zipfile.ZipInfo(each, EPOCH), whole[each], zipfile.ZIP_DEFLATED)
    return wheel


def lock(folder: Path, python: Python) -> dict[str, Any]:
    """The packages of Pyodide's list: the wheels in `folder`, and no other."""
    known = {canonicalize_name(str(metadata(each)["Name"])): each for each in folder.glob("*.whl")}
    return {name: entry(known[name], known, python) for name in sorted(known)}


def entry(wheel: Path, known: Mapping[NormalizedName, Path], python: Python) -> dict[str, Any]:
    """One package. Raises O3Error where what it needs is there in a version it does not take."""
    said = metadata(wheel)
    needs = []
    for each in requirements(wheel, python):
        name = canonicalize_name(each.name)
        if name in known:
            needs.append(name)
            version = str(metadata(known[name])["Version"])
            if not each.specifier.contains(version, prereleases=True):
                raise O3Error(f"{said['Name']} needs {each}, but {version} was fetched")
    return {
        "name": said["Name"],
        "version": said["Version"],
        "file_name": wheel.name,
        "install_dir": "site",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "package_type": "package",
        "imports": imports(wheel),
        "depends": sorted(set(needs)),
        "unvendored_tests": False,
    }


def imports(wheel: Path) -> list[str]:
    """The names that a wheel can be imported by."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist() if name.endswith(".py")}
    names = {top.removesuffix(".py") for top in tops}
    return sorted(name for name in names if "." not in name)


def wanted() -> list[Requirement]:
    """What is to be fetched, by the bounds that o3magic's own metadata sets."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        said = [Requirement(each) for each in requires("o3magic") or []]
    except PackageNotFoundError:  # run from its folder, not installed
        said = []
    bounds = {canonicalize_name(each.name): each for each in said if each.marker is None}
    return [bounds.get(canonicalize_name(n), Requirement(n)) for n in NEEDED + KERNEL]


def listed(python: Python, packages: Mapping[str, Any]) -> str:
    """The text of Pyodide's list with these packages."""
    info = {
        "abi_version": python.abi,
        "arch": "wasm32",
        "platform": "",
        "python": python.version,
    }
    return json.dumps({"info": info, "packages": packages}, indent=1, sort_keys=True)
