"""Which model is asked where none is named: a decision of the provider and the day."""

import json
from contextlib import closing, contextmanager
from datetime import date, timedelta
from decimal import Decimal
from http.server import ThreadingHTTPServer

import pytest

from o3magic.config import Config
from o3magic.errors import BadOption, InvalidAnswer, ModelNotFound, ModelRetired, NoConnection
from o3magic.events import Retrying
from o3magic.models import Catalog
from o3magic.providers import Provider, Providers
from o3magic.session.default_model import choose_default
from o3magic.session.session import Session
from o3magic.simulator import Simulator
from tests.servers import JsonHandler, running
from tests.sessions import KEY, entries, response

SHUTDOWN = date(2026, 10, 23)
TODAYS_MODELS = ("gpt-6-luna", "gpt-6.1-sol", "gpt-6.1-terra")


class Api(ThreadingHTTPServer):
    """Serves some models as OpenAI does, and answers 404 for every other one.

    Both APIs, not labelled as simulated: what it answers costs.
    """

    def __init__(self, models=TODAYS_MODELS, shutdowns=None, status=404, wait_s=0.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models, self.shutdowns = models, shutdowns or {}
        self.status, self.wait_s = status, wait_s
        self.bodies, self.paths, self.listings = [], [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def asked(self):
        return [body["model"] for body in self.bodies]


class Handler(JsonHandler):
    def do_GET(self):
        self.server.listings += 1
        if self.server.wait_s:
            self.server.stopped.wait(self.server.wait_s)
        listed = [{"id": name, "object": "model"} for name in self.server.models]
        for each in listed:
            if each["id"] in self.server.shutdowns:
                each["shutdown_date"] = self.server.shutdowns[each["id"]]
        self.say(200, {"object": "list", "data": listed})

    def do_POST(self):
        body = self.asked()
        self.server.bodies.append(body)
        self.server.paths.append(self.path)
        name = body["model"]
        if name not in self.server.models:
            error = {
                "message": f"The model `{name}` does not exist or you do not have access to it."
            }
            error |= {"type": "invalid_request_error", "param": None, "code": "model_not_found"}
            if self.server.status != 404:
                error = {"message": f"Invalid model name passed in model={name}", "code": "400"}
            self.say(self.server.status, {"error": error})
        elif self.path.endswith("/responses"):
            self.say(200, response("four", model=name))
        else:
            message = {"role": "assistant", "content": "four"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 7, "completion_tokens": 87, "total_tokens": 94}
            self.say(200, {"id": "c1", "model": name, "choices": [choice], "usage": usage})


@pytest.fixture
def api():
    """A server of today's models."""
    with running(Api()) as server:
        yield server


@contextmanager
def session_for(server, *, said=None, providers=None, **environment):
    """A session with a fresh key and nothing set but that."""
    usual = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url, "O3MAGIC_LEDGER": ":memory:"}
    layers = Config({"user file": said or {}}, providers=providers or {})
    with closing(Session(layers, usual | environment)) as session:
        yield session


def openai(environment=None):
    return Providers({}, environment or {}).get("openai")


# A decision of the provider and the day


def test_until_its_shutdown_openai_is_asked_for_o3_mini():
    choice = choose_default(openai(), Catalog.built_in(), SHUTDOWN - timedelta(days=1))
    assert (choice.model, choice.effort, choice.original) == ("o3-mini", None, "")
    assert choice.reason == "openai's default"


def test_from_then_on_for_its_successor_at_the_effort_that_o3_mini_would_have_had():
    choice = choose_default(openai(), Catalog.built_in(), SHUTDOWN)
    assert (choice.model, choice.effort, choice.original) == ("gpt-6.1-terra", "medium", "o3-mini")
    assert choice.reason == "openai's default since o3-mini was shut down on 2026-10-23"


def test_the_list_of_the_provider_beats_the_card():
    catalog, later = Catalog.built_in(), SHUTDOWN + timedelta(days=365)
    kept = choose_default(openai(), catalog, SHUTDOWN, shutdowns={"o3-mini": later})
    assert kept.model == "o3-mini"
    unannounced = choose_default(openai(), catalog, SHUTDOWN, shutdowns={"o3-mini": None})
    assert unannounced.model == "o3-mini"
    early = choose_default(
        openai(), catalog, SHUTDOWN, shutdowns={"gpt-6.1-terra": SHUTDOWN - timedelta(days=1)}
    )
    assert early.model == "gpt-6-luna"


@pytest.mark.parametrize("name", ["aimlapi", "302ai", "litellm"])
def test_others_serve_it_for_longer(name):
    provider = Providers({}, {}).get(name)
    today = date(2026, 12, 1)
    assert choose_default(provider, Catalog.built_in(), today).model == "o3-mini"
    listed = choose_default(provider, Catalog.built_in(), today, served=["gpt-6.1-terra"])
    assert listed.model == "gpt-6.1-terra"
    assert listed.reason == f"{name}'s default since it does not serve o3-mini"
    assert listed.effort == "medium"


def test_what_stands_at_openai_s_variable_elsewhere_has_no_shutdown_dates_of_openai():
    gateway = openai({"OPENAI_BASE_URL": "https://gateway.example/v1"})
    assert choose_default(gateway, Catalog.built_in(), SHUTDOWN).model == "o3-mini"
    for own in ("https://eu.api.openai.com/v1", "http://127.0.0.1:4000/v1"):
        there = openai({"OPENAI_BASE_URL": own})
        assert choose_default(there, Catalog.built_in(), SHUTDOWN).model == "gpt-6.1-terra"


def test_a_gateway_of_the_user_has_the_same_defaults_and_may_have_its_own():
    own = {"tokenhub": {"base_url": "https://hub.example/v1"}}
    today = date(2026, 12, 1)
    assert choose_default(Providers(own, {}).get("tokenhub"), Catalog.built_in(), today).model == (
        "o3-mini"
    )
    own["tokenhub"]["default_models"] = ["their-model"]
    choice = choose_default(Providers(own, {}).get("tokenhub"), Catalog.built_in(), today)
    assert (choice.model, choice.reason) == ("their-model", "tokenhub's default")


def test_where_every_default_is_gone_the_replacements_of_the_last_are_asked():
    provider = Provider("openai", default_models=("o1-mini",), card_shutdowns=True)
    choice = choose_default(provider, Catalog.built_in(), date(2026, 9, 1))
    assert choice.model == Catalog.built_in().card("o1-mini").replacement
    gone = Provider("hub", default_models=("one", "two"))
    with pytest.raises(BadOption, match="no longer serves any of its default models: one, two"):
        choose_default(gone, Catalog.built_in(), date(2026, 9, 1), missing=["one", "two"])


@pytest.mark.parametrize("name", ["azure", "azure-entra", "azure-legacy"])
def test_azure_needs_the_name_of_a_deployment(name):
    provider = Providers({}, {}).get(name)
    with pytest.raises(BadOption, match="the name of a deployment, and none was given") as caught:
        choose_default(provider, Catalog.built_in(), SHUTDOWN)
    assert f"%%o3 -p {name} -m my-deployment" in caught.value.hint
    own = {name: {"default_models": ["mine"]}}
    choice = choose_default(Providers(own, {}).get(name), Catalog.built_in(), SHUTDOWN)
    assert choice.model == "mine"


@pytest.mark.parametrize(
    ("listed", "chosen"),
    [
        (["qwen3:8b"], "qwen3:8b"),
        (["nomic-embed-text", "qwen3:8b"], "qwen3:8b"),
        (["qwen3:8b", "gpt-oss:120b", "gpt-oss:20b"], "gpt-oss:20b"),
        (["llama3", "openai/gpt-oss-20b"], "openai/gpt-oss-20b"),
    ],
)
def test_a_local_server_is_asked_for_the_one_it_has_or_for_gpt_oss(listed, chosen):
    choice = choose_default(
        Providers({}, {}).get("ollama"), Catalog.built_in(), SHUTDOWN, served=listed
    )
    assert (choice.model, choice.effort) == (chosen, None)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ([], "ollama lists no model"),
        (["nomic-embed-text", "bge-m3"], "none of the models that ollama lists answers questions"),
        (["llama3", "qwen3:8b"], "ollama lists several models: llama3, qwen3:8b"),
    ],
)
def test_else_one_line_says_what_it_has(listed, said):
    with pytest.raises(BadOption, match=said) as caught:
        choose_default(Providers({}, {}).get("ollama"), Catalog.built_in(), SHUTDOWN, served=listed)
    assert "-m " in caught.value.hint


