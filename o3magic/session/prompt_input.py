"""From the text of a cell to a prompt: files, rendered names, tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.messages import Part, Text
from o3magic.session.plan import PromptInput
from o3magic.settings import Settings, listed

if TYPE_CHECKING:
    from o3magic.tools.function import ToolFunction
    from o3magic.tools.toolbox import Toolbox

MOST_PROMPT_FILE_BYTES = 16_000_000


def build_prompt(
    prompt: str,
    profile: Settings,
    names: Mapping[str, Any] | None,
    tools: Mapping[str, ToolFunction],
    folder: Callable[[], Path],
    prompts: Mapping[str, Path] = MappingProxyType({}),
) -> PromptInput:
    """The prompt of a cell. names: those of the notebook, None to render none. folder: finds that
    of the notebook. prompts: the files of registered prompts.

    Raises TemplateError, and BadOption for a file or a tool that does not exist.
    """
    text = load_prompt_file(prompt, profile.file, folder(), prompts) if profile.file else prompt
    parts: tuple[Part, ...] = (Text(text),)
    notes: tuple[str, ...] = ()
    if names is not None and profile.template and "{{" in text:
        from o3magic.prompts.template import render

        rendered = render(text, names, folder=folder())
        parts, notes = rendered.parts, rendered.notes
    toolbox = build_toolbox(profile, names or {}, tools) if profile.tools else None
    return PromptInput(parts, toolbox=toolbox, notes=notes)


def build_toolbox(
    profile: Settings, names: Mapping[str, Any], tools: Mapping[str, ToolFunction]
) -> Toolbox:
    """The tools that a profile names; with `confirm` each of them is dangerous."""
    from o3magic.tools.toolbox import Toolbox, toolbox

    found = toolbox(listed(profile.tools), names, tools)
    if not profile.confirm:
        return found
    functions = [replace(tool, dangerous=True) for tool in found.functions.values()]
    return Toolbox(functions, found.hosted)


def load_prompt_file(
    prompt: str, name: str, folder: Path, prompts: Mapping[str, Path] = MappingProxyType({})
) -> str:
    """The prompt in a file, followed by the text of the cell. Raises BadOption."""
    path = prompts.get(name) or folder / Path(name).expanduser()
    hint = did_you_mean(name, [*prompts], f"looked for in {folder}")
    text = read_prompt_file(path, f"--file {name}", hint)
    return f"{text.rstrip()}\n\n{prompt}" if prompt.strip() else text


def load_developer(profile: Settings, folder: Path) -> Settings:
    """The profile with the text of the file in `developer = "@file"`. Raises BadOption.

    `@@` escapes a message that begins with `@`.
    """
    developer = profile.developer
    if not developer.startswith("@"):
        return profile
    if developer.startswith("@@"):
        return replace(profile, developer=developer[1:])
    path = folder / Path(developer[1:]).expanduser()
    hint = f"looked for in {folder}; @@ begins a message that begins with @"
    return replace(
        profile, developer=read_prompt_file(path, f"--developer {developer}", hint).strip()
    )


def read_prompt_file(path: Path, option: str, hint: str) -> str:
    """The text of a file. Raises BadOption."""
    try:
        if path.stat().st_size > MOST_PROMPT_FILE_BYTES:
            raise BadOption(f"{option}: it is too large for a prompt")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadOption(f"{option}: {why}", hint=hint) from None
