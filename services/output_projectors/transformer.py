"""Linear, an encoder-decoder transformer with learned queries, linear.

Names of tensors are those of the published code, so that its weights load as they are.

Source: Wu et al. 2023 (NExT-GPT), arXiv 2309.05519, section 3, after Koh et al. 2023 (GILL), arXiv 2305.17216.
"""

# B blocks, S signal tokens, D backbone width, Q queries, H hidden width, C width of the conditioning

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from services.output_projectors.projector import OutputProjector, Setup, check_keys, encoder_decoder

if TYPE_CHECKING:
    from typing import Self


class TransformerProjector(OutputProjector):
    """Type `transformer`.

    Config beside the common keys: `hidden_width`, `n_queries`, `layers` (of the encoder, and of the decoder), `heads`,
    `ff_width`; `norm_first` (the published code has both), `dropout` for training, `vector` for a generator that reads
    one vector: its conditioning has no axis of queries.
    """

    def __init__(self, config: Mapping[str, Any], setup: Setup) -> None:
        self._n_queries: int = config["n_queries"]
        self._vector: bool = config.get("vector", False)
        if self._vector and self._n_queries != 1:
            raise ValueError(f"output projector n_queries: {self._n_queries}; 1 expected for a vector")
        super().__init__(setup)
        width: int = config["hidden_width"]
        self.in_fc = nn.Linear(setup.input_width, width)
        self.tfm = encoder_decoder(width, config, norm_first=config.get("norm_first", True))
        self.query_embs = nn.Parameter(torch.zeros(1, self._n_queries, width).normal_(std=0.02))
        self.out_fc = nn.Linear(width, setup.output_width)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds it; its negative conditioning is learned unless the config says otherwise.

        Raises:
            ValueError: A key is missing, unknown or wrong.
        """
        check_keys(
            config,
            {"hidden_width", "n_queries", "layers", "heads", "ff_width"},
            {"norm_first", "dropout", "vector"},
        )
        return cls(config, Setup.from_config(config, name="prompt_embeds", negative="learned"))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Queries and their width, or the width alone."""
        return (self.setup.output_width,) if self._vector else (self._n_queries, self.setup.output_width)

    def project(self, states_BSD: Tensor) -> Tensor:
        """Lets the queries read the states."""
        queries_BQH = self.query_embs.expand(len(states_BSD), -1, -1)
        read_BQC: Tensor = self.out_fc(self.tfm(self.in_fc(states_BSD), queries_BQH))
        return read_BQC[:, 0] if self._vector else read_BQC
