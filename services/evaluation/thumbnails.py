"""Media as small pictures: a picture scaled, a sound's spectrogram, a film's frames side by side."""

# T samples, W windows, F frequencies, H height

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from anyplex import Medium

SIDE_PX = 128
_FRAME_PX = 64
_FRAMES_A_ROW = 4
_MAX_FRAMES = 8
_RATE_HZ = 16_000
_WINDOW = 512
_RANGE_DB = 70.0
# from silent to loud: black, violet, orange, nearly white
_COLORS = np.array([[0, 0, 0], [80, 20, 110], [190, 55, 85], [250, 150, 30], [252, 255, 190]], np.float64)


def thumbnail(medium: Medium) -> Image.Image:
    """Return a picture of a medium, 128 px high."""
    match medium.modality:
        case "audio":
            return spectrogram(medium.read())
        case "video":
            return film_strip(medium.read())
        case _:
            picture = Image.open(io.BytesIO(medium.read())).convert("RGB")
            return picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST)


def spectrogram(data: bytes) -> Image.Image:
    """Return time to the right, frequency upwards to 8 kHz, its square root so that low ones get room."""
    from services.playroom.codecs import decode_sound
    from services.playroom.listening import to_rate

    samples_T = to_rate(*decode_sound(data), _RATE_HZ)
    samples_T = np.pad(samples_T, (0, max(0, _WINDOW - len(samples_T))))
    windows = np.lib.stride_tricks.sliding_window_view(samples_T, _WINDOW)[:: _WINDOW // 4]
    power_WF = np.square(np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), 4 * _WINDOW, axis=1)))
    level_WF = 10 * np.log10(np.maximum(power_WF, 1e-12))
    shade_WF = np.clip((level_WF - level_WF.max()) / _RANGE_DB + 1, 0, 1)
    rows_H = (np.linspace(1, 0, SIDE_PX) ** 2 * (shade_WF.shape[1] - 1)).astype(int)
    columns = np.linspace(0, len(shade_WF) - 1, SIDE_PX).astype(int)
    shade = shade_WF[columns][:, rows_H].T
    steps = np.linspace(0, 1, len(_COLORS))
    pixels = np.stack([np.interp(shade, steps, _COLORS[:, channel]) for channel in range(3)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def film_strip(data: bytes) -> Image.Image:
    """Return up to eight frames, evenly spaced, four in a row."""
    from services.playroom.codecs import decode_film

    frames = decode_film(data)
    chosen = np.rint(np.linspace(0, len(frames) - 1, min(len(frames), _MAX_FRAMES))).astype(int)
    strip = Image.new("RGB", (_FRAME_PX * _FRAMES_A_ROW, SIDE_PX), "white")
    for place, index in enumerate(chosen):
        row, column = divmod(place, _FRAMES_A_ROW)
        frame = Image.fromarray(frames[index]).resize((_FRAME_PX - 2, _FRAME_PX - 2))
        strip.paste(frame, (column * _FRAME_PX + 1, row * _FRAME_PX + 1))
    return strip
