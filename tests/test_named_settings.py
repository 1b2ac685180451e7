"""`[profile.NAME]` in a settings file: what it bundles, and what one that came along may not."""

import os
from decimal import Decimal

import pytest

from o3magic.config import PROJECT_FILE, load_layers
from o3magic.errors import BadOption

CAREFUL = """
[profile.careful]
effort = "high"
developer = "Think twice."
tools = "area"
budget_day = 2
"""


@pytest.fixture
def load(tmp_path):
    """Loads the layers of two files and an environment."""
    project = tmp_path / "project"
    project.mkdir()
    user = tmp_path / "config.toml"

    def read(user_text="", project_text="", **environment):
        user.write_text(user_text, encoding="utf-8")
        (project / PROJECT_FILE).write_text(project_text, encoding="utf-8")
        return load_layers({"O3MAGIC_CONFIG": str(user), **environment}, project)

    return read


def test_a_profile_counts_only_where_it_is_named(load):
    layers = load(project_text=CAREFUL)
    assert layers.profile().tools == ""
    named = layers.profile({"profile": "careful"})
    assert (named.effort, named.developer, named.tools) == ("high", "Think twice.", "area")
    assert named.budget_day == Decimal(2)


def test_it_lies_just_below_the_layer_that_names_it(load):
    layers = load(CAREFUL, O3MAGIC_EFFORT="low")
    assert layers.profile({"profile": "careful"}).effort == "high"
    assert layers.profile({"profile": "careful", "effort": "medium"}).effort == "medium"
    configured = layers.with_layer("%o3_config", {"profile": "careful"})
    assert configured.profile().effort == "high"
    assert configured.profile({"effort": "low"}).effort == "low"
    assert configured.with_layer("widget", {"effort": "medium"}).profile().effort == "medium"
    assert configured.with_layer("%o3_config", {"profile": None}).profile().effort == "low"


def test_the_users_own_profile_comes_before_one_of_the_same_name(load):
    layers = load('[profile.careful]\neffort = "low"', CAREFUL)
    named = layers.profile({"profile": "careful"})
    assert (named.effort, named.tools) == ("low", "")


def test_a_name_that_is_not_there_is_told_with_those_that_are_near(load):
    with pytest.raises(BadOption) as refused:
        load(CAREFUL).profile({"profile": "carefull"})
    assert "did you mean careful?" in refused.value.hint
    with pytest.raises(BadOption, match="environment: there is no profile"):
        load(O3MAGIC_PROFILE="careful")


# What came with somebody's notebooks


@pytest.mark.parametrize("line", ['base_url = "https://evil.example"', "keep_text = true"])
def test_a_project_sets_in_a_profile_no_more_than_elsewhere(load, line):
    with pytest.raises(BadOption, match="may not set"):
        load(project_text=f"[profile.careful]\n{line}\n")
    with pytest.raises(BadOption, match="may not set"):
        load(project_text=line)
    assert load(f"[profile.careful]\n{line}\n")


@pytest.mark.parametrize("line", ['tools = "python"', 'profile = "careful"'])
def test_a_project_names_no_tools_for_every_cell(load, line):
    with pytest.raises(BadOption, match="for every cell"):
        load(CAREFUL, line)
    assert load(line if line.startswith("tools") else "")


def test_what_nobody_typed_names_no_profile_of_a_project(load):
    with pytest.raises(BadOption, match="there is no profile"):
        load(project_text=CAREFUL, O3MAGIC_PROFILE="careful")
    with pytest.raises(BadOption, match="there is no profile"):
        load('profile = "careful"', CAREFUL)
    assert load(CAREFUL, O3MAGIC_PROFILE="careful").profile().tools == "area"


@pytest.mark.parametrize("said", ["user", "environment", "%o3_config"])
def test_a_projects_profile_raises_no_budget(load, said):
    user = "budget_day = 1" if said == "user" else ""
    environment = {"O3MAGIC_BUDGET_DAY": "1"} if said == "environment" else {}
    layers = load(user, CAREFUL, **environment)
    if said == "%o3_config":
        layers = layers.with_layer("%o3_config", {"budget_day": "1"})
    assert layers.profile({"profile": "careful"}).budget_day == Decimal(1)
    assert layers.profile({"profile": "careful", "budget_day": "3"}).budget_day == Decimal(3)
    lower = load("budget_day = 5", CAREFUL).profile({"profile": "careful"})
    assert lower.budget_day == Decimal(2)


@pytest.mark.parametrize(("strict", "loose"), [("confirm = true", "confirm = false")])
def test_what_the_user_made_strict_stays_so(load, strict, loose):
    assert load(strict, loose).profile().confirm is True
    layers = load(strict, f"[profile.careful]\n{loose}\n")
    assert layers.profile({"profile": "careful"}).confirm is True
    assert load(loose, strict).profile().confirm is True
    assert load("store = false", "store = true").profile().store is False
    assert load("", "store = false").profile().store is False


# Files that a profile names


def test_a_developer_message_in_a_file_beside_the_settings(load, tmp_path):
    (tmp_path / "careful.md").write_text("Think twice.")
    layers = load('[profile.careful]\ndeveloper_file = "careful.md"\n')
    said = layers.profile({"profile": "careful"}).developer
    assert said == f"@{(tmp_path / 'careful.md').resolve()}"
    same = load('developer = "@careful.md"').profile()
    assert same.developer == said
    assert load('developer = "@@careful.md"').profile().developer == "@@careful.md"


@pytest.mark.parametrize(
    "line",
    [
        'developer_file = "../secret.md"',
        'developer = "@/etc/passwd"',
        'developer = "@~/.ssh/id_rsa"',
        'file = "../../secret.md"',
        'file = "link/secret.md"',
    ],
)
def test_a_projects_file_names_no_file_elsewhere(load, tmp_path, line):
    os.symlink(tmp_path, tmp_path / "project" / "link")
    for text in (line, f"[profile.careful]\n{line}\n"):
        with pytest.raises(BadOption, match="may not name"):
            load(project_text=text)
        assert load(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[profile.careful]\nefort = 1", "there is no option 'efort'"),
        ('[profile.careful]\neffort = "hot"', "--effort hot"),
        ('[profile.careful]\nprofile = "other"', "names no other one"),
        ("[profile]\ncareful = 1", "holds no tables"),
        ("profile = 3", "holds no tables"),
    ],
)
def test_a_profile_that_cannot_hold_is_refused_when_it_is_read(load, text, words):
    with pytest.raises(BadOption, match=words):
        load(text)
