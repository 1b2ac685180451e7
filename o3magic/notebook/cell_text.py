"""Settings and a prompt as the `%%o3` cell that says the same."""

from __future__ import annotations

from typing import Any

from o3magic.errors import BadOption
from o3magic.notebook.options import parse
from o3magic.profile import Option, options
from o3magic.settings import Layers

ALWAYS = ("model", "effort", "schema", "out", "developer")
SAID_HERE = ("%o3_config", "widget")


def cell_text(layers: Layers, prompt: str) -> str:
    """A cell that asks the same: as `%%o3`, or in Python where one line cannot hold a setting.

    Settings of files and of the environment are left to them, and a model that nobody named to the
    provider.
    """
    profile = layers.profile()
    chosen = {
        option: value
        for option in options()
        if (value := getattr(profile, option.name)) != option.default
        if option.name in ALWAYS or layers.origin(option.name) in SAID_HERE
    }
    words = [on_line(option, value) for option, value in chosen.items()]
    if None in words:
        return in_python({option.name: value for option, value in chosen.items()}, prompt)
    line = " ".join(["%%o3", *(word for word in words if word)])
    return f"{line}\n{prompt}"


def on_line(option: Option, value: Any) -> str | None:
    """`--effort high`, in quotes where it must be; None where no quotes are enough."""
    flag = option.flag.names[-1]
    if option.flag.switch is not None:
        return flag
    text = str(value)
    if len(text.splitlines()) > 1:
        return None
    for quoted in (text, f'"{text}"', f"'{text}'"):
        try:
            if parse(f"{flag} {quoted}") == ({option.name: text}, ""):
                return f"{flag} {quoted}"
        except BadOption:
            continue
    return None


def in_python(chosen: dict[str, Any], prompt: str) -> str:
    """The same question as a call of `o3.ask`."""
    name = chosen.pop("out", "")
    schema = chosen.pop("schema", "")
    lines = [repr(prompt)]
    lines += [f"schema={schema}"] if schema else []  # a type that is here, not its name
    lines += [f"{name}={value!r}" for name, value in chosen.items()]
    call = "o3.ask(\n" + "".join(f"    {line},\n" for line in lines) + ")"
    asked = f"{name} = {call}\n{name}" if name else call
    return f"import o3magic as o3\n\n{asked}"