# With a fresh key, at a server that has today's models


def test_the_first_question_is_answered_thinks_says_which_model_and_costs_what_its_card_says(api):
    with session_for(api) as session:
        answer = session.ask("2+2?")
        again = session.ask("3+3?")
        row = entries(session)[0]
    assert api.asked == ["gpt-6.1-terra"] * 2
    assert api.bodies[0]["reasoning"] == {"effort": "medium"}
    assert (answer.text, answer.model, answer.effort) == ("four", "gpt-6.1-terra", "medium")
    assert answer.model_reason == "openai's default since o3-mini was shut down on 2026-10-23"
    assert again.model_reason == ""
    rates = Catalog.built_in().card("gpt-6.1-terra").price(date.today()).rates
    assert answer.cost_usd == (7 * rates.input + 87 * rates.output) / Decimal(1_000_000)
    assert (row.model, row.effort) == ("gpt-6.1-terra", "medium")
    assert api.listings == 0


def test_an_effort_that_is_said_is_what_is_sent(api):
    with session_for(api) as session:
        session.ask("2+2?", effort="low")
        session.ask("2+2?", model="gpt-6-luna")
    assert [body.get("reasoning") for body in api.bodies] == [{"effort": "low"}, None]


def test_a_comparison_is_of_the_efforts_that_o3_mini_has(api):
    with session_for(api) as session:
        comparison = session.compare("2+2?")
    assert comparison.labels == ("low", "medium", "high")
    assert sorted(body["reasoning"]["effort"] for body in api.bodies) == ["high", "low", "medium"]


