"""Studios: what makes the encoded media of cases. The playroom's own is here; others may stand in for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from services.playroom.drawing import encode_picture, picture_of
from services.playroom.filming import Pixels, draw_films, encode_gif
from services.playroom.films import Film
from services.playroom.scenes import Scene
from services.playroom.sounds import Sound
from services.playroom.synthesis import Floats, encode_wav, render_sounds


@dataclass(frozen=True)
class Medium:
    """An encoded medium.

    Attributes:
        said: What is said in it; empty where it is no speech.
    """

    modality: str
    mime_type: str
    data: bytes
    said: str = ""


SoundFormat: TypeAlias = Callable[[Floats, np.random.Generator], Medium]
FilmFormat: TypeAlias = Callable[[Pixels, np.random.Generator], Medium]


class Studio(Protocol):
    """Makes media by what they show; ``rng`` chooses among its formats."""

    def picture(self, scene: Scene, rng: np.random.Generator) -> Medium:
        """A picture of a scene."""
        ...

    def sound(self, sound: Sound, rng: np.random.Generator) -> Medium:
        """A sound."""
        ...

    def film(self, film: Film, rng: np.random.Generator) -> Medium:
        """A film."""
        ...

    def speech(self, sentence: str, samples_T: Floats, rng: np.random.Generator) -> Medium:
        """A sentence that was spoken, at 16 kHz."""
        ...


def as_picture(scene: Scene, rng: np.random.Generator) -> Medium:
    """A picture, as PNG or as JPEG of quality 80 or more."""
    drawn = picture_of(scene)
    if rng.random() < 0.5:
        return Medium("image", "image/png", encode_picture(drawn))
    return Medium("image", "image/jpeg", encode_picture(drawn, int(rng.integers(80, 101))))


def as_wav(samples_T: Floats, rng: np.random.Generator) -> Medium:
    """A sound as WAV of 16 bits."""
    return Medium("audio", "audio/wav", encode_wav(samples_T))


def as_gif(frames_FHWC: Pixels, rng: np.random.Generator) -> Medium:
    """A film as animated GIF."""
    return Medium("video", "image/gif", encode_gif(frames_FHWC))


@dataclass(frozen=True)
class OwnStudio:
    """The playroom's own drawings and sounds, and how they are written; other codecs go here."""

    as_sound: SoundFormat = as_wav
    as_film: FilmFormat = as_gif

    def picture(self, scene: Scene, rng: np.random.Generator) -> Medium:
        """A picture of a scene."""
        return as_picture(scene, rng)

    def sound(self, sound: Sound, rng: np.random.Generator) -> Medium:
        """A sound."""
        return self.as_sound(render_sounds([sound])[0], rng)

    def film(self, film: Film, rng: np.random.Generator) -> Medium:
        """A film."""
        return self.as_film(draw_films([film])[0], rng)

    def speech(self, sentence: str, samples_T: Floats, rng: np.random.Generator) -> Medium:
        """A sentence that was spoken, at 16 kHz."""
        written = self.as_sound(samples_T, rng)
        return Medium(written.modality, written.mime_type, written.data, sentence)
