"""Changes: a second picture that differs from a first one in exactly one attribute of one object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from services.playroom.scenes import Scene, SceneObject
from services.playroom.words import COLORS, HELD_OUT_PAIRS, PLACES, SHAPES, SIZES

ATTRIBUTES = ("color", "shape", "size", "place")


def _changed(item: SceneObject, attribute: str, rng: np.random.Generator) -> SceneObject:
    match attribute:
        case "color":
            return replace(item, color=COLORS[int(rng.integers(len(COLORS)))])
        case "shape":
            return replace(item, shape=SHAPES[int(rng.integers(len(SHAPES)))])
        case "size":
            return replace(item, size=SIZES[int(rng.integers(len(SIZES)))])
        case _:
            return replace(item, cell=int(rng.integers(len(PLACES))))


def change_scene(scene: Scene, rng: np.random.Generator, *, speak_freely: bool = False) -> tuple[Scene, str]:
    """Changes one attribute of one object, each equally likely.

    Args:
        scene: The first picture.
        rng: Makes every choice.
        speak_freely: Whether the second picture may show a pair that is held out of training.

    Returns:
        The second picture, with noise of its own, and which attribute differs.
    """
    attribute = ATTRIBUTES[int(rng.integers(len(ATTRIBUTES)))]
    while True:
        index = int(rng.integers(len(scene.objects)))
        item = scene.objects[index]
        changed = _changed(item, attribute, rng)
        others = [other for i, other in enumerate(scene.objects) if i != index]
        if changed == item or any(other.cell == changed.cell for other in others):
            continue
        if not speak_freely and (changed.color, changed.shape) in HELD_OUT_PAIRS:
            continue
        objects = tuple(sorted([*others, changed], key=lambda each: each.cell))
        return replace(scene, objects=objects, noise_seed=int(rng.integers(2**31))), attribute
