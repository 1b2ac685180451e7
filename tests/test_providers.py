"""Providers: who can be asked, at which address, and with which key."""

import pytest

from o3magic.errors import BadOption
from o3magic.providers import Provider, Providers, join_url


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://h.example/v1", "/responses", "https://h.example/v1/responses"),
        ("https://h.example/v1/", "/responses", "https://h.example/v1/responses"),
        ("https://h.example/v1//", "responses", "https://h.example/v1/responses"),
        ("  https://h.example/v1\n", "/responses", "https://h.example/v1/responses"),
        ("https://h.example", "/responses", "https://h.example/responses"),
        (
            "http://127.0.0.1:8080/v1",
            "/chat/completions",
            "http://127.0.0.1:8080/v1/chat/completions",
        ),
        ("http://[::1]:8080/v1", "/models", "http://[::1]:8080/v1/models"),
        # a prefix is kept
        ("https://h.example/api/v1", "/models", "https://h.example/api/v1/models"),
        ("https://h.example/a%20b/v1", "/models", "https://h.example/a%20b/v1/models"),
        # a query is kept, and stands at the end
        (
            "https://h.example/openai?api-version=2024-02-01",
            "/chat/completions",
            "https://h.example/openai/chat/completions?api-version=2024-02-01",
        ),
        ("https://h.example/v1?a=1&b=2#part", "/models", "https://h.example/v1/models?a=1&b=2"),
        # /v1 is not doubled
        ("https://h.example/v1", "/v1/responses", "https://h.example/v1/responses"),
        ("https://h.example/openai/v1", "/openai/v1", "https://h.example/openai/v1"),
        ("https://h.example/openai/v1/", "openai/v1", "https://h.example/openai/v1"),
        ("https://h.example", "openai/v1", "https://h.example/openai/v1"),
        ("https://h.example/v12", "/v1/models", "https://h.example/v12/v1/models"),
        # an endpoint given as the base is taken at its prefix
        ("https://h.example/v1/responses", "/responses", "https://h.example/v1/responses"),
        ("https://h.example/v1/responses/", "/models", "https://h.example/v1/models"),
        (
            "https://h.example/v1/chat/completions?a=1",
            "/responses",
            "https://h.example/v1/responses?a=1",
        ),
        (
            "https://h.example/v1/models",
            "/chat/completions",
            "https://h.example/v1/chat/completions",
        ),
        ("https://h.example/v1/responses", "", "https://h.example/v1"),
    ],
)
def test_an_address_is_joined_without_losing_or_doubling_anything(base, path, url):
    assert join_url(base, path) == url
    assert Provider("p", base_url=base).url(path) == url


@pytest.mark.parametrize("base", ["http://[bad/v1", "http://[::1"])
def test_an_address_that_cannot_be_read_is_one_clear_error(base):
    with pytest.raises(BadOption, match="is no address") as caught:
        join_url(base, "/models")
    assert "https://" in caught.value.hint
    assert Provider("p", base_url=base).host == ""


def test_the_host_is_the_one_a_key_may_go_to():
    assert Provider("p", base_url="https://user:word@H.example:444/v1").host == "h.example"
    assert Provider("p").host == ""


def test_the_address_in_the_environment_comes_before_the_built_in_one():
    providers = Providers({}, {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1/"})
    assert providers.get("openai").url("/responses") == "http://127.0.0.1:9/v1/responses"


def test_an_azure_endpoint_is_a_resource_and_its_api_lies_below_it():
    for said in ("https://r.example", "https://r.example/", "https://r.example/openai/v1/"):
        azure = Providers({}, {"AZURE_OPENAI_ENDPOINT": said}).get("azure")
        assert azure.url("/responses") == "https://r.example/openai/v1/responses"
    assert azure.auth == "api-key"


def test_an_address_in_the_environment_that_cannot_be_read_is_one_clear_error():
    with pytest.raises(BadOption, match="is no address"):
        Providers({}, {"OPENAI_BASE_URL": "http://[bad"}).get("openai")


def test_a_provider_nobody_knows_is_refused_with_near_names():
    with pytest.raises(BadOption, match="no provider 'opnai'") as caught:
        Providers({}, {}).get("opnai")
    assert "openai" in caught.value.hint


def test_a_key_comes_out_of_the_provider_s_own_variable_only():
    providers = Providers({}, {"OPENAI_API_KEY": " sk-one\n", "AZURE_OPENAI_API_KEY": "two"})
    keys = {name: providers.key(providers.get(name)) for name in ("openai", "azure", "aimlapi")}
    assert keys["openai"].get_secret_value() == "sk-one"
    assert keys["azure"].get_secret_value() == "two"
    assert keys["aimlapi"] is None
    assert providers.key(providers.get("ollama")) is None
    assert "sk-one" not in repr(keys) + str(keys)


def test_a_key_of_blanks_is_none():
    providers = Providers({}, {"OPENAI_API_KEY": " \n"})
    assert providers.key(providers.get("openai")) is None


def test_a_key_set_later_counts_from_then_on():
    environment = {}
    providers = Providers({}, environment)
    assert providers.default() is None
    environment["OPENAI_API_KEY"] = "sk-one"
    assert providers.default().name == "openai"
    assert providers.key(providers.default()).get_secret_value() == "sk-one"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        ({"OPENAI_API_KEY": "sk-one"}, "openai"),
        ({"AZURE_OPENAI_API_KEY": "two"}, None),
        ({"AZURE_OPENAI_API_KEY": "two", "AZURE_OPENAI_ENDPOINT": "https://r.example"}, "azure"),
        ({"AZURE_OPENAI_ENDPOINT": "https://r.example"}, None),
        (
            {
                "OPENAI_API_KEY": "sk-one",
                "AZURE_OPENAI_API_KEY": "two",
                "AZURE_OPENAI_ENDPOINT": "https://r.example",
            },
            "openai",
        ),
        ({"AIMLAPI_API_KEY": "three"}, None),
    ],
)
def test_the_provider_that_is_asked_when_none_is_named_is_one_whose_key_is_set(environment, name):
    provider = Providers({}, environment).default()
    assert (provider and provider.name) == name


