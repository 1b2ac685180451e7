"""Many small structured rows: the job, and how the openai SDK and other libraries do it.

Each library as its own README has asynchronous use, with its own defaults. None of them is loaded
before it is measured, and o3magic not at all, so that a process weighs what its library weighs.
"""

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from pydantic import BaseModel

LATENCY_S = 0.2
KEY = "sk-test"
MODEL = "o3-mini"
HEAD = ["rows/s", "of what latency allows", "CPU us/row", "MB"]


class Label(BaseModel):
    label: str
    score: int


Ask = Callable[[str], Awaitable[Label]]
AskAll = Callable[[Sequence[str]], Awaitable[list[Label]]]
Found = dict[str, float]


def rows_of(count: int) -> Iterator[dict[str, str]]:
    """Rows that are made when they are asked for."""
    return ({"a": f"row number {n} of a table"} for n in range(count))


def prompt_of(row: dict[str, str]) -> str:
    return f"Classify: {row['a']}"


def answer_to(row: dict[str, str]) -> Label:
    """What the server on loopback says to a row."""
    prompt = prompt_of(row)
    return Label(label=prompt[:20], score=len(prompt))


def measured(work: Callable[[], int]) -> Found:
    """Rows a second, CPU microseconds a row, MB at the most."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    rows = work()
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows_s": rows / wall_s, "cpu_us": cpu_s / rows * 1e6, "mb": peak, "wall_s": wall_s}


def gathered(ask: Ask, rows: int, width: int) -> Found:
    """A semaphore and gather, the pattern of these READMEs."""

    async def ask_all(prompts: Sequence[str]) -> list[Label]:
        gate = asyncio.Semaphore(width)

        async def one(prompt: str) -> Label:
            async with gate:
                return await ask(prompt)

        return await asyncio.gather(*map(one, prompts))

    return asked(ask_all, rows)


def asked(ask_all: AskAll, rows: int) -> Found:
    """The rows, after one that loads what the first call loads; each answer is looked at."""
    answers: list[Label] = []
    with asyncio.Runner() as runner:

        async def all_rows() -> None:
            answers.extend(await ask_all([prompt_of(row) for row in rows_of(rows)]))

        def work() -> int:
            runner.run(all_rows())
            return len(answers)

        warm = next(rows_of(1))
        check(runner.run(ask_all([prompt_of(warm)])), 1)
        found = measured(work)
    check(answers, rows)
    return found


def check(answers: Sequence[Label], rows: int) -> None:
    """Each row has its own answer, as a Label; instructor makes a class of its own out of it."""
    wanted = [answer_to(row).model_dump() for row in rows_of(rows)]
    assert all(isinstance(each, Label) for each in answers), answers[:3]
    assert [each.model_dump() for each in answers] == wanted, answers[:3]


def cells(found: Found, width: int) -> list[str]:
    """What a table says of a case, under HEAD."""
    return [
        f"{found['rows_s']:,.0f}",
        f"{found['rows_s'] * LATENCY_S / width:.0%}",
        f"{found['cpu_us']:,.0f}",
        f"{found['mb']:,.0f}",
    ]


def sdk(base_url: str, rows: int, width: int) -> Found:
    """AsyncOpenAI, the answer parsed."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key=KEY, base_url=base_url)

    async def ask(prompt: str) -> Label:
        said = await client.responses.parse(model=MODEL, input=prompt, text_format=Label)
        return said.output_parsed

    return gathered(ask, rows, width)


def with_litellm(base_url: str, rows: int, width: int) -> Found:
    """acompletion with the class as response_format."""
    from litellm import acompletion

    async def ask(prompt: str) -> Label:
        said = await acompletion(
            model=f"openai/{MODEL}",
            messages=[{"role": "user", "content": prompt}],
            response_format=Label,
            api_base=base_url,
            api_key=KEY,
        )
        return Label.model_validate_json(said.choices[0].message.content)

    return gathered(ask, rows, width)


def with_pydantic_ai(base_url: str, rows: int, width: int) -> Found:
    """An agent with the class as output_type."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=base_url, api_key=KEY)
    agent = Agent(OpenAIChatModel(MODEL, provider=provider), output_type=Label)

    async def ask(prompt: str) -> Label:
        return (await agent.run(prompt)).output

    return gathered(ask, rows, width)


def with_langchain(base_url: str, rows: int, width: int) -> Found:
    """with_structured_output and abatch, which has its own limit."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, base_url=base_url, api_key=KEY).with_structured_output(Label)

    async def ask_all(prompts: Sequence[str]) -> list[Label]:
        return await model.abatch(list(prompts), config={"max_concurrency": width})

    return asked(ask_all, rows)


def with_instructor(base_url: str, rows: int, width: int) -> Found:
    """AsyncOpenAI wrapped, the class as response_model."""
    import instructor
    from openai import AsyncOpenAI

    client = instructor.from_openai(AsyncOpenAI(api_key=KEY, base_url=base_url))

    async def ask(prompt: str) -> Label:
        return await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], response_model=Label
        )

    return gathered(ask, rows, width)