def test_the_chat_api_is_asked_the_same(api):
    with session_for(api) as session:
        answer = session.ask("2+2?", api="chat")
    assert api.bodies[0]["reasoning_effort"] == "medium"
    assert answer.model == "gpt-6.1-terra"


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def test_tools_of_a_default_are_refused_by_the_chat_api_of_openai_and_left_to_any_other(api):
    with session_for(api) as session:
        assert session.ask("2+2?", api="chat", tools=[add]).text == "four"
    assert [tool["function"]["name"] for tool in api.bodies[0]["tools"]] == ["add"]
    with (
        session_for(api, OPENAI_BASE_URL="https://api.openai.com/v1") as session,
        pytest.raises(BadOption, match="takes tools by the Responses API alone"),
    ):
        session.ask("2+2?", api="chat", tools=[add], dry_run=True)


# A default that turns out to be gone


@pytest.mark.parametrize("status", [404, 400])
def test_a_default_that_is_gone_is_replaced_once_a_session_and_told(api, status):
    api.status = status
    with session_for(api, providers={"openai": {"card_shutdowns": False}}) as session:
        events = [*session.stream("2+2?")]
        answer = session.ask("3+3?")
    assert api.asked == ["o3-mini", "gpt-6.1-terra", "gpt-6.1-terra"]
    (told,) = [event for event in events if isinstance(event, Retrying)]
    assert told.why == "openai does not serve o3-mini: gpt-6.1-terra is asked instead"
    assert answer.model == "gpt-6.1-terra"
    assert api.bodies[-1]["reasoning"] == {"effort": "medium"}


def test_the_answer_of_the_next_default_says_why_it_is_that(api):
    with session_for(api, providers={"openai": {"card_shutdowns": False}}) as session:
        answer = session.ask("2+2?")
        rows = entries(session)
    assert answer.model_reason == "openai's default since it does not serve o3-mini"
    assert [(row.model, row.status) for row in rows] == [
        ("o3-mini", "error"),
        ("gpt-6.1-terra", "ok"),
    ]


def test_what_is_held_for_the_question_is_held_at_the_price_of_the_model_that_is_asked(api):
    budgets = {"budget_session": Decimal(2)}
    with session_for(api, providers={"openai": {"card_shutdowns": False}}) as session:
        answer = session.ask("2+2?", **budgets)
        (stands,) = session.standing(session.layers.profile(budgets))
    assert answer.model == "gpt-6.1-terra"
    assert stands.held_nano_usd == 0


def test_defaults_with_unknown_names_are_tried_in_their_order(api):
    own = {"openai": {"default_models": ["no-such-model", "nor-this", "gpt-6-luna"]}}
    with session_for(api, providers=own) as session:
        answer = session.ask("2+2?")
    assert api.asked == ["no-such-model", "nor-this", "gpt-6-luna"]
    assert answer.model == "gpt-6-luna"


