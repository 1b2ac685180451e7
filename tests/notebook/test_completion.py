"""TAB completion, asked of a real kernel the way a front end asks."""

import pytest

from tests.notebook.conftest import Kernel


def complete(kernel: Kernel, code: str) -> list[str]:
    kernel.client.complete(code, len(code))
    reply = kernel.client.get_shell_msg(timeout=10)
    while reply["msg_type"] != "complete_reply":
        reply = kernel.client.get_shell_msg(timeout=10)
    return reply["content"]["matches"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("%%o3 --eff", ["--effort", "--efforts"]),
        ("%%o3 --effort h", ["high"]),
        ("%%o3 --effort=m", ["max", "medium", "minimal"]),
        ("%%o3 -q -m o3-m", ["o3-mini"]),
        ("%o3 -p ol", ["ollama"]),
        ("%%o3 --schema Inv", ["Invoice"]),
    ],
)
def test_what_may_follow_is_offered(kernel: Kernel, line: str, wanted: list[str]):
    kernel.run("from pydantic import BaseModel\nclass Invoice(BaseModel):\n    n: int")
    assert complete(kernel, line) == wanted


def test_the_prompt_is_left_to_others(kernel: Kernel):
    kernel.run("something_unusual = 1")
    assert "--effort" not in complete(kernel, "%%o3\n--")
    assert "something_unusual" in complete(kernel, "something_un")
