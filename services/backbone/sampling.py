"""From logits to the next token. Pure functions; what is random comes from a generator of the one sequence.

Order: repetition penalty, presence and frequency penalties, temperature, top-k, top-p, draw. A draw takes one
number from the generator, so a sequence's tokens depend on nothing but its own logits and seed.
"""

# V vocabulary

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graph.messages import Sampling, TokenLogprob

if TYPE_CHECKING:
    import torch

_SEED_BITS = 63


@dataclass
class Sampler:
    """Samples one sequence.

    Attributes:
        sampling: How.
        generator: Its own source of randomness; None when greedy.
        prompt: Ids of its prompt, for the repetition penalty.
        counts: How often it produced each id.
    """

    sampling: Sampling
    generator: torch.Generator | None
    prompt: frozenset[int]
    counts: Counter[int] = field(default_factory=Counter)

    @property
    def is_plain(self) -> bool:
        """Whether the next token is simply the likeliest one, and nothing else is asked for."""
        return self.generator is None and not self.has_penalties and self.sampling.logprobs is None

    @property
    def has_penalties(self) -> bool:
        """Whether tokens seen before count."""
        s = self.sampling
        return s.repetition_penalty != 1.0 or s.presence_penalty != 0.0 or s.frequency_penalty != 0.0

    def choose(self, logits_V: torch.Tensor) -> int:
        """Choose the next token from float32 logits."""
        if self.has_penalties:
            logits_V = penalized(logits_V, self.sampling, self.prompt, self.counts)
        if self.generator is None:
            return int(logits_V.argmax())
        return draw(logits_V, self.sampling, self.generator)

    def skip(self, count: int) -> None:
        """Take as many numbers as ``count`` tokens take that are not chosen here."""
        import torch

        if self.generator is not None and count:
            torch.rand(count, generator=self.generator, dtype=torch.float64)


def make_sampler(
    sampling: Sampling, choice: int, prompt: Collection[int], produced: Collection[int], n_chosen: int | None = None
) -> Sampler:
    """Return the sampler of one of the n answers.

    Args:
        sampling: How it samples.
        choice: Which of the n answers.
        prompt: Ids of the prompt that count for penalties.
        produced: Ids produced elsewhere that count for penalties.
        n_chosen: How many tokens were chosen elsewhere, not forced; None: as many as ``produced`` has.
    """
    import torch

    generator = None
    if sampling.temperature > 0.0:
        generator = torch.Generator().manual_seed(choice_seed(sampling.seed, choice))
    sampler = Sampler(sampling, generator, frozenset(prompt), Counter(produced))
    sampler.skip(len(produced) if n_chosen is None else n_chosen)
    return sampler


def choice_seed(seed: int, choice: int) -> int:
    """Return the seed of one of the n answers; the first answer's does not depend on n."""
    digest = hashlib.sha256(f"{seed}:{choice}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)


def penalized(
    logits_V: torch.Tensor, sampling: Sampling, prompt: Collection[int], counts: Mapping[int, int]
) -> torch.Tensor:
    """Return logits with the penalties for tokens seen before."""
    import torch

    logits_V = logits_V.clone()
    if sampling.repetition_penalty != 1.0 and (seen := sorted({*prompt, *counts})):
        index = torch.tensor(seen)
        old = logits_V[index]
        logits_V[index] = torch.where(old > 0, old / sampling.repetition_penalty, old * sampling.repetition_penalty)
    if counts and (sampling.presence_penalty or sampling.frequency_penalty):
        index = torch.tensor(list(counts))
        times = torch.tensor(list(counts.values()), dtype=logits_V.dtype)
        logits_V[index] -= sampling.presence_penalty + sampling.frequency_penalty * times
    return logits_V


def without(logits_V: torch.Tensor, ids: Collection[int]) -> torch.Tensor:
    """Return logits by which some ids cannot be chosen."""
    import torch

    return logits_V.index_fill(0, torch.tensor(list(ids)), float("-inf"))


def draw(logits_V: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Draw a token: one number from the generator, laid over the cumulated probabilities in order of likeliness.

    In double precision, so that rounding does not move the borders between tokens.
    """
    import torch

    number = torch.rand((), generator=generator, dtype=torch.float64)
    probabilities_V = torch.softmax(logits_V.double() / sampling.temperature, dim=-1)
    ordered_V, ids_V = probabilities_V.sort(descending=True, stable=True)
    if sampling.top_k:
        ordered_V, ids_V = ordered_V[: sampling.top_k], ids_V[: sampling.top_k]
    cumulated_V = ordered_V.cumsum(-1)
    if sampling.top_p < 1.0:
        # The token that crosses the border still belongs to the nucleus.
        kept = int((cumulated_V < sampling.top_p * cumulated_V[-1]).sum()) + 1
        cumulated_V = cumulated_V[:kept]
    place = int(torch.searchsorted(cumulated_V, number * cumulated_V[-1], right=True))
    return int(ids_V[min(place, len(cumulated_V) - 1)])


def logprob_of(logits_V: torch.Tensor, token_id: int, alternatives: int) -> TokenLogprob:
    """Return the log-probability of a token with those of the likeliest ``alternatives``, before any penalty."""
    import torch

    logprobs_V = torch.log_softmax(logits_V.float(), dim=-1)
    values, ids = logprobs_V.topk(min(alternatives, len(logprobs_V)))
    others = tuple(TokenLogprob(int(i), float(value)) for value, i in zip(values, ids, strict=True))
    return TokenLogprob(token_id, float(logprobs_V[token_id]), others)
