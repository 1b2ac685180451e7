"""No text, however hostile, becomes more than text: judged by nbconvert's reader of Markdown."""

import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from o3magic.render.data_table import as_markdown
from o3magic.render.markdown.sanitize import safe_markdown

filters = pytest.importorskip("nbconvert.filters")

ELEMENTS = re.compile(
    "p|h[1-6]|[uo]l|li|table|t(?:head|body|r|h|d)|code|pre|em|strong|a|blockquote|[hb]r|span|div|del"
    "|input|d[ltd]"
)
ATTRIBUTES = {"href", "class", "id", "style", "start", "type", "disabled", "checked"}

PAYLOADS: dict[str, str] = json.loads(
    (Path(__file__).parents[1] / "data" / "hostile_markdown.json").read_text("utf-8")
)
PIECES = [
    *PAYLOADS.values(),
    *(
        "`",
        "``",
        "```",
        "````\n",
        "~~~",
        "\n```\n",
        "\n~~~\n",
        "$",
        "$$",
        "\\",
        "\\\\",
        "\\(",
        "\\)",
    ),
    *("\\[", "\\]", "\\begin{align}", "\\end{align}", "\\begin{a}", "\\end{a}", "{", "}", "<", ">"),
    *(
        "[",
        "]",
        "](",
        ")",
        "!",
        "|",
        "\n|---|---|\n",
        "\n| a | b |\n",
        "&",
        "&lt;",
        "&#36;",
        "&#92;",
    ),
    *(
        "\n",
        "\n\n",
        "\n    ",
        "\n- ",
        "\n  - ",
        "\n1. ",
        "\n> ",
        "> ",
        "- ",
        "\n\t",
        "  \n",
        "\n# ",
    ),
    *(
        "\n---\n",
        "\n===\n",
        "*",
        "**",
        "_",
        "~~",
        "~",
        "#",
        "@@0@@",
        "@",
        "<b",
        "<!--",
        "-->",
        "<?",
    ),
    *("http://a.test/x", "www.a.test", "a@b.test", "<br>", "\u2028", "\u202e", "\x1b[1m", "é", " "),
    *(
        "word",
        "5",
        "$5 and $10",
        "x^2",
        "\\$",
        "\\href{javascript:x}",
        '"',
        "'",
        "onload=",
        "\\\\[",
    ),
]

DENSE = [
    *("**", "*", "_", "__", "~~", "~", "`", "``", "```", "`", " ", "\n", "<img src=x onerror=1>"),
    *(
        "<b>",
        "\\",
        "x",
        "[",
        "](http://a.test)",
        "](javascript:x)",
        "$",
        "$x$",
        "$$",
        "|",
        "!",
        "]",
    ),
    *("\n\n", "\n- ", "\n> ", "\n# ", "\n```\n", "\n    ", "\n| a | b |\n|--|--|\n| "),
    *(
        "http://a.test",
        "@",
        "a@b.test",
        "{",
        "}",
        "\\begin{a}",
        "\\end{a}",
        "\\\\(",
        "\\\\)",
        "\\\\[",
        "\\\\]",
        "&#96;",
    ),
    *("&lt;", "1", "@@0@@", "www.a.test", "\\(x\\)", "\\`", "\\*", "<br>", "http://a.test/_x"),
]


