"""The Markdown the simulator answers with: true about the question, and plain about itself."""

import json
import re
from collections import Counter

from o3magic.simulator.asked import Asked, RequestTurn

FIRST_LINE = "*SIMULATED answer: no model was asked.*"
QUOTED_CHARS = 200
RESULT_CHARS = 2000
ROWS = {"none": 2, "minimal": 2, "low": 3, "medium": 4, "high": 6, "xhigh": 8, "max": 10}


def markdown(asked: Asked) -> str:
    """An answer that shows what can be rendered; more effort makes it longer."""
    rows = ROWS.get(asked.effort, 4)
    words = re.findall(r"\w+", asked.prompt)
    parts = [
        FIRST_LINE,
        f"You asked: {plain(asked.prompt)}",
        *_earlier(asked),
        "## What this is",
        f"An o3magic simulator made this text out of your question; `{asked.model}` was named "
        f"with effort `{asked.effort}`.",
        _list(asked, words),
        "## Your question, counted",
        _table(words, rows),
        _formula(words),
        "## The same in Python",
        _code(asked.prompt),
        *(_step(number, words) for number in range(1, 2 * rows - 3)),
    ]
    return "\n\n".join(parts) + "\n"


def about_results(asked: Asked, results: tuple[RequestTurn, ...]) -> str:
    """An answer that quotes what the tools have answered."""
    lines = [
        f"- {plain(turn.name or 'a tool')} answered {plain(turn.text, RESULT_CHARS)}"
        for turn in results
    ]
    question = f"You asked: {plain(asked.prompt)}" if asked.prompt else "You sent tool results."
    return "\n\n".join([FIRST_LINE, question, "## What the tools said", "\n".join(lines)]) + "\n"


def summary(asked: Asked) -> tuple[str, ...]:
    """What a reasoning summary would look like, in one or two parts."""
    first = "**Simulated thinking**\n\nNo model has thought about "
    parts = (first + f"{plain(asked.prompt, 80)}; this summary only shows where one would stand.",)
    if asked.effort in ("low", "none", "minimal"):
        return parts
    second = f"**Still simulated**\n\nThe effort was {asked.effort}, so there is a second part."
    return (*parts, second)


def json_object(asked: Asked) -> str:
    """What comes when any JSON object will do."""
    made = {
        "simulated": True,
        "note": "no model was asked",
        "question": " ".join(asked.prompt.split())[:QUOTED_CHARS],
        "words": len(asked.prompt.split()),
    }
    return json.dumps(made, ensure_ascii=False)


def plain(text: str, most: int = QUOTED_CHARS) -> str:
    """A text on one line in backticks, so that nothing in it is rendered."""
    line = " ".join(text.split())
    if len(line) > most:
        line = line[: most - 1] + "…"
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest or not line else ""
    return f"{fence}{space}{line}{space}{fence}"


def _earlier(asked: Asked) -> list[str]:
    before = asked.prompts[:-1]
    return [f"Before that you asked: {plain(before[-1], 80)}"] if before else []


def _list(asked: Asked, words: list[str]) -> str:
    return "\n".join(
        [
            f"- **{len(words)}** words and **{len(asked.prompt)}** characters came in.",
            f"- The longest word is {plain(max(words, key=len, default='(none)'))}.",
            "- What you see shows *how* an answer is rendered, not *what* a model would say.",
        ]
    )


def _table(words: list[str], rows: int) -> str:
    counted = Counter(word.lower()[:40] for word in words)
    longest = sorted(counted, key=lambda word: (-len(word), word))[:rows]
    lines = [f"| {plain(word)} | {len(word)} | {counted[word]} |" for word in longest]
    return "\n".join(["| word | letters | times |", "|:-----|--------:|------:|", *lines])


def _formula(words: list[str]) -> str:
    letters, count = sum(map(len, words)), len(words)
    mean = f"{letters / count:.2f}" if count else "0"
    return (
        f"The mean length of a word is \\( \\bar{{w}} = {mean} \\) letters:\n\n"
        f"\\[ \\bar{{w}} = \\frac{{1}}{{n}} \\sum_{{i=1}}^{{n}} w_i "
        f"= \\frac{{{letters}}}{{{max(count, 1)}}} \\]"
    )


def _code(prompt: str) -> str:
    question = json.dumps(" ".join(prompt.split())[:60]).replace("`", "'")
    lines = [f"question = {question}", "words = question.split()"]
    lines += ["print(len(words), max(words, key=len, default=''))"]
    return "\n".join(["```python", *lines, "```"])


def _step(number: int, words: list[str]) -> str:
    word = words[(number - 1) % len(words)] if words else "nothing"
    return (
        f"**Step {number}.** A model would now think about {plain(word)}; "
        "the simulator only makes the answer longer."
    )
