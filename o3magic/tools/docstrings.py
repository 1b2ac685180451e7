"""What a docstring says of a function and of each parameter: Google, NumPy and Sphinx styles."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

_SPHINX: Final = re.compile(r":(?:param|parameter|arg|argument)\s+(?:[^:]*\s)?(\*{0,2}\w+)\s*:(.*)")
_FIELD: Final = re.compile(r":\w+[^:]*:")
_GOOGLE: Final = re.compile(r"(\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NUMPY: Final = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SECTION: Final = re.compile(
    r"(args|arguments|parameters|params|returns?|yields?|raises|examples?|notes?|warnings?)"
    r":?\s*$",
    re.IGNORECASE,
)
_OF_PARAMETERS: Final = ("args", "arguments", "parameters", "params")


def described(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a function is for, and what is said of its parameters, by their names."""
    lines = (inspect.getdoc(function) or "").splitlines()
    about: list[str] = []
    said: dict[str, list[str]] = {}
    for section, inside in _sections(lines):
        if section == "":
            about += _before_fields(inside, said)
        elif section in _OF_PARAMETERS:
            said.update(_parameters(inside))
    texts = {name.lstrip("*"): " ".join(" ".join(words).split()) for name, words in said.items()}
    return "\n".join(about).strip(), {name: text for name, text in texts.items() if text}


def _sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The docstring cut at its headings; "" is what stands before the first one."""
    name, inside = "", list[str]()
    for place, line in enumerate(lines):
        below = lines[place + 1] if place + 1 < len(lines) else ""
        heading = _SECTION.fullmatch(line)
        if heading and (line.rstrip().endswith(":") or set(below.strip()) == {"-"}):
            yield name, inside
            name, inside = heading[1].lower(), []
        elif not (name and not inside and set(line.strip()) == {"-"}):
            inside.append(line)
    yield name, inside


def _before_fields(lines: list[str], said: dict[str, list[str]]) -> list[str]:
    """The text before Sphinx's fields, whose parameters are put into `said`."""
    about: list[str] = []
    current: list[str] = about
    for line in lines:
        if found := _SPHINX.match(line.strip()):
            current = said.setdefault(found[1], [])
            current.append(found[2])
        elif _FIELD.match(line.strip()):
            current = []
        else:
            current.append(line)
    return about


def _parameters(lines: list[str]) -> dict[str, list[str]]:
    """The parameters of a section: names at its margin, what is said of them behind or below."""
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    said: dict[str, list[str]] = {}
    current: list[list[str]] = []
    for line in lines:
        inner = line.strip()
        if line[margin : margin + 1].isspace() or not inner:
            for words in current:
                words.append(inner)
        elif margin and (found := _GOOGLE.match(inner)):
            current = [said.setdefault(found[1], [])]
            current[0].append(found[2])
        elif found := _NUMPY.match(inner):
            current = [said.setdefault(name.strip(), []) for name in found[1].split(",")]
    return said
