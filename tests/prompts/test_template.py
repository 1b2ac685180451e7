"""Prompts with names of the notebook in them: filled in once, bounded, and the rest untouched."""

import dataclasses
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from o3magic.errors import TemplateError
from o3magic.events import Answer
from o3magic.messages import Image, Text
from o3magic.prompts.formatting import shown
from o3magic.prompts.jsonable import json_text, plain
from o3magic.prompts.template import render


class Line(BaseModel):
    """One line of an invoice."""

    item: str
    price: Decimal


@dataclasses.dataclass
class Place:
    x: int
    y: float


def filled(text, folder=Path("."), **names):
    return render(text, names, folder=folder).text


def refused(text, folder=Path("."), **names):
    with pytest.raises(TemplateError) as caught:
        render(text, names, folder=folder)
    return "\n".join(caught.value.lines())


# What is no template


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no braces",
        r"\frac{a}{b} and $x_{i}^{2}$ and x^{{2}} and {{}}",
        r"\{{a}, {b}\} is a set of sets, \{{ a }} is no template",
        '{"a": {"b": {"c": 1}}}',
        "{% for a in b %}{% raw %}{# a #} # a ## b",
        "}} { } {",
        "line\r\nline\rline\n\n",
        "f'{a}' and {a!r} and %s and ${a}",
    ],
)
def test_everything_but_two_braces_is_as_it_was_typed(text):
    rendered = render(text, {"a": "X", "b": "X"}, folder=Path("."))
    assert rendered.text == text
    assert rendered.names == ()


def test_two_braces_can_be_written_as_a_text():
    assert filled('{{ "{{" }} a }}') == "{{ a }}"


@settings(deadline=None)
@given(st.text(alphabet="{}%#\\ab\n\"'|", max_size=40))
def test_any_text_is_filled_in_or_refused_with_a_line_of_ours(text):
    said = []
    try:
        rendered = render(text, {"a": "A", "b": "B"}, folder=Path("."))
    except TemplateError as error:
        said.append(str(error))
    assert all("of the prompt" in line for line in said)
    if "{{" not in text:
        assert rendered.text == text


# Injection


@settings(deadline=None)
@given(st.text(max_size=150).filter(lambda text: "\n" not in text and "\r" not in text))
def test_what_a_value_says_is_never_read_as_a_template(value):
    shown = value.encode("utf-8", "replace").decode()
    assert filled("<{{ value }}>", value=value, secret="S") == f"<{shown}>"


def test_a_template_inside_a_value_stays_text():
    hostile = "{{ secret }} {% raw %} {{ secret | upper }}"
    assert filled("{{ value }}", value=hostile, secret="S3CRET") == hostile
    assert "S3CRET" not in filled("{{ v }}", v=[hostile], secret="S3CRET")


@settings(deadline=None)
@given(st.text(alphabet='</data>-" abc\n', max_size=300))
def test_nothing_inside_a_value_ends_the_mark_that_it_is_data(inner):
    value = f"line\n{inner}"
    text = filled("before {{ value }} after", value=value)
    tag = text.removeprefix("before <").partition(" ")[0]
    assert text.count(f"</{tag}>") == 1
    assert text.endswith(f"\n</{tag}> after")
    assert value in text


def test_even_a_value_that_knows_its_own_mark_cannot_end_it():
    value = "a\n</data>"
    for _ in range(5):
        text = filled("{{ value }}", value=value)
        tag = text.split()[0].removeprefix("<")
        assert text.count(f"</{tag}>") == 1
        value += f"\n</{tag}>"


def test_the_mark_says_where_it_came_from_and_cannot_be_broken_by_that():
    text = filled("""{{ d['</data>"\\n'] }}""", d={'</data>"\n': "a\nb"})
    assert text.splitlines()[0].count('"') == 2
    assert text.splitlines()[0].count(">") == 1


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__",
        "''.__class__.__mro__[1].__subclasses__()",
        "f.__globals__",
        "f.__code__",
        "obj._hidden",
        "obj.method()",
        "f()",
        "f.__call__()",
        "df.head(2)",
        "df.items()",
        "df.count()",
        "df.to_csv('/tmp/stolen')",
        '"{0.__class__}".format(1)',
        '"a".format_map({})',
        "range(10**12)",
        "lipsum()",
        "cycler('a')",
        "dict()",
        "self",
        "super",
        "__builtins__",
        "xs | map('f')",
        "xs | attr('__class__')",
        "'a' | format(1)",
        "f | tojson",
        "xs.append(1)",
        "d.clear()",
        "d.update({})",
        "xs | join(attribute='__class__')",
        "x is callable",
    ],
)
def test_nothing_is_called_and_no_way_leads_out(expression):
    class Object:
        _hidden = "H"

        def method(self):
            raise AssertionError("it was called")

    def f():
        raise AssertionError("it was called")

    xs, d = [1, 2], {"a": 1}
    refused(
        f"{{{{ {expression} }}}}",
        f=f,
        obj=Object(),
        df=pandas.DataFrame({"a": [1]}),
        xs=xs,
        d=d,
        x=1,
        __builtins__={},
    )
    assert (xs, d) == ([1, 2], {"a": 1})


