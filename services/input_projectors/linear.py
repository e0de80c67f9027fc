"""One matrix from features to embeddings.

Source: Wu et al. 2023 (NExT-GPT), arXiv 2309.05519, section 3.
"""

# B items, T tokens, F feature width

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from services.input_projectors.projector import InputProjector, check_keys
from services.input_projectors.stages import Stages

if TYPE_CHECKING:
    from typing import Self


class LinearProjector(InputProjector):
    """Stages, then one linear layer: type `linear`."""

    def __init__(self, feature_width: int, output_width: int, stages: Stages, bias: bool) -> None:
        super().__init__(feature_width, output_width, stages)
        self.projection = nn.Linear(stages.output_width, output_width, bias=bias)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds it from `feature_width`, `output_width`, and if wanted `stages` and `bias`."""
        check_keys(config, {"feature_width", "output_width"}, {"stages", "bias"})
        stages = Stages(config.get("stages", []), config["feature_width"])
        return cls(config["feature_width"], config["output_width"], stages, config.get("bias", True))

    def project(self, features_BTF: Tensor, prompt_ids_BL: Tensor | None = None) -> Tensor:
        """Projects features; the prompt is not read."""
        projected: Tensor = self.projection(features_BTF)
        return projected