def test_what_runs_on_the_user_s_machine_is_on_loopback_and_needs_no_key():
    local = Providers({}, {}).local
    assert {each.name for each in local} == {"ollama", "llamacpp", "lmstudio", "vllm"}
    assert {each.host for each in local} == {"127.0.0.1"}
    assert {each.auth for each in local} == {"none"}


def test_every_built_in_provider_speaks_at_least_one_api_and_encrypts_unless_it_is_local():
    providers = Providers({}, {})
    for name in providers.names:
        provider = providers.get(name)
        assert {"responses", "chat"} & set(provider.endpoints), name
        assert set(provider.endpoints) <= {"responses", "chat", "batch", "models"}, name
        assert provider.base_url.startswith("https://") or provider.host in ("127.0.0.1", ""), name
        keyless = not provider.key_env and not provider.managed  # which makes its own key
        assert (provider.auth == "none") == keyless, name


def test_the_simulator_is_nobody_s_default():
    providers = Providers({}, {"O3MAGIC_SIMULATOR_URL": "http://127.0.0.1:9/v1"})
    assert providers.get("simulator").embedded
    assert providers.default() is None


def test_an_own_provider_is_a_table_and_may_change_a_built_in_one():
    own = {
        "mine": {"base_url": "https://m.example/v1", "key_env": "MINE", "endpoints": ["chat"]},
        "openai": {"base_url": "https://proxy.example/v1"},
    }
    providers = Providers(own, {"MINE": "k"})
    assert providers.get("mine").endpoints == ("chat",)
    assert providers.key(providers.get("mine")).get_secret_value() == "k"
    changed = providers.get("openai")
    assert (changed.base_url, changed.key_env) == ("https://proxy.example/v1", "OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("table", "words", "hint"),
    [
        ({"bas_url": "x"}, "no field 'bas_url'", "base_url"),
        ({"name": "x"}, "no field 'name'", ""),
        ({"qqqq": 1}, "no field 'qqqq'", "the fields are"),
        ({"auth": "digest"}, "auth: Input should be 'bearer'", ""),
        ({"endpoints": "chat"}, "endpoints", ""),
        ({"base_url": 3}, "base_url", ""),
        ({"local": "perhaps"}, "local", ""),
    ],
)
def test_an_own_provider_that_says_what_none_has_is_refused(table, words, hint):
    with pytest.raises(BadOption, match=r"\[providers\.mine\]") as caught:
        Providers({"mine": table}, {})
    assert words in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("127.1", True),
        ("localhost", True),
        ("[::1]", True),
        ("127.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
    ],
)
def test_only_this_machine_is_this_machine(host, ours):
    assert Provider("p", base_url=f"http://{host}/v1").in_the_clear != ours


def test_a_provider_follows_the_environment_of_the_moment() -> None:
    own = {"gate": {"base_url": "https://gate.example/v1", "headers": {"X-Who": "$WHO"}}}
    environment = {"WHO": "a"}
    providers = Providers(own, environment)
    first = providers.get("gate")
    assert providers.get("gate") is first
    environment["WHO"] = "b"
    assert providers.get("gate").variables["WHO"].get_secret_value() == "b"
    assert providers.get("openai").host == "api.openai.com"
    environment["OPENAI_BASE_URL"] = "https://other.example/v1"
    assert providers.get("openai").host == "other.example"
    del environment["OPENAI_BASE_URL"]
    environment["OPENAI_ORG_ID"] = "org-1"
    assert "OPENAI_ORG_ID" in providers.get("openai").variables
