"""Pictures and videos for ``clip_vision``: one piece a picture, one a frame."""

# T tokens, F feature width, H W pixels

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from anyplex.v1 import component_pb2
from graph import messages as m
from graph.errors import InvalidRequest
from services.encoders.films import decode_film
from services.encoders.images import MAX_PIXELS, decode_image, pixel_hash
from services.encoders.reader import Reader, Reading, Sizes
from services.encoders.service import MAX_VIDEO_FRAMES, EncoderComponent
from services.runtime.component import ComponentContext

if TYPE_CHECKING:
    import torch

    from services.encoders.clip_vision import ClipVision

DEFAULT_FRAMES = 8
# Padding to a square or scaling the short edge can blow up a long thin picture; this bounds what it becomes.
MAX_SCALED_PIXELS = 4 * MAX_PIXELS


def component(context: ComponentContext) -> EncoderComponent[ClipVision]:
    """Build the component of a vision encoder."""
    return EncoderComponent(context, PictureReader())


class PictureReader(Reader["ClipVision"]):
    """Reads pictures, and videos as frames."""

    modalities = ("image", "video")

    def build(self, config: Mapping[str, Any]) -> ClipVision:
        """Build the vision tower."""
        from services.encoders.clip_vision import ClipVision

        return ClipVision.from_config(config)

    def read(self, item: m.Media, frames: int, model: ClipVision) -> Reading:
        """Decode a picture, or frames of a film: as many as wanted, whatever the film has."""
        data = item.data or b""
        times_s: tuple[float, ...] = ()
        if item.modality == "video":
            pictures, times_s = decode_film(data, frames or DEFAULT_FRAMES)
        else:
            pictures = [decode_image(data)]
        settings = preprocessing_of(model)
        for picture in pictures:
            check_scaled(picture.width, picture.height, settings)
        pixels_B3HW = model.preprocess(pictures)
        hashes = [pixel_hash(picture, json.dumps(settings, sort_keys=True)) for picture in pictures]
        content_hash = hashes[0] if item.modality != "video" else pixel_hash_of_all(hashes)
        return Reading(list(pixels_B3HW), content_hash, item.modality, times_s)

    def join(self, reading: Reading, outputs_TF: Sequence[torch.Tensor]) -> tuple[torch.Tensor, tuple[str, ...]]:
        """Stack the frames of a video; a picture is what it is."""
        import torch

        if reading.modality == "video":
            return torch.stack(list(outputs_TF)), ("frames", "tokens", "width")
        return outputs_TF[0], ("tokens", "width")

    def blank(self, model: ClipVision) -> torch.Tensor:
        """Return a gray picture."""
        return model.preprocess([Image.new("RGB", (32, 32), (128, 128, 128))])[0]

    def sizes(self, model: ClipVision) -> Sizes:
        """Return the raster's: so many tokens a picture or frame."""
        tokens = model.tokens_per_image
        video = component_pb2.TokenCount(tokens_per_unit=tokens, unit="frame", max_units=MAX_VIDEO_FRAMES)
        return Sizes(model.feature_width, tokens, tokens, {"video": video})


def pixel_hash_of_all(hashes: Sequence[str]) -> str:
    """Return the content hash of a video: that of its frames' hashes."""
    return hashlib.sha256(":".join(hashes).encode()).hexdigest()


def preprocessing_of(model: ClipVision) -> dict[str, Any]:
    """Return everything but the weights that shapes the features of a picture, as plain data."""
    settings = model.preprocess_settings
    resize = settings.resize if isinstance(settings.resize, int) else dict(settings.resize)
    return {
        "resize": resize, "crop": settings.crop, "mean": settings.mean, "std": settings.std,
        "pad_to_square": settings.pad_to_square, "resample": settings.resample,
        "output_layer": model.output_layer, "drop_cls": model.drop_cls,
    }  # fmt: skip


def check_scaled(width: int, height: int, settings: dict[str, Any]) -> None:
    """Refuse pictures so long and thin that preprocessing would blow them up.

    Raises:
        InvalidRequest: It would.
    """
    long, short = max(width, height), min(width, height)
    scaled = long * long if settings["pad_to_square"] else 0
    if isinstance(settings["resize"], dict) and not settings["pad_to_square"]:
        edge = settings["resize"]["shortest_edge"]
        scaled = edge * edge * long // short
    if scaled > MAX_SCALED_PIXELS:
        raise InvalidRequest(
            f"{width}×{height} pixels would become {scaled} before the crop, at most {MAX_SCALED_PIXELS} allowed"
        )
