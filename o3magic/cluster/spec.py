"""What workers are told of a job, made once by its caller: everything but a key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from o3magic.cluster.door import pickled
from o3magic.cluster.letters import Spec
from o3magic.jobs.form import Form
from o3magic.jobs.tally import Chosen
from o3magic.schemas.lookup import AnswerType
from o3magic.talk.books import Place
from o3magic.talk.session import Session


def packed_spec(
    session: Session,
    form: Form,
    chosen: Chosen,
    *,
    prompt: str = "",
    folder: Path | None = None,
    flatten: bool = False,
) -> bytes:
    """A job's spec in bytes. Raises BadOption where the schema cannot be sent."""
    plan, wanted = form.plan, form.plan.answer_type
    if wanted is not None:  # without what pydantic has made of it: that is each process's own
        wanted = AnswerType(wanted.name, wanted.python_type)
    place = Place(session.id, session.notebook, session.cell_key)
    spec = Spec(
        plan=replace(plan, call=replace(plan.call, key=None), answer_type=wanted),
        width=chosen.width,
        prompt=prompt,
        folder=str(folder or ""),
        place=(place.session, place.notebook, place.cell_key),
        providers=dict(session.layers.providers),
        system_certificates=chosen.system_certificates,
        stop_at_error=chosen.stop_at_error,
        flatten=flatten,
    )
    return pickled(spec)


def limits_of(chosen: Chosen) -> dict[str, Any]:
    """What holds the gate of a job back."""
    return {
        "requests_per_min": chosen.requests_per_min,
        "tokens_per_min": chosen.tokens_per_min,
        "most_down_s": chosen.most_down_s,
    }
