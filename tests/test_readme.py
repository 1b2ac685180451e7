"""The README says what the code does."""

from pathlib import Path

import pytest

from tests.readme_tables import model_table, option_table, other_options

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [option_table, other_options, model_table])
def test_a_table_of_the_readme_is_that_of_the_code(table):
    assert table() in README


def test_the_commands_of_the_readme_are_those_ci_runs():
    script = (Path(__file__).parents[1] / ".ci" / "run").read_text(encoding="utf-8")
    assert "python -m pip install -e '.[test,browser]' && python -m pytest" in README
    assert "python -m pip install --quiet -e '.[test,browser]'" in script
    assert "\npython -m pytest\n" in script


def test_every_picture_of_the_readme_is_there():
    for piece in README.split("](")[1:]:
        target = piece.partition(")")[0]
        if target.endswith((".png", ".svg")) and "://" not in target:
            assert (Path(__file__).parents[1] / target).is_file()
