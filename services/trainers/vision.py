"""The base vision encoder, trained by dense supervision: every cell of every picture says what is in it.

Heads are linear, one for each attribute (and the cell's place) and shared by the nine cells, and are thrown
away. Since an attribute has to be readable linearly and by itself, a projector that is linear can hand it on, and
so can one that has never seen this color on this shape.
"""

# B pictures, C cells (9), T tokens, F feature width

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from services.encoders.clip_vision import ClipVision, Preprocess
from services.input_projectors.stages import space_to_depth
from services.playroom.drawing import draw_scenes
from services.playroom.scenes import Scene, Split, draw_scene, seed_of
from services.playroom.words import BACKGROUNDS, COLORS, SHAPES, SIZES
from services.trainers.recipe import Recipe

EMPTY = -100
FINAL_SCENES = 4000
HEADS = {"presence": 2, "shape": len(SHAPES), "color": len(COLORS), "size": len(SIZES), "background": 3, "place": 9}


@dataclass
class VisionBatch:
    """Pixels (B3HW), and labels (BC) of what every cell holds, `EMPTY` where there is nothing to say."""

    pixels: Tensor
    labels: dict[str, Tensor]


def labels_of(scenes: list[Scene]) -> dict[str, Tensor]:
    """Writes the attributes of scenes as class indices, one for each cell (BC)."""
    labels = {name: np.full((len(scenes), 9), EMPTY) for name in HEADS}
    labels["presence"][:] = 0
    labels["place"][:] = np.arange(9)
    for row, scene in enumerate(scenes):
        labels["background"][row] = BACKGROUNDS.index(scene.background)
        for item in scene.objects:
            labels["presence"][row, item.cell] = 1
            labels["shape"][row, item.cell] = SHAPES.index(item.shape)
            labels["color"][row, item.cell] = COLORS.index(item.color)
            labels["size"][row, item.cell] = SIZES.index(item.size)
    return {name: torch.from_numpy(values) for name, values in labels.items()}


def through_jpeg(pixels_HW3: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Writes pixels as JPEG and reads them back."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def seen_pixels(
    scenes: list[Scene], rng: np.random.Generator, preprocess: Preprocess, larger: float, jpeg: float
) -> NDArray[np.uint8]:
    """Draws scenes as they arrive at an encoder: some from larger pictures, some through JPEG."""
    scale = np.where(rng.random(len(scenes)) < larger, rng.integers(2, 4, len(scenes)), 1)
    qualities = np.where(rng.random(len(scenes)) < jpeg, rng.integers(80, 96, len(scenes)), 0)
    result = np.empty((len(scenes), preprocess.crop, preprocess.crop, 3), np.uint8)
    for size in (1, 2, 3):
        chosen = np.flatnonzero(scale == size)
        if not len(chosen):
            continue
        drawn = draw_scenes([scenes[i] for i in chosen], size)
        for i, pixels in zip(chosen, drawn, strict=True):
            kept = through_jpeg(pixels, int(qualities[i])) if qualities[i] else pixels
            result[i] = np.asarray(preprocess.resized(Image.fromarray(kept)))
    return result


@dataclass(frozen=True)
class VisionBatches:
    """Makes the batches of a recipe, fresh scenes each."""

    seed: int
    batch: int
    preprocess: Preprocess
    larger: float
    jpeg: float

    def __call__(self, index: int) -> VisionBatch:
        """Draws batch `index`."""
        first = (self.seed * 10**8 + index * self.batch) % (2**31 - self.batch)
        scenes = [draw_scene(seed_of(Split.TRAIN, first + i)) for i in range(self.batch)]
        rng = np.random.default_rng((self.seed, index))
        pixels = seen_pixels(scenes, rng, self.preprocess, self.larger, self.jpeg)
        return VisionBatch(self.preprocess.normalized(pixels), labels_of(scenes))


class VisionTraining(nn.Module):
    """The encoder and the heads that teach it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = ClipVision.from_config(config)
        cell_width = 4 * self.encoder.feature_width
        self.heads = nn.ModuleDict({name: nn.Linear(cell_width, n) for name, n in HEADS.items()})

    def forward(self, pixels_B3HW: Tensor) -> dict[str, Tensor]:
        """Returns logits for each head (B, 9, classes)."""
        cells_BCF = space_to_depth(self.encoder(pixels_B3HW), 2)
        return {name: head(cells_BCF) for name, head in self.heads.items()}


class VisionStage:
    """Trains a `clip_vision` encoder."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe = recipe
        self.device = device
        torch.manual_seed(recipe.seed)
        self.trained = VisionTraining(recipe.model).to(device)

    def batch_maker(self) -> VisionBatches:
        """Returns the recipe's batches."""
        options = self.recipe.options
        return VisionBatches(
            self.recipe.seed,
            self.recipe.batch,
            self.trained.encoder.preprocess_settings,
            larger=options["larger"],
            jpeg=options["jpeg"],
        )

    def loss(self, batch: VisionBatch) -> Tensor:
        """Sum of the heads' cross-entropies."""
        logits = self.trained(batch.pixels.to(self.device))
        losses = [
            F.cross_entropy(
                logits[name].flatten(0, 1),
                batch.labels[name].to(self.device).flatten(),
                ignore_index=EMPTY,
                label_smoothing=self.recipe.options["smoothing"],
            )
            for name in HEADS
        ]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def score(self, final: bool) -> dict[str, float]:
        """Share of unseen scenes that the heads read without any mistake."""
        n_scenes = FINAL_SCENES if final else 1000
        splits = {"validation": Split.VALIDATION, "compositional": Split.COMPOSITIONAL}
        if final:
            splits["test"] = Split.TEST
        return {name: self._exact(split, n_scenes) for name, split in splits.items()}

    def _exact(self, split: Split, n_scenes: int) -> float:
        rng = np.random.default_rng(0)
        right = 0
        for first in range(0, n_scenes, 250):
            scenes = [draw_scene(seed_of(split, first + i), split) for i in range(250)]
            preprocess = self.trained.encoder.preprocess_settings
            pixels = seen_pixels(scenes, rng, preprocess, larger=0.2, jpeg=0.5)
            logits = self.trained(preprocess.normalized(pixels).to(self.device))
            labels = labels_of(scenes)
            wrong = torch.zeros(250, dtype=torch.bool)
            for name in HEADS:
                guess, truth = logits[name].argmax(-1).cpu(), labels[name]
                wrong |= ((guess != truth) & (truth != EMPTY)).any(1)
            right += int((~wrong).sum())
        return right / n_scenes
