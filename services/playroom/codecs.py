"""Sounds and films through compressed formats, by FFmpeg's libraries: what judges are tried on, and what they read."""

# T samples, F frames, H height, W width, C channels

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.playroom.filming import Pixels, decode_gif
from services.playroom.films import FRAME_RATE_HZ
from services.playroom.sounds import SAMPLE_RATE_HZ

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Coding:
    """One way to write a medium.

    Attributes:
        container: Name of the file format as FFmpeg has it.
        codec: Name of the encoder as FFmpeg has it.
        options: Of the encoder.
        bit_rate: Bits a second; 0 leaves it to the encoder.
    """

    container: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    bit_rate: int = 0


SOUND_CODINGS: Final[dict[str, Coding]] = {
    "mp3": Coding("mp3", "libmp3lame", bit_rate=64_000),
    "opus": Coding("ogg", "libopus", bit_rate=48_000),
    "flac": Coding("flac", "flac"),
}
FILM_CODINGS: Final[dict[str, Coding]] = {
    "mp4": Coding("mp4", "libx264", {"crf": "23"}),
    "webm": Coding("webm", "libvpx-vp9", {"crf": "15", "b": "0", "cpu-used": "5", "deadline": "realtime"}),
}


def encode_sound(samples_T: Floats, coding: Coding) -> bytes:
    """Writes mono samples of 16 kHz."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=coding.container) as container:
        stream = container.add_stream(coding.codec, rate=SAMPLE_RATE_HZ, options=dict(coding.options))
        if not isinstance(stream, av.AudioStream):
            raise ValueError(f"encode_sound: {coding.codec} writes no sound")
        stream.layout = "mono"
        if coding.bit_rate:
            stream.bit_rate = coding.bit_rate
        levels = np.rint(np.clip(samples_T, -1.0, 1.0) * 32767.0).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(levels[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_sound(data: bytes) -> tuple[Floats, int]:
    """Reads a sound of any format: its samples, channels averaged, and its rate in Hz.

    Raises:
        ValueError: Nothing sounds in it.
    """
    import av

    pieces: list[Floats] = []
    rate_hz = 0
    with av.open(io.BytesIO(data), "r") as container:
        if not container.streams.audio:
            raise ValueError(f"decode_sound: no sound in {len(data)} bytes of {container.format.name}")
        resampler = av.AudioResampler(format="fltp")
        for frame in container.decode(audio=0):
            for piece in resampler.resample(frame):
                pieces.append(piece.to_ndarray().mean(0, dtype=np.float32))
                rate_hz = piece.sample_rate
    if not pieces:
        raise ValueError(f"decode_sound: no samples in {len(data)} bytes")
    return np.concatenate(pieces), rate_hz


def encode_film(frames_FHWC: Pixels, coding: Coding) -> bytes:
    """Writes frames at four a second, chroma half as fine as luma."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=coding.container) as container:
        stream = container.add_stream(coding.codec, rate=FRAME_RATE_HZ, options=dict(coding.options))
        if not isinstance(stream, av.VideoStream):
            raise ValueError(f"encode_film: {coding.codec} writes no film")
        stream.height, stream.width = frames_FHWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels_HWC in frames_FHWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_film(data: bytes) -> Pixels:
    """Reads the frames of a film of any format (FHWC).

    Raises:
        ValueError: Nothing is seen in it.
    """
    if data[:4] == b"GIF8":
        return decode_gif(data)
    import av

    with av.open(io.BytesIO(data), "r") as container:
        if not container.streams.video:
            raise ValueError(f"decode_film: no film in {len(data)} bytes of {container.format.name}")
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if not frames:
        raise ValueError(f"decode_film: no frames in {len(data)} bytes")
    return np.stack(frames)