@pytest.mark.parametrize(
    "expression",
    [
        '"a" * 10**10',
        "10**10 * 'a'",
        "[0] * 10**9",
        "2**(10**9)",
        "(9**400)**400",
        '"%01000000000d" % 1',
        "'a'.ljust(10**10)",
        "'a' | center(10**10)",
        "'a'.zfill(10**10)",
        "big + big",
        "xs | join(big)",
        "df * 2",
        "-df",
        "big ~ big",
        "(" * 300 + "1" + ")" * 300,
        "-" * 900 + "x",
    ],
)
def test_nothing_grows_without_bound(expression):
    names = {"big": "a" * 600_000, "xs": [1] * 1000, "x": 1}
    names["df"] = pandas.DataFrame({"a": [1]})
    refused(f"{{{{ {expression} }}}}", **names)


@pytest.mark.parametrize("expression", ["2**(10**9)", "(9**400)**400", "(2**4000) * (2**4000)"])
def test_a_number_that_gets_too_large_is_not_computed(expression):
    assert "too large" in refused(f"{{{{ {expression} }}}}")


def test_expressions_are_short_and_there_are_not_too_many():
    assert "has no }}" in refused("{{ " + "a" * 2000 + " }}")
    assert "more than 1,000" in refused("{{ x }}" * 1001, x=1)
    assert filled("{{ x }}" * 1000, x=1) == "1" * 1000


# Names


def test_a_name_that_is_not_there_stops_it_with_names_that_are_near():
    said = refused("one\ntwo {{ totl }}", total=1)
    assert "line 2 of the prompt, {{ totl }}: totl is not defined" in said
    assert "did you mean total?" in said


@pytest.mark.parametrize(
    "expression",
    [
        "[x, gone]",
        "{'a': gone}",
        "[d.gone]",
        "{'a': [d['gone']]}",
        "(x, d.gone)",
        "x if x else gone",
        "gone.a.b",
        "d.gone.more",
        "gone | upper",
        "[gone] | join",
        "x | default(gone)",
        "gone is none",
        "[gone, gone | default(1)]",
    ],
)
def test_what_is_missing_anywhere_in_an_expression_stops_it(expression):
    assert "defined" in refused(f"{{{{ {expression} }}}}", x=1, d={}) or "no attribute" in refused(
        f"{{{{ {expression} }}}}", x=1, d={}
    )


def test_what_may_be_missing_is_asked_for_in_so_many_words():
    assert filled("{{ gone is defined }} {{ d.gone | default(x) }}", d={}, x=1) == "False 1"


def test_filters_can_follow_each_other():
    df = pandas.DataFrame({"a": [1, 2]})
    assert filled("{{ df | csv | upper | trim }}", df=df).splitlines()[1:3] == ["A", "1"]
    assert filled("{{ xs | unique }} {{ xs | unique | join('-') }}", xs=[1, 1, 2]) == "[1, 2] 1-2"


def test_names_that_were_used_are_told_in_order():
    rendered = render("{{ b }} {{ a.x }} {{ b }}", {"a": Place(1, 2), "b": 2}, folder=Path("."))
    assert rendered.names == ("b", "a")


@pytest.mark.parametrize(
    "text", ["{{ a", "{{ a }", '{{ "a }}', "{{ (a }}", "{{ a b }}", '{{"a": {"b": 1}}}', "{{ | }}"]
)
def test_what_is_no_expression_is_refused_and_says_how_to_write_braces(text):
    said = refused(text, a=1, b=2)
    assert "--no-template" in said
    assert '{{ "{{" }}' in said


