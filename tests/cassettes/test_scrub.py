"""Secrets are found and removed, never shown, and never slowly."""

from __future__ import annotations

import random
import string
import time

import pytest

from o3magic.cassettes.scrub import scrub_text, scrub_value
from o3magic.redaction import find_secrets, redact

LETTERS = string.ascii_letters + string.digits


def some(count: int) -> str:
    return "".join(random.Random(7).choices(LETTERS, k=count)) + "7"


JWT = f"eyJ{some(20)}.eyJ{some(30)}.{some(40)}"
BODY = "\n".join(some(63) for _ in range(3))
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n-----END RSA PRIVATE KEY-----"
ENCRYPTED = PEM.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,00\n\n", 1)
SECRETS = {
    "sk": f"sk-{some(40)}",
    "sk-proj": f"sk-proj-{some(20)}_{some(20)}-{some(9)}",
    "restricted": f"rk-{some(40)}",
    "public": f"pk-{some(40)}",
    "session": f"sess-{some(40)}",
    "cerebras": f"csk-{some(48)}",
    "groq": f"gsk_{some(52)}",
    "xai": f"xai-{some(80)}",
    "nvidia": f"nvapi-{some(40)}_{some(23)}",
    "perplexity": f"pplx-{some(48)}",
    "replicate": f"r8_{some(37)}",
    "tavily": f"tvly-dev-{some(32)}",
    "langsmith": f"lsv2_pt_{some(32)}_{some(10)}",
    "stripe": f"sk_live_{some(24)}",
    "ghp": f"ghp_{some(36)}",
    "pat": f"github_pat_{some(22)}_{some(50)}",
    "gitlab": f"glpat-{some(20)}",
    "hf": f"hf_{some(34)}",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "jwt": JWT,
    "slack": f"xoxb-123456789012-{some(24)}",
    "google": "AIza" + some(34),
    "pem": PEM,
    "encrypted pem": ENCRYPTED,
    "quoted pem": PEM.replace("\n", "\\n"),
    "cut off pem": PEM.partition("-----END")[0].rstrip(),
}
AROUND = [
    ("", ""),
    ("key=", ";"),
    ('{"key": "', '"}'),
    ("export K=", "\nnext"),
    ("(", ")"),
    ("\t", " "),
]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(("before", "after"), AROUND)
def test_a_secret_is_removed_and_what_stands_around_it_is_not(name, before, after):
    text = f"{before}{SECRETS[name]}{after}"
    safe = scrub_text(text)
    assert SECRETS[name][-20:] not in safe
    assert safe.replace(" ", "") == f"{before}[secret removed]{after}".replace(" ", "") or (
        name == "cut off pem" and safe.startswith(f"{before}[secret removed]")
    )
    assert scrub_text(safe) == safe


@pytest.mark.parametrize("name", SECRETS)
def test_what_a_cassette_does_not_keep_no_error_says_either(name):
    assert SECRETS[name][-12:] not in redact(f"the key {SECRETS[name][:400]} is wrong")


def test_a_bearer_token_goes_with_its_word_and_once():
    assert scrub_text(f"Authorization: Bearer {JWT}, and on") == (
        "Authorization: [secret removed], and on"
    )


def test_places_are_told_and_secrets_are_not():
    text = f"one {SECRETS['sk']} two {SECRETS['aws']}"
    found = find_secrets(text)
    assert [text[each.start : each.end] for each in found] == [SECRETS["sk"], SECRETS["aws"]]
    assert SECRETS["sk"] not in repr(found)


@pytest.mark.parametrize(
    "harmless",
    [
        "a task-oriented-programming-language-2024-edition",
        "pip install sk-learn-compatible-estimators",
        "the bearer of understanding-and-knowledge is here",
        "Bearer understanding-and-knowledge",
        "eyJ is how base64 of a JSON object begins",
        "A key begins with -----BEGIN PRIVATE KEY----- and then comes base64.",
        "AKIA is the prefix, AKIAIOSFODNN7EXAMPLEANDMORE is none",
        "disk-0123456789abcdef0123",
        "sk-short1",
        "x" * 5000,
    ],
)
def test_what_only_looks_a_little_like_one_stays(harmless):
    assert scrub_text(harmless) == harmless


def test_values_are_looked_through_and_lines_are_looked_at_together():
    value = {"a": [PEM.splitlines(keepends=True), 5], "b": {"c": SECRETS["sk"]}, "d": ["x\n", "y"]}
    safe = scrub_value(value)
    assert safe == {
        "a": [["[secret removed]"], 5],
        "b": {"c": "[secret removed]"},
        "d": ["x\n", "y"],
    }


@pytest.mark.parametrize(
    "unit",
    [
        *("sk-", "eyJ", "eyJaaaaaaaa.", "eyJaaaaaaaa.eyJ", "ghp_", "AKIA", "xoxb-", "Bearer "),
        *(
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN A ",
            "-----BEGIN PRIVATE KEY-----\n" + "A" * 70,
        ),
        *(
            "Bearer\t",
            "a-b:",
            "\\n",
            "AIza",
            "sk-a",
            "-",
            "A",
            " ",
            "-----BEGIN PRIVATE KEY-----a:\n",
        ),
    ],
)
def test_no_text_takes_long(unit):
    def seconds(chars: int) -> float:
        text = (unit * (chars // len(unit) + 1))[:chars]
        began_s = time.process_time()
        scrub_text(text)
        return time.process_time() - began_s

    assert min(seconds(400_000) for _ in range(2)) < 1.0
