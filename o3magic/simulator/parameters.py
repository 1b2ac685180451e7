"""Parameters: which endpoint knows which, which steer sampling, and what some of them may be."""

SAMPLING = (
    *("temperature", "top_p", "presence_penalty", "frequency_penalty"),
    *("logprobs", "top_logprobs", "logit_bias"),
)
BOTH = (
    *("model", "stream", "stream_options", "store", "metadata", "service_tier", "user"),
    *("tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p", "top_logprobs"),
    *("safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    "moderation",
)
KNOWN = {
    "chat": frozenset(
        (
            *BOTH,
            *("messages", "modalities", "verbosity", "reasoning_effort", "response_format"),
            *("max_completion_tokens", "max_tokens", "frequency_penalty", "presence_penalty"),
            *("stop", "logit_bias", "logprobs", "n", "seed", "audio", "prediction"),
            *("web_search_options", "functions", "function_call"),
        )
    ),
    "responses": frozenset(
        (
            *BOTH,
            *("input", "instructions", "reasoning", "text", "max_output_tokens", "include"),
            *("max_tool_calls", "background", "previous_response_id", "conversation"),
            *("truncation", "prompt", "context_management"),
        )
    ),
}
# What Chat calls so has another name in the Responses API.
MOVED = {
    "messages": "input",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
TIERS = ("auto", "default", "flex", "scale", "priority", "fast")
SERVED = {"auto": "default", "fast": "priority"}  # the names under which tiers come back
VERBOSITY = ("low", "medium", "high")
# Of what kind a parameter's value must be, in Python and in the API's words.
KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "stream": (bool, "a boolean"),
    "store": (bool, "a boolean"),
    "background": (bool, "a boolean"),
    "parallel_tool_calls": (bool, "a boolean"),
    "stream_options": (dict, "an object"),
    "metadata": (dict, "an object"),
    "response_format": (dict, "an object"),
    "text": (dict, "an object"),
    "reasoning": (dict, "an object"),
    "tools": (list, "an array of objects"),
    "include": (list, "an array of strings"),
    "messages": (list, "an array of objects"),
    "input": ((str, list), "one of a string or array of objects"),
    "tool_choice": ((str, dict), "one of a string or object"),
    "instructions": (str, "a string"),
    "previous_response_id": (str, "a string"),
    "reasoning_effort": (str, "a string"),
    "service_tier": (str, "a string"),
    "temperature": ((int, float), "a number"),
    "top_p": ((int, float), "a number"),
}


def tier_of(body: dict[str, object]) -> object:
    """The tier that a request is served at, as the answer says it."""
    asked = str(body.get("service_tier") or "auto")
    return SERVED.get(asked, asked)
