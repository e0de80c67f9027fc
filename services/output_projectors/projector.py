"""What every output projector is: states of a signal block in, the generator's conditioning and its negative out.

Source: Zhang et al. 2024, arXiv 2401.13601, section 2.4.
"""

# B blocks, S signal tokens, D backbone width, Q vectors of conditioning, C their width

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing import Self

NEGATIVES = ("zeros", "learned", "from_zeros")
COMMON_KEYS = {"input_width", "output_width", "signals"}
COMMON_OPTIONS = {"name", "negative", "normalize", "adds_input_embeddings"}


@dataclass(frozen=True)
class Setup:
    """What the config of every output projector says.

    Attributes:
        input_width: Width of the states.
        output_width: Width of the vectors of the conditioning.
        modality: Whose signal blocks it reads.
        n_signals: How many tokens such a block has.
        name: What the generator calls the conditioning: `prompt_embeds`, `image_embeds`.
        negative: What the negative side of guidance is: `zeros`; `learned`, a tensor of its own; or `from_zeros`, what
            a block of zeros becomes.
        normalize: Whether vectors are brought to length 1 (AudioLDM's are).
        adds_input_embeddings: Whether the signal tokens' input embeddings are added to the states (NExT-GPT).
    """

    input_width: int
    output_width: int
    modality: str
    n_signals: int
    name: str = "prompt_embeds"
    negative: str = "zeros"
    normalize: bool = False
    adds_input_embeddings: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, name: str, negative: str) -> Setup:
        """Reads the common part of a config; `name` and `negative` are those of a config that says nothing.

        Raises:
            ValueError: It makes no sense.
        """
        signals = config["signals"]
        if not isinstance(signals, Mapping) or len(signals) != 1:
            raise ValueError(f"output projector signals: {signals!r}; one modality with its number of tokens expected")
        ((modality, n_signals),) = signals.items()
        setup = cls(
            config["input_width"],
            config["output_width"],
            modality,
            n_signals,
            config.get("name", name),
            config.get("negative", negative),
            config.get("normalize", False),
            config.get("adds_input_embeddings", False),
        )
        for key in ("input_width", "output_width", "n_signals"):
            if not isinstance(getattr(setup, key), int) or getattr(setup, key) < 1:
                raise ValueError(f"output projector {key}: {getattr(setup, key)!r}; a whole number from 1 expected")
        if setup.negative not in NEGATIVES:
            raise ValueError(f"output projector negative: {setup.negative!r}; expected one of {list(NEGATIVES)}")
        return setup


class OutputProjector(nn.Module, ABC):
    """Base of the output projectors.

    Attributes:
        setup: What its config says.
        negative: The negative conditioning, where it is learned: trainers fit it to the generator's own.
    """

    negative: nn.Parameter | None

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup
        shape = self.output_shape
        learned = nn.Parameter(torch.zeros(shape)) if setup.negative == "learned" else None
        self.register_parameter("negative", learned)

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the projector of an artifact's config, with random weights."""

    @property
    @abstractmethod
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one conditioning: QC, or C for those that are one vector."""

    def forward(self, states_BSD: Tensor, embeddings_BSD: Tensor | None = None) -> Tensor:
        """Makes conditioning (BQC, or BC) of the blocks' hidden states, and of their input embeddings where added.

        Raises:
            ValueError: The projector adds input embeddings, and there are none.
        """
        if self.setup.adds_input_embeddings:
            if embeddings_BSD is None:
                raise ValueError("input embeddings expected: this projector adds them to the states")
            states_BSD = states_BSD + embeddings_BSD
        return self._scaled(self.project(states_BSD))

    def negative_conditioning(self) -> Tensor:
        """The negative side of guidance, of the shape of one conditioning (QC, or C)."""
        parameter = next(self.parameters())
        if self.negative is not None:
            return self._scaled(self.negative)
        if self.setup.negative == "zeros":
            return parameter.new_zeros(self.output_shape)
        zeros_BSD = parameter.new_zeros(1, self.setup.n_signals, self.setup.input_width)
        return self._scaled(self.project(zeros_BSD))[0]

    @abstractmethod
    def project(self, states_BSD: Tensor) -> Tensor:
        """Turns states into conditioning, before it is scaled."""

    def _scaled(self, conditioning: Tensor) -> Tensor:
        return F.normalize(conditioning, dim=-1) if self.setup.normalize else conditioning


def encoder_decoder(width: int, config: Mapping[str, Any], *, norm_first: bool) -> nn.Transformer:
    """Builds the encoder-decoder transformer of a config: `layers` of each, `heads`, `ff_width`, `dropout`."""
    dropout = config.get("dropout", 0.0)
    layer = nn.TransformerEncoderLayer(
        width, config["heads"], config["ff_width"], dropout, batch_first=True, norm_first=norm_first
    )
    # Built here for one reason: torch's own would warn that its shortcut for padded batches does not apply.
    encoder = nn.TransformerEncoder(layer, config["layers"], nn.LayerNorm(width), enable_nested_tensor=False)
    return nn.Transformer(
        d_model=width,
        nhead=config["heads"],
        num_decoder_layers=config["layers"],
        dim_feedforward=config["ff_width"],
        dropout=dropout,
        custom_encoder=encoder,
        batch_first=True,
        norm_first=norm_first,
    )


def check_keys(config: Mapping[str, Any], required: set[str], optional: set[str]) -> None:
    """Refuses a config with missing or unknown keys, those of every output projector beside its own.

    Raises:
        ValueError: It has some.
    """
    required, optional = required | COMMON_KEYS, optional | COMMON_OPTIONS
    if missing := required - set(config):
        raise ValueError(f"output projector config: missing {sorted(missing)}")
    if unknown := set(config) - required - optional:
        raise ValueError(f"output projector config: unknown {sorted(unknown)}; expected {sorted(required | optional)}")
