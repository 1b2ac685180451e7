"""Headers of a provider's table and of the account: to their own provider, and shown nowhere."""

import copy
import json
import logging
import pickle

import httpx
import pytest

from o3magic.client.request import build_custom_headers, encode_headers
from o3magic.config import Config, load_layers
from o3magic.errors import BadOption, RequestFailed, RequestRefused
from o3magic.providers import Providers
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.submit import submit
from o3magic.rows.map_job import map_rows
from o3magic.rows.store import JobStore
from o3magic.session.plan import build_shown_request
from o3magic.simulator import Reply, Simulator
from tests.rows.conftest import texts
from tests.sessions import KEY, session_at

SECRET = "gate-token-0042-quite-secret"
LITERAL = "lesson-of-monday-42"
OWN = {"X-Title": LITERAL, "HTTP-Referer": "https://school.example", "X-Gate": "Bearer $GATE_TOKEN"}
ORG = {"OPENAI_ORG_ID": "org-abc123", "OPENAI_PROJECT_ID": "proj_def456"}


def gated(sim, **more):
    """A session whose provider openai has headers of the user's own."""
    own = {"openai": {"headers": OWN}} | more.pop("providers", {})
    return session_at(sim.base_url, providers=own, **{"GATE_TOKEN": SECRET} | more)


def ask(session, way, **more):
    """Ask in one of the ways there are."""
    if way == "map":
        return map_rows(session, JobStore(":memory:"), texts(2), "{{ a }}", **more)
    if way == "models":
        return session.served_models(session.layers.profile(more))
    if way == "count":
        profile = session.layers.profile({"dry_run": True, "exact": True} | more)
        return session.foreseen(session.plan("four?", profile))
    return session.ask("four?", stream=way == "stream", **more)


WAYS = pytest.mark.parametrize("way", ["stream", "whole", "map", "models", "count"])


@WAYS
def test_they_are_sent_with_every_request_to_their_provider(sim, way):
    with gated(sim) as session:
        ask(session, way)
    assert sim.requests
    for received in sim.requests:
        assert received.headers["x-title"] == LITERAL
        assert received.headers["http-referer"] == "https://school.example"
        assert received.headers["x-gate"] == f"Bearer {SECRET}"
        assert received.headers["authorization"] == f"Bearer {KEY}"


def test_a_batch_sends_them_with_its_files_too(sim, tmp_path):
    with gated(sim) as session:
        room = BatchContext(session, JobStore(tmp_path / "jobs.sqlite3"), sleep=lambda _: None)
        submit(room, texts(2), "{{ a }}").wait()
    paths = {received.path.split("/")[2] for received in sim.requests}
    assert paths == {"files", "batches"}
    assert all(received.headers["x-gate"] == f"Bearer {SECRET}" for received in sim.requests)


@pytest.mark.parametrize("way", ["stream", "map"])
def test_they_go_to_no_other_provider_and_to_no_other_address(sim, way):
    with Simulator() as other, gated(sim) as session:
        session.environment["O3MAGIC_API_KEY"] = "another-key"
        ask(session, way, base_url=other.base_url)
        ask(session, way, provider="simulator")
        for received in other.requests:
            assert not {"x-title", "x-gate", "http-referer"} & set(received.headers)
        assert other.requests
    assert sim.requests == []


def test_a_redirect_takes_them_nowhere(sim):
    with Simulator() as other, gated(sim) as session:
        away = {"location": f"{other.base_url}/responses"}
        sim.script(Reply(status=307, body={}, headers=away))
        with pytest.raises(RequestRefused, match="redirects the request"):
            session.ask("four?")
        assert other.requests == []


def test_who_was_not_asked_for_is_told_nothing():
    with Simulator() as local:
        own = {"mine": {"base_url": local.base_url, "local": True, "headers": OWN}}
        with session_at(local.base_url, providers=own, GATE_TOKEN=SECRET) as session:
            assert session.client.is_there(session.providers.get("mine"))
        assert local.requests
        assert not any("x-title" in each.headers for each in local.requests)


