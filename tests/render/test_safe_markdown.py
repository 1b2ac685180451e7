"""Ordinary Markdown stays what it is; what is safe is right as well."""

import time
from html.parser import HTMLParser

import pytest

from o3magic.render.markdown.sanitize import code_span, plain_text, safe_markdown, table_cell

ANSWER = r"""# Roots of *x*

The **discriminant** decides:

1. compute $b^2 - 4ac$
2. if it is < 0 there are none
   - not one
   - `if d < 0: return []`

| case | roots |
| --- | :---: |
| $d > 0$ | 2 |
| `d == 0` | 1 |

> As ever.

- [ ] check
- [x] done

***

```python
def roots(a, b, c):
    return [x for x in (a, b) if x < c & 1]  # $5 <b>
```
"""


def page(text: str) -> str:
    """What nbconvert makes of `text`."""
    filters = pytest.importorskip("nbconvert.filters")
    return str(filters.markdown2html(safe_markdown(text)))


class _Code(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.code: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "pre":
            self._inside = True
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.code[-1] += data


def code_blocks(text: str) -> list[str]:
    """The code blocks of the page."""
    reader = _Code()
    reader.feed(page(text))
    reader.close()
    return [code.strip("\n") for code in reader.code]


def test_an_ordinary_answer_is_rendered_as_it_was_meant() -> None:
    html = page(ANSWER)
    for wanted in ("<h1", "<em>x</em>", "<strong>discriminant</strong>", "<ol>", "<ul>", "<table>"):
        assert wanted in html
    assert '<td style="text-align:center">2</td>' in html
    assert "<code>if d &lt; 0: return []</code>" in html
    assert "<blockquote>" in html
    assert html.count('type="checkbox"') == 2
    assert "$b^2 - 4ac$" in html
    assert "<hr" in html


def test_an_ordinary_answer_is_hardly_changed() -> None:
    changed = set(ANSWER.split("\n")) - set(safe_markdown(ANSWER).split("\n"))
    assert changed == {"2. if it is < 0 there are none"}


@pytest.mark.parametrize("margin", ["", "   ", "> "])
def test_code_is_kept_to_the_byte(margin: str) -> None:
    code = "a < b && c > d\n\n  `x` ~~~ $y\t\\(z\\) [l](m) &lt; <b> *e*\n    deep\n# no heading"
    fenced = "\n".join(margin + line for line in ["```", *code.split("\n"), "```"])
    before = {"": "", "   ": "1. do\n", "> ": "> said\n"}[margin]
    assert code_blocks(before + fenced) == [code]


def test_code_that_lab_would_take_for_mathematics_leaves_its_list() -> None:
    shown = safe_markdown("1. do\n   ```sh\n   echo $A $B\n   ```\n   then\n2. stop")
    assert shown == "1. do\n\n```sh\necho $A $B\n```\n\nthen\n2. stop"


def test_a_fence_holds_shorter_fences() -> None:
    text = "````markdown\n```py\nx\n```\n````"
    assert safe_markdown(text) == text
    assert code_blocks(text.replace("markdown", "")) == ["```py\nx\n```"]


def test_a_fence_that_is_open_is_closed() -> None:
    assert safe_markdown("a\n```py\nx = 1\n") == "a\n\n```py\nx = 1\n```"


@pytest.mark.parametrize(
    ("info", "language"),
    [
        ("python", "python"),
        ("c++", "c++"),
        ("{r, echo=FALSE}", "r"),
        ("py $x$", "py"),
        ("mermaid", "text"),
        ("Mermaid-x", "text"),
        ('"><b>', ""),
    ],
)
def test_a_fence_is_told_its_language_and_no_more(info: str, language: str) -> None:
    assert safe_markdown(f"```{info}\nx\n```") == f"```{language}\nx\n```"


def test_indented_code_becomes_a_fence() -> None:
    assert safe_markdown("so:\n\n    a < b\n\n      c\n\nend") == (
        "so:\n\n```\na < b\n\n  c\n```\n\nend"
    )
    assert code_blocks("- item\n\n      a < b\n\n  more") == ["a < b"]
    assert code_blocks("1. item\n\n    more of it") == []


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("$x^2$", "$x^2$"),
        (r"\(x^2\)", "$x^2$"),
        (r"\[x^2\]", "$$x^2$$"),
        ("$$\nx\n$$", "$$x$$"),
        ("\\[\na\n- b\n\\]", "$$a - b$$"),
        (r"\(a<b\)", "$a< b$"),
        (r"\begin{align}a &= b\end{align}", r"$$\begin{align}a &= b\end{align}$$"),
        (r"$\{x\}$ and $\$5$", r"$\{x\}$ and $\$5$"),
        (r"a\(b\)2", "a\u2060$b$\u20602"),
        (r"`\(x\)` and `$x$`", r"`\(x\)` and `$x$`"),
        (r"$\href{http://x}{y}$", r"`$\href{http://x}{y}$`"),
        (r"$\frac{a$", r"&#92;&#36;&#92;frac{a&#92;&#36;"),
    ],
)
def test_mathematics_is_written_one_way(written: str, shown: str) -> None:
    assert safe_markdown(written) == shown


