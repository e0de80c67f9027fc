"""The base vision encoder, trained by dense supervision: every cell of every picture says what is in it.

Heads are linear, one for each attribute (and the cell's place) and shared by the nine cells, and are thrown
away. Since an attribute has to be readable linearly and by itself, a projector that is linear can hand it on, and
so can one that has never seen this color on this shape. Frames of films, whose one object stands anywhere and is of
any size, have heads of their own: they read the mean of the cells, as the projector of films does.
"""

# B pictures, S scenes and R frames among them, C cells (9), T tokens, F feature width

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from services.encoders.clip_vision import ClipVision, Preprocess
from services.input_projectors.stages import mean_pool, space_to_depth
from services.playroom.drawing import draw_scenes
from services.playroom.filming import draw_films, path_of
from services.playroom.films import N_FRAMES, Film, draw_film
from services.playroom.scenes import Scene, Split, draw_scene, seed_of
from services.playroom.words import BACKGROUNDS, COLORS, SHAPES, SIZES
from services.trainers.media import CELLS, cell_of, is_large
from services.trainers.recipe import Recipe

EMPTY = -100
FINAL_SCENES = 4000
_FRAMES_OF_A_FILM = 3
HEADS = {"presence": 2, "shape": len(SHAPES), "color": len(COLORS), "size": len(SIZES), "background": 3, "place": CELLS}
FRAME_HEADS = {name: n for name, n in HEADS.items() if name != "presence"}


@dataclass
class VisionBatch:
    """Pixels (B3HW) of scenes, then of frames; labels of cells (SC), `EMPTY` where there is none, and of frames (R)."""

    pixels: Tensor
    labels: dict[str, Tensor]
    frame_labels: dict[str, Tensor]


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


def frame_labels_of(frames: Sequence[tuple[Film, int]]) -> dict[str, Tensor]:
    """Writes what frames of films show as class indices (R): the object, about how large, and where."""
    labels: dict[str, list[int]] = {name: [] for name in FRAME_HEADS}
    for film, index in frames:
        facts = film.facts
        x_px, y_px, radius_px = path_of(facts.motion, film.size)[index]
        labels["shape"].append(SHAPES.index(facts.shape))
        labels["color"].append(COLORS.index(facts.color))
        labels["size"].append(int(is_large(radius_px)))
        labels["background"].append(BACKGROUNDS.index(facts.background))
        labels["place"].append(cell_of(x_px, y_px))
    return {name: torch.tensor(values) for name, values in labels.items()}


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


def seen_frames(
    films: Sequence[Film], rng: np.random.Generator, preprocess: Preprocess, larger: float, codec: float
) -> NDArray[np.uint8]:
    """Draws films as their frames arrive at an encoder (NFHW3): some from larger films, some through a codec."""
    side = preprocess.crop
    result = np.empty((len(films), N_FRAMES, side, side, 3), np.uint8)
    for seen_FHW3, frames_FHW3 in zip(result, draw_films(films), strict=True):
        scale = 2 if rng.random() < larger else 1
        quality = int(rng.integers(60, 96)) if rng.random() < codec else 0
        for i, pixels in enumerate(frames_FHW3):
            picture = Image.fromarray(pixels)
            if scale > 1:
                picture = picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.BICUBIC)
            if quality:
                picture = Image.fromarray(through_jpeg(np.asarray(picture), quality))
            seen_FHW3[i] = np.asarray(preprocess.resized(picture))
    return result


@dataclass(frozen=True)
class VisionBatches:
    """Makes the batches of a recipe, fresh scenes each."""

    seed: int
    batch: int
    preprocess: Preprocess
    larger: float
    jpeg: float
    films: float

    def __call__(self, index: int) -> VisionBatch:
        """Draws batch `index`."""
        rng = np.random.default_rng((self.seed, index))
        n_films = round(self.batch * self.films / _FRAMES_OF_A_FILM)
        n_scenes = self.batch - n_films * _FRAMES_OF_A_FILM
        first = (self.seed * 10**8 + index * self.batch) % (2**31 - self.batch)
        scenes = [draw_scene(seed_of(Split.TRAIN, first + i)) for i in range(n_scenes)]
        films = [draw_film(seed_of(Split.TRAIN, first + i)) for i in range(n_films)]
        pixels_SHW3 = seen_pixels(scenes, rng, self.preprocess, self.larger, self.jpeg)
        frames_NFHW3 = seen_frames(films, rng, self.preprocess, self.larger, self.jpeg)
        chosen = [(i, int(j)) for i in range(n_films) for j in rng.choice(N_FRAMES, _FRAMES_OF_A_FILM, replace=False)]
        pixels = np.concatenate([pixels_SHW3, *(frames_NFHW3[i, j][None] for i, j in chosen)])
        frame_labels = frame_labels_of([(films[i], j) for i, j in chosen])
        return VisionBatch(self.preprocess.normalized(pixels), labels_of(scenes), frame_labels)


