"""Parameters: said in many forms, kept as one text, and refused where they would mislead."""

import json

import pytest

from o3magic.config import Config, load_layers
from o3magic.errors import BadOption
from o3magic.notebook.line_parser import cell_text, parse
from o3magic.params import MOST_CHARS, OWN, canonical, fields_of
from o3magic.settings import Settings, profile_of


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("top_p=0.5", {"top_p": 0.5}),
        (" top_p = 0.5 ", {"top_p": 0.5}),
        ("seed=7\ntop_p=0.5", {"top_p": 0.5, "seed": 7}),
        ('reasoning.mode="pro"', {"reasoning": {"mode": "pro"}}),
        ('{"top_p": 0.5, "reasoning.mode": "pro"}', {"top_p": 0.5, "reasoning": {"mode": "pro"}}),
        ('{\n  "top_p": 0.5\n}', {"top_p": 0.5}),
        ('{"a": 1}\nb=2', {"a": 1, "b": 2}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"metadata": {"a.b": "c=d"}}, {"metadata": {"a.b": "c=d"}}),
        (["top_p=0.5", {"seed": 7}], {"top_p": 0.5, "seed": 7}),
        ('reasoning.mode="pro"\nreasoning={"context":"auto"}', None),
        ("stop=[]", {"stop": []}),
        ("n=1", {"n": 1}),
        ('user="a b"', {"user": "a b"}),
        ("", {}),
        (None, {}),
        ({}, {}),
    ],
)
def test_every_form_is_one_text(said, fields):
    fields = fields or ({"reasoning": {"mode": "pro", "context": "auto"}} if fields is None else {})
    text = canonical(said)
    assert fields_of(text) == fields
    assert canonical(text) == text
    assert Settings(param=text) == profile_of({"param": said})
    assert hash(Settings(param=text).param) == hash(text)


@pytest.mark.parametrize(
    ("said", "words", "hint"),
    [
        ("reasoning.mode=pro", "the value is not valid JSON", "'reasoning.mode=\"pro\"'"),
        ('metadata={"a":', "the value is not valid JSON", "spaces"),
        ("top_p=", "the value is not valid JSON", "top_p=0.5"),
        ("top_p", "expected NAME=JSON", "top_p=0.5"),
        ("{top_p: 1}", "not valid JSON", "top_p=0.5"),
        ('{"a": 1, "a": 2}', "not valid JSON", "top_p=0.5"),
        ("a=1\na=2", "a: given twice", "once"),
        ("a=1\na.b=2", "a.b: given twice", "once"),
        ('a.b=1\na={"b":2}', "a.b: given twice", "once"),
        ("a..b=1", "not a valid field name", "top_p"),
        ("=1", "not a valid field name", "top_p"),
        ("ä=1", "not a valid field name", "top_p"),
        ("a\u2028b=1", "not a valid field name", "top_p"),
        ("reasoning=1", "the value must be an object", "reasoning.FIELD=JSON"),
        ("n=2", "one of several answers would be read", "--sample"),
        ("top_p=NaN", "not a JSON number", "top_p"),
        ("top_p=1e999", "not a JSON number", "top_p"),
        (f"seed={10**30}", "too large", "top_p"),
        ("top_p=null", "null has no effect", "leave it out"),
        ({"metadata": {"a": None}}, "metadata.a: null has no effect", "leave it out"),
        ({"a": object()}, "JSON has no object", "top_p"),
        ({"a": {1: 2}}, "1 is not a valid name in JSON", "top_p"),
        (7, "7: expected NAME=JSON", "top_p"),
        ("a=" + "[" * 100 + "]" * 100, "nested too deep", "top_p"),
        ("a=" + "[" * 100_000, "not valid JSON", "quotes"),
        ({"a": "x" * MOST_CHARS}, "characters are too long", "at most"),
        ("a=" + "1" * 200_000, "characters are too long", "at most"),
    ],
)
def test_what_cannot_be_is_one_clear_line(said, words, hint):
    with pytest.raises(BadOption, match=words) as refused:
        canonical(said)
    assert hint in refused.value.hint
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", OWN)
def test_what_has_an_option_of_its_own_is_refused_and_named(name):
    value = {"effort": 1} if name == "reasoning" else "x"
    for spelled in (name, name.upper()):
        with pytest.raises(BadOption, match="option of its own") as refused:
            canonical({spelled: value})
        assert OWN[name] in refused.value.hint
    above, dot, last = name.rpartition(".")
    if dot:
        with pytest.raises(BadOption, match="option of its own"):
            canonical({above: {last: value}})


def test_what_hides_in_an_object_that_holds_itself_is_refused():
    endless = {}
    endless["a"] = endless
    with pytest.raises(BadOption, match="too deep"):
        canonical({"metadata": endless})


def test_it_may_be_said_again_and_again_on_a_line():
    chosen, prompt = parse("--param top_p=0.5 -e low --param 'user=\"a b\"' --param=seed=7 four?")
    assert prompt == "four?"
    assert fields_of(profile_of(chosen).param) == {"top_p": 0.5, "user": "a b", "seed": 7}


def test_files_and_the_environment_have_it_in_their_own_ways(tmp_path):
    own = tmp_path / "config.toml"
    want = {"metadata": {"team": "a"}, "top_p": 0.5}
    for text in (
        "param = {top_p = 0.5, metadata = {team = 'a'}}",
        "[param]\ntop_p = 0.5\n[param.metadata]\nteam = 'a'",
        "param = ['top_p=0.5', 'metadata.team=\"a\"']",
        "param = '''\ntop_p=0.5\nmetadata.team=\"a\"\n'''",
    ):
        own.write_text(text)
        layers = load_layers({"O3MAGIC_CONFIG": str(own)}, tmp_path)
        assert fields_of(layers.profile().param) == want, text
    own.write_text("param = {when = 2026-12-01}")
    with pytest.raises(BadOption, match="when: JSON has no date"):
        load_layers({"O3MAGIC_CONFIG": str(own)}, tmp_path)
    own.write_text("")
    said = {"O3MAGIC_CONFIG": str(own), "O3MAGIC_PARAM": json.dumps(want)}
    assert fields_of(load_layers(said, tmp_path).profile().param) == want


def test_the_line_takes_the_place_of_the_settings():
    layers = Config().with_layer("%o3_config", {"param": "top_p=0.5"})
    assert fields_of(layers.profile({"param": "seed=7"}).param) == {"seed": 7}
    assert layers.profile({"param": None}).param == ""
    assert layers.with_layer("%o3_config", {"param": None}).profile().param == ""


@pytest.mark.parametrize("said", ["top_p=0.5", 'user="a b"', 'user="it\'s"'])
def test_a_cell_says_what_was_chosen(said):
    layers = Config().with_layer("widget", {"param": said, "tier": "flex", "verbosity": "low"})
    text = cell_text(layers, "four?")
    if text.startswith("%%o3"):
        chosen, _ = parse(text.partition("\n")[0].removeprefix("%%o3"))
        assert layers.profile() == profile_of(chosen)
    else:  # no quotes of a line are enough
        assert repr(canonical(said)) in text
        assert "it's" in said