@WAYS
def test_they_are_nowhere_to_be_read(line, way, caplog):
    caplog.set_level(logging.DEBUG)
    said = f"your token {SECRET} (Bearer {SECRET}), title {LITERAL}, key {KEY} are wrong"
    error = json.dumps({"error": {"message": said, "param": SECRET, "code": LITERAL}}).encode()
    for _ in range(2):
        line.say(b"HTTP/1.1 400 No\r\ncontent-length: %d\r\n\r\n%b" % (len(error), error))
    told = ""
    with gated(line) as session:
        try:
            told += repr(ask(session, way).to_dict())
        except RequestFailed as failed:
            told += "\n".join([*failed.lines(), repr(failed), repr(vars(failed))])
        planned = session.plan("four?", session.layers.profile())
        told += repr(planned) + repr(session.layers) + repr(planned.call) + repr(vars(planned.call))
        told += json.dumps(build_shown_request(planned)) + str(planned.call.provider)
    assert told.count("[header]") >= 3
    assert SECRET in line.requests[0].decode()
    for secret in (SECRET, LITERAL, KEY):
        assert secret not in told + caplog.text


def test_they_are_in_no_copy_of_a_provider():
    provider = Providers({"p": {"headers": OWN}}, {"GATE_TOKEN": SECRET}).get("p")
    for other in (pickle.loads(pickle.dumps(provider)), copy.deepcopy(provider)):
        assert other.variables == {}
        assert other.headers == OWN
    assert SECRET.encode() not in pickle.dumps(provider)
    again = Providers({"p": {"headers": OWN}}, {"GATE_TOKEN": "another"})
    assert again.with_variables(provider).variables["GATE_TOKEN"].get_secret_value() == "another"


def test_a_variable_is_read_at_each_question(sim):
    with gated(sim) as session:
        ask(session, "map")
        session.environment["GATE_TOKEN"] = " another-token\n"
        session.ask("four?")
        ask(session, "map")
    said = [received.headers["x-gate"] for received in sim.requests]
    assert said == [f"Bearer {SECRET}"] * 2 + ["Bearer another-token"] * 3


@WAYS
def test_a_variable_that_is_not_set_is_named_and_nothing_is_sent(sim, way):
    with gated(sim, GATE_TOKEN="") as session, pytest.raises(BadOption) as refused:
        ask(session, way)
    assert "X-Gate with GATE_TOKEN, which is not set" in str(refused.value)
    assert refused.value.hint == "set GATE_TOKEN in the environment"
    assert sim.requests == []


@pytest.mark.parametrize("wrong", ["two\nlines: x", "a\x00b", "snow ☃", "a\x7fb"])
def test_a_variable_that_no_header_can_hold_is_named_and_not_shown(sim, wrong):
    for way in ("stream", "map"):
        with gated(sim, GATE_TOKEN=wrong) as session, pytest.raises(BadOption) as refused:
            ask(session, way)
        assert str(refused.value) == "GATE_TOKEN has characters not allowed in a header"
    assert sim.requests == []


@pytest.mark.parametrize("way", ["stream", "whole", "map"])
def test_latin_letters_arrive_as_they_were_said(sim, way):
    with gated(sim, providers={"openai": {"headers": {"X-Title": "Zürich, $$5"}}}) as session:
        ask(session, way)
    said = sim.requests[0].headers["x-title"]
    assert said.encode("latin-1") in (b"Z\xfcrich, $5", "Zürich, $5".encode("latin-1"))


def test_a_name_is_the_same_however_it_is_spelled(sim):
    own = {"openai": {"headers": {"OPENAI-ORGANIZATION": "org-mine"}}}
    with gated(sim, providers=own, **ORG) as session:
        session.ask("four?")
        ask(session, "map")
    for received in sim.requests:
        assert received.headers["openai-organization"] == "org-mine"
        assert received.headers["openai-project"] == "proj_def456"


def test_a_secret_goes_over_http_to_no_other_machine():
    own = {"gate": {"base_url": "http://gate.example/v1", "auth": "none"}}
    for headers, refused in (({"X-Gate": "$GATE_TOKEN"}, True), ({"X-Title": "lesson"}, False)):
        provider = Providers(
            {"gate": own["gate"] | {"headers": headers}}, {"GATE_TOKEN": SECRET}
        ).get("gate")
        if refused:
            with pytest.raises(BadOption, match=r"GATE_TOKEN would go to gate\.example over http"):
                build_custom_headers(provider)
        else:
            assert build_custom_headers(provider) == {"x-title": "lesson"}


# The account


@WAYS
def test_the_account_of_the_sdk_s_variables_is_sent(sim, way):
    with session_at(sim.base_url, **ORG) as session:
        ask(session, way)
    for received in sim.requests:
        assert received.headers["openai-organization"] == "org-abc123"
        assert received.headers["openai-project"] == "proj_def456"


