"""What the API refuses before it answers, one rule a function.

Each rule raises a `Rejection` in the API's words or says nothing. Null is as good as absent.
"""

from o3magic.simulator import strict, turns, wellformed
from o3magic.simulator.asked import Asked, Json, dict_of, dicts_in
from o3magic.simulator.models import Family, is_retired
from o3magic.simulator.parameters import KINDS, KNOWN, MOVED, SAMPLING, TIERS, VERBOSITY
from o3magic.simulator.rejection import (
    Rejection,
    invalid_value,
    missing,
    unsupported_parameter,
    unsupported_value,
    wrong_type,
)
from o3magic.simulator.state import Stored

MIN_OUTPUT_TOKENS = 16


def check(asked: Asked, retired: frozenset[str], stored: Stored | None) -> None:
    """Raise what the API would say against a request; `stored` is the response it builds upon."""
    family = check_model(asked, retired)
    _known_parameters(asked)
    _something_asked(asked, stored)
    _effort(asked, family)
    _verbosity(asked, family)
    _tier(asked)
    _included(asked, family)
    _sampling(asked, family)
    _include(asked, family)
    _limit(asked)
    _format(asked)
    _tools(asked, family)
    turns.check(asked, stored.call_ids if stored else frozenset())
    _window(asked, family)


def check_model(asked: Asked, retired: frozenset[str]) -> Family:
    """The family of the model asked for, or its Rejection."""
    model, chat = asked.model, asked.api == "chat"
    if not model:
        raise Rejection("you must provide a model parameter") if chat else missing("model")
    if is_retired(model, retired):
        raise retired_model(model)
    if asked.family:
        return asked.family
    if chat:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise Rejection(message, status=404, code="model_not_found")
    message = f"The requested model '{model}' does not exist."
    raise Rejection(message, param="model", code="model_not_found")


def retired_model(model: str) -> Rejection:
    """A model that has been shut down."""
    message = f"The model `{model}` has been deprecated, learn more here: "
    message += "https://platform.openai.com/docs/deprecations"
    return Rejection(message, status=404, code="model_not_found")


