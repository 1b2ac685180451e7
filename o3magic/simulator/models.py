"""The models the simulator answers for, and what each family accepts.

As announced by 2026-12-01. Any other id that begins like one of them is served too.
"""

import re
from dataclasses import dataclass

LMH = ("low", "medium", "high")
MEDIUM = ("medium",)


@dataclass(frozen=True, slots=True)
class Family:
    """What ids with this prefix accept; without efforts, no reasoning at all."""

    prefix: str
    efforts: tuple[str, ...]
    default_effort: str
    window_tokens: int = 400_000
    sampling: bool = True  # temperature and its like, and only with effort none
    chat_tools: bool = True  # function tools in Chat with an effort other than none
    verbosity: tuple[str, ...] = LMH

    @property
    def o_series(self) -> bool:
        """Whether it is one of o1, o3, o4."""
        return self.prefix in ("o1", "o3", "o4")

    @property
    def open(self) -> bool:
        """Whether it is ours or open weights: nobody restricts its sampling."""
        return self.prefix == "o3magic/" or "gpt-oss" in self.prefix


# The first prefix that fits counts.
FAMILIES = (
    Family("o3magic/", ("none", "minimal", *LMH, "xhigh", "max"), "medium"),
    Family("o1", LMH, "medium", 200_000, sampling=False, verbosity=MEDIUM),
    Family("o3", LMH, "medium", 200_000, sampling=False, verbosity=MEDIUM),
    Family("o4", LMH, "medium", 200_000, sampling=False, verbosity=MEDIUM),
    Family("gpt-4o", (), "none", 128_000, verbosity=MEDIUM),
    Family("gpt-4.1", (), "none", 1_047_576, verbosity=MEDIUM),
    Family("gpt-oss", LMH, "medium", 131_072),
    Family("openai/gpt-oss", LMH, "medium", 131_072),
    Family("chat-latest", ("medium",), "medium"),
    Family("gpt-5-pro", ("high",), "high", sampling=False),
    Family("gpt-5-codex", LMH, "medium", sampling=False),
    Family("gpt-5.1", ("none", *LMH), "none"),
    Family("gpt-5.3-codex", (*LMH, "xhigh"), "medium", sampling=False),
    Family("gpt-5.2-pro", ("medium", "high", "xhigh"), "medium"),
    Family("gpt-5.4-pro", ("medium", "high", "xhigh"), "medium"),
    Family("gpt-5.5-pro", ("medium", "high", "xhigh"), "medium"),
    Family("gpt-5.5", ("none", *LMH, "xhigh"), "medium"),
    Family("gpt-5.6", ("none", *LMH, "xhigh", "max"), "medium", 1_050_000, chat_tools=False),
    Family("gpt-5.", ("none", *LMH, "xhigh"), "none"),
    Family("gpt-5", ("minimal", *LMH), "medium", sampling=False),
    Family("gpt-6-astra", (*LMH, "xhigh", "max"), "medium", 1_050_000, chat_tools=False),
    Family("gpt-6.1-sol", (*LMH, "xhigh", "max"), "medium", 1_050_000, chat_tools=False),
    Family("gpt-6.2", (*LMH, "xhigh", "max"), "medium", 1_050_000),
    Family("gpt-6", ("none", *LMH, "xhigh", "max"), "medium", 1_050_000, chat_tools=False),
)

LISTED = (
    *("o1", "o1-2024-12-17", "o1-mini", "o1-mini-2024-09-12", "o1-pro", "o1-pro-2025-03-19"),
    *("o3-mini", "o3-mini-2025-01-31", "o3", "o3-2025-04-16", "o3-pro", "o3-pro-2025-06-10"),
    *("o4-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-2025-08-07"),
    *("gpt-5-mini", "gpt-5-mini-2025-08-07", "gpt-5-nano", "gpt-5-nano-2025-08-07"),
    *("gpt-5-pro", "gpt-5-pro-2025-10-06", "gpt-5.1", "gpt-5.1-2025-11-13"),
    *("gpt-5.2", "gpt-5.2-2025-12-11", "gpt-5.2-pro", "gpt-5.2-pro-2025-12-11"),
    *("gpt-5.4", "gpt-5.4-2026-03-05", "gpt-5.4-mini", "gpt-5.4-mini-2026-03-17"),
    *("gpt-5.4-nano", "gpt-5.4-nano-2026-03-17", "gpt-5.4-pro", "gpt-5.4-pro-2026-03-05"),
    *("gpt-5.5", "gpt-5.5-2026-04-23", "gpt-5.5-pro", "gpt-5.5-pro-2026-04-23"),
    *("gpt-5.6-sol", "gpt-5.6-terra", "gpt-5.6-luna"),
    *("gpt-6-luna", "gpt-6-sol", "gpt-6-astra", "gpt-6.1-terra", "gpt-6.1-sol"),
    *("gpt-6.2-sol", "gpt-6.2-astra", "gpt-5.3-codex", "chat-latest"),
    *("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    *("gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
    *("gpt-oss-20b", "gpt-oss-120b", "o3magic/demo"),
)


def family_of(model: str) -> Family | None:
    """The family an id belongs to; None for an id nobody serves."""
    return next((family for family in FAMILIES if model.startswith(family.prefix)), None)


def is_retired(model: str, retired: frozenset[str]) -> bool:
    """Whether an id, or the id it is a dated snapshot of, has been shut down."""
    return model in retired or re.sub(r"-\d{4}-\d\d-\d\d$", "", model) in retired


def listing(model: str) -> dict[str, object]:
    """A model as GET /models shows it; no clock, so that listings are comparable."""
    return {"id": model, "object": "model", "created": 0, "owned_by": "o3magic-simulator"}
