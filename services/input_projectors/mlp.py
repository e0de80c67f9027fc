"""Two matrices with a nonlinearity between them.

Source: Liu et al. 2023 (LLaVA-1.5), arXiv 2310.03744, section 3.2.
"""

# B items, T tokens, F feature width

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from services.input_projectors.projector import InputProjector, check_keys
from services.input_projectors.stages import Stages

if TYPE_CHECKING:
    from typing import Self

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


class MlpProjector(InputProjector):
    """Stages, then linear, nonlinearity, linear: type `mlp`."""

    def __init__(
        self, feature_width: int, hidden_width: int, output_width: int, stages: Stages, activation: str, bias: bool
    ) -> None:
        super().__init__(feature_width, output_width, stages)
        self.linear_1 = nn.Linear(stages.output_width, hidden_width, bias=bias)
        self.activation = _ACTIVATIONS[activation]()
        self.linear_2 = nn.Linear(hidden_width, output_width, bias=bias)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds it from the widths, and if wanted `stages`, `activation` and `bias`.

        Raises:
            ValueError: A key is missing or unknown, or the activation is.
        """
        check_keys(config, {"feature_width", "hidden_width", "output_width"}, {"stages", "activation", "bias"})
        activation = config.get("activation", "gelu")
        if activation not in _ACTIVATIONS:
            raise ValueError(f"input projector activation: {activation!r}; expected one of {sorted(_ACTIVATIONS)}")
        return cls(
            config["feature_width"],
            config["hidden_width"],
            config["output_width"],
            Stages(config.get("stages", []), config["feature_width"]),
            activation,
            config.get("bias", True),
        )

    def project(self, features_BTF: Tensor, prompt_ids_BL: Tensor | None = None) -> Tensor:
        """Projects features; the prompt is not read."""
        projected: Tensor = self.linear_2(self.activation(self.linear_1(features_BTF)))
        return projected
