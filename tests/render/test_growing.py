"""A structured answer while it grows."""

import json

from o3magic.render.live import ROWS, GrowingJson
from o3magic.wire.json_access import parse_partial_json


def test_what_is_there_so_far_is_shown():
    growing = GrowingJson(parse_partial_json, "Invoice")
    assert growing.shown() == ""
    growing.feed('{"number": "2026-114", "lines": [{"item": "cof')
    assert "2026" in growing.shown()
    growing.feed('fee", "price": 8.5}, {"item": "grinder", "price": 64.9')
    assert "| lines | 2 items |" in growing.shown()


def test_the_fields_of_a_row_are_named_and_not_spelled_out():
    growing = GrowingJson(parse_partial_json, "orders")
    row = {"id": 7, "lines": [{"item": "coffee"}], "to": dict.fromkeys("abcd", "x" * 50)}
    growing.feed(json.dumps([row]))
    assert "| 7 | 1 item | {a, b, c, …} |" in growing.shown()
    assert "xxx" not in growing.shown()


def test_of_many_rows_the_first_are_shown_and_the_others_counted():
    growing = GrowingJson(parse_partial_json, "rows")
    growing.feed(json.dumps([{"item": f"item{n}"} for n in range(10_000)]))
    shown = growing.shown()
    assert f"item{ROWS - 1} " in shown
    assert f"item{ROWS} " not in shown
    assert f"{10_000 - ROWS:,} more rows" in shown


def test_what_is_no_json_shows_nothing_and_breaks_nothing():
    growing = GrowingJson(parse_partial_json, "Invoice")
    growing.feed("I would rather write a poem about invoices than one.")
    assert growing.shown() == ""


def test_a_long_answer_is_read_a_number_of_times_that_hardly_grows():
    reads = []

    def read(text: str) -> object:
        reads.append(len(text))
        return None

    growing = GrowingJson(read, "rows")
    text = json.dumps([{"item": n, "price": n / 7} for n in range(20_000)])
    for at in range(0, len(text), 16):
        growing.feed(text[at : at + 16])
        growing.shown()
    assert len(reads) < 120
    assert sum(reads) < 12 * len(text)
