"""What the API says when it does not answer: status and error object, in OpenAI's words."""

from typing import Any


class Rejection(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error: dict[str, Any] = {
            "message": message,
            "type": kind,
            "param": param,
            "code": code,
        }


def missing(param: str) -> Rejection:
    """A parameter that must be there."""
    return Rejection(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def unsupported_parameter(param: str, hint: str = "") -> Rejection:
    """A parameter this model does not take, whatever its value."""
    message = f"Unsupported parameter: '{param}' is not supported with this model.{hint}"
    return Rejection(message, param=param, code="unsupported_parameter")


def unsupported_value(param: str, value: object, supported: tuple[str, ...]) -> Rejection:
    """A value this model does not take."""
    *first, last = [f"'{name}'" for name in supported] or ["(none)"]
    listed = f"{', '.join(first)} and {last}" if first else last
    return Rejection(
        f"Unsupported value: '{value}' is not supported with this model. "
        f"Supported values are: {listed}.",
        param=param,
        code="unsupported_value",
    )


def invalid_value(param: str, value: object, supported: tuple[str, ...]) -> Rejection:
    """A value that no model takes."""
    *first, last = (f"'{name}'" for name in supported)
    return Rejection(
        f"Invalid value: '{value}'. Supported values are: {', '.join(first)}, and {last}.",
        param=param,
        code="invalid_value",
    )


def wrong_type(param: str, wanted: str, value: object) -> Rejection:
    """A value of another type than the parameter's."""
    got = {str: "a string", list: "an array", dict: "an object", bool: "a boolean"}
    found = "null" if value is None else got.get(type(value), "a number")
    return Rejection(
        f"Invalid type for '{param}': expected {wanted}, but got {found} instead.",
        param=param,
        code="invalid_type",
    )


def wrong_key(given: str) -> Rejection:
    """A key that is missing or wrong; the wrong one is echoed masked."""
    if not given:
        return Rejection(
            "You didn't provide an API key. You need to provide your API key in an Authorization "
            "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            status=401,
        )
    masked = "*" * len(given)
    if len(given) > 12:
        masked = given[:8] + "*" * (len(given) - 12) + given[-4:]
    return Rejection(
        f"Incorrect API key provided: {masked}. "
        "You can find your API key at https://platform.openai.com/account/api-keys.",
        status=401,
        code="invalid_api_key",
    )