def test_what_is_not_set_is_not_sent(sim):
    with session_at(sim.base_url, OPENAI_ORG_ID=" ") as session:
        session.ask("four?")
    assert not {"openai-organization", "openai-project"} & set(sim.requests[0].headers)


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("", True),
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("http://127.0.0.1:9/v1", True),
        ("http://[::1]:9/v1", True),
        ("https://gateway.example/v1", False),
        ("https://api.openai.com.evil.example/v1", False),
        ("https://evil-api.openai.com/v1", False),
        ("https://127.evil.example/v1", False),
    ],
)
def test_the_account_is_sent_to_openai_s_own_host_alone(address, sent):
    environment = {**ORG, "OPENAI_BASE_URL": address}
    provider = Providers({}, environment).get("openai")
    said = {"openai-organization": "org-abc123", "openai-project": "proj_def456"}
    assert build_custom_headers(provider) == (said if sent else {})


def test_other_providers_are_not_told_the_account(sim):
    with session_at(sim.base_url, **ORG, O3MAGIC_API_KEY="k") as session, Simulator() as other:
        session.ask("four?", base_url=other.base_url)
        session.ask("four?", provider="simulator")
        assert "openai-organization" not in other.requests[0].headers
    own = {"gate": {"base_url": "https://gate.example/v1", "organization_env": "GATE_ORG"}}
    provider = Providers(own, {"GATE_ORG": "g"}).get("gate")
    assert set(provider.variables) == {"GATE_ORG"}


def test_a_wrong_key_may_be_one_of_another_account(sim):
    with session_at(sim.base_url, **ORG) as session:
        sim.script(Reply(status=401, error={"code": "invalid_api_key", "message": "no org-abc123"}))
        with pytest.raises(RequestFailed) as refused:
            session.ask("four?")
    assert "OPENAI_ORG_ID and OPENAI_PROJECT_ID" in refused.value.hint
    assert "org-abc123" not in str(refused.value)


def test_an_account_that_cannot_be_sent_is_named(sim):
    with session_at(sim.base_url, OPENAI_ORG_ID="org\nx") as session, pytest.raises(BadOption) as e:
        session.ask("four?")
    assert str(e.value) == "OPENAI_ORG_ID has characters not allowed in a header"
    assert sim.requests == []


# Tables


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Authorization": "Bearer x-secret"}, "Authorization: this header cannot be set here"),
        ({"api-KEY": "x-secret"}, "api-KEY: this header"),
        ({"Content-Length": "x-secret"}, "Content-Length: this header"),
        ({"HOST": "x-secret"}, "HOST: this header"),
        ({"Transfer-Encoding": "x-secret"}, "Transfer-Encoding: this header"),
        ({"X Title": "x-secret"}, "'X Title': not a valid header name"),
        ({"": "x-secret"}, "'': not a valid header name"),
        ({"X-T\r\nHost": "x-secret"}, "not a valid header name"),
        (
            {"X-T": "x-secret\r\nHost: y"},
            "X-T: the value has characters not allowed in a header",
        ),
        ({"X-T": "x-secret \u2603"}, "X-T: the value has characters not allowed in a header"),
        ({"X-T": "x-secret $"}, "X-T: a \\$ in the value names no variable"),
        ({"X-T": "x-secret ${A"}, "X-T: a \\$ in the value names no variable"),
        ({"X-T": 7}, "headers: Input should be a valid string"),
        ("x-secret", "headers: Input should be a valid mapping|headers: Input should be"),
    ],
)
def test_a_table_that_cannot_be_sent_is_one_clear_line(headers, words):
    with pytest.raises(BadOption, match=words) as refused:
        Providers({"p": {"headers": headers}}, {})
    assert "x-secret" not in "".join(refused.value.lines())
    assert "[providers.p" in str(refused.value)


def test_variables_are_no_field_of_a_table():
    with pytest.raises(BadOption, match="no field 'variables'"):
        Providers({"p": {"variables": {"A": "b"}}}, {})


def test_a_file_of_the_user_has_them_and_a_project_s_has_not(tmp_path):
    own = tmp_path / "config.toml"
    own.write_text('[providers.openai.headers]\nX-Title = "lesson"\n')
    layers = load_layers({"O3MAGIC_CONFIG": str(own)}, tmp_path)
    assert Providers(layers.providers, {}).get("openai").headers == {"X-Title": "lesson"}
    assert "lesson" not in repr(layers)
    (tmp_path / "o3magic.toml").write_text('[providers.openai.headers]\nX-Title = "evil"\n')
    with pytest.raises(BadOption, match="may not set 'providers'"):
        load_layers({"O3MAGIC_CONFIG": str(own)}, tmp_path)
    assert isinstance(layers, Config)


def test_httpx_agrees_that_they_can_be_sent():
    httpx.Headers(encode_headers({"x-title": "Zürich", "x-gate": SECRET}))
