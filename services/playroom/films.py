"""Films: what a film of the playroom shows, drawn at random from a seed; its caption, and the caption read back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.playroom.sayings import MOTIONS
from services.playroom.scenes import SHOWN_PAIRS, Split
from services.playroom.words import (
    BACKGROUNDS,
    COLOR_OFFSET,
    COLORS,
    HELD_OUT_PAIRS,
    MAX_NOISE_SIGMA,
    SHAPES,
    SIZES,
    with_article,
)

N_FRAMES: Final = 8
FRAME_RATE_HZ: Final = 4
START_PX: Final = 12.0
CENTER_PX: Final = 32.0
END_PX: Final = 52.0
SMALLEST_PX: Final = 4.0
LARGEST_PX: Final = 12.0
"""Radii at the ends of growing and shrinking."""

WAY_OF_MOTION: Final = {motion: motion.split()[-1] for motion in MOTIONS}
"""What is answered to `which way`: `left`, …, `growing`, `shrinking`, `still`."""
BACKWARDS: Final[dict[str, str]] = {
    "moving left": "moving right",
    "moving right": "moving left",
    "moving up": "moving down",
    "moving down": "moving up",
    "growing": "shrinking",
    "shrinking": "growing",
    "standing still": "standing still",
}

_CAPTION = re.compile(
    rf"an? ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) ({'|'.join(MOTIONS)}) on an? ({'|'.join(BACKGROUNDS)}) background"
)
_FILM_DOMAIN: Final = 2
"""Films, sounds and scenes of one seed have nothing to do with each other."""


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """What a caption says about a film."""

    color: str
    shape: str
    motion: str
    background: str

    @property
    def thing(self) -> str:
        """The object: `a red circle`."""
        return with_article(f"{self.color} {self.shape}")


@dataclass(frozen=True, slots=True)
class Film:
    """One film: what it shows, and how exactly it is drawn. The size counts where nothing grows or shrinks."""

    facts: FilmFacts
    size: str
    color_offset: tuple[int, int, int] = (0, 0, 0)
    noise_sigma: float = 0.0
    noise_seed: int = 0

    @property
    def names_held_out_pair(self) -> bool:
        """Whether the object has one of the pairs that training never shows."""
        return (self.facts.color, self.facts.shape) in HELD_OUT_PAIRS


def draw_film(seed: int, split: Split = Split.TRAIN) -> Film:
    """Draws the film of a seed; `compositional` films have a held-out pair, others have none."""
    return film_from(np.random.default_rng((seed, _FILM_DOMAIN)), split)


def film_from(rng: np.random.Generator, split: Split = Split.TRAIN) -> Film:
    """Draws a film by a generator that is already there."""
    pairs = sorted(HELD_OUT_PAIRS) if split is Split.COMPOSITIONAL else SHOWN_PAIRS
    color, shape = pairs[int(rng.integers(len(pairs)))]
    motion = MOTIONS[int(rng.integers(len(MOTIONS)))]
    background = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
    size = SIZES[int(rng.integers(len(SIZES)))]
    offset = rng.integers(-COLOR_OFFSET, COLOR_OFFSET + 1, 3)
    return Film(
        facts=FilmFacts(color, shape, motion, background),
        size=size,
        color_offset=(int(offset[0]), int(offset[1]), int(offset[2])),
        noise_sigma=float(rng.uniform(0.0, MAX_NOISE_SIGMA)),
        noise_seed=int(rng.integers(2**31)),
    )


def film_caption(facts: FilmFacts) -> str:
    """Writes the caption of a film: `a red circle moving left on a black background`."""
    return f"{facts.thing} {facts.motion} on {with_article(facts.background)} background"


def parse_film_caption(text: str) -> FilmFacts | None:
    """Reads a caption of a film; None where it is none or says anything else besides."""
    found = _CAPTION.fullmatch(text.strip().lower().rstrip(".").rstrip())
    return FilmFacts(*found.groups()) if found else None
