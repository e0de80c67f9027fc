"""Linear, GELU, normalization, linear: one vector from the first signal token's state.

Source: Tang et al. 2023 (CoDi-2), arXiv 2311.18775, and its published code.
"""

# B blocks, S signal tokens, D backbone width, C width of the conditioning

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from services.output_projectors.projector import OutputProjector, Setup, check_keys

if TYPE_CHECKING:
    from typing import Self


class MlpProjector(OutputProjector):
    """Type `mlp`. Config beside the common keys: `hidden_width`; without it as wide as the conditioning."""

    def __init__(self, hidden_width: int, setup: Setup) -> None:
        super().__init__(setup)
        self.linear_1 = nn.Linear(setup.input_width, hidden_width)
        self.activation = nn.GELU()
        self.norm = nn.LayerNorm(hidden_width)
        self.linear_2 = nn.Linear(hidden_width, setup.output_width)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds it; its conditioning is an image embedding, its negative zeros, unless the config says otherwise.

        Raises:
            ValueError: A key is missing, unknown or wrong.
        """
        check_keys(config, set(), {"hidden_width"})
        setup = Setup.from_config(config, name="image_embeds", negative="zeros")
        return cls(config.get("hidden_width", setup.output_width), setup)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """One vector."""
        return (self.setup.output_width,)

    def project(self, states_BSD: Tensor) -> Tensor:
        """Regresses the vector."""
        projected_BC: Tensor = self.linear_2(self.norm(self.activation(self.linear_1(states_BSD[:, 0]))))
        return projected_BC
