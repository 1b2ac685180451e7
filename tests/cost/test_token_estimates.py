"""Estimates of tokens, beside counts made with o200k_base itself."""

from __future__ import annotations

import pytest

from o3magic.cost.token_estimates import estimate_tokens

COUNTED = [
    ("The invoice says that we owe 1,234.50 dollars, and that it's due on the 4th of March.", 26),
    (
        'def total(rows: list[Row]) -> Decimal:\n    """The sum."""\n    '
        "return sum((row.cost_usd for row in rows), Decimal())\n",
        31,
    ),
    ('{"name": "Ada", "items": [{"sku": "A-17", "price": 12.5}, {"sku": "B-2", "price": 3}]}', 40),
    ("# Heading\n\n- one\n- two\n\nSee `o3magic` for more.\n", 18),
    ("Der Donaudampfschifffahrtskapitän isst am liebsten Apfelkuchen.", 21),
    ("Пожалуйста, переведите этот текст на английский язык.", 14),
    ("请把这段文字翻译成英文，并解释每个词的意思。", 17),
    ("この文章を英語に翻訳してください。", 10),
    ("이 글을 영어로 번역해 주세요.", 10),
    ("يرجى ترجمة هذا النص إلى الإنجليزية", 9),
    ("कृपया इस पाठ का अंग्रेज़ी में अनुवाद करें", 15),
    ("กรุณาแปลข้อความนี้เป็นภาษาอังกฤษ", 10),
    ("😀🎉👩\u200d👩\u200d👧\u200d👦 ❤️🇩🇪", 19),
    ("aGVsbG8gd29ybGQsIGhvdyBhcmUgeW91IHRvZGF5Pw==", 27),
    ("    \n\n\n        \t\t", 2),
    ("=" * 300, 5),
    ("internationalization understanding responsibilities", 4),
    ("x = 3.14159265358979", 10),
]


@pytest.mark.parametrize(("text", "count"), COUNTED)
def test_the_true_count_lies_between_low_and_high(text: str, count: int) -> None:
    estimate = estimate_tokens(text)
    assert estimate.low <= count <= estimate.high
    assert estimate.low <= estimate.likely <= estimate.high


@pytest.mark.parametrize(("text", "count"), COUNTED[:4])
def test_english_code_and_json_are_estimated_closely(text: str, count: int) -> None:
    assert estimate_tokens(text).likely == pytest.approx(count, rel=0.15, abs=1)


@pytest.mark.parametrize("text", ["<|endoftext|>", "\ud800", "\x00", "\U0010ffff", "ß" * 1000])
def test_no_text_is_too_odd(text: str) -> None:
    estimate = estimate_tokens(text)
    assert estimate.high > 0
    assert estimate.low <= estimate.likely <= estimate.high


def test_nothing_is_nothing() -> None:
    empty = estimate_tokens("")
    assert (empty.low, empty.likely, empty.high) == (0, 0, 0)


@pytest.mark.parametrize("filler", [" ", "\n", " \n", "=", "a", "\t ", "' ", "1"])
def test_a_megabyte_of_anything_is_quick(filler: str) -> None:
    assert estimate_tokens(filler * (1_000_000 // len(filler)) + "x").high == 1_000_001
