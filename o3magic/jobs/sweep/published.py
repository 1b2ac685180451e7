"""What others published of efforts: figures to lay beside one's own, never among them.

From the launch documents of o3-mini, snapshot o3-mini-2025-01-31; read on 2026-11-20. They have no
figure for low effort.
"""

from __future__ import annotations

from dataclasses import dataclass

from o3magic.errors import BadOption, did_you_mean

SOURCE = "o3-mini launch documents (o3-mini-2025-01-31)"
READ_ON = "2026-11-20"


@dataclass(frozen=True)
class Published:
    """The figures of one benchmark by effort. unit: "%" or "Elo"."""

    benchmark: str
    figures: tuple[tuple[str, float], ...]
    unit: str = "%"
    model: str = "o3-mini"
    source: str = SOURCE
    read_on: str = READ_ON

    def shown(self, figure: float) -> str:
        """A figure with its unit."""
        return f"{figure:g} {self.unit}"

    def words(self) -> str:
        """A line that says what they are, and what they are not."""
        figures = ", ".join(f"{effort} {self.shown(value)}" for effort, value in self.figures)
        return (
            f"{self.benchmark} as published for {self.model}, not measured here: {figures} "
            f"({self.source}, read {self.read_on})"
        )


PUBLISHED = (
    Published("AIME 2024", (("medium", 76.2), ("high", 83.6))),
    Published("GPQA Diamond", (("medium", 71.5), ("high", 77.0))),
    Published("Codeforces", (("medium", 1950.0), ("high", 2073.0)), "Elo"),
    Published("SWE-bench Verified", (("medium", 42.3), ("high", 48.9))),
)


def published_of(benchmark: str) -> Published:
    """The figures of a benchmark, by its name or the beginning of it. Raises BadOption."""
    word = str(benchmark).strip().casefold()
    for each in PUBLISHED:
        if word and each.benchmark.casefold().startswith(word):
            return each
    names = [each.benchmark for each in PUBLISHED]
    hint = did_you_mean(str(benchmark), names, f"there are {', '.join(names)}")
    raise BadOption(f"published={benchmark!r}: no figures of that", hint=hint)
