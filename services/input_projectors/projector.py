"""What every input projector is: features of an encoder in, what the backbone reads out."""

# B items, T tokens, F feature width, D output width, L prompt tokens

from __future__ import annotations

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

    @abstractmethod
    def forward(self, features_BTF: Tensor, prompt_ids_BL: Tensor | None = None) -> Tensor:
        """Projects features (BTF) into embeddings (B, `tokens_for(T)`, D)."""

    def tokens_for(self, n_features: int) -> int:
        """How many embeddings come out for that many features.

        Raises:
            ValueError: The stages cannot shape so many.
        """
        return self.stages.tokens_for(n_features)


def check_keys(config: Mapping[str, Any], required: set[str], optional: set[str]) -> None:
    """Refuses a config with missing or unknown keys.

    Raises:
        ValueError: It has some.
    """
    if missing := required - set(config):
        raise ValueError(f"input projector config: missing {sorted(missing)}")
    if unknown := set(config) - required - optional:
        raise ValueError(f"input projector config: unknown {sorted(unknown)}; expected {sorted(required | optional)}")