class VisionTraining(nn.Module):
    """The encoder and the heads that teach it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = ClipVision.from_config(config)
        cell_width = 4 * self.encoder.feature_width
        self.heads = nn.ModuleDict({name: nn.Linear(cell_width, n) for name, n in HEADS.items()})
        self.frame_heads = nn.ModuleDict({name: nn.Linear(cell_width, n) for name, n in FRAME_HEADS.items()})

    def forward(self, pixels_B3HW: Tensor, n_scenes: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns logits of each head for the cells of scenes (SC, classes), and for frames (R, classes)."""
        cells_BCF = space_to_depth(self.encoder(pixels_B3HW), 2)
        scenes_SCF, frames_RF = cells_BCF[:n_scenes], mean_pool(cells_BCF[n_scenes:], CELLS)[:, 0]
        cell_logits = {name: head(scenes_SCF) for name, head in self.heads.items()}
        return cell_logits, {name: head(frames_RF) for name, head in self.frame_heads.items()}


class VisionStage:
    """Trains a `clip_vision` encoder."""

    def __init__(self, recipe: Recipe, device: torch.device, earlier: Mapping[str, Tensor] | None = None) -> None:
        self.recipe = recipe
        self.device = device
        torch.manual_seed(recipe.seed)
        self.trained = VisionTraining(recipe.model).to(device)
        if earlier is not None:
            self.trained.encoder.load_state_dict(earlier)
        if device.type == "cpu":  # bfloat16 attention of torch's CPU kernel is slower backwards than plain products
            self.trained.encoder.vision_model.set_attn_implementation("eager")

    def batch_maker(self) -> VisionBatches:
        """Returns the recipe's batches."""
        options = self.recipe.options
        return VisionBatches(
            self.recipe.seed,
            self.recipe.batch,
            self.trained.encoder.preprocess_settings,
            larger=options["larger"],
            jpeg=options["jpeg"],
            films=options["films"],
        )

    def loss(self, batch: VisionBatch) -> Tensor:
        """Sum of the heads' cross-entropies."""
        n_scenes = len(batch.labels["place"])
        cell_logits, frame_logits = self.trained(batch.pixels.to(self.device), n_scenes)
        pairs = [(cell_logits[name].flatten(0, 1), batch.labels[name].flatten()) for name in HEADS]
        if len(batch.pixels) > n_scenes:
            pairs += [(frame_logits[name], batch.frame_labels[name]) for name in FRAME_HEADS]
        smoothing = self.recipe.options["smoothing"]
        losses = [
            F.cross_entropy(logits, labels.to(self.device), ignore_index=EMPTY, label_smoothing=smoothing)
            for logits, labels in pairs
        ]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def score(self, final: bool) -> dict[str, float]:
        """Share of unseen scenes, and of frames of films, that the heads read without any mistake."""
        n_scenes = FINAL_SCENES if final else 1000
        splits = {"validation": Split.VALIDATION, "compositional": Split.COMPOSITIONAL}
        if final:
            splits["test"] = Split.TEST
        scores = {name: self._exact(split, n_scenes) for name, split in splits.items()}
        frames = {f"frames_{name}": self._exact_frames(split, n_scenes // 20) for name, split in splits.items()}
        return {**scores, **frames}

    def _exact_frames(self, split: Split, n_films: int) -> float:
        rng = np.random.default_rng(1)
        films = [draw_film(seed_of(split, index), split) for index in range(n_films)]
        preprocess = self.trained.encoder.preprocess_settings
        frames_NFHW3 = seen_frames(films, rng, preprocess, larger=0.2, codec=0.5)
        _, logits = self.trained(preprocess.normalized(frames_NFHW3.reshape(-1, *frames_NFHW3.shape[2:])), 0)
        labels = frame_labels_of([(film, i) for film in films for i in range(N_FRAMES)])
        right = torch.stack([logits[name].argmax(-1).cpu() == labels[name] for name in FRAME_HEADS]).all(0)
        return float(right.float().mean())

    def _exact(self, split: Split, n_scenes: int) -> float:
        rng = np.random.default_rng(0)
        right = 0
        for first in range(0, n_scenes, 250):
            scenes = [draw_scene(seed_of(split, first + i), split) for i in range(250)]
            preprocess = self.trained.encoder.preprocess_settings
            pixels = seen_pixels(scenes, rng, preprocess, larger=0.2, jpeg=0.5)
            logits, _ = self.trained(preprocess.normalized(pixels).to(self.device), 250)
            labels = labels_of(scenes)
            wrong = torch.zeros(250, dtype=torch.bool)
            for name in HEADS:
                guess, truth = logits[name].argmax(-1).cpu(), labels[name]
                wrong |= ((guess != truth) & (truth != EMPTY)).any(1)
            right += int((~wrong).sum())
        return right / n_scenes
