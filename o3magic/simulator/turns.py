"""What the API refuses in the turns of a conversation: roles, parts, calls without results."""

from o3magic.simulator.asked import Asked, Json, dicts_in
from o3magic.simulator.rejection import Rejection, missing

ROLES = ("system", "developer", "user", "assistant", "tool")
FOLLOWS_REASONING = ("message", "function_call", "custom_tool_call", "reasoning")


def check(asked: Asked, known_calls: frozenset[str]) -> None:
    """Raise what is wrong with the turns; `known_calls` were made by an earlier response."""
    if asked.api == "chat":
        _chat(asked, dicts_in(asked.body.get("messages")))
    else:
        _responses(dicts_in(asked.body.get("input")), known_calls)


def _chat(asked: Asked, messages: list[Json]) -> None:
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        role, where = message.get("role"), f"messages[{index}]"
        _role(role, where)
        if asked.model.startswith("o1-mini") and role in ("system", "developer"):
            text = f"'{where}.role' does not support '{role}' with this model."
            raise Rejection(
                f"Unsupported value: {text}", param=f"{where}.role", code="unsupported_value"
            )
        if role == "tool":
            if str(message.get("tool_call_id")) not in open_calls:
                text = "messages with role 'tool' must be a response to a preceeding message "
                raise Rejection(
                    f"Invalid parameter: {text}with 'tool_calls'.", param=f"{where}.role"
                )
            open_calls.discard(str(message.get("tool_call_id")))
        elif open_calls:
            raise _unanswered(open_calls, where)
        for part in dicts_in(message.get("content")):
            if str(part.get("type")).startswith(("input_text", "input_image", "output_")):
                raise _wrong_part(part, f"{where}.content", "'text', 'image_url' and 'refusal'")
        open_calls |= {str(call.get("id")) for call in dicts_in(message.get("tool_calls"))}
    if open_calls:
        raise _unanswered(open_calls, f"messages[{len(messages) - 1}]")


def _responses(items: list[Json], known_calls: frozenset[str]) -> None:
    made = known_calls | {str(i.get("call_id")) for i in items if i.get("type") == "function_call"}
    given = {str(i.get("call_id")) for i in items if i.get("type") == "function_call_output"}
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "message":
            _role(item.get("role"), f"input[{index}]")
            for part in dicts_in(item.get("content")):
                _part(part, f"input[{index}].content")
        if kind == "function_call_output" and str(item.get("call_id")) not in made:
            call = item.get("call_id")
            text = f"No tool call found for function call output with call_id {call}."
            raise Rejection(text, param="input")
        follower = items[index + 1] if index + 1 < len(items) else {"type": "nothing"}
        if kind == "reasoning" and _cannot_follow(follower):
            text = f"Item '{item.get('id')}' of type 'reasoning' was provided without its "
            raise Rejection(f"{text}required following item.", param="input")
    for call in sorted(made - given):
        raise Rejection(f"No tool output found for function call {call}.", param="input")


def _cannot_follow(item: Json) -> bool:
    kind = item.get("type", "message")
    return kind not in FOLLOWS_REASONING or (kind == "message" and item.get("role") != "assistant")


def _role(role: object, where: str) -> None:
    if role is None:
        raise missing(f"{where}.role")
    if role not in ROLES:
        supported = ", ".join(f"'{name}'" for name in ROLES)
        text = f"Invalid value: '{role}'. Supported values are: {supported}."
        raise Rejection(text, param=f"{where}.role", code="invalid_value")


def _part(part: Json, where: str) -> None:
    if not str(part.get("type")).startswith(("input_", "output_text", "refusal", "summary_")):
        raise _wrong_part(part, where, "'input_text', 'input_image', 'output_text' and 'refusal'")


def _wrong_part(part: Json, where: str, supported: str) -> Rejection:
    text = f"Invalid value: '{part.get('type')}'. Supported values are: {supported}."
    return Rejection(text, param=where, code="invalid_value")


def _unanswered(calls: set[str], where: str) -> Rejection:
    listed = ", ".join(sorted(calls))
    return Rejection(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        "each 'tool_call_id'. The following tool_call_ids did not have response messages: "
        f"{listed}",
        param=f"{where}.role",
    )