@pytest.mark.parametrize(
    "text",
    [
        "$5 and $10",
        "US$5 to US$10",
        "$1,000-$2,000",
        "from $5 up to 6$",
        r"\$5 and \$6",
        "$ 5 or 6 $",
    ],
)
def test_money_is_no_mathematics(text: str) -> None:
    # MathJax reads the page, where an entity is a dollar sign: so each has its backslash.
    assert safe_markdown(text) == text.replace("\\", "").replace("$", "&#92;&#36;")


def test_a_single_dollar_needs_no_backslash() -> None:
    assert safe_markdown("It costs $5.") == "It costs &#36;5."
    assert safe_markdown("It costs $5, not $x$.") == "It costs &#92;&#36;5, not $x$."


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a](https://x.test/b_(c)?d=1&e=2 'title')", "[a](https://x.test/b_%28c%29?d=1&amp;e=2)"),
        ("[a](mailto:a@b.test)", "[a](mailto:a@b.test)"),
        ("see https://x.test.", "see [https&#58;//x.test](https://x.test)."),
        ("<https://x.test>", "[https&#58;//x.test](https://x.test)"),
        ("![a](https://x.test/i.png)", "[a](https://x.test/i.png)"),
        ("![](https://x.test/i)", "[https&#58;//x.test/i](https://x.test/i)"),
        ("[![a](https://x.test/i.png)](https://y.test)", "[a](https://y.test)"),
        ("[a](b.md) [c](#d)", "a (b.md) c (#d)"),
        ("[a](javascript:b)", "a (javascript:b)"),
        (
            "![a](https://x.test) !![b](https://x.test)",
            "[a](https://x.test) &#33;[b](https://x.test)",
        ),
        ("array[0] and [1]", "array&#91;0&#93; and &#91;1&#93;"),
    ],
)
def test_links_lead_to_the_web_or_nowhere(written: str, shown: str) -> None:
    assert safe_markdown(written) == shown


def test_entities_stay_the_text_they_stand_for() -> None:
    assert "&amp;lt;b&amp;gt; &lt; é" in page("&amp;lt;b&amp;gt; &lt; &eacute;")
    assert safe_markdown("AT&T &unknown; &copy=1") == "AT&amp;T &amp;unknown; &amp;copy=1"


def test_escaped_signs_are_no_markup() -> None:
    assert safe_markdown(r"\*a\* \# \<b\> \`c\`") == ("&#42;a&#42; &#35; &lt;b&gt; &#96;c&#96;")
    assert "C:&#92;Users&#92;me" in safe_markdown(r"C:\Users\me")


def test_a_table_is_whole_in_every_reader() -> None:
    shown = safe_markdown("text\n| a | b |\n|---|:-:|\n| `x|y` | $|z|$ |\n| 1 |\n|1|2|3|\nend")
    assert shown == (
        "text\n\n| a | b |\n| --- | :---: |\n"
        "| `x\\|y` | $\\vert z\\vert$ |\n| 1 |  |\n| 1 | 2 |\n\nend"
    )
    assert "<table>" in page("text\n| a | b |\n|---|---|\n| 1 |\nend")


