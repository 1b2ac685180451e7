"""Asked by two buttons whether a tool may be called, while a thread waits for the click."""

from __future__ import annotations

import threading
from typing import Any

from o3magic.messages import ToolCall
from o3magic.notebook.panel_words import alarm

MOST_CHARS = 2_000


class Permission:
    """The question and its two buttons, which are seen only while it is asked.

    row: the widget that holds them. words, allow, decline: what it holds.
    """

    def __init__(self, row: Any, words: Any, allow: Any, decline: Any) -> None:
        self._row, self._words = row, words
        self._answered = threading.Event()
        self._allowed = False
        allow.on_click(lambda _: self.say(True))
        decline.on_click(lambda _: self.say(False))
        self._hide()

    def ask(self, call: ToolCall) -> bool:
        """Whether this call may be made. Waits for a click, or for `say`."""
        said = f"{call.name}({call.arguments})"
        shown = said if len(said) <= MOST_CHARS else f"{said[:MOST_CHARS]}…"
        self._answered.clear()
        self._allowed = False
        self._words.value = alarm(f"The model wants to call {shown}")
        self._row.layout.display = "flex"
        self._answered.wait()
        self._hide()
        return self._allowed

    def say(self, allowed: bool) -> None:
        """Answer, as a click does."""
        self._allowed = allowed
        self._answered.set()

    def _hide(self) -> None:
        self._row.layout.display = "none"
        self._words.value = ""
