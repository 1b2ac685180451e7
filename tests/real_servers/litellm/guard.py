"""Whose key it is. LiteLLM imports this module by its configuration; it is not a test."""

from fastapi import Request
from litellm.proxy._types import ProxyException, UserAPIKeyAuth

LIMITS = {"sk-any": None, "sk-rpm1": 1}


async def user_of(request: Request, api_key: str) -> UserAPIKeyAuth:
    """The user of a key, with its requests per minute."""
    if api_key not in LIMITS:
        raise ProxyException("no such key", type="auth_error", param="key", code=401)
    return UserAPIKeyAuth(api_key=api_key, rpm_limit=LIMITS[api_key])