def test_other_ways_to_use_a_name():
    names = {"who": "ann", "d": {"k": [1, 2]}, "n": 3, "none": None}
    assert filled("{{ who.upper() }} {{ who | title }} {{ d.k[1] }} {{ d['k'][0] }}", **names) == (
        "ANN Ann 2 1"
    )
    assert filled(
        "{{ gone | default('x') }} {{ 'y' if n > 2 else 'z' }} {{ n * 2 + 1 }}", **names
    ) == ("x y 7")
    assert filled("{{ [n, 4] | join(', ') }} {{ who[:2] }} {{ none }}", **names) == "3, 4 an None"


def test_an_error_of_the_users_own_code_is_one_line():
    class Object:
        @property
        def broken(self):
            raise KeyError("inner")

        def __str__(self):
            raise ValueError("no words")

    assert "{{ o.broken }}: KeyError: 'inner'" in refused("{{ o.broken }}", o=Object())
    assert "ValueError: no words" in refused("{{ o }}", o=Object())


def test_an_interrupt_is_not_swallowed():
    class Object:
        @property
        def slow(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render("{{ o.slow }}", {"o": Object()}, folder=Path("."))


# Values


def test_plain_values_are_as_python_writes_them():
    value = {"t": "text", "i": 3, "f": 0.1, "d": Decimal("1.10"), "b": True}
    assert filled("{{ t }} {{ i }} {{ f }} {{ d }} {{ b }}", **value) == "text 3 0.1 1.10 True"


def test_objects_are_json():
    assert filled("{{ v }}", v={"a": [1, None]}) == '{"a": [1, null]}'
    assert filled("{{ v }}", v=Line(item="tea", price=Decimal("1.5"))) == (
        '{"item": "tea", "price": "1.5"}'
    )
    assert filled("{{ v }}", v=Place(1, 2.5)) == '{"x": 1, "y": 2.5}'
    assert filled("{{ v }}", v={3, 1, 2}) == "[1, 2, 3]"


def test_an_answer_is_its_text_or_its_data():
    assert filled("{{ a }}", a=Answer(text="words")) == "words"
    structured = Answer(text='{"x":1}', data={"x": 1})
    assert filled("{{ a }}", a=structured) == '{"x": 1}'
    assert filled("{{ a | text }}", a=structured) == '{"x":1}'


def test_long_text_is_marked_as_data_unless_it_is_said_to_be_the_users_own():
    assert filled("{{ t }}", t="a" * 200) == "a" * 200
    assert filled("{{ t }}", t="a" * 201) == f'<data name="t">\n{"a" * 201}\n</data>'
    assert filled("{{ t | inline }}", t="a\nb") == "a\nb"


def test_a_table_is_csv_and_says_what_was_cut():
    df = pandas.DataFrame({"a": range(10_000), "b": "x,y"})
    rendered = render("{{ df }}", {"df": df}, folder=Path("."))
    lines = rendered.text.splitlines()
    assert lines[:3] == ['<data name="df">', "a,b", '0,"x,y"']
    assert lines[-2:] == ["[... 9,900 of 10,000 rows cut]", "</data>"]
    assert rendered.notes == ("df: 9,900 of 10,000 rows cut",)
    assert "9,998 of 10,000" in filled("{{ df | csv(2) }}", df=df)
    assert "cut" not in filled("{{ df | head(2) }}", df=df)
    assert (
        filled("{{ df | head(2) | json }}", df=df) == '[{"a": 0, "b": "x,y"}, {"a": 1, "b": "x,y"}]'
    )


def test_an_index_that_means_something_is_kept():
    counts = pandas.Series(["a", "b", "a"], name="letter").value_counts()
    assert "letter,count\na,2\nb,1" in filled("{{ counts }}", counts=counts)
    df = pandas.DataFrame(
        {"v": [1]}, index=pandas.MultiIndex.from_tuples([("x", 2)], names=["k", "n"])
    )
    assert "k,n,v\nx,2,1" in filled("{{ df }}", df=df)


def test_what_is_missing_is_empty_in_csv_and_null_in_json():
    df = pandas.DataFrame({"f": [1.5, float("nan")], "t": pandas.to_datetime(["2026-01-02", None])})
    assert "f,t\n1.5,2026-01-02 00:00:00\n," in filled("{{ df }}", df=df)
    assert '{"f": null, "t": null}' in filled("{{ df | json }}", df=df)


class Counting(pandas.DataFrame):
    """A table that refuses to be gone through as a whole."""

    def itertuples(self, *args, **named):
        assert len(self) <= 20_000
        return super().itertuples(*args, **named)

    @property
    def _constructor(self):
        return Counting


def test_of_a_large_table_only_the_rows_that_are_shown_are_touched():
    df = Counting({"a": numpy.arange(2_000_000)})
    assert "1,999,900 of 2,000,000 rows cut" in filled("{{ df }}", df=df)
    assert "items cut" in filled("{{ df | json }}", df=df)


def test_wide_and_fat_tables_are_cut_too():
    fat = pandas.DataFrame({"a": ["x" * 50_000] * 5})
    assert len(filled("{{ df }}", df=fat)) < 10_000
    wide = pandas.DataFrame([range(3000)])
    for form in ("{{ df }}", "{{ df | json }}"):
        rendered = render(form, {"df": wide}, folder=Path("."))
        assert len(rendered.text) < 5_000
        assert "2,800 of 3,000 columns cut" in rendered.notes[0]


def test_a_table_described():
    df = pandas.DataFrame({"n": [1.0, 2.0, None], "t": ["a", "b", "a"]})
    text = filled("{{ df | describe }}", df=df)
    assert "3 rows x 2 columns" in text
    assert "n: float64, 1 missing, 1 to 2, mean 1.5" in text
    assert "2 different, such as a" in text
    assert "n: float64" in filled("{{ df | schema }}", df=df)


def test_polars_tables_are_tables():
    polars = pytest.importorskip("polars")
    df = polars.DataFrame({"a": range(1000), "b": ["x"] * 1000})
    assert "900 of 1,000 rows cut" in filled("{{ df }}", df=df)
    assert "1000 rows" in filled("{{ df | describe }}", df=df).replace(",", "")
    assert "a,b\n0,x\n1,x\n" in filled("{{ lf | head(2) }}", lf=df.lazy())
    assert "a: Int64" in filled("{{ df | schema }}", df=df)
    assert "a: Int64" in filled("{{ lf | schema }}", lf=df.lazy())
    assert "not computed yet" in refused("{{ lf }}", lf=df.lazy())
    assert "a\n0\n1" in filled("{{ s | head(2) }}", s=df["a"])


def test_arrays_are_shown_with_their_shape_and_cut():
    assert "array of 2 x 2, int64:\n[[0, 1], [2, 3]]" in filled(
        "{{ a }}", a=numpy.arange(4).reshape(2, 2)
    )
    assert filled("{{ a }}", a=numpy.float64(2.5)) == "2.5"
    text = filled("{{ a }}", a=numpy.zeros(5_000_000))
    assert len(text) < 300_000
    assert "of 5,000,000 items cut" in text


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (os, "module"),
        (os.environ, "keys"),
        (b"\x00\xff", "bytes"),
        (object(), "no short text"),
        (render, "| code"),
        (Line, "| code"),
    ],
)
def test_what_has_no_form_for_a_reader_is_refused(value, word):
    assert word in refused("{{ v }}", v=value)


