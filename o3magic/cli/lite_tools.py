"""Other programs that a site is built with: run to their end, what they said kept for errors."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from o3magic.errors import O3Error

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
