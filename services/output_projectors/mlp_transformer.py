"""Linear, GELU, linear, then an encoder-decoder transformer that a learned prompt decodes.

Names of tensors are those of the published code, so that its weights load as they are.

Source: Zheng et al. 2023 (MiniGPT-5), arXiv 2310.02239, section 3.2.
"""

# B blocks, S signal tokens, D backbone width, Q tokens of the prompt, C width of the conditioning

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from services.output_projectors.projector import OutputProjector, Setup, check_keys, encoder_decoder

if TYPE_CHECKING:
    from typing import Self


class MlpTransformerProjector(OutputProjector):
    """Type `mlp_transformer`: as wide as the conditioning throughout.

    Config beside the common keys: `n_queries`, `layers` (of the encoder, and of the decoder), `heads`, `ff_width`;
    `dropout` for training.
    """

    def __init__(self, config: Mapping[str, Any], setup: Setup) -> None:
        self._n_queries: int = config["n_queries"]
        super().__init__(setup)
        width = setup.output_width
        self.fc = nn.Sequential(nn.Linear(setup.input_width, width), nn.GELU(), nn.Linear(width, width))
        self.llm_to_t2i_mapping = encoder_decoder(width, config, norm_first=True)
        self.t2i_decoder_prompt = nn.Parameter(torch.randn(1, self._n_queries, width))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds it; its negative conditioning is what zeros become unless the config says otherwise.

        Raises:
            ValueError: A key is missing, unknown or wrong.
        """
        check_keys(config, {"n_queries", "layers", "heads", "ff_width"}, {"dropout"})
        return cls(config, Setup.from_config(config, name="prompt_embeds", negative="from_zeros"))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Tokens of the prompt, and their width."""
        return (self._n_queries, self.setup.output_width)

    def project(self, states_BSD: Tensor) -> Tensor:
        """Lets the prompt read the states."""
        prompt_BQC = self.t2i_decoder_prompt.expand(len(states_BSD), -1, -1)
        mapped_BQC: Tensor = self.llm_to_t2i_mapping(self.fc(states_BSD), prompt_BQC)
        return mapped_BQC
