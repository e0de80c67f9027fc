"""What every input projector is: features of an encoder in, what the backbone reads out."""

# B media, N frames of a medium, T tokens of a frame, F feature width, D output width, L prompt tokens

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from services.input_projectors.stages import Stages

if TYPE_CHECKING:
    from typing import Self


class InputProjector(nn.Module, ABC):
    """Base of the input projectors.

    Attributes:
        feature_width: Width of the features that come in.
        output_width: Width of the embeddings that go out.
        reads_prompt: Whether `forward` makes use of the prompt.
        stages: Token shapers that run first.
    """

    reads_prompt: bool = False

    def __init__(self, feature_width: int, output_width: int, stages: Stages) -> None:
        super().__init__()
        self.feature_width = feature_width
        self.output_width = output_width
        self.stages = stages

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the projector of an artifact's config, with random weights."""

    def forward(self, features: Tensor, prompt_ids_BL: Tensor | None = None) -> Tensor:
        """Shapes and projects features.

        Shapes:
            features: BTF for media without time, or BNTF for those with.
            returns: (B, `tokens_for(T, N)`, D). Frames that no stage has joined are projected one by one, then follow
                each other.

        Raises:
            ValueError: The stages cannot shape so many tokens or frames.
        """
        shaped = self.stages(features)
        if shaped.ndim == 3:
            return self.project(shaped, prompt_ids_BL)
        n_media, n_frames = shaped.shape[:2]
        if prompt_ids_BL is not None:
            prompt_ids_BL = prompt_ids_BL.repeat_interleave(n_frames, dim=0)
        projected_BTD = self.project(shaped.flatten(0, 1), prompt_ids_BL)
        return projected_BTD.reshape(n_media, -1, self.output_width)

    @abstractmethod
    def project(self, features_BTF: Tensor, prompt_ids_BL: Tensor | None = None) -> Tensor:
        """Projects features that the stages have shaped into embeddings (BTD)."""

    def tokens_for(self, n_tokens: int, n_frames: int = 1) -> int:
        """How many embeddings one medium becomes: so many features in each of its frames.

        Raises:
            ValueError: The stages cannot shape so many.
        """
        return math.prod(self.stages.shape_for(n_tokens, n_frames))


def check_keys(config: Mapping[str, Any], required: set[str], optional: set[str]) -> None:
    """Refuses a config with missing or unknown keys.

    Raises:
        ValueError: It has some.
    """
    if missing := required - set(config):
        raise ValueError(f"input projector config: missing {sorted(missing)}")
    if unknown := set(config) - required - optional:
        raise ValueError(f"input projector config: unknown {sorted(unknown)}; expected {sorted(required | optional)}")