def test_where_none_of_them_is_there_the_last_refusal_is_told(api):
    own = {"openai": {"default_models": ["no-such-model", "nor-this"], "card_shutdowns": False}}
    with session_for(api, providers=own) as session:
        with pytest.raises(ModelNotFound, match="nor-this"):
            session.ask("2+2?")
        with pytest.raises(BadOption, match="no longer serves any of its default models"):
            session.ask("2+2?")
    assert api.asked == ["no-such-model", "nor-this"]


# A model that the user named


def test_a_model_that_was_named_is_never_replaced_and_its_error_says_what_to_write(api):
    with session_for(api) as session, pytest.raises(ModelRetired) as caught:
        session.ask("2+2?", model="o3-mini")
    assert api.asked == ["o3-mini"]
    card = Catalog.built_in().card("o3-mini")
    new = Catalog.built_in().card(card.replacement)
    price = new.price(date.today()).rates
    assert f"%%o3 -m {new.id} -e medium (OpenAI's replacement: " in caught.value.hint
    assert f"${price.input:f} in, ${price.output:f} out per million tokens" in caught.value.hint
    assert "not $1.10 and $4.40" in caught.value.hint


def test_also_where_it_is_named_in_the_settings(api):
    with session_for(api, said={"model": "o3-mini"}) as session, pytest.raises(ModelRetired):
        session.ask("2+2?")
    assert api.asked == ["o3-mini"]


# What a list of models says


def test_a_list_that_was_read_is_kept_for_the_session(api):
    api.models = ("o3-mini", *TODAYS_MODELS)
    api.shutdowns = {"o3-mini": "2027-06-01", "gpt-6.1-terra": None}
    with session_for(api) as session:
        profile = session.layers.profile()
        assert session.choose_model(profile).model == "gpt-6.1-terra"
        listed = session.served_models(profile)
        assert session.choose_model(profile).model == "o3-mini"
        assert session.catalog.card("o3-mini").shutdown == date(2027, 6, 1)
        assert session.ask("2+2?").model == "o3-mini"
    assert next((each.id, each.shutdown) for each in listed) == ("o3-mini", date(2027, 6, 1))
    assert api.listings == 1


def test_dates_that_are_none_are_none(api):
    api.shutdowns = {"gpt-6-luna": "soon", "gpt-6.1-sol": 20270101}
    with session_for(api) as session:
        listed = session.served_models(session.layers.profile())
    assert {each.shutdown for each in listed} == {None}


def local(server, **more):
    """A local server at this address."""
    return {"ollama": {"base_url": server.url, **more}}


def test_a_local_server_is_looked_at_once(api):
    api.models = ("qwen3:8b",)
    with session_for(api, providers=local(api), said={"provider": "ollama"}) as session:
        answer = session.ask("2+2?")
        session.ask("3+3?")
    assert (answer.model, answer.text) == ("qwen3:8b", "four")
    assert answer.model_reason == "the one model that ollama lists"
    assert "reasoning_effort" not in api.bodies[0]
    assert api.listings == 1


def test_a_base_url_on_this_machine_is_a_local_server(api):
    api.models = ("qwen3:8b",)
    with session_for(api, OPENAI_BASE_URL="") as session:
        assert session.ask("2+2?", base_url=api.url).model == "qwen3:8b"


def test_an_address_for_a_provider_that_is_named_has_the_defaults_of_that_provider(api):
    own = {"hub": {"base_url": "https://hub.example/v1", "default_models": ["gpt-6-luna"]}}
    with session_for(api, providers=own) as session:
        assert session.ask("2+2?", provider="hub", base_url=api.url).model == "gpt-6-luna"
    with Simulator() as simulator, session_for(api, OPENAI_BASE_URL="") as session:
        answer = session.ask("2+2?", provider="simulator", base_url=simulator.base_url)
        assert answer.model == "o3-mini-simulated"


def test_a_local_server_that_takes_its_time_over_a_list_is_not_waited_for():
    import threading
    import time

    with running(Api(("qwen3:8b",))) as server:
        server.wait_s, server.stopped = 10.0, threading.Event()
        try:
            own = local(server)
            with session_for(server, providers=own, said={"provider": "ollama"}) as session:
                began_s = time.monotonic()
                with pytest.raises(NoConnection) as caught:
                    session.ask("2+2?")
                assert time.monotonic() - began_s < 5
                assert "-m" in caught.value.hint
                assert session.ask("2+2?", model="qwen3:8b").text == "four"
        finally:
            server.stopped.set()


