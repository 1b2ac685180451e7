"""Settings: one profile out of layers, and a clear word for what cannot hold."""

import itertools
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from o3magic.config import (
    LAYERS,
    PROJECT_FILE,
    Config,
    ledger_file,
    load_layers,
    project_file,
    read_file,
    user_file,
)
from o3magic.errors import BadOption
from o3magic.settings import Settings, options


@pytest.fixture
def user(tmp_path):
    """The user's own file, not written yet."""
    return tmp_path / "home" / "config.toml"


@pytest.fixture
def project(tmp_path):
    """A project's folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def load(user, project):
    """Loads the layers of two files and an environment."""

    def read(user_text=None, project_text=None, **environment):
        user.parent.mkdir(exist_ok=True)
        if user_text is not None:
            user.write_text(user_text, encoding="utf-8")
        if project_text is not None:
            (project / PROJECT_FILE).write_text(project_text, encoding="utf-8")
        return load_layers({"O3MAGIC_CONFIG": str(user), **environment}, project)

    return read


def test_without_anything_said_the_defaults_hold(load):
    profile = load().profile()
    assert profile == Settings()
    assert (profile.model, profile.effort, profile.api) == ("", None, "auto")


def test_each_layer_is_laid_over_the_ones_before_it():
    for below, above in itertools.combinations(LAYERS, 2):
        layers = Config().with_layer(above, {"effort": "high"}).with_layer(below, {"effort": "low"})
        assert layers.profile().effort == "high", (below, above)
        assert layers.origin("effort") == above
    assert layers.profile({"effort": "medium"}).effort == "medium"


def test_a_layer_hides_only_the_fields_it_names():
    layers = Config().with_layer("user file", {"effort": "low", "model": "o1"})
    layers = layers.with_layer("widget", {"effort": "high"})
    assert (layers.profile().effort, layers.profile().model) == ("high", "o1")
    assert layers.profile({"quiet": True}).model == "o1"
    assert layers.origin("quiet") == "default"


def test_files_and_environment_are_laid_in_this_order(load):
    one, two = 'model = "user"\neffort = "low"\nrepairs = 2', 'model = "project"\neffort = "medium"'
    layers = load(one, two, O3MAGIC_MODEL="environment")
    profile = layers.profile()
    assert (profile.model, profile.effort, profile.repairs) == ("environment", "medium", 2)
    origins = [layers.origin(name) for name in ("model", "effort", "repairs", "api")]
    assert origins == ["environment", "project file", "user file", "default"]


def test_taking_a_field_out_of_a_layer_shows_the_one_below():
    layers = Config().with_layer("user file", {"effort": "low"})
    layers = layers.with_layer("%o3_config", {"effort": "high"})
    assert layers.with_layer("%o3_config", {"effort": None}).profile().effort == "low"


def test_a_change_makes_a_new_value_and_leaves_the_old_one():
    before = Config().with_layer("widget", {"effort": "low"})
    before.with_layer("widget", {"effort": "high", "model": "o1"})
    assert before.profile() == Settings(effort="low")


def test_a_profile_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Settings().effort = "high"


def test_every_field_is_an_option_with_a_name_and_help():
    assert [option.name for option in options()] == [item.name for item in fields(Settings)]
    flags = [name for option in options() for name in option.flag.names]
    assert len(flags) == len(set(flags))
    for option in options():
        assert option.flag.help
        long = option.flag.names[-1].removeprefix("--")
        assert long.removeprefix("no-").replace("-", "_") == option.name
        assert (option.flag.switch is None) != isinstance(option.default, bool)


def test_an_option_knows_the_words_it_takes():
    choices = {option.name: option.choices for option in options()}
    assert choices["effort"] == ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    assert choices["api"] == ("auto", "responses", "chat")
    assert choices["model"] == choices["max_output_tokens"] == choices["stream"] == ()


# What cannot hold


@pytest.mark.parametrize(
    ("values", "words", "hint"),
    [
        ({"efort": "low"}, "there is no option 'efort'", "did you mean effort or efforts?"),
        ({"qqqqq": 1}, "there is no option 'qqqqq'", "%o3_help all lists the options"),
        ({"effort": "hgih"}, "--effort hgih: not one of", "did you mean high"),
        ({"api": "rest"}, "--api rest: not one of auto, responses, chat", "one of|did you mean"),
        ({"max_output_tokens": 0}, "--max-output-tokens 0: input should be greater", "limit"),
        ({"max_output_tokens": "many"}, "--max-output-tokens many", "limit"),
        ({"repairs": 11}, "--repairs 11", "asked again"),
        ({"repairs": 1.5}, "--repairs 1.5", "asked again"),
        ({"stream": "perhaps"}, "perhaps", "streaming"),
        ({"model": 3}, "--model 3", "model"),
        ({"connect_timeout_s": 0}, "--connect-timeout-s 0", "seconds"),
        ({"first_token_timeout_s": float("inf")}, "--first-token-timeout-s inf", "seconds"),
        ({"first_token_timeout_s": float("nan")}, "--first-token-timeout-s nan", "seconds"),
        ({"first_token_timeout_s": 1e10}, "--first-token-timeout-s 10000000000.0", "seconds"),
    ],
)
def test_what_cannot_hold_is_refused_where_it_is_said(values, words, hint):
    for refuse in (lambda: Config().profile(values), lambda: Config().with_layer("widget", values)):
        with pytest.raises(BadOption) as caught:
            refuse()
        assert words in str(caught.value)
        assert any(each in caught.value.hint for each in hint.split("|"))
        assert len(str(caught.value).splitlines()) == 1


def test_texts_become_what_the_field_is(load):
    profile = load(
        O3MAGIC_MAX_OUTPUT_TOKENS="512",
        O3MAGIC_STREAM="false",
        O3MAGIC_QUIET="1",
        O3MAGIC_CHUNK_TIMEOUT_S="2.5",
    ).profile()
    assert profile == Settings(max_output_tokens=512, stream=False, quiet=True, chunk_timeout_s=2.5)


# The environment


def test_every_field_can_be_set_in_the_environment(load):
    samples = {bool: "true", str: "word"}
    for option in options():
        value = option.choices[0] if option.choices else samples.get(type(option.default), "1")
        value = option.flag.example or value
        # The profile that is named has to be there.
        layers = load("[profile.word]\n", **{f"O3MAGIC_{option.name.upper()}": value})
        assert layers.origin(option.name) == "environment"


def test_an_empty_variable_says_nothing_and_strange_ones_are_left_alone(load):
    environment = {"O3MAGIC_EFFORT": "", "O3MAGIC_LEDGER": "x", "O3MAGIC_EFORT": "low", "HOME": "/"}
    assert load(**environment).profile() == Settings()


def test_a_bad_value_in_the_environment_is_one_clear_error(load):
    with pytest.raises(BadOption, match="--effort hot"):
        load(O3MAGIC_EFFORT="hot")


# Files


def test_a_file_that_is_not_there_says_nothing(tmp_path):
    assert read_file(None) == ({}, {})
    assert read_file(tmp_path / "none.toml") == ({}, {})
    assert read_file(tmp_path) == ({}, {})


@pytest.mark.parametrize("text", ["effort = low", "= 3", "[providers", 'a = "', "a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_named_with_the_line(load, user, text):
    with pytest.raises(BadOption) as caught:
        load(text)
    assert str(user) in str(caught.value)
    assert "line 1" in str(caught.value) or "document" in str(caught.value)
    assert "TOML" in caught.value.hint


def test_a_file_that_is_no_text_is_named(load, user):
    user.parent.mkdir()
    user.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadOption, match=r"config\.toml"):
        load()


def test_a_byte_order_mark_at_a_file_s_beginning_does_not_matter(load):
    assert load('\ufeffeffort = "low"').profile().effort == "low"


def test_a_misspelt_field_in_a_file_is_refused_with_its_file_and_near_name(load, user):
    with pytest.raises(BadOption) as caught:
        load('efort = "low"')
    assert str(user) in str(caught.value)
    assert caught.value.hint == "did you mean effort or efforts?"


@pytest.mark.parametrize("text", ["models = 3", 'providers = ["a"]', '[providers]\nopenai = "x"'])
def test_tables_that_are_none_are_refused(load, text):
    with pytest.raises(BadOption, match=r"holds no tables"):
        load(text)


def test_tables_of_providers_and_models_are_kept_and_the_user_s_models_win(load):
    layers = load(
        '[providers.mine]\nbase_url = "http://127.0.0.1:1/v1"\n[models.m]\nwindow_tokens = 1',
        "[models.m]\nwindow_tokens = 2\n[models.n]\nwindow_tokens = 3",
    )
    assert layers.providers == {"mine": {"base_url": "http://127.0.0.1:1/v1"}}
    assert layers.models == {"m": {"window_tokens": 1}, "n": {"window_tokens": 3}}
    assert layers.with_layer("widget", {"quiet": True}).models == layers.models


@pytest.mark.parametrize(
    "text",
    ['base_url = "http://elsewhere.example/v1"', '[providers.openai]\nbase_url = "http://x/v1"'],
)
def test_a_project_s_file_may_not_say_where_a_key_is_sent(load, user, text):
    with pytest.raises(BadOption, match="a project's file may not set") as caught:
        load(None, text)
    assert str(user) in caught.value.hint


def test_the_user_s_own_file_may_say_where(load):
    text = 'base_url = "http://127.0.0.1:1/v1"\n[providers.openai]\nbase_url = "http://x/v1"'
    assert load(text).profile().base_url == "http://127.0.0.1:1/v1"


def test_the_nearest_project_file_is_found_above_the_folder(project):
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    assert project_file(inner) is None or project_file(inner).parent not in inner.parents[:2]
    (project / PROJECT_FILE).write_text("")
    assert project_file(inner) == project / PROJECT_FILE
    (project / "a" / PROJECT_FILE).write_text("")
    assert project_file(inner) == project / "a" / PROJECT_FILE


def test_where_the_user_s_file_and_the_ledger_are_can_be_said(tmp_path):
    assert user_file({"O3MAGIC_CONFIG": str(tmp_path / "c.toml")}) == tmp_path / "c.toml"
    assert user_file({"O3MAGIC_CONFIG": "~/c.toml"}) == Path.home() / "c.toml"
    assert ledger_file({"O3MAGIC_LEDGER": ":memory:"}) == ":memory:"
    assert ledger_file({"O3MAGIC_LEDGER": str(tmp_path / "l.db")}) == tmp_path / "l.db"


def test_where_nothing_is_said_both_are_in_the_user_s_own_folders():
    assert user_file({}).name == "config.toml"
    assert ledger_file({}).name == "ledger.sqlite3"
    assert "o3magic" in user_file({}).parts
    assert "o3magic" in ledger_file({}).parts
