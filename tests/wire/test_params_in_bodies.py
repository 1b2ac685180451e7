"""What is said besides: in the body of either API, beside everything else."""

from o3magic.messages import Message, Request
from o3magic.params import canonical, fields_of
from o3magic.wire import chat, responses


def test_a_body_has_it_beside_everything_else(faults):
    asked = Request(
        "gpt-5.5",
        (Message.of("user", "four?"),),
        effort="low",
        tier="flex",
        verbosity="low",
        params=fields_of(canonical('reasoning.context="auto"\nmetadata.a="b"\ntop_p=0.5')),
    )
    body = responses.encode(asked)
    assert body["reasoning"] == {"effort": "low", "context": "auto"}
    assert body["text"] == {"verbosity": "low"}
    assert (body["service_tier"], body["metadata"], body["top_p"]) == ("flex", {"a": "b"}, 0.5)
    assert faults("responses_request.strict", body) == []
    asked = Request(
        "gpt-5.5", asked.messages, tier="priority", verbosity="high", params={"seed": 7}
    )
    body = chat.encode(asked)
    assert (body["service_tier"], body["verbosity"], body["seed"]) == ("priority", "high", 7)
    assert faults("chat_request.strict", body) == []


def test_what_is_said_of_a_stream_is_said_where_there_is_one():
    params = fields_of(canonical("stream_options.include_obfuscation=false"))
    for stream in (True, False):
        asked = Request("o3", (Message.of("user", "four?"),), stream=stream, params=params)
        assert ("stream_options" in responses.encode(asked)) == stream
        said = chat.encode(asked).get("stream_options")
        whole = {"include_usage": True, "include_obfuscation": False}
        assert said == (whole if stream else None)


def test_what_is_to_be_included_is_joined():
    ours = {"store": False, "include": ["reasoning.encrypted_content"]}
    more = {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"]}
    asked = Request("o3", (Message.of("user", "?"),), options=ours, params=more)
    assert responses.encode(asked)["include"] == [
        "reasoning.encrypted_content",
        "message.output_text.logprobs",
    ]
    assert ours["include"] == ["reasoning.encrypted_content"]