# Dry runs and rows


def test_a_dry_run_says_which_model_it_is_and_why(api):
    with session_for(api) as session:
        planned = session.plan("2+2?", session.layers.profile({"dry_run": True}))
        (asked, *_) = session.foreseen(planned)
    assert asked == (
        "asked",
        "gpt-6.1-terra at effort medium, by the responses API; "
        "openai's default since o3-mini was shut down on 2026-10-23",
    )
    assert api.bodies == []


def test_a_default_stands_in_a_cassette_as_such(api, tmp_path):
    notebook = tmp_path / "lesson.ipynb"
    with session_for(api) as session:
        said = {"notebook": str(notebook), "mode": "record"}
        first = session.ask("2+2?", **said)
        session.ask("3+3?", **said)
    entry, second = json.loads(notebook.with_suffix(".o3.json").read_text())["entries"]
    assert entry["request"]["model"] == "default"
    assert entry["default"] == {
        "model": "gpt-6.1-terra",
        "effort": "medium",
        "reason": "openai's default since o3-mini was shut down on 2026-10-23",
    }
    assert entry["response"]["model_reason"] == first.model_reason == entry["default"]["reason"]
    assert "model_reason" not in second["response"]
    # By then another model is the default, and no provider is there to ask.
    own = {"openai": {"default_models": ["o9"]}}
    layers = Config(providers=own)
    with closing(Session(layers, {"O3MAGIC_LEDGER": ":memory:"})) as later:
        replayed = later.ask("2+2?", notebook=str(notebook), mode="replay")
        row = entries(later)[0]
    assert (replayed.text, replayed.model, replayed.effort) == ("four", "gpt-6.1-terra", "medium")
    assert replayed.model_reason == first.model_reason
    assert replayed.cost_usd == first.cost_usd
    assert (row.model, row.effort, row.source) == ("gpt-6.1-terra", "medium", "replayed")


# Open weights: the efforts of gpt-oss in the form that each server takes


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("ollama", "/chat/completions", {"reasoning_effort": "high"}),
        ("vllm", "/responses", {"reasoning": {"effort": "high"}}),
        ("lmstudio", "/responses", {"reasoning": {"effort": "high"}}),
        (
            "llamacpp",
            "/chat/completions",
            {
                "reasoning_effort": "high",
                "chat_template_kwargs": {"reasoning_effort": "high"},
            },
        ),
    ],
)
def test_an_effort_of_gpt_oss_reaches_each_local_server(api, name, path, said):
    model = {"ollama": "gpt-oss:20b", "llamacpp": "gpt-oss-20b-mxfp4.gguf"}
    api.models = (model.get(name, "openai/gpt-oss-20b"), "qwen3")
    own = {name: {"base_url": api.url}}
    with session_for(api, providers=own, said={"provider": name}) as session:
        answer = session.ask("2+2?", effort="high")
        card = session.catalog.card(api.models[0])
    assert (answer.text, answer.model, answer.effort) == ("four", api.models[0], "high")
    assert card.efforts == ("low", "medium", "high")
    assert api.paths == [f"/v1{path}"]
    assert said.items() <= api.bodies[0].items()
    assert answer.cost_usd is None


def test_lm_studio_is_asked_by_chat_where_no_effort_is_said_or_an_answer_is_typed(api):
    api.models = ("openai/gpt-oss-20b",)
    own = {"lmstudio": {"base_url": api.url}}
    with session_for(api, providers=own, said={"provider": "lmstudio"}) as session:
        session.ask("2+2?")
        with pytest.raises(InvalidAnswer):
            session.ask("2+2?", schema=int, effort="low", repairs=0)
    assert api.paths == ["/v1/chat/completions"] * 2
    assert "reasoning_effort" not in api.bodies[0]


def test_an_effort_that_gpt_oss_has_not_is_refused(api):
    api.models = ("gpt-oss:20b",)
    with (
        session_for(api, providers=local(api), said={"provider": "ollama"}) as session,
        pytest.raises(BadOption, match="has no effort 'xhigh'"),
    ):
        session.ask("2+2?", effort="xhigh")
