"""Structured data as tables, whatever is in it."""

from o3magic.render.data_table import as_markdown
from o3magic.render.markdown.sanitize import safe_markdown

EMPTY: list[object] = [None, {}, [], ""]


def test_an_object_is_a_table_of_its_fields() -> None:
    data = {"number": "A-1", "total": 12.5, "paid": True, "note": None}
    assert as_markdown(data, "Invoice") == (
        "**Invoice**\n\n| field | value |\n| --- | --- |\n"
        "| number | A-1 |\n| total | 12.5 |\n| paid | true |\n| note |  |"
    )


def test_fields_within_fields_have_rows_of_their_own() -> None:
    shown = as_markdown({"a": {"b": {"c": 1}, "d": [1, {"e": "f"}]}, "g": {}, "h": []})
    assert shown.split("\n")[2:] == [
        "| a.b.c | 1 |",
        '| a.d | `[1, {"e": "f"}]` |',
        "| g | `{}` |",
        "| h | `[]` |",
    ]


def test_a_list_of_objects_has_a_column_for_every_field() -> None:
    assert as_markdown([{"a": 1}, {"b": 2, "a": 3}]) == (
        "| a | b |\n| --- | --- |\n| 1 |  |\n| 3 | 2 |"
    )


def test_a_list_of_values_is_a_column() -> None:
    assert as_markdown(["x", 2, None, [3]]) == ("| value |\n| --- |\n| x |\n| 2 |\n|  |\n| `[3]` |")


def test_a_value_alone_is_bold() -> None:
    assert as_markdown(42, "Answer") == "**Answer**\n\n**42**"
    assert [as_markdown(data) for data in EMPTY] == ["", "`{}`", "`[]`", ""]


def test_what_is_too_much_is_counted() -> None:
    shown = as_markdown([{"n": n} for n in range(60)])
    assert shown.count("\n| ") == 51
    assert shown.endswith("\n\n… and 10 more rows")
    assert as_markdown([1, 2, 3], rows=2).endswith("… and 1 more row")
    wide = as_markdown([{f"f{n}": n for n in range(40)}])
    assert wide.endswith("… and 10 more columns")
    assert "f29 |" in wide
    assert "f30" not in wide


def test_a_long_value_is_shortened() -> None:
    assert f"| {'x' * 199}… |" in as_markdown(["x" * 500])
    assert "…`" in as_markdown({"a": list(range(500))})


def test_words_of_the_model_stay_words() -> None:
    data = {"a|b": "<b>*c*</b> | `d`\n$5 $6", "<script>": "![x](http://y)"}
    assert as_markdown(data, "<h1>").split("\n") == [
        "**&lt;h1&gt;**",
        "",
        "| field | value |",
        "| --- | --- |",
        "| a&#124;b | &lt;b&gt;&#42;c&#42;&lt;/b&gt; &#124; &#96;d&#96; &#92;&#36;5 &#92;&#36;6 |",
        "| &lt;script&gt; | !&#91;x&#93;(http&#58;//y) |",
    ]


def test_the_table_is_safe_markdown_already() -> None:
    samples: list[object] = [
        {"a": {"b": "|", "c": ["`|`", "\\|"]}},
        [{"x": "$"}, {"y": "\\(z\\)"}],
        ["a\\"],
    ]
    for data in samples:
        shown = as_markdown(data, "a_b")
        assert safe_markdown(shown) == shown
        assert as_markdown(data, "a_b") == shown
