"""The autoencoder of pictures and of the frames of films: the space that generators denoise in.

Its decoder has to be forgiving, so latents are disturbed while it learns, in proportion to how much they vary.

Source: Rombach et al. 2022, arXiv 2112.10752, section 3.1.
"""

# B pictures, N films, F frames, C latent channels

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from services.playroom.captions import facts_of
from services.playroom.drawing import draw_scenes
from services.playroom.filming import draw_films
from services.playroom.films import N_FRAMES, draw_film
from services.playroom.judging import read_picture
from services.playroom.scenes import Split, draw_scene, seed_of
from services.playroom.watching import read_film
from services.trainers.recipe import Recipe

_FRAMES_OF_A_FILM: Final = 2
_SCALE_BATCHES: Final = 8
_CROP_STEP: Final = 8
FINAL_PICTURES: Final = 1000
_MANY: Final = 100


def to_signed(pixels_BHW3: NDArray[np.uint8]) -> Tensor:
    """Turns pixels into what an autoencoder reads: -1 to 1, channels first (B3HW)."""
    signed_B3HW = torch.from_numpy(pixels_BHW3).permute(0, 3, 1, 2).float() / 127.5 - 1
    return signed_B3HW.contiguous(memory_format=torch.channels_last)


def to_pixels(signed_B3HW: Tensor) -> NDArray[np.uint8]:
    """Turns what an autoencoder gives into pixels (BHW3)."""
    levels = ((signed_B3HW.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels_BHW3: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).cpu().numpy()
    return pixels_BHW3


@dataclass
class PixelBatch:
    """Pictures as they arrive, noise included, and without it (B3HW each)."""

    noisy: Tensor
    clean: Tensor


@dataclass(frozen=True)
class PixelBatches:
    """Makes batches of fresh scenes and, for a share, of frames of fresh films.

    A share of `crops` of the batches shows busy squares of `crop` pixels a side: most of what pictures are is empty.
    """

    seed: int
    batch: int
    films: float
    noisy: float
    crop: int = 0
    crops: float = 0.0

    def __call__(self, index: int) -> PixelBatch:
        """Draws batch `index`."""
        rng = np.random.default_rng((self.seed, index))
        n_films = round(self.batch * self.films / _FRAMES_OF_A_FILM)
        n_scenes = self.batch - n_films * _FRAMES_OF_A_FILM
        scenes = [draw_scene(seed_of(Split.TRAIN, int(i))) for i in rng.integers(2**31, size=n_scenes)]
        films = [draw_film(seed_of(Split.TRAIN, int(i))) for i in rng.integers(2**31, size=n_films)]
        frames = [(i, int(j)) for i in range(n_films) for j in rng.choice(N_FRAMES, _FRAMES_OF_A_FILM, replace=False)]
        drawn_NFHW3 = draw_films([replace(film, noise_sigma=0.0) for film in films])
        clean_SHW3 = draw_scenes([replace(scene, noise_sigma=0.0) for scene in scenes])
        clean = to_signed(np.concatenate([clean_SHW3, *(drawn_NFHW3[i, j][None] for i, j in frames)]))
        if rng.random() < self.crops:
            clean = busy_crops(clean, self.crop, rng)
        elif self.crops:
            clean = clean[rng.permutation(len(clean))[: max(1, len(clean) // 4)]]  # whole pictures take as much longer
        sigmas = rng.uniform(0.0, 4.0, len(clean)) * (rng.random(len(clean)) < self.noisy) / 127.5
        noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
        noisy = clean + noise * torch.from_numpy(sigmas.astype(np.float32)).view(-1, 1, 1, 1)
        return PixelBatch(noisy.contiguous(memory_format=torch.channels_last), clean)


def busy_crops(clean_B3HW: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Cuts a square out of each picture, the likelier the more there is to see in it; most of a picture is empty."""
    background = clean_B3HW.flatten(2).median(-1).values[..., None, None]
    busy_B1HW = (clean_B3HW - background).abs().mean(1, keepdim=True)
    windows = F.avg_pool2d(busy_B1HW, side, _CROP_STEP)
    shares_BW = windows.flatten(1).double().numpy() + 1e-3
    chosen = [int(rng.choice(len(row), p=row / row.sum())) for row in shares_BW]
    corners = [(_CROP_STEP * (at // windows.shape[-1]), _CROP_STEP * (at % windows.shape[-1])) for at in chosen]
    cut = [row[:, y : y + side, x : x + side] for row, (y, x) in zip(clean_B3HW, corners, strict=True)]
    return torch.stack(cut).contiguous(memory_format=torch.channels_last)


def build_autoencoder(config: Mapping[str, Any]) -> nn.Module:
    """Builds the `AutoencoderKL` of a config, with random weights."""
    import diffusers

    model: Any = diffusers.AutoencoderKL.from_config(dict(config))  # type: ignore[no-untyped-call]
    placed: nn.Module = model.to(memory_format=torch.channels_last)  # torch hides this argument from checkers
    return placed


def encoded(autoencoder: nn.Module, media: Tensor) -> Tensor:
    """Latents of media: the means of what the encoder gives (BCHW)."""
    encode: Any = autoencoder.encode
    mean_BCHW: Tensor = encode(media).latent_dist.mean
    return mean_BCHW


def decoded(autoencoder: nn.Module, latents_BCHW: Tensor) -> Tensor:
    """Media of latents."""
    decode: Any = autoencoder.decode
    media: Tensor = decode(latents_BCHW).sample
    return media


def forgiving_latents(mean_BCHW: Tensor, disturbance: float) -> Tensor:
    """Disturbs latents in proportion to how much they vary, so that nothing is won by making them larger."""
    spread = mean_BCHW.detach().float().std()
    return mean_BCHW + disturbance * spread * torch.randn_like(mean_BCHW)


def spread_penalty(mean_BCHW: Tensor) -> Tensor:
    """How far the channels' means are from zero and their spreads from one: one factor has to scale all of them."""
    flat_CX = mean_BCHW.float().transpose(0, 1).flatten(1)
    return flat_CX.std(1).log().square().mean() + flat_CX.mean(1).square().mean()


def scaling_factor_of(latents: Sequence[Tensor]) -> float:
    """One over the standard deviation of latents."""
    return round(1 / float(torch.cat([some.flatten() for some in latents]).std()), 4)


class PictureAutoencoderStage:
    """Trains an `AutoencoderKL` for pictures and frames."""

    def __init__(self, recipe: Recipe, device: torch.device, earlier: Mapping[str, Tensor] | None = None) -> None:
        self.recipe = recipe
        self.device = device
        torch.manual_seed(recipe.seed)
        self.trained: nn.Module = build_autoencoder(recipe.model["vae"]).to(device)
        if earlier is not None:
            self.trained.load_state_dict(earlier)

    def batch_maker(self) -> Callable[[int], PixelBatch]:
        """Returns the recipe's batches."""
        options = self.recipe.options
        return PixelBatches(
            self.recipe.seed,
            self.recipe.batch,
            options["films"],
            options["noisy"],
            int(options["crop"]),
            options["crops"],
        )

    def loss(self, batch: PixelBatch) -> Tensor:
        """Absolute and squared distance of pixels, disturbed latents in between."""
        options = self.recipe.options
        mean_BCHW = encoded(self.trained, batch.noisy.to(self.device))
        given = decoded(self.trained, forgiving_latents(mean_BCHW, options["disturbance"])).float()
        clean = batch.clean.to(self.device)
        loss = F.l1_loss(given, clean) + options["squared"] * F.mse_loss(given, clean)
        total: Tensor = loss + options["spread"] * spread_penalty(mean_BCHW)
        return total

    @torch.no_grad()
    def score(self, final: bool) -> dict[str, float]:
        """Share of reconstructions that the judges read as what was drawn."""
        count = FINAL_PICTURES if final else 200
        scores = {}
        for split, prefix in ((Split.VALIDATION, ""), (Split.COMPOSITIONAL, "compositional_")):
            scores[f"{prefix}pictures"] = self._pictures_right(split, count)
            scores[f"{prefix}films"] = self._films_right(split, count // 4)
        return scores

    def reconstructed(self, pixels_BHW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels after going through the autoencoder (BHW3)."""
        parts = []
        for first in range(0, len(pixels_BHW3), _MANY):
            signed = to_signed(pixels_BHW3[first : first + _MANY]).to(self.device)
            parts.append(to_pixels(decoded(self.trained, encoded(self.trained, signed))))
        return np.concatenate(parts)

    def _pictures_right(self, split: Split, count: int) -> float:
        scenes = [draw_scene(seed_of(split, index), split) for index in range(count)]
        given = self.reconstructed(draw_scenes(scenes))
        read = [read_picture(Image.fromarray(pixels)) for pixels in given]
        return sum(seen == facts_of(scene) for seen, scene in zip(read, scenes, strict=True)) / count

    def _films_right(self, split: Split, count: int) -> float:
        films = [draw_film(seed_of(split, index), split) for index in range(count)]
        frames_NFHW3 = draw_films(films)
        given = self.reconstructed(frames_NFHW3.reshape(-1, *frames_NFHW3.shape[2:])).reshape(frames_NFHW3.shape)
        return sum(read_film(seen) == film.facts for seen, film in zip(given, films, strict=True)) / count

    @torch.no_grad()
    def scaling_factor(self) -> float:
        """One over the standard deviation of latents: what diffusers calls `scaling_factor`."""
        make = self.batch_maker()
        batches = [make(2**40 + index).clean.to(self.device) for index in range(_SCALE_BATCHES)]
        return scaling_factor_of([encoded(self.trained, clean) for clean in batches])
