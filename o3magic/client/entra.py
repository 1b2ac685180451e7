"""Microsoft Entra tokens out of azure-identity, where it is installed. Its only door."""

from __future__ import annotations

from importlib import import_module

from pydantic import SecretStr

from o3magic.errors import NoKey
from o3magic.redaction import redact


def token(scope: str) -> SecretStr | None:
    """A fresh token for the user who is signed in, or None where the package is not installed.

    Raises NoKey where nobody is signed in.
    """
    try:
        identity = import_module("azure.identity")
    except ImportError:
        return None
    # Its errors come from many classes of two packages; all mean the same here.
    try:
        return SecretStr(identity.DefaultAzureCredential().get_token(scope).token)
    except Exception as error:
        first = redact(str(error).partition("\n")[0])
        raise NoKey(f"no Entra token: {first}", hint="sign in with `az login`") from None
