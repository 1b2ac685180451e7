"""`o3magic lite`: notebooks, their cassettes and Python itself as a site of plain files.

A JupyterLite site: the kernel is Pyodide, in the reader's browser. What it is made of is fetched
while it is built; the site then asks nobody but itself. Answers come from the cassettes only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import Parser
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from o3magic.cassettes.record_mode import get_cassette_path
from o3magic.errors import O3Error
from o3magic.version import __version__

# A registry's address may hold a name and a password.
WHO = re.compile(r"(?<=//)[^/@\s]+@")
TIMEOUT_S = 600.0


def finished(
    command: Sequence[str],
    folder: Path,
    failed: str,
    *,
    hint: str,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a program in a folder; what it printed. Raises O3Error with the last thing it said."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(variables or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise O3Error(f"{failed}: it took more than {TIMEOUT_S:.0f} s", hint=hint) from None
    except OSError as error:
        raise O3Error(f"{failed}: {error.strerror or error}", hint=hint) from None
    if done.returncode:
        raise O3Error(f"{failed}: {last_words(done.stderr or done.stdout)}", hint=hint)
    return done.stdout


def last_words(said: str) -> str:
    """The line that says what went wrong, without whoever a registry knows."""
    lines = [line.strip() for line in WHO.sub("", said).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and not line.endswith(":")]
    return (errors or lines or ["it did not say why"])[-1]


# What o3magic itself needs there, in the versions its own metadata asks for.
NEEDED = ("ipython", "ipywidgets", "httpx", "pydantic", "jinja2", "platformdirs", "comm")
KERNEL_PACKAGE = ("micropip",)
# JupyterLab's part of ipywidgets: the page has it already.
IN_THE_PAGE = {"jupyterlab-widgets", "widgetsnbextension"}
# Their compiled modules only make them faster: without these they are plain Python.
ALSO_PURE = {"markupsafe"}
# Left out of the wheel: JupyterLab's part of it, and the notebooks, which the site has as files.
LEFT_OUT = {"__pycache__", "labextension", "notebooks"}
COMPILED = (".so", ".pyd", ".dylib", ".c", ".pyi")
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class PyodidePython:
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


def fetch(wanted: Iterable[Requirement], python: PyodidePython, folder: Path) -> None:
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


def requirements(wheel: Path, python: PyodidePython) -> Iterator[Requirement]:
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


def lock(folder: Path, python: PyodidePython) -> dict[str, Any]:
    """The packages of Pyodide's list: the wheels in `folder`, and no other."""
    known = {canonicalize_name(str(metadata(each)["Name"])): each for each in folder.glob("*.whl")}
    return {name: entry(known[name], known, python) for name in sorted(known)}


def entry(
    wheel: Path, known: Mapping[NormalizedName, Path], python: PyodidePython
) -> dict[str, Any]:
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
    return [bounds.get(canonicalize_name(n), Requirement(n)) for n in NEEDED + KERNEL_PACKAGE]


def listed(python: PyodidePython, packages: Mapping[str, Any]) -> str:
    """The text of Pyodide's list with these packages."""
    info = {
        "abi_version": python.abi,
        "arch": "wasm32",
        "platform": "",
        "python": python.version,
    }
    return json.dumps({"info": info, "packages": packages}, indent=1, sort_keys=True)


EXTRA = 'python -m pip install "o3magic[lite]"'
PARTS = {
    "jupyterlite_core": "jupyterlite-core",
    "jupyterlite_pyodide_kernel": "jupyterlite-pyodide-kernel",
    "jupyter_server": "jupyter-server",
    "packaging": "packaging",
}
KERNEL = "@jupyterlite/pyodide-kernel-extension"
WIDGETS = "@jupyter-widgets/jupyterlab-manager"
KERNELSPEC = {"name": "python", "display_name": "Python (Pyodide)", "language": "python"}
EXTENSIONS = "share/jupyter/labextensions"
PYODIDE_FILES = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
LOCK = "pyodide-lock.json"
MARK = "jupyter-lite.json"
# There is nobody to ask in a page, and nothing to keep books of.
VARIABLES = {"O3MAGIC_MODE": "replay", "O3MAGIC_LEDGER": ":memory:"}
NOTEBOOK = ".ipynb"
NAMED = 3  # notebooks without a cassette that are named


@dataclass(frozen=True)
class SiteFile:
    """A file for the site: where it is, and its path there."""

    path: Path
    name: str


def run(output: str, names: Sequence[str], pyodide: str) -> int:
    """Build the site into `output`. pyodide: the file of `npm pack pyodide`, else it is fetched."""
    target = Path(output)
    check_parts(pyodide)
    check_output(target)
    sources = found(names, target)
    with tempfile.TemporaryDirectory(prefix="o3magic-lite-") as scratch:
        build(Path(scratch), sources, pyodide)
        site = Path(scratch) / "site"
        put(site, target)
    tell(target, sources)
    return 0


