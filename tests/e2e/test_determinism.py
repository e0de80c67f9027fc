"""Same request, same seed, same answer: alone, and among sixteen others."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from anyplex import Client
from tests.cluster import SYSTEMS
from tests.pictures import picture

pytestmark = pytest.mark.cluster

Answer = tuple[str, tuple[int, ...]]
N_OTHERS = 16
SAMPLED = {"temperature": 1.0, "top_p": 0.95, "top_k": 50}


def ask(client: Client, question: str, seed: int, system: str, **sampling: Any) -> Answer:
    reply = client.generate(
        [question, picture(seed)], system=system, seed=seed, max_tokens=32, logprobs=0, deadline_s=120.0, **sampling
    )
    return reply.text, tuple(item.token_id for item in reply.logprobs)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("sampling", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_alone_and_among_sixteen_others(client: Client, system: str, sampling: dict[str, Any]) -> None:
    questions = [("what is this?", 1), ("how many objects are there?", 2), ("is there a circle?", 3)]
    alone = {case: ask(client, *case, system, **sampling) for case in questions}
    checked = 0
    with ThreadPoolExecutor(N_OTHERS + 1) as pool:
        for case in questions:
            # The others differ in length, sampling and system, so that they join and leave the batch at all times.
            others: list[Future[Answer]] = []
            for number in range(N_OTHERS):
                other = SYSTEMS[number % 2]
                question = "what is this, " * (1 + number % 5)
                temperature = 1.5 * (number % 3 == 0)
                others.append(pool.submit(ask, client, question, 100 + number, other, temperature=temperature))
            mine = pool.submit(ask, client, *case, system, **sampling)
            assert mine.result() == alone[case]
            for future in others:
                future.result()
            checked += 1
    assert len({answer for answer in alone.values()}) > 1
    print(f"figure: {checked} of {checked} answers of {system} the same alone and among {N_OTHERS} others")


def test_the_seed_decides(client: Client) -> None:
    def sampled(seed: int) -> Answer:
        reply = client.generate(
            ["what is this?", picture(1)], seed=seed, max_tokens=24, logprobs=0, temperature=2.0
        )  # fmt: skip
        return reply.text, tuple(item.token_id for item in reply.logprobs)

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(1, 7)}) > 1
