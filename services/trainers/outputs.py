"""The ways out: output projectors of a system by modality, and how near they come to what generators are told.

The target of a block of signal tokens is what the generator's own encoder makes of the caption: captions alone
suffice, and no generator runs while this is learned.

Source: Wu et al. 2023 (NExT-GPT), arXiv 2309.05519, section 4.2.
"""

# M blocks of one modality, S signal tokens, D backbone width, Q vectors of conditioning, C their width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.output_projectors.models import build_projector
from services.output_projectors.projector import OutputProjector
from services.trainers.captions import CaptionEncoder
from services.trainers.conversations import TokenBatch


@dataclass(frozen=True)
class OutputParts:
    """An output projector to train, with its weights where they are there already, and the captions' encoder."""

    type: str
    config: dict[str, Any]
    tensors: dict[str, Tensor] | None
    captions: CaptionEncoder


class MediaOutputs:
    """Output projectors that train, and the frozen encoders of captions that say what they have to give."""

    def __init__(self, parts: Mapping[str, OutputParts], device: torch.device) -> None:
        self.device = device
        self.projectors = nn.ModuleDict()
        self.captions: dict[str, CaptionEncoder] = {}
        for modality, part in parts.items():
            projector = build_projector(part.type, part.config)
            if part.tensors is not None:
                projector.load_state_dict(part.tensors)
            self.captions[modality] = part.captions.to(device)
            if projector.negative is not None:  # the generator's own words for nothing
                projector.negative.requires_grad_(False).copy_(self.wanted(modality, [""])[0])
            self.projectors[modality] = projector.to(device)

    @torch.no_grad()
    def wanted(self, modality: str, captions: Sequence[str]) -> Tensor:
        """What the generator is told by captions (MQC, or MC where it reads one vector)."""
        encoded_MQC = self.captions[modality].encode(captions)
        return encoded_MQC[:, 0] if modality == "audio" else encoded_MQC

    def given(self, batch: TokenBatch, hidden_BLD: Tensor, embeddings_BLD: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """What projectors make of the blocks of a batch, and what they should, by modality."""
        hidden, embedded = hidden_BLD.flatten(0, 1), embeddings_BLD.flatten(0, 1)
        pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for modality, projector in self.projectors.items():
            if not isinstance(projector, OutputProjector):
                raise TypeError(f"{modality}: {type(projector).__name__} is no output projector")
            mine = [index for index, (made, _) in enumerate(batch.makes) if made == modality]
            if not mine:
                continue
            at_MS = batch.blocks[mine][:, None] + torch.arange(projector.setup.n_signals)
            at_MS = at_MS.to(self.device)
            states_MSD, inputs_MSD = hidden[at_MS - 1].float(), embedded[at_MS].float()
            given = projector(states_MSD, inputs_MSD if projector.setup.adds_input_embeddings else None)
            pairs[modality] = (given, self.wanted(modality, [batch.makes[index][1] for index in mine]))
        return pairs

    def distance(self, batch: TokenBatch, hidden_BLD: Tensor, embeddings_BLD: Tensor) -> Tensor:
        """Mean squared distance of conditioning, every modality as important as the others."""
        pairs = self.given(batch, hidden_BLD, embeddings_BLD)
        if not pairs:
            return hidden_BLD.new_zeros(())
        return torch.stack([F.mse_loss(given.float(), wanted) for given, wanted in pairs.values()]).mean()

    @torch.no_grad()
    def right(self, batch: TokenBatch, hidden_BLD: Tensor, embeddings_BLD: Tensor) -> dict[str, list[bool]]:
        """Which conditioning is so near to its own caption's that no token of it is mistaken for another."""
        found: dict[str, list[bool]] = {}
        for modality, (given, wanted) in self.given(batch, hidden_BLD, embeddings_BLD).items():
            # another word is about half away in mean square, where vectors have a variance of one
            off = (given.float() - wanted).square().mean(-1).reshape(len(given), -1).amax(1)
            found[f"conditioned_{modality}"] = (off < _NEAR).tolist()
        return found


_NEAR = 0.12
