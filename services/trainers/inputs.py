"""The ways in: encoders and projectors of a system by modality, and media as they reach them."""

# P pictures, M films, N frames, S windows of sound, L mel frames, T tokens, F feature width, D width

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.encoders.clip_vision import ClipVision, Preprocess
from services.encoders.whisper import WhisperEncoder
from services.input_projectors.projector import InputProjector
from services.playroom.films import N_FRAMES, Film
from services.playroom.scenes import Scene
from services.playroom.sounds import Sound
from services.playroom.speech import speak, utterance_from
from services.playroom.synthesis import render_sounds
from services.trainers.hearing import Rooms
from services.trainers.media import CELLS, Shown, Speech
from services.trainers.vision import seen_frames, seen_pixels

MODALITIES: Final = ("image", "video", "audio")
Encoder = ClipVision | WhisperEncoder


def modality_of(shown: Shown) -> str:
    """Which encoder a medium goes to."""
    match shown:
        case Scene():
            return "image"
        case Film():
            return "video"
        case _:
            return "audio"


@dataclass
class MediaBatch:
    """Media as their encoders read them, and how many embeddings each becomes.

    Shapes:
        pictures: P3HW, normalized.
        films: MN3HW, normalized.
        windows: ML each, spectrograms; a sound's windows follow each other.
        owners: index of the medium that each picture, film and window belongs to, among all media.
        lengths: embeddings of each medium, in the order of the conversations.
    """

    pictures: Tensor | None
    films: Tensor | None
    windows: list[Tensor]
    owners: dict[str, list[int]]
    lengths: list[int]


@dataclass(frozen=True)
class Arrival:
    """How media arrive: shares of larger pictures, of lossy codecs, of noise and narrow lines."""

    larger: float
    jpeg: float
    rooms: Rooms


@dataclass(frozen=True)
class MediaReader:
    """Draws, plays and speaks media, and makes of them what encoders read."""

    preprocess: Preprocess | None
    hearing: WhisperEncoder | None
    arrival: Arrival

    def __call__(self, media: Sequence[Shown], rng: np.random.Generator) -> MediaBatch:
        """Makes media."""
        owners: dict[str, list[int]] = {modality: [] for modality in MODALITIES}
        for index, shown in enumerate(media):
            owners[modality_of(shown)].append(index)
        lengths = [CELLS if isinstance(shown, Scene) else N_FRAMES for shown in media]
        pictures = films = None
        if owners["image"] and self.preprocess is not None:
            scenes = [shown for shown in media if isinstance(shown, Scene)]
            drawn = seen_pixels(scenes, rng, self.preprocess, self.arrival.larger, self.arrival.jpeg)
            pictures = self.preprocess.normalized(drawn)
        if owners["video"] and self.preprocess is not None:
            filmed = [shown for shown in media if isinstance(shown, Film)]
            frames = seen_frames(filmed, rng, self.preprocess, self.arrival.larger, self.arrival.jpeg)
            flat = self.preprocess.normalized(frames.reshape(-1, *frames.shape[2:]))
            films = flat.reshape(*frames.shape[:2], *flat.shape[1:])
        windows: list[Tensor] = []
        window_owners: list[int] = []
        for index in owners["audio"]:
            read = self._windows(media[index], rng)
            windows += read
            window_owners += [index] * len(read)
            lengths[index] = self._audio_tokens(read)
        return MediaBatch(pictures, films, windows, {**owners, "audio": window_owners}, lengths)

    def _windows(self, shown: Shown, rng: np.random.Generator) -> list[Tensor]:
        if self.hearing is None:
            raise ValueError("a sound came up where there is no audio encoder")
        samples_T: NDArray[np.float32]
        if isinstance(shown, Speech):
            samples_T = speak(utterance_from(rng, shown.sentence))
        elif isinstance(shown, Sound):
            samples_T = render_sounds([shown])[0]
        else:
            raise TypeError(f"{type(shown).__name__} is no sound")
        longest_T = max(self.hearing.samples_per_window, len(samples_T))
        return self.hearing.preprocess(self.hearing.windows_of(self.arrival.rooms.heard(samples_T, rng, longest_T)))

    def _audio_tokens(self, windows: Sequence[Tensor]) -> int:
        if self.hearing is None:
            return 0
        return sum(window.shape[-1] // 2 // self.hearing.trim_to for window in windows)


class MediaInputs:
    """Encoders, frozen but for those in `taught`, and trained projectors, by modality."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        projectors: nn.ModuleDict,
        device: torch.device,
        taught: Collection[str] = (),
    ) -> None:
        self.encoders = {
            name: encoder.to(device).requires_grad_(name in taught).eval() for name, encoder in encoders.items()
        }
        self.projectors = projectors
        self.device = device

    def reader(self, arrival: Arrival) -> MediaReader:
        """Returns what makes media for these encoders; it holds none of the weights that train."""
        sight = self.encoders.get("image") or self.encoders.get("video")
        hearing = self.encoders.get("audio")
        preprocess = sight.preprocess_settings if isinstance(sight, ClipVision) else None
        return MediaReader(preprocess, hearing if isinstance(hearing, WhisperEncoder) else None, arrival)

    def project(self, modality: str, features: Tensor) -> Tensor:
        """Runs a modality's projector."""
        projector = self.projectors[modality]
        if not isinstance(projector, InputProjector):
            raise TypeError(f"{modality}: {type(projector).__name__} is no projector")
        projected: Tensor = projector(features.float())
        return projected

    def features(self, batch: MediaBatch) -> dict[str, list[Tensor]]:
        """Encodes media: BTF or BNTF by modality; windows of sounds in groups of one length."""
        found: dict[str, list[Tensor]] = {}
        if batch.pictures is not None:
            found["image"] = [self.encoders["image"](batch.pictures.to(self.device))]
        if batch.films is not None:
            flat = batch.films.flatten(0, 1).to(self.device)
            features = self.encoders["video"](flat)
            found["video"] = [features.reshape(*batch.films.shape[:2], *features.shape[1:])]
        if batch.windows:
            found["audio"] = [
                self.encoders["audio"](torch.stack([batch.windows[i] for i in group]).to(self.device))
                for group in _by_length(batch.windows)
            ]
        return found

    def embed(self, batch: MediaBatch) -> list[Tensor]:
        """Embeddings of every medium, in order (TD each)."""
        pieces: list[list[Tensor]] = [[] for _ in batch.lengths]
        for modality, features in self.features(batch).items():
            embedded = [row for group in features for row in self.project(modality, group)]
            order = range(len(embedded))
            if modality == "audio":
                order = [i for group in _by_length(batch.windows) for i in group]  # type: ignore[assignment]
            by_place = sorted(zip(order, embedded, strict=True), key=lambda pair: pair[0])
            for owner, (_, row_TD) in zip(batch.owners[modality], by_place, strict=True):
                pieces[owner].append(row_TD)
        return [torch.cat(rows) for rows in pieces]


def _by_length(windows: Sequence[Tensor]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for index, window in enumerate(windows):
        groups.setdefault(window.shape[-1], []).append(index)
    return list(groups.values())
