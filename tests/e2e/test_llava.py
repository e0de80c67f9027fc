"""A LLaVA checkpoint in Hugging Face format, through gateway and components, against transformers in one process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from anyplex import Client, Image, Message, Text
from services.deploy.launch import UpOptions, start_detached, stop
from tests.e2e.llava_reference import NEW_TOKENS, Case, Reference, changed_share, make_cases, make_checkpoint, png

N_CASES = 54
NAME = "test-llava"

pytestmark = pytest.mark.cluster


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("llava") / "checkpoint"
    make_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def address(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYPLEX_HOME", str(tmp_path_factory.mktemp("home")))
        options = UpOptions(systems=("llava-1.5",), weights=str(checkpoint), port=free_port(), name=NAME)
        state = start_detached(options, print)
        try:
            yield state.address
        finally:
            stop(NAME, print)


def answer(client: Client, case: Case) -> tuple[str, list[int]]:
    """Text and tokens of the answer."""
    turns = [
        Message(turn.role, [part if isinstance(part, str) else Image(png(part)) for part in turn.parts])
        for turn in case.turns
    ]
    text, ids = "", []
    for event in client.stream(turns[-1].parts, history=turns[:-1], max_tokens=NEW_TOKENS, temperature=0.0, logprobs=0):
        if isinstance(event, Text):
            text += event.text
            ids += [item.token_id for item in event.logprobs]
    return text, ids


def test_greedy_tokens_are_those_of_transformers(checkpoint: Path, address: str) -> None:
    reference, cases = Reference(checkpoint), make_cases(N_CASES)
    expected = [reference.answer(case) for case in cases]
    with Client(address) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda case: answer(client, case), cases))
    same = sum(ids == wanted for (_, ids), wanted in zip(answers, expected, strict=True))
    print(f"{same} of {N_CASES} prompts with 0, 1 and 3 pictures: the tokens of LlavaForConditionalGeneration.generate")
    assert [ids for _, ids in answers] == expected
    assert [text for text, _ in answers] == [reference.text(ids) for ids in expected]
    share = changed_share(reference, cases)
    print(f"exchanging the pictures changes {share:.0%} of the reference's answers")
    assert share >= 0.9
