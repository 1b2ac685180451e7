"""Lines of a cell as IPython reads them: comments above `%%o3`, magics in strings."""

import pytest

from o3magic.notebook.extension import rewrite_lines, starts_in_string
from o3magic.simulator import Simulator
from tests.notebook.conftest import Kernel


def rewritten(text: str) -> str:
    return "".join(rewrite_lines(text.splitlines(keepends=True)))


@pytest.mark.parametrize("above", ["#| echo: false\n", "# about rain\n\n#| label: x\n", "\n#\n"])
def test_comments_above_the_magic_are_left_out(above: str):
    assert rewritten(f"{above}%%o3 -o a\n# a heading\nWhy?") == "%%o3 -o a\n# a heading\nWhy?"


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\nx = 1\n%%o3\nWhy?",
        "# a comment\n%%time\nx = 1",
        "# a comment\n%%o3x\n1",
        'x = """\n# in a string\n%%o3\n"""',
    ],
)
def test_nothing_else_loses_its_comments(text: str):
    assert rewritten(text) == text


@pytest.mark.parametrize(
    "text",
    [
        'x = """\n%o3 Why?\n"""',
        "x = '''a\n  %o3 Why?\n  y = %o3 Why?\n'''",
        'x = \'it\'\'s\' # """\ny = """\n%o3 Why?\n"""',
    ],
)
def test_a_question_in_a_string_is_text(text: str):
    assert rewritten(text) == text


def test_questions_in_code_are_called_wherever_they_stand():
    text = "if x:\n    %o3 What's up?\ny = %o3 Why?\nz = 'a' # '''\n%o3 And now?\n"
    assert rewritten(text).count("run_line_magic") == 3


def test_apostrophes_of_a_magic_open_no_string():
    assert starts_in_string(["%o3 It's '''odd\n", "x = 1\n"]) == [False, False]
    assert starts_in_string(['a, b = %o3 what is """?\n', "x = 1\n"]) == [False, False]


def test_a_cell_with_a_comment_above_its_magic_is_asked(kernel: Kernel, simulator: Simulator):
    ran = kernel.run("#| echo: false\n# about rain\n%%o3 -o told\nSay something about rain.")
    assert ran.status == "ok", ran.error
    assert kernel.value("told.text")
    assert len(ran.outputs) == 1
    messages = simulator.requests[-1].body["input"]
    assert "echo" not in str(messages)
