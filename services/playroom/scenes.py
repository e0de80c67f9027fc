"""Scenes: what a picture of the playroom shows, drawn at random from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from services.playroom.words import (
    BACKGROUNDS,
    COLOR_OFFSET,
    COLORS,
    HELD_OUT_PAIRS,
    MAX_NOISE_SIGMA,
    MAX_OBJECTS,
    MAX_SHIFT_PX,
    PLACES,
    SHAPES,
    SIZES,
    with_article,
)

_PAIRS = [(color, shape) for color in COLORS for shape in SHAPES]
SHOWN_PAIRS = [pair for pair in _PAIRS if pair not in HELD_OUT_PAIRS]
"""The (color, shape) pairs that training pictures may show."""
_HELD_OUT = sorted(HELD_OUT_PAIRS)


class Split(StrEnum):
    """Which scenes may be drawn, and from which seeds."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    COMPOSITIONAL = "compositional"


_FIRST_SEED = {
    Split.TRAIN: 0,
    Split.VALIDATION: 2**31,
    Split.TEST: 2**31 + 10**6,
    Split.COMPOSITIONAL: 2**31 + 2 * 10**6,
}
_N_SEEDS = {Split.TRAIN: 2**31, Split.VALIDATION: 10**6, Split.TEST: 10**6, Split.COMPOSITIONAL: 10**6}


def seed_of(split: Split, index: int) -> int:
    """Gives the seed of the `index`-th scene of a split.

    Raises:
        ValueError: The split has no such scene.
    """
    if not 0 <= index < _N_SEEDS[split]:
        raise ValueError(f"{split} has scenes 0 to {_N_SEEDS[split] - 1}, not {index}")
    return _FIRST_SEED[split] + index


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object: its attributes as words, its cell 0 to 8, and how exactly it is drawn."""

    shape: str
    color: str
    size: str
    cell: int
    shift_px: tuple[float, float] = (0.0, 0.0)
    color_offset: tuple[int, int, int] = (0, 0, 0)

    @property
    def place(self) -> str:
        """Name of the cell."""
        return PLACES[self.cell]

    @property
    def row(self) -> int:
        """Row of the cell, 0 at the top."""
        return self.cell // 3

    @property
    def column(self) -> int:
        """Column of the cell, 0 at the left."""
        return self.cell % 3

    @property
    def noun(self) -> str:
        """The object without its place: `a small blue square`."""
        return with_article(f"{self.size} {self.color} {self.shape}")

    @property
    def attributes(self) -> tuple[str, str, str, str]:
        """What a caption says about the object: shape, color, size, place."""
        return (self.shape, self.color, self.size, self.place)


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture: its objects in reading order, its background, its noise."""

    objects: tuple[SceneObject, ...]
    background: str
    noise_sigma: float = 0.0
    noise_seed: int = 0

    @property
    def names_held_out_pair(self) -> bool:
        """Whether an object has one of the pairs that training never shows."""
        return any((o.color, o.shape) in HELD_OUT_PAIRS for o in self.objects)


def draw_scene(seed: int, split: Split = Split.TRAIN) -> Scene:
    """Draws the scene of a seed; `compositional` scenes have at least one held-out pair, others none."""
    return scene_from(np.random.default_rng(seed), split)


def scene_from(rng: np.random.Generator, split: Split = Split.TRAIN) -> Scene:
    """Draws a scene by a generator that is already there."""
    n_objects = int(rng.integers(1, MAX_OBJECTS + 1))
    cells = sorted(rng.permutation(9)[:n_objects].tolist())
    if split is Split.COMPOSITIONAL:
        pairs = [_PAIRS[i] for i in rng.integers(0, len(_PAIRS), n_objects)]
        pairs[int(rng.integers(n_objects))] = _HELD_OUT[int(rng.integers(len(_HELD_OUT)))]
    else:
        pairs = [SHOWN_PAIRS[i] for i in rng.integers(0, len(SHOWN_PAIRS), n_objects)]
    sizes = rng.integers(0, 2, n_objects)
    shifts = rng.uniform(-MAX_SHIFT_PX, MAX_SHIFT_PX, (n_objects, 2))
    offsets = rng.integers(-COLOR_OFFSET, COLOR_OFFSET + 1, (n_objects, 3))
    objects = tuple(
        SceneObject(
            shape=shape,
            color=color,
            size=SIZES[sizes[i]],
            cell=cells[i],
            shift_px=(float(shifts[i, 0]), float(shifts[i, 1])),
            color_offset=(int(offsets[i, 0]), int(offsets[i, 1]), int(offsets[i, 2])),
        )
        for i, (color, shape) in enumerate(pairs)
    )
    return Scene(
        objects=objects,
        background=BACKGROUNDS[int(rng.integers(3))],
        noise_sigma=float(rng.uniform(0.0, MAX_NOISE_SIGMA)),
        noise_seed=int(rng.integers(2**31)),
    )
