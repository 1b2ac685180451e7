"""A plan as one worker can send it: with the key out of its own environment. Keys never travel."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

from o3magic.cluster.letters import Spec
from o3magic.errors import NoKey
from o3magic.providers import Providers
from o3magic.settings import models_folder
from o3magic.talk.plan import Plan
from o3magic.talk.reach import Reach


def with_own_key(spec: Spec) -> tuple[Plan, Reach]:
    """The plan of a job with this worker's key, and what was opened for it. Raises NoKey.

    The built-in simulator is each worker's own: an address of it would be one of the caller's
    machine.
    """
    plan, provider = spec.plan, spec.plan.call.provider
    providers = Providers(spec.providers, os.environ)
    reach = Reach(providers, lambda _: True, models_folder(os.environ))
    provider = providers.with_variables(provider)
    if provider.embedded:
        named = replace(plan.profile, provider=provider.name, base_url="")
        provider = reach.provider(named)
    try:
        key = reach.key(provider)
    except NoKey:
        raise NoKey(
            f"{provider.name} needs a key, and {provider.key_env} is not set on the worker "
            f"{socket.gethostname()}, process {os.getpid()}",
            hint=f"set {provider.key_env} in the environment of every worker before it starts: "
            "keys are never sent to workers",
        ) from None
    return replace(plan, call=replace(plan.call, provider=provider, key=key)), reach
