"""Alignment of output projectors alone: what the frozen rest says is kept, and projectors read it many times over.

What the language model says of a medium does not change while it is frozen, so it runs once for each request, and a
step costs a projector only.

Source: Wu et al. 2023 (NExT-GPT), arXiv 2309.05519, section 4.2.
"""

# N requests kept, B requests of a step, S signal tokens, D backbone width, Q vectors of conditioning, C their width

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.output_projectors.projector import OutputProjector
from services.trainers.captions import word_ids
from services.trainers.grounding import GroundingStage
from services.trainers.outputs import NEAR
from services.trainers.recipe import Recipe

KEPT_OUT = 512
"""Most of the requests that are kept to score, and never taught; at most a tenth of all."""


@dataclass(frozen=True)
class Said:
    """What signal tokens of one modality carry, and the captions that they stand for.

    Shapes:
        states: NSD, of the positions before the signal tokens.
        inputs: NSD, the tokens' own embeddings.
        words: NQW, ids of the captions' words.
    """

    states: Tensor
    inputs: Tensor
    words: Tensor


class OutputAlignmentStage:
    """Trains the output projector of one modality, the only one that `model.output_projectors` names.

    Args:
        recipe: `blocks` of its options is how many requests are kept.
        grounding: The rest of the system, which stays as it is.

    Raises:
        ValueError: The recipe names no output projector, or several.
    """

    def __init__(self, recipe: Recipe, grounding: GroundingStage) -> None:
        if grounding.outputs is None or len(grounding.outputs.projectors) != 1:
            raise ValueError(f"{recipe.name}: model.output_projectors: one of them is expected")
        self.recipe = recipe
        self.parts = grounding.parts
        self.outputs = grounding.outputs
        ((self.modality, projector),) = self.outputs.projectors.items()
        if not isinstance(projector, OutputProjector):
            raise TypeError(f"{self.modality}: {type(projector).__name__} is no output projector")
        self.projector = projector
        self.trained = nn.ModuleDict({"projector": projector})
        self.said = self._listen(grounding, int(recipe.options["blocks"]))
        self.n_scored = min(KEPT_OUT, len(self.said.states) // 10)

    @torch.no_grad()
    def _listen(self, grounding: GroundingStage, n_blocks: int) -> Said:
        """Has the rest of the system answer requests until it has asked for so many media."""
        make, n_signals = grounding.batch_maker(), self.projector.setup.n_signals
        states: list[Tensor] = []
        inputs: list[Tensor] = []
        captions: list[str] = []
        step = 0
        while len(captions) < n_blocks:
            batch = make(step)
            step += 1
            with torch.autocast(grounding.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                run = grounding.run(batch)
            mine = [index for index, (made, _) in enumerate(batch.tokens.makes) if made == self.modality]
            if not mine:
                continue
            at_MS = (batch.tokens.blocks[mine][:, None] + torch.arange(n_signals)).to(grounding.device)
            states.append(run.hidden.flatten(0, 1)[at_MS - 1].bfloat16())
            inputs.append(run.embeddings.flatten(0, 1)[at_MS].bfloat16())
            captions += [batch.tokens.makes[index][1] for index in mine]
            if step % 100 == 0:
                logging.getLogger(__name__).info("%s: %d of %d requests", self.recipe.name, len(captions), n_blocks)
        return Said(torch.cat(states), torch.cat(inputs), word_ids(self.modality, captions))

    def batch_maker(self) -> Callable[[int], Tensor]:
        """Returns which of the kept requests a step reads."""
        n_taught, size, seed = len(self.said.states) - self.n_scored, self.recipe.batch, self.recipe.seed

        def make(step: int) -> Tensor:
            return torch.from_numpy(np.random.default_rng((seed, step)).integers(n_taught, size=size))

        return make

    def _off(self, at_B: Tensor) -> Tensor:
        """Squared distances from what the generator is told by captions (BQC)."""
        takes_inputs = self.projector.setup.adds_input_embeddings
        given = self.projector(self.said.states[at_B].float(), self.said.inputs[at_B].float() if takes_inputs else None)
        wanted_BQC = self.outputs.captions[self.modality](self.said.words[at_B].to(given.device))
        wanted = wanted_BQC[:, 0] if given.dim() < wanted_BQC.dim() else wanted_BQC
        return F.mse_loss(given.float(), wanted, reduction="none")

    def loss(self, at_B: Tensor) -> Tensor:
        """Mean squared distance of conditioning."""
        return self._off(at_B).mean()

    @torch.no_grad()
    def score(self, final: bool) -> dict[str, float]:
        """Share of kept-out requests of which no token of the conditioning is mistaken for another."""
        del final
        n_all = len(self.said.states)
        off = self._off(torch.arange(n_all - self.n_scored, n_all)).mean(-1).reshape(self.n_scored, -1).amax(1)
        return {f"conditioned_{self.modality}": float((off < NEAR).float().mean())}