def test_secrets_stay_hidden():
    assert "hunter2" not in filled("{{ v }}", v={"key": SecretStr("hunter2")})


def test_the_same_value_gives_the_same_bytes_in_another_process():
    code = (
        "from o3magic.prompts.template import render; from pathlib import Path;"
        "v = {'s': {'b', 'a', 'c'}, 'o': object()};"
        "print(render('{{ v }} {{ s }}', {'v': v, 's': frozenset('hello')}, folder=Path('.')).text)"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


# JSON data of anything


def test_data_without_an_end_is_cut():
    loop: list = [1]
    loop.append(loop)
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    assert "the same again" in json_text(loop)[0]
    assert "nested too deeply" in json_text(deep)[0]
    text, notes = json_text({"a": "x" * 10**6, "b": list(range(10**6))}, 1000)
    assert len(text) < 3000
    assert any("cut" in note for note in notes)


@settings(deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_json_data_is_already_plain(value):
    assert plain(value) == value


# Files and code


def test_a_file_of_the_folder_is_quoted_and_no_other(tmp_path):
    home = tmp_path / "nb"
    (home / "sub").mkdir(parents=True)
    (home / "notes.txt").write_text("one\ntwo\n", "utf-8")
    (home / "binary").write_bytes(b"\x89PNG\x00")
    (home / "latin").write_bytes("é".encode("latin-1"))
    (home / ".env").write_text("KEY=secret")
    (tmp_path / "outside.txt").write_text("secret")
    (home / "link").symlink_to(tmp_path / "outside.txt")
    assert "one\ntwo" in filled('{{ "notes.txt" | file }}', home)
    assert filled('{{ "notes.txt" | file | head(1) }}', home) == "one"
    for path in ("../outside.txt", "/etc/passwd", "link", ".env", "sub", "gone", "a\\u0000b"):
        assert "secret" not in refused(f'{{{{ "{path}" | file }}}}', home)
    for path in ("binary", "latin"):
        assert "no UTF-8 text" in refused(f'{{{{ "{path}" | file }}}}', home)
    assert "no path" in refused("{{ 3 | file }}", home)


def test_a_large_file_is_cut_between_characters(tmp_path):
    (tmp_path / "large").write_text("é" * 300_001, "utf-8")
    rendered = render('{{ "large" | file }}', {}, folder=tmp_path)
    assert "200,002 of 600,002 bytes cut" in rendered.text
    (tmp_path / "odd").write_text("a" + "é" * 300_000, "utf-8")
    assert "bytes cut" in render('{{ "odd" | file }}', {}, folder=tmp_path).text


def test_the_source_of_a_function():
    def inner(a: int) -> int:
        return a + 1

    assert "def inner(a: int) -> int:\n    return a + 1" in filled("{{ f | code }}", f=inner)
    assert "not known" in refused("{{ f | code }}", f=len)


def test_a_filter_that_is_not_there_is_named_with_those_that_are_near():
    assert "did you mean describe?" in refused("{{ x | descibe }}", x=1)


# Pictures


def test_a_picture_stands_where_it_was_put():
    pixels = numpy.zeros((2, 3), dtype="uint8")
    rendered = render(
        "Look: {{ p | image }} and {{ p | image('low') }}.", {"p": pixels}, folder=Path(".")
    )
    kinds = [type(part) for part in rendered.parts]
    assert kinds == [Text, Image, Text, Image, Text]
    assert rendered.images[1].detail == "low"
    assert rendered.text == "Look: [picture] and [picture]."


# Values of pandas and pyarrow


def test_a_series_keeps_its_labels():
    assert json_text(pandas.Series({"Rome": 4, "Oslo": 2}))[0] == '{"Rome": 4, "Oslo": 2}'
    assert json_text(pandas.Series([4, 2]))[0] == "[4, 2]"
    twice = json_text(pandas.Series([1, 2], index=["a", "a"], name="n"))[0]
    assert twice == '[{"index": "a", "n": 1}, {"index": "a", "n": 2}]'
    levels = pandas.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "m"])
    assert json.loads(json_text(pandas.Series([5, 6], index=levels))[0])[1] == {
        "k": "b",
        "m": 2,
        "value": 6,
    }


