"""What an encoder component asks of the media it serves: one reader for each type of encoder."""

# T tokens, F feature width

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from anyplex.v1 import component_pb2
from graph import messages as m

if TYPE_CHECKING:
    import torch
    from torch import nn

Model = TypeVar("Model", bound="nn.Module")


@dataclass(frozen=True)
class Reading:
    """One medium, decoded and cut into what the model reads at once.

    Attributes:
        pieces: Inputs of the model: pictures, frames or windows.
        content_hash: Of what was decoded, and of everything that shapes its features but the weights.
        modality: The medium's.
        times_s: Times of the frames.
    """

    pieces: Sequence[torch.Tensor]
    content_hash: str
    modality: str
    times_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """What the contract card says of a model.

    Attributes:
        output_width: Width of its features.
        tokens_per_item: Tokens of any medium; 0 where that depends on the medium.
        max_tokens_per_item: Most tokens of one.
        token_counts: Formula by modality, where it depends on the medium.
    """

    output_width: int
    tokens_per_item: int
    max_tokens_per_item: int
    token_counts: Mapping[str, component_pb2.TokenCount] = field(default_factory=dict)


class Reader(ABC, Generic[Model]):
    """Turns media into inputs of one type of model, and its outputs into features. Holds no state."""

    modalities: ClassVar[tuple[str, ...]]

    @abstractmethod
    def build(self, config: Mapping[str, Any]) -> Model:
        """Build the model of an artifact's config, with random weights.

        Raises:
            ValueError: The config makes no sense.
        """

    @abstractmethod
    def read(self, item: m.Media, frames: int, model: Model) -> Reading:
        """Decode one medium; blocking, runs on a thread.

        Args:
            item: The medium, inline.
            frames: Frames to take of a video; 0: the default.
            model: The model that will read it.

        Raises:
            InvalidRequest: It is damaged, too large or of no known format.
        """

    @abstractmethod
    def join(self, reading: Reading, outputs_TF: Sequence[torch.Tensor]) -> tuple[torch.Tensor, tuple[str, ...]]:
        """Put the features of a medium's pieces together; return them and the names of their dimensions."""

    @abstractmethod
    def blank(self, model: Model) -> torch.Tensor:
        """Return a piece of nothing much, to warm the model up."""

    @abstractmethod
    def sizes(self, model: Model) -> Sizes:
        """Return what the card says of the model."""
