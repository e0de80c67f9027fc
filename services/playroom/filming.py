"""Drawing films: the paths are few and exact, so what each covers is drawn once; color and noise are a film's own."""

# N films, F frames, H height, W width, C channels, X channels of a row of pixels

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from services.playroom.drawing import SUPERSAMPLE, inside_shape
from services.playroom.films import (
    CENTER_PX,
    END_PX,
    FRAME_RATE_HZ,
    LARGEST_PX,
    N_FRAMES,
    SMALLEST_PX,
    START_PX,
    Film,
)
from services.playroom.noise import fill_with_noise
from services.playroom.words import BACKGROUND_LEVEL, COLOR_RGB, IMAGE_SIDE_PX, RADIUS_PX

Floats: TypeAlias = NDArray[np.float32]
Pixels: TypeAlias = NDArray[np.uint8]

_STEPS: dict[str, tuple[int, int]] = {
    "moving left": (-1, 0),
    "moving right": (1, 0),
    "moving up": (0, -1),
    "moving down": (0, 1),
}


def path_of(motion: str, size: str) -> list[tuple[float, float, float]]:
    """Center (x, y) and radius in px in each frame, linear from the first to the last, both ends included."""
    path = []
    for frame in range(N_FRAMES):
        at = frame / (N_FRAMES - 1)
        x = y = CENTER_PX
        radius = RADIUS_PX[size]
        if motion in _STEPS:
            step_x, step_y = _STEPS[motion]
            ahead = (END_PX - START_PX) * (at - 0.5)
            x, y = x + step_x * ahead, y + step_y * ahead
        elif motion == "growing":
            radius = SMALLEST_PX + (LARGEST_PX - SMALLEST_PX) * at
        elif motion == "shrinking":
            radius = LARGEST_PX - (LARGEST_PX - SMALLEST_PX) * at
        path.append((x, y, radius))
    return path


def cover_disc(shape: str, x_px: float, y_px: float, radius_px: float, side_px: int = IMAGE_SIDE_PX) -> Floats:
    """Covered part of each pixel of a frame with one object (HW)."""
    samples = ((np.arange(side_px * SUPERSAMPLE) + 0.5) / SUPERSAMPLE).astype(np.float32)
    x: Floats = ((samples - x_px) / radius_px).astype(np.float32)[None, :]
    y: Floats = ((samples - y_px) / radius_px).astype(np.float32)[:, None]
    inside = inside_shape(shape, x, y).reshape(side_px, SUPERSAMPLE, side_px, SUPERSAMPLE)
    covered: Floats = inside.mean((1, 3), dtype=np.float32)
    return covered


@lru_cache(maxsize=128)
def cover_path(shape: str, motion: str, size: str) -> Floats:
    """Covered part of each pixel of each frame of a film (FHW)."""
    covered = np.stack([cover_disc(shape, *place) for place in path_of(motion, size)])
    covered.setflags(write=False)
    return covered


@lru_cache(maxsize=128)
def _cover_channels(shape: str, motion: str, size: str) -> Floats:
    """The same for every channel of each pixel, side by side (F, H, 3 W)."""
    covered: Floats = cover_path(shape, motion, size).repeat(3, axis=-1)
    covered.setflags(write=False)
    return covered


def draw_films(films: Sequence[Film]) -> Pixels:
    """Draws films, noise included.

    Shapes:
        Result: NFHWC, 8 frames of 64×64 px, RGB.
    """
    side = IMAGE_SIDE_PX
    frames_NFHWC = np.empty((len(films), N_FRAMES, side, side, 3), np.uint8)
    # pixels and channels in one axis: numpy is slow along an axis of three
    noisy_FHX = np.empty((N_FRAMES, side, side * 3), np.float32)
    pixels_FHX = np.empty_like(noisy_FHX)
    for drawn_FHWC, film in zip(frames_NFHWC, films, strict=True):
        facts = film.facts
        level = np.float32(BACKGROUND_LEVEL[facts.background])
        contrast_C = np.add(COLOR_RGB[facts.color], film.color_offset, dtype=np.float32) - level
        np.multiply(_cover_channels(facts.shape, facts.motion, film.size), np.tile(contrast_C, side), out=pixels_FHX)
        pixels_FHX += level
        fill_with_noise(noisy_FHX, film.noise_seed)
        noisy_FHX *= np.float32(film.noise_sigma)
        pixels_FHX += noisy_FHX
        np.rint(pixels_FHX, out=pixels_FHX)
        np.clip(pixels_FHX, 0, 255, out=pixels_FHX)
        drawn_FHWC[...] = pixels_FHX.reshape(drawn_FHWC.shape)
    return frames_NFHWC


def encode_gif(frames_FHWC: Pixels) -> bytes:
    """Writes a film as an animated GIF that plays forever."""
    pictures = [Image.fromarray(frame) for frame in frames_FHWC]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=1000 // FRAME_RATE_HZ, loop=0)
    return buffer.getvalue()


def decode_gif(data: bytes) -> Pixels:
    """Reads the frames of an animated picture, one for every quarter second that it shows (FHWC)."""
    shown: list[Pixels] = []
    with Image.open(io.BytesIO(data)) as picture:
        for frame in ImageSequence.Iterator(picture):
            pixels = np.asarray(frame.convert("RGB"))
            # frames that do not change are written once, and last longer
            duration_ms = frame.info.get("duration") or 1000 // FRAME_RATE_HZ
            shown += [pixels] * max(1, round(duration_ms * FRAME_RATE_HZ / 1000))
    return np.stack(shown)