def check_parts(pyodide: str) -> None:
    """Raises O3Error where something to build with is missing."""
    missing = [name for module, name in PARTS.items() if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise O3Error(f"{' and '.join(missing)} {verb} not installed", hint=EXTRA)
    for extension in (KERNEL, WIDGETS):
        if not labextension(extension).is_dir():
            raise O3Error(f"JupyterLab's extension {extension} is not installed", hint=EXTRA)
    if not pyodide and shutil.which("npm") is None:
        version = pyodide_version()
        raise O3Error(
            "npm is not installed, which fetches Pyodide, the Python in the browser",
            hint=f"install Node.js; or run `npm pack pyodide@{version}` on another machine, "
            f"and here: o3magic lite OUTPUT --pyodide pyodide-{version}.tgz",
        )
    if pyodide and not Path(pyodide).is_file():
        raise O3Error(f"there is no file {pyodide}", hint=f"npm pack pyodide@{pyodide_version()}")


def check_output(target: Path) -> None:
    """Raises O3Error rather than let anything but an older site be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise O3Error(f"{target} is a file", hint="name a folder that is not there yet")
    if any(target.iterdir()) and not (target / MARK).is_file():
        raise O3Error(
            f"the folder {target} has other things in it", hint="name one that is not there yet"
        )


def labextension(name: str) -> Path:
    """Where an extension of JupyterLab is installed."""
    return Path(sys.prefix, EXTENSIONS, *name.split("/"))


def pyodide_version() -> str:
    """The Pyodide that the kernel was made for."""
    from jupyterlite_pyodide_kernel.constants import PYODIDE_VERSION

    return str(PYODIDE_VERSION)


def found(names: Sequence[str], target: Path) -> list[SiteFile]:
    """The files for the site: notebooks, their cassettes, and what lies beside them in a folder.

    target: the site itself, which may be in there from another time.
    """
    own = target.resolve()
    sources: list[SiteFile] = []
    for name in names or [str(demos())]:
        path = Path(name)
        if path.is_dir():
            every = sorted(each for each in path.rglob("*") if each.is_file())
            inside = [each for each in every if not each.resolve().is_relative_to(own)]
            named = [SiteFile(each, each.relative_to(path).as_posix()) for each in inside]
            sources += [each for each in named if not f"/{each.name}".count("/.")]
            continue
        if path.suffix != NOTEBOOK or not path.is_file():
            what = "is no notebook" if path.exists() else "is not there"
            raise O3Error(f"{path} {what}", hint="name .ipynb files or folders")
        tape = get_cassette_path(path, {})
        both = [path, tape] if tape.is_file() else [path]
        sources += [SiteFile(each, each.name) for each in both]
    check_found(sources)
    return sources


def check_found(sources: Sequence[SiteFile]) -> None:
    """Raises O3Error for two files of one name, and where there is no notebook."""
    places: dict[str, Path] = {}
    for each in sources:
        other = places.setdefault(each.name, each.path.resolve())
        if other != each.path.resolve():
            raise O3Error(
                f"two files would be {each.name}: {other} and {each.path}",
                hint="name the folder above them",
            )
    if not any(each.path.suffix == NOTEBOOK for each in sources):
        raise O3Error(f"there is no {NOTEBOOK} file to build a site of")


def demos() -> Path:
    """The folder of the demo notebooks: of the package, or of a checkout."""
    here = Path(__file__).parents[1]
    inside = here / "notebooks"
    return inside if inside.is_dir() else here.parent / "notebooks"


def build(scratch: Path, sources: Sequence[SiteFile], pyodide: str) -> None:
    """Build the site in `scratch`/site."""
    # A folder of its own each time: what JupyterLite remembers of another build, it leaves out.
    lite, contents = scratch / "lite", scratch / "contents"
    for each in sources:
        copy = contents / each.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if each.path.suffix == NOTEBOOK:
            copy.write_bytes(for_page(each.path))
        else:
            shutil.copyfile(each.path, copy)
    (scratch / "fetched").mkdir()
    packages = python_for(lite / "static" / "pyodide", scratch / "fetched", pyodide)
    (lite / MARK).write_text(json.dumps(settings(packages)), "utf-8")
    (lite / "jupyter_lite_config.json").write_text(json.dumps(config(contents)), "utf-8")
    print("building the pages ...", flush=True)
    finished(
        [
            *(sys.executable, "-m", "jupyterlite_core", "build"),
            *("--lite-dir", str(lite), "--output-dir", str(scratch / "site")),
        ],
        lite,
        "JupyterLite could not build the site",
        hint=f"{EXTRA} --upgrade",
    )


def for_page(path: Path) -> bytes:
    """A notebook as a page wants it: for its kernel, and each text in one piece.

    A page asks for a kernel where it does not know the named one; a server would join the lines.
    """
    try:
        notebook = json.loads(path.read_bytes())
        notebook["metadata"] |= {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
            for output in cell.get("outputs", ()):
                if "text" in output:
                    output["text"] = "".join(output["text"])
                for kind, said in output.get("data", {}).items():
                    if isinstance(said, list) and "json" not in kind:
                        output["data"][kind] = "".join(said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise O3Error(f"{path} is not a notebook of nbformat 4", hint="save it anew") from None
    return json.dumps(notebook, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")


def python_for(target: Path, scratch: Path, pyodide: str) -> list[str]:
    """Put Pyodide and all wheels into `target`; the names of the packages."""

    target.mkdir(parents=True)
    if not pyodide:
        print(f"fetching Pyodide {pyodide_version()} ...", flush=True)
    python = PyodidePython(*unpacked(pyodide or fetched(scratch), target))
    print("fetching wheels ...", flush=True)
    for wheel in (labextension(KERNEL) / "static" / "pypi").glob("*.whl"):
        if not wheel.name.startswith("widgetsnbextension"):
            shutil.copyfile(wheel, target / wheel.name)
    fetch(wanted(), python, target)
    own(target)
    packages = lock(target, python)
    (target / LOCK).write_text(listed(python, packages), "utf-8")
    return sorted(packages)


def fetched(scratch: Path) -> str:
    """Pyodide's package, fetched by npm with the user's own settings."""
    version = pyodide_version()
    finished(
        ["npm", "pack", f"pyodide@{version}", "--silent"],
        scratch,
        f"npm could not fetch pyodide {version}",
        hint="see that npm reaches its registry; or --pyodide FILE, made by `npm pack` elsewhere",
    )
    return str(next(scratch.glob("pyodide-*.tgz")))


def unpacked(archive: str, target: Path) -> tuple[str, str]:
    """Take what a page needs out of Pyodide's package; its Python's version and ABI."""
    try:
        with tarfile.open(archive) as package:
            for name in (*PYODIDE_FILES, LOCK):
                member = package.extractfile(f"package/{name}")
                if member is None:
                    raise KeyError(name)
                (target / name).write_bytes(member.read())
        info = json.loads((target / LOCK).read_text("utf-8"))["info"]
        return str(info["python"]), str(info["abi_version"])
    except (OSError, KeyError, ValueError, tarfile.TarError):
        hint = f"npm pack pyodide@{pyodide_version()}"
        raise O3Error(f"{archive} is not a package of Pyodide", hint=hint) from None


def settings(packages: Sequence[str]) -> dict[str, Any]:
    """What the pages read: the kernel with all its packages, and nobody else to ask."""
    kernel = {
        "disablePyPIFallback": True,
        "loadPyodideOptions": {"packages": list(packages), "env": VARIABLES},
    }
    return {
        "jupyter-lite-schema-version": 0,
        "jupyter-config-data": {
            "appName": "o3magic",
            "litePluginSettings": {f"{KERNEL}:kernel": kernel},
        },
    }


def config(contents: Path) -> dict[str, Any]:
    """What the build reads: only these extensions, whatever else is installed."""
    return {
        "LiteBuildConfig": {
            "apps": ["lab"],
            "contents": [str(contents)],
            "federated_extensions": [str(labextension(KERNEL)), str(labextension(WIDGETS))],
            "ignore_sys_prefix": True,
            "no_sourcemaps": True,
            "no_unused_shared_packages": True,
        }
    }


def put(site: Path, target: Path) -> None:
    """The new site in the place of the old one."""
    try:
        if target.exists():
            shutil.rmtree(target)
        shutil.move(site, target)
    except OSError as error:
        reason = error.strerror or error
        raise O3Error(f"{target} cannot be written: {reason}", hint="name another folder") from None


def tell(target: Path, sources: Sequence[SiteFile]) -> None:
    """What was built, and how to look at it."""
    notebooks = [each for each in sources if each.path.suffix == NOTEBOOK]
    names = {each.name for each in sources}
    silent = [
        each.name for each in notebooks if get_cassette_path(each.name, {}).as_posix() not in names
    ]
    size = sum(each.stat().st_size for each in target.rglob("*") if each.is_file())
    count = f"{len(notebooks)} notebook{'s' * (len(notebooks) != 1)}"
    print(f"{target}: {count}, {size / 1e6:.0f} MB; answers come from cassettes only")
    if silent:
        more = f" and {len(silent) - NAMED} more" if len(silent) > NAMED else ""
        print(f"without a cassette, so without answers: {', '.join(silent[:NAMED])}{more}")
    print(f"look at it:  {Path(sys.executable).name} -m http.server -b 127.0.0.1 -d {target} 8000")
    print(f"             http://127.0.0.1:8000/lab/index.html?path={notebooks[0].name}")
