"""Patterns of secrets: one list for errors, logs and cassettes.

Every pattern of `KEYS` runs in linear time: it begins with fixed letters and does not backtrack.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MOST_CHARS = 500
ALONE = r"(?<![A-Za-z0-9])"
# Not allowed in recorded requests. The patterns match the prefixes of keys, so not prose.
KEYS = {
    name: re.compile(pattern)
    for name, pattern in {
        "an API key (sk-...)": ALONE + r"(?:c?sk|rk|pk|sess)-[A-Za-z0-9_-]{16,}+",
        "a payment key": ALONE + r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}+",
        "a Groq key": ALONE + r"gsk_[A-Za-z0-9]{16,}+",
        "an xAI key": ALONE + r"xai-[A-Za-z0-9_-]{16,}+",
        "an NVIDIA key": ALONE + r"nvapi-[A-Za-z0-9_-]{16,}+",
        "a Perplexity key": ALONE + r"pplx-[A-Za-z0-9]{16,}+",
        "a Replicate token": ALONE + r"r8_[A-Za-z0-9]{30,}+",
        "a Tavily key": ALONE + r"tvly-[A-Za-z0-9_-]{16,}+",
        "a LangSmith key": ALONE + r"lsv2_(?:pt|sk)_[A-Za-z0-9_]{20,}+",
        "a GitHub token": ALONE + r"(?:gh[opsur]_|github_pat_)[A-Za-z0-9_]{20,}+",
        "a GitLab token": ALONE + r"glpat-[A-Za-z0-9_-]{20,}+",
        "a Hugging Face token": ALONE + r"hf_[A-Za-z0-9]{30,}+",
        "an AWS key id": ALONE + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        "a JSON web token": (
            r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"
        ),
        "a Slack token": ALONE + r"xox[a-z]-[A-Za-z0-9-]{10,}+",
        "a Google API key": ALONE + r"AIza[A-Za-z0-9_-]{35}",
        "a bearer token": ALONE + r"[Bb]earer[ \t]{1,3}+[A-Za-z0-9._~+/=-]{16,}+",
        # The key may be quoted in JSON or Python, its line ends written as \n.
        "a private key": (
            r"-----BEGIN (?:[A-Z0-9]{1,20}+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:\s|\\[nr])*+(?:[A-Za-z-]{1,40}+:[^\n\\]{0,200}+(?:\s|\\[nr])++){0,4}+"
            r"(?:[A-Za-z0-9+/=]{16,}+(?:\s|\\[nr])*+)++"
            r"(?:[A-Za-z0-9+/=]*+(?:\s|\\[nr])*+-----END [A-Z0-9 ]{1,60}+-----)?"
        ),
    }.items()
}
# Keys always have a digit, unlike words such as `sk-learn-compatible-estimator`.
NEEDS_DIGIT = {"an API key (sk-...)", "a bearer token", "an xAI key", "a Tavily key"}
# For server messages, where false positives are harmless: also short, masked and unnamed keys.
LIKELY = re.compile(
    r"\b(?:sk|rk|pk|sess)-[\w*.…-]{4,}"  # keys of OpenAI and of compatible providers
    r"|\b(?:gh[opsu]_|github_pat_|glpat-|xox[abp]-|A[KS]IA|AIza|gsk_|xai-|hf_|nvapi-)[\w-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.?[\w-]*"  # JSON web tokens
    r"|(?P<before>\bbearer\s+|\b(?:api[ _-]?key|access[ _-]?token)"
    r"(?:\s+provided)?[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&]{6,}"
    r"|(?<=://)[^\s/@]+(?=@)"  # name and password of an address
    r"|(?<![\w.-])[\w.-]*\*{3,}[\w.*-]*"  # masked by the server, but both ends are visible
    r"|\b[0-9a-fA-F]{32,}\b|\b[0-9a-zA-Z]{40,}\b",  # Azure's keys, old and new
    re.IGNORECASE,
)


class Secret(NamedTuple):
    """Where a text holds what looks like a secret, and its kind; never the secret itself."""

    name: str
    start: int
    end: int


def find_secrets(text: str) -> list[Secret]:
    """Find what looks like a secret, in order of position; two patterns may match the same part."""
    secrets = [
        Secret(name, *match.span())
        for name, pattern in KEYS.items()
        for match in pattern.finditer(text)
        if name not in NEEDS_DIGIT or any(map(str.isdigit, match[0]))
    ]
    return sorted(secrets, key=lambda secret: secret.start)


def redact(text: str) -> str:
    """Remove keys, tokens and control characters from a server's text, and limit its length."""
    text = text[: 4 * MOST_CHARS]
    for pattern in KEYS.values():
        text = pattern.sub("[key]", text)
    text = LIKELY.sub(r"\g<before>[key]", text)
    text = "".join(c if c.isprintable() or c == " " else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1] + "…"
