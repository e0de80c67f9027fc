"""What generators learn from: fresh media with their captions, whole or in part; and the verdict on what they make."""

# B samples, C latent channels, N frames, H and W latent height and width, L mel frames, M mel bins

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from services.playroom.captions import caption_of, facts_of
from services.playroom.drawing import draw_scenes
from services.playroom.filming import draw_films
from services.playroom.films import N_FRAMES as N_FILM_FRAMES
from services.playroom.films import Film, draw_film, film_caption
from services.playroom.judging import read_picture
from services.playroom.listening import read_sound
from services.playroom.naming import part_of_film, part_of_scene, part_of_sound
from services.playroom.scenes import Scene, Split, draw_scene, seed_of
from services.playroom.sounds import Sound, draw_sound, sound_caption
from services.playroom.synthesis import render_sounds
from services.playroom.wanted import wanted_of
from services.playroom.watching import read_film
from services.trainers.autoencoding import decoded, encoded, to_pixels, to_signed
from services.trainers.captions import word_ids
from services.trainers.spectrograms import N_FRAMES, N_MELS, spectrograms_of

_SEEDS: Final = 2**31


@dataclass
class MadeBatch:
    """Media as an autoencoder reads them, films frame by frame, and the ids of their captions' words (BKW)."""

    media: Tensor
    word_ids: Tensor


def captioned(shown: Scene | Film | Sound, rng: np.random.Generator, partial: float) -> tuple[Any, str]:
    """What to show and its caption: all of it or, for a share of `partial`, as much as requests name."""
    if rng.random() >= partial:
        return shown, wanted_of(shown).caption
    match shown:
        case Scene():
            scene, wanted = part_of_scene(rng, shown)
            return scene, wanted.caption
        case Film():
            return shown, part_of_film(rng, shown.facts).caption
        case Sound():
            return shown, part_of_sound(rng, shown.facts).caption


@dataclass(frozen=True)
class MadeBatches:
    """Makes batches of one medium."""

    modality: str
    seed: int
    batch: int
    partial: float

    def __call__(self, index: int) -> MadeBatch:
        """Draws batch `index`."""
        rng = np.random.default_rng((self.seed, index))
        seeds = [seed_of(Split.TRAIN, int(i)) for i in rng.integers(_SEEDS, size=self.batch)]
        match self.modality:
            case "image":
                pairs = [captioned(replace(draw_scene(seed), noise_sigma=0.0), rng, self.partial) for seed in seeds]
                media = to_signed(draw_scenes([scene for scene, _ in pairs]))
            case "video":
                pairs = [captioned(replace(draw_film(seed), noise_sigma=0.0), rng, self.partial) for seed in seeds]
                frames_NFHW3 = draw_films([film for film, _ in pairs])
                media = to_signed(frames_NFHW3.reshape(-1, *frames_NFHW3.shape[2:]))
            case _:
                pairs = [captioned(replace(draw_sound(seed), pitch_factor=1.0), rng, self.partial) for seed in seeds]
                media = spectrograms_of(torch.from_numpy(render_sounds([sound for sound, _ in pairs])))
        return MadeBatch(media, word_ids(self.modality, [caption for _, caption in pairs]))


@dataclass(frozen=True)
class Wish:
    """A caption to make, and what the judge has to read."""

    caption: str
    medium: Scene | Film | Sound


class Studio:
    """A frozen autoencoder (and vocoder) of one medium: from media to latents, and from latents to verdicts."""

    def __init__(
        self, modality: str, autoencoder: nn.Module, scaling_factor: float, vocoder: nn.Module | None = None
    ) -> None:
        self.modality = modality
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.vocoder = vocoder.requires_grad_(False).eval() if vocoder is not None else None
        self.scaling_factor = scaling_factor
        example = torch.zeros(1, 1, N_FRAMES, N_MELS) if modality == "audio" else torch.zeros(1, 3, 64, 64)
        with torch.no_grad():
            shape = tuple(encoded(autoencoder, example).shape[1:])
        self.latent_shape = (shape[0], N_FILM_FRAMES, *shape[1:]) if modality == "video" else shape

    @torch.no_grad()
    def latents(self, batch: MadeBatch, device: torch.device) -> Tensor:
        """Latents as denoisers read them: BCHW, BCNHW for films."""
        latents = encoded(self.autoencoder, batch.media.to(device)).float() * self.scaling_factor
        if self.modality == "video":
            latents = latents.reshape(-1, N_FILM_FRAMES, *latents.shape[1:]).transpose(1, 2)
        return latents

    @torch.no_grad()
    def media(self, latents: Tensor) -> Tensor:
        """What latents show: B3HW, BN3HW for films, B1LM for spectrograms."""
        if self.modality == "video":
            flat = latents.transpose(1, 2).flatten(0, 1) / self.scaling_factor
            frames = decoded(self.autoencoder, flat)
            return frames.reshape(-1, N_FILM_FRAMES, *frames.shape[1:])
        return decoded(self.autoencoder, latents / self.scaling_factor)

    def wishes(self, count: int) -> dict[str, list[Wish]]:
        """What to try: by number of objects for pictures, with held-out pairs for pictures and films."""
        if self.modality == "audio":
            sounds = [draw_sound(seed_of(Split.VALIDATION, index)) for index in range(count)]
            return {"sounds": [Wish(sound_caption(sound.facts), sound) for sound in sounds]}
        splits = {"test": Split.VALIDATION, "compositional": Split.COMPOSITIONAL}
        if self.modality == "video":
            drawn = {
                name: [draw_film(seed_of(split, index), split) for index in range(count // 2)]
                for name, split in splits.items()
            }
            return {name: [Wish(film_caption(film.facts), film) for film in films] for name, films in drawn.items()}
        groups: dict[str, list[Wish]] = {}
        for name, split in splits.items():
            for index in range(count):
                scene = draw_scene(seed_of(split, index), split)
                group = f"{len(scene.objects)} objects" if name == "test" else name
                groups.setdefault(group, []).append(Wish(caption_of(scene), scene))
        return groups

    def judged(self, latents: Tensor, wishes: Sequence[Wish]) -> list[bool]:
        """Whether each of the media that latents become shows what was wished."""
        media = self.media(latents)
        verdicts = []
        if self.vocoder is not None:
            with torch.no_grad():
                heard_BT = self.vocoder(media[:, 0]).float().numpy()
            return [
                read_sound(samples_T) == wish.medium.facts  # type: ignore[union-attr]
                for samples_T, wish in zip(heard_BT, wishes, strict=True)
            ]
        for seen, wish in zip(media, wishes, strict=True):
            if isinstance(wish.medium, Scene):
                verdicts.append(read_picture(Image.fromarray(to_pixels(seen[None])[0])) == facts_of(wish.medium))
            elif isinstance(wish.medium, Film):
                verdicts.append(read_film(to_pixels(seen)) == wish.medium.facts)
        return verdicts
