"""The catalogue beside the newest price tables of others, which pip fetches: opt in with -m drift.

Litellm's table is read out of its wheel, which is not installed; nor is that of genai-prices.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from datetime import date
from decimal import Decimal

import pytest

from o3magic.models import Catalog

pytestmark = pytest.mark.drift

TABLE = "litellm/model_prices_and_context_window_backup.json"
TIERS = {"default": "", "batch": "_batches", "flex": "_flex", "priority": "_priority"}
TIERS |= {"ultrafast": "_ultrafast"}
RATES = {
    "input": "input_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "output": "output_cost_per_token",
}
# Families without reasoning that have cards too.
PLAIN = ("gpt-4o", "gpt-4.1")
AUDIO = ("audio", "realtime", "transcribe", "tts", "search-preview")
LONG_TOKENS = 272_000


@pytest.fixture(scope="module")
def newest(tmp_path_factory):
    """Downloads the newest wheel of a package, and nothing that it depends on."""

    def download(package):
        folder = tmp_path_factory.mktemp(package)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
        subprocess.run([*pip, "--dest", str(folder), package], check=True, timeout=600)
        [wheel] = folder.glob("*.whl")
        return wheel

    return download


@pytest.fixture(scope="module")
def table(newest):
    """Litellm's rows of OpenAI's own models, by name; an alias is the row it stands for."""
    wheel = newest("litellm")
    with zipfile.ZipFile(wheel) as opened:
        rows = json.loads(opened.read(TABLE), parse_float=Decimal)
    print(f"litellm {wheel.name.split('-')[1]}")
    whole = {name: rows.get(row.get("alias_of"), row) for name, row in rows.items()}
    return {name: row for name, row in whole.items() if "/" not in name and ours_to_know(name, row)}


@pytest.fixture(scope="module")
def catalog():
    return Catalog.built_in()


def ours_to_know(name, row):
    """Whether a row is a model that answers in words, and one that has a card or should."""
    if row.get("litellm_provider") != "openai" or row.get("mode") not in ("chat", "responses"):
        return False
    if name.startswith("ft:") or any(word in name for word in AUDIO):
        return False
    return bool(row.get("supports_reasoning")) or name.startswith(PLAIN)


def usd(row, key):
    """A rate of theirs in dollars per million tokens, or None."""
    return None if row.get(key) is None else Decimal(row[key]) * 1_000_000


def compared(name, row, card):
    """What they know of a model beside what we say: (what, theirs, ours)."""
    for tier, suffix in TIERS.items():
        price = card.price(date.today(), tier)
        for of, middle in (("rates", ""), ("long", f"_above_{LONG_TOKENS // 1000}k_tokens")):
            if usd(row, f"{RATES['input']}{middle}{suffix}") is None:
                continue
            rates = getattr(price, of, None)
            for rate, key in RATES.items():
                theirs = usd(row, f"{key}{middle}{suffix}")
                if theirs is not None:
                    yield f"{name} {tier} {of} {rate}", theirs, getattr(rates, rate, None)
    for key in ("max_input_tokens", "max_output_tokens"):
        if row.get(key) is not None:
            yield f"{name} {key}", row[key], getattr(card, key)
    if ends := row.get("deprecation_date"):
        yield f"{name} shutdown", ends, card.shutdown and card.shutdown.isoformat()


def test_every_openai_model_that_litellm_knows_has_a_card(table, catalog):
    assert len(table) > 50
    assert [name for name in table if catalog.find(name) is None] == []


def test_no_rate_limit_or_date_differs_from_litellm_s(table, catalog):
    rows = [(name, row, card) for name, row in table.items() if (card := catalog.find(name))]
    both = [each for name, row, card in rows for each in compared(name, row, card)]
    assert len(both) > 1_000
    print(f"{len(both)} figures of {len(rows)} names")
    assert [each for each in both if each[1] != each[2]] == []


def test_no_long_rate_of_litellm_s_begins_elsewhere(table):
    strange = [
        (name, key)
        for name, row in table.items()
        for key in row
        if "_above_" in key and "272k" not in key and "12hr" not in key
    ]
    assert strange == []


def test_no_rate_differs_from_that_of_the_newest_genai_prices(newest):
    pytest.importorskip("genai_prices")  # for what it depends on
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from o3magic.models import Catalog\n"
        "from o3magic.cost.price_check import check\n"
        "found = check(Catalog.built_in())\n"
        "print(found.said, *found.rows, sep='\\n')\n"
        "sys.exit(bool(found.rows) or found.models < 40)"
    )
    wheel = newest("genai-prices")
    done = subprocess.run(
        [sys.executable, "-c", code, str(wheel)], capture_output=True, text=True, timeout=120
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