def test_a_series_with_labels_is_cut_like_a_list_and_says_so():
    long = pandas.Series(range(10_000), index=[f"k{n}" for n in range(10_000)])
    text, notes = json_text(long, 500)
    assert len(text) < 1_000
    assert any("of 10,000 fields cut" in note for note in notes)


def test_two_columns_of_one_name_are_both_there_and_it_is_said():
    frame = pandas.concat([pandas.DataFrame({"n": [1]}), pandas.DataFrame({"n": [2]})], axis=1)
    text, notes = json_text(frame)
    assert text == '[{"n": 1, "n (2)": 2}]'
    assert notes == ("2 columns are called 'n': numbered",)


def test_intervals_and_periods_are_written_as_pandas_writes_them():
    bins = pandas.cut(pandas.Series([1, 2, 9]), [0, 5, 10]).value_counts()
    assert '"(0, 5]",2' in shown(bins).text
    month = pandas.Period("2026-01")
    assert json_text([month, pandas.Interval(0, 5)])[0] == '["2026-01", "(0, 5]"]'
    assert shown(month).text == "2026-01"


def test_a_table_of_pyarrow_is_rows():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    assert json_text(table)[0] == '[{"a": 1, "b": "x"}, {"a": 2, "b": null}, {"a": 3, "b": "z"}]'
    assert shown(table).text == "a,b\n1,x\n2,\n3,z"
    assert "3 rows x 2 columns" in render("{{ t | describe }}", {"t": table}, folder=Path()).text
    assert "b: string" in render("{{ t | schema }}", {"t": table}, folder=Path()).text
    assert "z" not in render("{{ t | head(2) }}", {"t": table}, folder=Path()).text
