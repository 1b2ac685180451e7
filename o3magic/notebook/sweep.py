"""`o3.sweep`: what effort buys on rows of your own, in the shell's session or in one of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from o3magic.notebook.progress import show_for
from o3magic.rows.sweep.result import SweepResult
from o3magic.rows.sweep.sweep import sweep_in
from o3magic.session.session import Session


def sweep(
    rows: Any,
    prompt: str,
    *,
    expected: Any = None,
    scorer: Any = "exact",
    efforts: Sequence[str] = (),
    models: Sequence[str] = (),
    schema: Any = None,
    **options: Any,
) -> SweepResult:
    """Ask a prompt for each row at every effort, and score the answers: what effort buys you.

    expected  a column, a list with a value for each row, or a function of a row: where it is None,
              the row is not asked. A column named here is hidden from the prompt
    scorer    "exact": the same text, whatever its case and blanks; "number": the last number in it,
              within abs_tol= and rel_tol=; "fields": the F1 of a schema's fields; or a function of
              (answer, row) that gives a bool or a number from 0 to 1
    efforts   every effort of the model where none is said
    models    several of them, each at every effort

    The other arguments are those of `map`; `budget` is for all efforts together. Efforts whose rows
    all fit into `concurrency` are asked at once, but under a budget in turn. The result has
    `.recommendation`, `.to_frame()`, `.plot()`, `.disagreements()` and `.rows_frame()`. The same
    call goes on where it stopped. Raises O3Error, with what there is so far in `.answer`.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    show = show_for(shell, quiet=bool(options.get("quiet")))
    names = shell.user_ns if shell is not None else vars(sys.modules["__main__"])
    said = {"expected": expected, "scorer": scorer, "efforts": efforts, "models": models}
    said |= {"schema": schema, "names": names} | options
    if shell is not None:
        from o3magic.notebook.extension import session_of

        return sweep_in(session_of(shell), rows, prompt, show=show, **said)
    session = Session.start(os.environ)
    try:
        return sweep_in(session, rows, prompt, show=show, **said)
    finally:
        session.close()
