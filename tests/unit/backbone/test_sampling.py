"""Sampling: penalties, cuts and draws, each against its definition."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from graph.messages import Sampling
from services.backbone.sampling import choice_seed, draw, logprob_of, make_sampler, penalized

LOGITS = torch.tensor([2.0, 1.0, 0.5, -1.0, -3.0])


def frequencies(sampling: Sampling, draws: int = 4_000) -> list[float]:
    generator = torch.Generator().manual_seed(7)
    counts = Counter(draw(LOGITS, sampling, generator) for _ in range(draws))
    return [counts[token] / draws for token in range(len(LOGITS))]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature: float) -> None:
    expected = torch.softmax(LOGITS / temperature, -1)
    assert frequencies(Sampling(temperature=temperature)) == pytest.approx(expected.tolist(), abs=0.03)


def test_top_k_keeps_the_likeliest() -> None:
    found = frequencies(Sampling(temperature=1.0, top_k=2))
    assert found[2:] == [0, 0, 0]
    assert found[0] == pytest.approx(torch.softmax(LOGITS[:2], -1)[0].item(), abs=0.03)


def test_top_p_keeps_the_nucleus_with_the_token_that_crosses_it() -> None:
    probabilities = torch.softmax(LOGITS, -1)
    assert probabilities[0] < 0.7 < probabilities[0] + probabilities[1]
    found = frequencies(Sampling(temperature=1.0, top_p=0.7))
    assert found[2:] == [0, 0, 0]
    assert found[1] > 0
    assert frequencies(Sampling(temperature=1.0, top_p=1e-6))[0] == 1.0


def test_repetition_penalty_divides_and_multiplies() -> None:
    changed = penalized(LOGITS, Sampling(repetition_penalty=2.0), prompt={0}, counts={3: 1})
    assert changed.tolist() == [1.0, 1.0, 0.5, -2.0, -3.0]


def test_presence_and_frequency_count_what_was_produced() -> None:
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    changed = penalized(LOGITS, sampling, prompt={0}, counts={1: 2})
    assert changed.tolist() == [2.0, 0.0, 0.5, -1.0, -3.0]
    assert LOGITS[1] == 1.0


def test_greedy_takes_the_likeliest_after_penalties() -> None:
    assert make_sampler(Sampling(), 0, [], []).choose(LOGITS) == 0
    assert make_sampler(Sampling(repetition_penalty=4.0), 0, [0], []).choose(LOGITS) == 1


def test_a_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    def tokens(seed: int, choice: int = 0, produced: tuple[int, ...] = ()) -> list[int]:
        sampler = make_sampler(Sampling(temperature=2.0, seed=seed), choice, [], produced)
        return [sampler.choose(LOGITS) for _ in range(30)]

    assert tokens(1) == tokens(1)
    assert len({tuple(tokens(seed)) for seed in range(20)}) == 20
    assert tokens(1, choice=1) != tokens(1)
    assert tokens(1, produced=(0, 1, 2))[:27] == tokens(1)[3:]


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_seed_of_the_contract_is_a_seed(seed: int) -> None:
    assert 0 <= choice_seed(seed, 15) < 2**63


def test_logprobs_are_those_of_the_model() -> None:
    found = logprob_of(LOGITS, 2, 2)
    expected = torch.log_softmax(LOGITS, -1)
    assert (found.token_id, found.logprob) == (2, pytest.approx(expected[2].item()))
    assert [item.token_id for item in found.alternatives] == [0, 1]
    assert [item.logprob for item in found.alternatives] == pytest.approx([expected[i].item() for i in (0, 1)])
    assert logprob_of(LOGITS, 2, 0).alternatives == ()
    assert len(logprob_of(LOGITS, 2, 20).alternatives) == 5
