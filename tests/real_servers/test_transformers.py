"""`transformers serve` with random weights: Responses as OpenAI streams them, and odd letters."""

import subprocess
from contextlib import closing

import pytest

from o3magic.client.request import HttpRequest
from o3magic.errors import InvalidAnswer, ProviderDown, RequestRefused
from o3magic.events import Finished, Started, TextDelta
from o3magic.messages import Message, Request
from o3magic.providers import Provider
from tests.real_servers.running import made

pytestmark = pytest.mark.real_servers

LIMIT = 48


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model's folder, whose path is its name."""
    script = made("transformers.sh")
    folder = tmp_path_factory.mktemp("model")
    write = [script, "python", script.parent / "tiny_llama.py", folder]
    subprocess.run(write, check=True, capture_output=True)
    return str(folder)


@pytest.fixture(scope="module")
def server(start, model):
    """The running server."""
    return start(made("transformers.sh"), model, ready="/health")


@pytest.fixture
def ours(server, session, model):
    """A session that asks it; it is a provider of the user's own."""
    table = {"base_url": server.base_url, "auth": "none", "local": True}
    settings = {"provider": "transformers", "model": model, "max_output_tokens": LIMIT}
    return session(settings | {"retries": 0}, {"transformers": table})


@pytest.fixture
def ask(server, model, client):
    """Asks by the client, for what no session can ask, and gives the events."""

    def send(api, **said):
        provider = Provider("transformers", base_url=server.base_url, auth="none")
        request = Request(model, (Message.of("user", "hi"),), max_output_tokens=LIMIT, **said)
        return list(client.events(HttpRequest(provider, api, request)))

    return send


def streamed(session, prompt, **options):
    """The events of a question and its answer."""
    asking = session.begin(session.plan(prompt, session.layers.profile(options)))
    return list(asking), asking.answer


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_stream_of_random_bytes_is_read_to_its_end(ours, api):
    """By Chat without `[DONE]`; half characters come as U+FFFD."""
    for number in range(5):
        events, answer = streamed(ours, f"hi {number}", api=api)
        pieces = [event.text for event in events if type(event) is TextDelta]
        assert "".join(pieces) == answer.text
        assert len(pieces) > 3
        assert answer.finish_reason in ("stop", "length")
        assert answer.usage.input_tokens
        assert 0 < answer.usage.output_tokens <= LIMIT
        assert [type(event) for event in events].count(Started) == 1
        assert type(events[-1]) is Finished


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_whole_answer_comes_where_none_is_to_be_streamed(ours, api):
    """By Responses it streams unless it is told not to, so that we always say it."""
    events, answer = streamed(ours, "hi", api=api, stream=False)
    assert [type(event) for event in events].count(TextDelta) == 1
    assert answer.text
    assert 0 < answer.usage.output_tokens <= LIMIT


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_what_comes_is_read_as_what_it_is(ask, fold, api, stream):
    """We ask for the one and say the other."""
    events = ask(api, stream=not stream, options={"stream": stream})
    assert fold(events).text
    assert ([type(event) for event in events].count(TextDelta) > 1) == stream


def test_a_developer_message_is_read(ours):
    plain = ours.ask("hi").usage.input_tokens
    assert ours.ask("hi", developer="Be brief.").usage.input_tokens > plain + len("Be brief.")


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_schema_is_not_kept_and_that_is_an_error(ours, api):
    with pytest.raises(InvalidAnswer) as caught:
        ours.ask("hi", schema=int, api=api, repairs=1)
    assert caught.value.answer.text
    # One that was cut off is not asked again; which are cut is chance.
    kinds = [entry.kind for entry in ours.ledger.entries()]
    assert kinds in (["ask"], ["ask", "repair"])


def test_an_unknown_parameter_is_refused_in_its_words(ask):
    with pytest.raises(RequestRefused, match="wizard") as caught:
        ask("responses", options={"wizard": 1})
    assert caught.value.status == 422


def test_its_list_of_models_fails_and_nothing_else(ours):
    """Without a network it looks for its models in a cache it does not have."""
    with pytest.raises(ProviderDown):
        ours.served_models(ours.layers.profile())
    assert ours.ask("hi").text


def test_an_interrupted_answer_leaves_it_free_for_the_next(ours):
    with closing(ours.stream("hi", max_output_tokens=1_500)) as events:
        for event in events:
            if type(event) is TextDelta:
                break
    assert ours.ask("hi").text
    assert next(entry.status for entry in ours.ledger.entries()) == "interrupted"