def test_a_break_is_a_break_and_a_space_in_a_table() -> None:
    assert safe_markdown("a<br>b<BR/>c") == "a  \nb&lt;BR/&gt;c"
    assert safe_markdown("| a |\n|---|\n| b<br />c |").endswith("| b c |")


def test_terminal_codes_and_controls_are_gone() -> None:
    text = "\x1b[1;31mred\x1b[0m\x07 \x1b]8;;http://x\x1b\\link\x1b]8;;\x07 \x9b2Jx \x1bP1$r\x1b\\y"
    assert plain_text(text) == "red link x y"
    assert plain_text("a\r\nb\rc\td\x00\x7f\u202ee\u2066") == "a\nb\nc\tde"
    assert plain_text("\x1b]0;never closed") == "0;never closed"
    assert plain_text("\ud800") == "\ufffd"


def test_a_cell_is_one_cell_whatever_is_in_it() -> None:
    assert table_cell("a|b\n\n<c>  `d` *e* $5 $6") == (
        "a&#124;b &lt;c&gt; &#96;d&#96; &#42;e&#42; &#92;&#36;5 &#92;&#36;6"
    )
    assert table_cell("x" * 300, limit=10) == "x" * 9 + "…"
    assert table_cell(r"\(x\) \begin{a}") == ("&#92;\u2060(x&#92;) &#92;\u2060begin{a}")


def test_a_code_span_holds_what_it_is_given() -> None:
    assert code_span("a`b") == "``a`b``"
    assert code_span("`a`") == "`` `a` ``"
    assert code_span("a|b\nc") == r"`a\|b c`"
    assert code_span("") == ""


def test_what_is_empty_stays_empty() -> None:
    assert [safe_markdown(text) for text in ("", "\n\n", " \t\n", "\x1b[0m")] == [""] * 4


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("one\n  two\t\nthree", "one\n  two\nthree"),
        ("one  \ntwo \nthree  ", "one  \ntwo\nthree"),
        ("one\\\ntwo  \\\nthree\\", "one  \ntwo  \nthree&#92;"),
        ("one\n \\\ntwo", "one\ntwo"),
        ("`one`  \ntwo", "`one`  \ntwo"),
        ("one\n: two\n| three", "one\n&#58; two\n&#124; three"),
        ("one\n2. two", "one\n2. two"),
        ("> one\ntwo\n> three", "> one\ntwo\n> three"),
        ("- one\ntwo\n\nthree", "- one\ntwo\n\nthree"),
        ("-\n  one", "- one"),
        ("one: two. www three @ four", "one: two. www three @ four"),
        ("a://b, WWW.c, d@@e, ~f, ~~g~~", "a&#58;//b, WWW&#46;c, d&#64;@e, &#126;f, ~~g~~"),
        ("xhttps://a.b https://a.b", "xhttps&#58;//a.b [https&#58;//a.b](https://a.b)"),
        ("[one  \ntwo](https://a.b)", "[one two](https://a.b)"),
    ],
)
def test_words_stay_as_they_are_line_by_line(written: str, shown: str) -> None:
    assert safe_markdown(written) == shown


def test_a_line_of_odd_white_space_is_code_like_any_other() -> None:
    assert safe_markdown("a\n\n    \u00a0\n\nb") == "a\n\n```\n\u00a0\n```\n\nb"


UNITS = [
    *("[", "`", "$", "<", "(", "](", "[](", "![", "\\(", "\\[", "\\begin{align}", "<a ", "&", "&#"),
    *("*", "~", ">", "-", "|", "\\", "{", "#", "@@", "https://a)", "[a](<", "[a]((", "$x{", "[a]("),
    *("``` ", "`` ` ", "$`", "  ", " \n", "\t", "\n", "- ", "-\n", "$a\n", "> ```\n", "```\n"),
    *("\\\n", " \\\n", "~ ", "www.", "://", "a\n", " ``", "https://", "a  \n", "\t\n"),
    *("\n|-|\n", "\x1b]", "\x9d", "a `b", "[a\n", "`\n"),
]


@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size]
        begun = time.process_time()
        safe_markdown(text)
        return time.process_time() - begun

    seconds(2_000)
    small = min(seconds(12_500) for _ in range(3))
    assert min(seconds(50_000) for _ in range(2)) < 8 * small + 0.3