def _known_parameters(asked: Asked) -> None:
    for name in asked.body:
        if name in KNOWN[asked.api]:
            continue
        if asked.api == "chat":
            raise Rejection(f"Unrecognized request argument supplied: {name}")
        if name in MOVED:
            raise Rejection(
                f"Unsupported parameter: '{name}'. In the Responses API, this parameter has "
                f"moved to '{MOVED[name]}'.",
                param=name,
                code="unsupported_parameter",
            )
        raise Rejection(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    for name, (kind, wanted) in KINDS.items():
        value = asked.body.get(name)
        if value is not None and not isinstance(value, kind):
            raise wrong_type(name, wanted, value)


def _something_asked(asked: Asked, stored: Stored | None) -> None:
    body = asked.body
    if asked.api == "chat":
        messages = body.get("messages")
        if messages is None:
            raise missing("messages")
        if not messages:
            message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
            raise Rejection(message, param="messages", code="empty_array")
        return
    previous, given = body.get("previous_response_id"), body.get("input")
    if previous is not None and stored is None:
        message = f"Previous response with id '{previous}' not found."
        code = "previous_response_not_found"
        raise Rejection(message, param="previous_response_id", code=code)
    if given is None and previous is None:
        raise missing("input")


def _effort(asked: Asked, family: Family) -> None:
    responses = asked.api == "responses"
    param = "reasoning.effort" if responses else "reasoning_effort"
    holder = dict_of(asked.body.get("reasoning")) if responses else asked.body
    given = holder.get("effort" if responses else "reasoning_effort")
    if given is not None and (asked.model.startswith("o1-mini") or not family.efforts):
        raise unsupported_parameter(param)
    if given is not None and given not in family.efforts:
        raise unsupported_value(param, given, family.efforts)


def _verbosity(asked: Asked, family: Family) -> None:
    responses = asked.api == "responses"
    given = (dict_of(asked.body.get("text")) if responses else asked.body).get("verbosity")
    param = "text.verbosity" if responses else "verbosity"
    if given is None:
        return
    if given not in VERBOSITY:
        raise invalid_value(param, given, VERBOSITY)
    if given not in family.verbosity:
        raise Rejection(
            f"Unsupported value: '{param}' does not support '{given}' with this model. "
            "Supported values are: 'medium'.",
            param=param,
            code="unsupported_value",
        )


def _tier(asked: Asked) -> None:
    given = asked.body.get("service_tier")
    if given is not None and given not in TIERS:
        raise invalid_value("service_tier", given, TIERS)


def _included(asked: Asked, family: Family) -> None:
    included = asked.body.get("include")
    if "reasoning.encrypted_content" in (included or ()) and not family.efforts:
        raise Rejection("Encrypted content is not supported with this model.", param="include")


def _sampling(asked: Asked, family: Family) -> None:
    given = {name for name, value in asked.body.items() if value is not None}
    if "max_tokens" in given and family.efforts and not family.open:
        raise unsupported_parameter("max_tokens", " Use 'max_completion_tokens' instead.")
    refused = [] if family.sampling and asked.effort == "none" else [*SAMPLING]
    if family.open:
        refused = []
    if family.o_series:
        refused += ["parallel_tool_calls", "stop"]
    for name in refused:
        if name in given:
            raise unsupported_parameter(name)
    if asked.body.get("n") not in (None, 1):
        raise unsupported_value("n", asked.body["n"], ("1",))


def _include(asked: Asked, family: Family) -> None:
    include = asked.body.get("include")
    if not family.efforts and "reasoning.encrypted_content" in (include or ()):
        raise Rejection("Encrypted content is not supported with this model.", param="include")


def _limit(asked: Asked) -> None:
    chat = asked.api == "chat"
    param = "max_completion_tokens" if chat else "max_output_tokens"
    least, given = 1 if chat else MIN_OUTPUT_TOKENS, asked.body.get(param)
    if given is None:
        return
    if asked.limit_tokens is None:
        raise wrong_type(param, "an integer", given)
    if given < least:
        raise Rejection(
            f"Invalid '{param}': integer below minimum value. "
            f"Expected a value >= {least}, but got {given} instead.",
            param=param,
            code="integer_below_min_value",
        )


def _format(asked: Asked) -> None:
    kind, chat = asked.format.get("type"), asked.api == "chat"
    if kind == "json_object" and "json" not in asked.whole_prompt.lower():
        holder = "'messages' must contain" if chat else "Response input messages must contain"
        where = "response_format" if chat else "text.format"
        message = f"{holder} the word 'json' in some form, to use '{where}' of type 'json_object'."
        raise Rejection(message, param="messages" if chat else "input")
    if kind != "json_schema":
        return
    where = "response_format.json_schema" if chat else "text.format"
    for name in ("name", "schema"):
        if not asked.format.get(name):
            raise missing(f"{where}.{name}")
    fault = _schema_fault(asked.format["schema"], asked.format.get("strict"))
    if fault:
        message = f"Invalid schema for response_format '{asked.format['name']}': {fault}"
        if chat:
            raise Rejection(message, param="response_format")
        raise Rejection(message, param="text.format.schema", code="invalid_json_schema")


def _tools(asked: Asked, family: Family) -> None:
    for index, tool in enumerate(dicts_in(asked.body.get("tools"))):
        if tool.get("type") == "function":
            _function(asked, index, tool)
    if asked.choice not in {"auto", "none", "required", *(tool.name for tool in asked.tools)}:
        message = f"Tool choice '{asked.choice}' not found in 'tools' parameter."
        raise Rejection(message, param="tool_choice")
    if asked.api == "chat" and asked.tools and asked.effort != "none" and not family.chat_tools:
        raise Rejection(
            "Function tools with reasoning_effort are not supported for "
            f"{asked.model} in /v1/chat/completions. To use function tools, use /v1/responses "
            "or set reasoning_effort to 'none'.",
            param="reasoning_effort",
        )


def _function(asked: Asked, index: int, tool: Json) -> None:
    where, function = f"tools[{index}]", tool
    if asked.api == "chat":
        where += ".function"
        if not isinstance(tool.get("function"), dict):
            raise missing(where)
        function = tool["function"]
    if not function.get("name"):
        raise missing(f"{where}.name")
    fault = _schema_fault(function.get("parameters") or {}, function.get("strict"))
    if fault:
        message = f"Invalid schema for function '{function['name']}': {fault}"
        param = f"{where}.parameters"
        raise Rejection(message, param=param, code="invalid_function_parameters")


def _schema_fault(schema: object, is_strict: object) -> str | None:
    return wellformed.fault(schema) or (strict.fault(schema) if is_strict else None)


def _window(asked: Asked, family: Family) -> None:
    if asked.input_tokens <= family.window_tokens:
        return
    if asked.api == "chat":
        raise Rejection(
            f"This model's maximum context length is {family.window_tokens} tokens. However, "
            f"your messages resulted in {asked.input_tokens} tokens. "
            "Please reduce the length of the messages.",
            param="messages",
            code="context_length_exceeded",
        )
    message = "Your input exceeds the context window of this model. "
    message += "Please adjust your input and try again."
    raise Rejection(message, param="input", code="context_length_exceeded")
