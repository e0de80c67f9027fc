"""CLIP's vision tower: pictures in, one feature per patch out. Torch only; `service` is its gRPC face.

Source: Radford et al. 2021, arXiv 2103.00020, section 2.4, as implemented by transformers.
"""

# B pictures, H W pixels, T tokens, F feature width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing import Self

_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
_PREPROCESS_KEYS = {"resize", "crop", "pad_to_square", "mean", "std", "resample"}


@dataclass(frozen=True)
class Preprocess:
    """How pictures become pixels of the size the encoder wants.

    `resize` is a side (both sides become it) or {"shortest_edge": side} (the aspect ratio stays); `crop` cuts
    a centered square afterwards. Pixels are divided by 255, then normalized by `mean` and `std`.
    """

    resize: int | Mapping[str, int]
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad_to_square: bool = False
    resample: str = "bicubic"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Reads the `preprocess` section of an artifact.

        Raises:
            ValueError: A key is unknown, or the filter is.
        """
        if unknown := set(config) - _PREPROCESS_KEYS:
            raise ValueError(f"preprocess: unknown keys {sorted(unknown)}; expected {sorted(_PREPROCESS_KEYS)}")
        values = {**config, "mean": tuple(config["mean"]), "std": tuple(config["std"])}
        if values.get("resample", "bicubic") not in _RESAMPLING:
            raise ValueError(f"preprocess.resample: {values['resample']!r}; expected one of {list(_RESAMPLING)}")
        return cls(**values)

    def resized(self, picture: Image.Image) -> Image.Image:
        """Pads, scales and crops one picture to `crop`×`crop`."""
        picture = picture.convert("RGB")
        if self.pad_to_square and picture.width != picture.height:
            side = max(picture.size)
            fill = tuple(int(255 * channel) for channel in self.mean)
            square = Image.new("RGB", (side, side), fill)
            square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
            picture = square
        size = self._size_of(picture)
        if picture.size != size:
            picture = picture.resize(size, _RESAMPLING[self.resample])
        left, top = (picture.width - self.crop) // 2, (picture.height - self.crop) // 2
        return picture.crop((left, top, left + self.crop, top + self.crop))

    def _size_of(self, picture: Image.Image) -> tuple[int, int]:
        if isinstance(self.resize, int):
            return (self.resize, self.resize)
        short = self.resize["shortest_edge"]
        width, height = picture.size
        if width <= height:
            return (short, int(short * height / width))
        return (int(short * width / height), short)

    def normalized(self, pixels_BHW3: NDArray[np.uint8]) -> Tensor:
        """Turns bytes of the right size into normalized B3HW floats."""
        scaled = torch.from_numpy(pixels_BHW3).to(torch.float32).mul_(1 / 255)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return ((scaled - mean) / std).permute(0, 3, 1, 2).contiguous()


class ClipVision(nn.Module):
    """The vision tower with its preprocessing: what an `encoder` artifact of type `clip_vision` holds."""

    def __init__(self, clip: Mapping[str, Any], preprocess: Preprocess, output_layer: int, drop_cls: bool) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        super().__init__()
        config = CLIPVisionConfig(**clip)
        self.preprocess_settings = preprocess
        self.output_layer = output_layer
        self.drop_cls = drop_cls
        self.feature_width: int = config.hidden_size
        side, patch = cast(int, config.image_size), cast(int, config.patch_size)
        self.tokens_per_image: int = (side // patch) ** 2 + (not drop_cls)
        self.vision_model = CLIPVisionModel(config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the tower of an artifact's config, with random weights."""
        return cls(
            config["clip"],
            Preprocess.from_config(config["preprocess"]),
            output_layer=config["output_layer"],
            drop_cls=config["drop_cls"],
        )

    def preprocess(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Turns pictures of any size into pixels (B3HW, float32)."""
        arrays = [np.asarray(self.preprocess_settings.resized(picture)) for picture in pictures]
        return self.preprocess_settings.normalized(np.stack(arrays))

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Encodes pixels into features (BTF), the class token dropped where the config says so."""
        if self.output_layer == -1:
            hidden = self.vision_model(pixels_B3HW).last_hidden_state
        else:
            hidden = self.vision_model(pixels_B3HW, output_hidden_states=True).hidden_states[self.output_layer]
        features_BTF: Tensor = hidden[:, 1:] if self.drop_cls else hidden
        return features_BTF
