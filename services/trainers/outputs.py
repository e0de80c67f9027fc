"""The ways out: output projectors of a system by modality, and how near they come to what generators are told.

The target of a block of signal tokens is what the generator's own encoder makes of the caption: captions alone
suffice, and no generator runs while this is learned.

Source: Wu et al. 2023 (NExT-GPT), arXiv 2309.05519, section 4.2.
"""

# M blocks of one modality, S signal tokens, D backbone width, Q vectors of conditioning, C their width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.output_projectors.models import build_projector
from services.output_projectors.projector import OutputProjector
from services.playroom.words import MAX_OBJECTS
from services.trainers.captions import SAID, CaptionEncoder, said_of_objects
from services.trainers.conversations import TokenBatch

NEAR: Final = 0.12
"""Mean squared distance below which no word is mistaken for another: those are about 0.5 apart, of a variance of 1."""


@dataclass(frozen=True)
class OutputParts:
    """An output projector to train, with its weights where they are there already, and the captions' encoder."""

    type: str
    config: dict[str, Any]
    tensors: dict[str, Tensor] | None
    captions: CaptionEncoder


class ObjectHeads(nn.Module):
    """Reads from the states of a picture's signal tokens what each object is, and from the last one the background.

    Only while training: a distance alone leaves it open which token is about what, and with several objects no token
    learned to be about any of them. These give every token its own object, and projectors find them there.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, len(group)) for group in SAID)

    def forward(self, states_MSD: Tensor, captions: Sequence[str]) -> Tensor:
        """Mean cross-entropy of what captions say; as many signal tokens as objects, and one more."""
        said_MS5 = said_of_objects(captions).to(states_MSD.device)
        losses = [
            F.cross_entropy(head(states_MSD).flatten(0, 1), said_MS5[..., index].flatten())
            for index, head in enumerate(self.heads)
        ]
        return torch.stack(losses).mean()


class MediaOutputs:
    """Output projectors that train, and the frozen encoders of captions that say what they have to give."""

    def __init__(self, parts: Mapping[str, OutputParts], device: torch.device) -> None:
        self.device = device
        self.projectors = nn.ModuleDict()
        self.objects: ObjectHeads | None = None
        self.captions: dict[str, CaptionEncoder] = {}
        for modality, part in parts.items():
            projector = build_projector(part.type, part.config)
            if part.tensors is not None:
                projector.load_state_dict(part.tensors)
            self.captions[modality] = part.captions.to(device)
            if projector.negative is not None:  # the generator's own words for nothing
                projector.negative.requires_grad_(False).copy_(self.wanted(modality, [""])[0])
            self.projectors[modality] = projector.to(device)
            if modality == "image" and projector.setup.n_signals == MAX_OBJECTS + 1:
                self.objects = ObjectHeads(projector.setup.input_width).to(device)

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

    def spoken_of(self, batch: TokenBatch, hidden_BLD: Tensor) -> Tensor:
        """How far signal tokens of pictures are from telling object by object what is wanted."""
        mine = [index for index, (made, _) in enumerate(batch.makes) if made == "image"]
        if self.objects is None or not mine:
            return hidden_BLD.new_zeros(())
        at_MS = (batch.blocks[mine][:, None] + torch.arange(MAX_OBJECTS + 1)).to(self.device)
        states_MSD = hidden_BLD.flatten(0, 1)[at_MS - 1].float()
        loss: Tensor = self.objects(states_MSD, [batch.makes[index][1] for index in mine])
        return loss

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
            off = (given.float() - wanted).square().mean(-1).reshape(len(given), -1).amax(1)
            found[f"conditioned_{modality}"] = (off < NEAR).tolist()
        return found