class Page(HTMLParser):
    """What a page made of Markdown holds."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.feed(filters.markdown2html(markdown))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not ELEMENTS.fullmatch(tag):
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            value = value or ""
            good = name in ATTRIBUTES
            if name == "href":
                good = bool(re.match(r"https?://|mailto:|#", value))
            elif name == "style":
                good = bool(
                    re.fullmatch(r"text-align:\s?(left|right|center);?|line-height: \d+%;", value)
                )
            if not good:
                self.wrong.append(f"<{tag} {name}={value}>")

    def handle_decl(self, decl: str) -> None:
        self.wrong.append(f"<!{decl}")

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}")

    def handle_pi(self, data: str) -> None:
        self.wrong.append(f"<?{data}")

    def unknown_decl(self, data: str) -> None:
        self.wrong.append(f"<![{data}")


def outside_code(markdown: str) -> str:
    """The Markdown without its fences, code spans and formulas, read in the plainest way."""
    fence = re.compile(r"(?ms)^([ >\d.)*+-]*)(`{3,})[^`\n]*\n.*?^[ >]*\2`*$")
    inline = re.sub(r"(?<!`)(`+)(?!`)[^\n]*?[^`\n]\1(?!`)", "code", fence.sub("", markdown))
    return re.sub(r"\$\$?(?:[^$\\\n]|\\.)+\$\$?", "formula", inline)


def assert_harmless(text: str) -> None:
    shown = safe_markdown(text)
    assert Page(shown).wrong == [], f"{text!r} -> {shown!r}"
    bare = outside_code(shown)
    assert not re.search(r"<[A-Za-z/!?]", bare), f"{text!r} -> {shown!r}"
    assert "`" not in bare, f"{text!r} -> {shown!r}"
    assert not re.search(r"!\[|^ *\[[^\]]*\]:", bare, re.MULTILINE), f"{text!r} -> {shown!r}"
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", shown
    )
    assert safe_markdown(shown) == shown, f"{text!r} -> {shown!r}"


def documents(count: int, seed: int, pieces: list[str], longest: int) -> list[str]:
    """Documents of hostile pieces, the same for the same seed."""
    chance = random.Random(seed)
    return ["".join(chance.choices(pieces, k=chance.randint(2, longest))) for _ in range(count)]


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_payload_is_shown_and_does_nothing(text: str) -> None:
    assert_harmless(text)


@pytest.mark.parametrize("frame", ["- {}", "> {}", "# {}", "1. a\n\n   {}", "|a|b|\n|-|-|\n|{}|x|"])
def test_a_payload_does_nothing_wherever_it_stands(frame: str) -> None:
    for text in PAYLOADS.values():
        assert_harmless(frame.format(text.replace("\n", "\n  ")))


def test_payloads_behind_one_another_do_nothing() -> None:
    chance = random.Random(1)
    for _ in range(40):
        assert_harmless("\n".join(chance.sample(list(PAYLOADS.values()), 12)))


def test_no_document_of_hostile_pieces_does_anything() -> None:
    for text in documents(2_000, 20261121, PIECES, 14) + documents(2_000, 7, DENSE, 30):
        assert_harmless(text)


def test_no_code_span_holds_what_nbconvert_reads_before_it_sees_the_code() -> None:
    assert_harmless("~~_`http://a.test/_x~~<img src=x onerror=1>_`")
    assert_harmless("~~x [a](http://a.test/~~) ~~ `~~~<b>`")
    assert safe_markdown("`a~~b`") == "`a~`\u2060`~b`"


def test_no_code_span_holds_what_marked_reads_before_it_sees_the_code() -> None:
    # JupyterLab's parser, which is not run here, looks for emphasis in code that holds a backtick.
    shown = safe_markdown("**x ``a` <img src=x onerror=alert(1)>**`` \\\\`**<b>\\`")
    assert shown == ("**x `a`\u2060&#96;\u2060` <img src=x onerror=alert(1)>**` &#92;` **<b>\\ `")
    assert safe_markdown("~~`<b>` $x$`<b>`") == "~~\u2060`<b>` $x$\u2060`<b>`"


def test_a_payload_in_data_does_nothing() -> None:
    for text in PAYLOADS.values():
        for data in (
            text,
            [text],
            {text: text, "more": {text: [text]}},
            [{text: text}, {"a": text}],
        ):
            shown = as_markdown(data, text)
            assert Page(shown).wrong == [], f"{text!r} -> {shown!r}"
            assert safe_markdown(shown) == shown


# Found by tests/browser/test_fuzz.py in the renderers themselves, and made as short as they go.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"$\$$$\x<img src=x onerror=alert(1)>$", None),  # nbconvert read on behind `\$`
        ("http://@/lab", "http&#58;//@/lab"),  # JupyterLab took it for its own address
        ("[x](http://:8888/lab)", "x (http&#58;//:8888/lab)"),
        ("[x](http://a@b:c/)", "x (http&#58;//a@b:c/)"),
        ("[x](HTTP://a.test)", "[x](http://a.test)"),
        ("~~[~~[]]()", "~~\u2060~~&#91;&#93; ()"),  # a fence, when read again
        ("http:[//a@/lab]()", "http:\u2060//a@/lab ()"),  # an address, when read again
        ("[~~](http://a.test)`<img src=x onerror=alert(1)>`~~", None),  # struck past the link
        ("~~[a ~~b](http://a.test)`<b>`~~", None),
        ("\\(x\u00a0\\)", "$x$"),
        ("\\(%\u00a0\n\\)", None),
    ],
)
def test_what_the_real_renderers_found(text: str, expected: str | None) -> None:
    assert_harmless(text)
    assert expected is None or safe_markdown(text) == expected
