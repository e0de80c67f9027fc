"""Pictures and frames by ImageMagick: its own circles, rectangles and polygons, at four times the size, scaled down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from services.playroom.filming import path_of
from services.playroom.films import Film
from services.playroom.foreign.programs import run
from services.playroom.scenes import Scene
from services.playroom.words import BACKGROUND_LEVEL, CELL_CENTERS_PX, COLOR_RGB, IMAGE_SIDE_PX, RADIUS_PX

FINENESS: Final = 4
"""Drawn so many times larger than written."""
SIDES_PX: Final = (64, 128)
_NOISE_OF_IMAGEMAGICK = 20.0
"""Standard deviation that its Gaussian noise has unattenuated."""
_MIME_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
_WRITERS: Final = {"png": "PNG24", "jpg": "JPEG", "webp": "WEBP"}


@dataclass(frozen=True)
class PictureOrder:
    """A picture to be drawn.

    Attributes:
        ending: `png`, `jpg` or `webp`.
        quality: Of JPEG and WebP.
    """

    scene: Scene
    side_px: int
    ending: str
    quality: int

    @property
    def mime_type(self) -> str:
        """Its media type."""
        return _MIME_TYPES[self.ending]


def order_picture(scene: Scene, rng: np.random.Generator) -> PictureOrder:
    """Chooses size and format of a picture."""
    ending = tuple(_MIME_TYPES)[int(rng.integers(len(_MIME_TYPES)))]
    return PictureOrder(scene, SIDES_PX[int(rng.integers(len(SIDES_PX)))], ending, int(rng.integers(80, 101)))


def draw_pictures(orders: Sequence[PictureOrder], folder: Path) -> list[bytes]:
    """Draws pictures, all by one process.

    Raises:
        ForeignError: ImageMagick is missing or fails.
    """
    arguments: list[str] = []
    for index, order in enumerate(orders):
        scene = order.scene
        things = [
            _Thing(item.shape, x, y, RADIUS_PX[item.size], _color(item.color, item.color_offset))
            for item in scene.objects
            for x, y in [
                (CELL_CENTERS_PX[item.column] + item.shift_px[0], CELL_CENTERS_PX[item.row] + item.shift_px[1])
            ]
        ]
        drawn = _canvas(scene.background, things, order.side_px, scene.noise_sigma, scene.noise_seed)
        written = ["-quality", str(order.quality), "-write", f"{_WRITERS[order.ending]}:{index}.{order.ending}"]
        arguments += ["(", *drawn, *written, "+delete", ")"]
    run("ImageMagick", [*arguments, "-size", "1x1", "xc:black", "null:"], folder)
    return [(folder / f"{index}.{order.ending}").read_bytes() for index, order in enumerate(orders)]


def draw_frames(films: Sequence[tuple[Film, int]], folder: Path) -> list[Path]:
    """Draws the frames of films at a side in px, all by one process; each film is a file of raw RGB, frame by frame.

    Raises:
        ForeignError: ImageMagick is missing or fails.
    """
    arguments: list[str] = []
    for index, (film, side_px) in enumerate(films):
        facts = film.facts
        color = _color(facts.color, film.color_offset)
        arguments += ["("]
        for number, (x, y, radius) in enumerate(path_of(facts.motion, film.size)):
            things = [_Thing(facts.shape, x, y, radius, color)]
            drawn = _canvas(facts.background, things, side_px, film.noise_sigma, film.noise_seed + number)
            arguments += ["(", *drawn, ")"]
        arguments += ["-depth", "8", "-write", f"RGB:{index}.rgb", "-delete", "0--1", ")"]
    run("ImageMagick", [*arguments, "-size", "1x1", "xc:black", "null:"], folder)
    return [folder / f"{index}.rgb" for index in range(len(films))]


@dataclass(frozen=True)
class _Thing:
    """An object in px of the 64 px world."""

    shape: str
    x: float
    y: float
    radius: float
    color: str


def _color(name: str, offset: tuple[int, int, int]) -> str:
    levels = [min(255, max(0, level + moved)) for level, moved in zip(COLOR_RGB[name], offset, strict=True)]
    return f"rgb({levels[0]},{levels[1]},{levels[2]})"


def _canvas(background: str, things: Sequence[_Thing], side_px: int, noise_sigma: float, seed: int) -> list[str]:
    """What ImageMagick has to be told to draw one picture."""
    full_px, level = side_px * FINENESS, BACKGROUND_LEVEL[background]
    arguments = [
        "-define",
        "png:exclude-chunk=all",
        "-seed",
        str(seed),
        "-size",
        f"{full_px}x{full_px}",
        f"xc:rgb({level},{level},{level})",
        "+antialias",
    ]
    for thing in things:
        arguments += _strokes(thing, full_px / IMAGE_SIDE_PX)
    arguments += ["-scale", f"{side_px}x{side_px}"]
    if noise_sigma > 0:
        arguments += ["-attenuate", f"{noise_sigma / _NOISE_OF_IMAGEMAGICK:.4f}", "+noise", "Gaussian"]
    return [*arguments, "-depth", "8"]


def _strokes(thing: _Thing, scale: float) -> list[str]:
    # ImageMagick's whole numbers are the centers of pixels, the world's their corners
    x, y, r = thing.x * scale - 0.5, thing.y * scale - 0.5, thing.radius * scale
    filled = ["-stroke", "none", "-fill", thing.color, "-draw"]

    def around(angles_deg: Sequence[float], radii: Sequence[float]) -> str:
        corners = [
            f"{x + r * part * math.sin(math.radians(angle)):.3f},{y - r * part * math.cos(math.radians(angle)):.3f}"
            for angle, part in zip(angles_deg, radii, strict=True)
        ]
        return f"polygon {' '.join(corners)}"

    match thing.shape:
        case "circle":
            return [*filled, f"circle {x:.3f},{y:.3f} {x:.3f},{y + r:.3f}"]
        case "ring":
            middle, width = r * (1 + 0.55) / 2, r * (1 - 0.55)
            circle = f"circle {x:.3f},{y:.3f} {x:.3f},{y + middle:.3f}"
            return ["-fill", "none", "-stroke", thing.color, "-strokewidth", f"{width:.3f}", "-draw", circle]
        case "square":
            half = 0.9 * r
            return [*filled, f"rectangle {x - half:.3f},{y - half:.3f} {x + half:.3f},{y + half:.3f}"]
        case "triangle":
            return [*filled, around([0, 120, 240], [1.1] * 3)]
        case "star":
            return [*filled, around([36 * corner for corner in range(10)], [1.1, 0.45] * 5)]
        case _:
            across = f"rectangle {x - r:.3f},{y - 0.3 * r:.3f} {x + r:.3f},{y + 0.3 * r:.3f}"
            upright = f"rectangle {x - 0.3 * r:.3f},{y - r:.3f} {x + 0.3 * r:.3f},{y + r:.3f}"
            return [*filled, across, "-draw", upright]
