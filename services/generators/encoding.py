"""Pixels and samples to files: PNG, MP4, GIF, WAV."""

# F frames, H height, W width, C channels, T samples

from __future__ import annotations

import functools
import io
import wave
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from graph.errors import FailedPrecondition

# The first of each is what comes when nothing is asked for.
FORMATS: dict[str, tuple[str, ...]] = {
    "image": ("image/png",),
    "video": ("video/mp4", "image/gif"),
    "audio": ("audio/wav",),
}
# H.264 is what browsers play; MPEG-4 part 2 is what every build of FFmpeg can write.
FILM_CODECS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "17", "preset": "fast"},
    "libopenh264": {},
    "mpeg4": {"qscale": "3"},
}
FULL_SCALE = 32_767


@dataclass(frozen=True)
class Medium:
    """One medium as it comes out of a model.

    Attributes:
        values: Pixels 0 to 1, HWC or FHWC; or samples −1 to 1, T.
        rate: Frames a second, or samples a second; 0 for a picture.
    """

    values: NDArray[np.float32]
    rate: float = 0.0


def encode(medium: Medium, mime_type: str) -> bytes:
    """Write a medium as a file of a type of ``FORMATS``."""
    match mime_type:
        case "image/png":
            return encode_png(levels(medium.values))
        case "video/mp4":
            return encode_mp4(levels(medium.values), medium.rate)
        case "image/gif":
            return encode_gif(levels(medium.values), medium.rate)
        case _:
            return encode_wav(medium.values, round(medium.rate))


def levels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return bytes for fractions of 0 to 1, rounded as diffusers does."""
    return (np.clip(values, 0.0, 1.0) * 255).round().astype(np.uint8)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Write a picture, HWC or HW."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def encode_gif(frames_FHWC: NDArray[np.uint8], rate_hz: float) -> bytes:
    """Write frames that repeat for ever, each with a palette of its own."""
    from PIL import Image

    images = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in frames_FHWC]
    buffer = io.BytesIO()
    # Equal frames stay as they are: whoever counts frames finds all of them.
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], loop=0, disposal=1, optimize=False,
        duration=max(20, round(1000 / rate_hz)),
    )  # fmt: skip
    return buffer.getvalue()


@functools.cache
def film_codec() -> str:
    """Return the best of ``FILM_CODECS`` that this build of FFmpeg has.

    Raises:
        FailedPrecondition: It has none.
    """
    import av

    for name in FILM_CODECS:
        if name in av.codecs_available:
            return name
    raise FailedPrecondition(f"FFmpeg of this installation writes none of {list(FILM_CODECS)}")


def encode_mp4(frames_FHWC: NDArray[np.uint8], rate_hz: float) -> bytes:
    """Write a film as browsers play it."""
    import av

    codec = film_codec()
    height, width = frames_FHWC.shape[1:3]
    # Chroma is half as fine, so sides are even.
    frames_FHWC = np.pad(frames_FHWC, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        rate = Fraction(rate_hz).limit_denominator(1000)
        stream = container.add_stream(codec, rate=rate, options=dict(FILM_CODECS[codec]))
        if not isinstance(stream, av.VideoStream):
            raise FailedPrecondition(f"FFmpeg's {codec} writes no film")
        stream.height, stream.width = frames_FHWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for pixels_HWC in frames_FHWC:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HWC), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def encode_wav(samples_T: NDArray[np.float32], rate_hz: int) -> bytes:
    """Write mono samples of 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.rint(np.clip(samples_T, -1.0, 1.0) * FULL_SCALE).astype("<i2").tobytes())
    return buffer.getvalue()
