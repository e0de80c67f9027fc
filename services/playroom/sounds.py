"""Sounds: what a sound of the playroom is, drawn at random from a seed; its caption, and the caption read back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.playroom.sayings import PITCHES, TIMBRES
from services.playroom.words import NUMBERS

SAMPLE_RATE_HZ: Final = 16_000
SOUND_S: Final = 2.0
FIRST_EVENT_S: Final = 0.1
EVENT_S: Final = 0.25
EVENT_PERIOD_S: Final = 0.5
FADE_S: Final = 0.01
SWEEP_S: Final = 1.0
MAX_EVENTS: Final = 3

PITCH_HZ: Final[dict[str, float]] = {"low": 220.0, "middle": 440.0, "high": 880.0}
HISS_BAND_HZ: Final[dict[str, tuple[float, float]]] = {
    "low": (200.0, 800.0),
    "middle": (800.0, 2500.0),
    "high": (2500.0, 7000.0),
}
SWEEP: Final = "sweep"
SWEEP_HZ: Final[dict[str, tuple[float, float]]] = {"rising": (200.0, 1600.0), "falling": (1600.0, 200.0)}
MAX_PITCH_SHIFT: Final = 0.03
PEAK_DBFS: Final = (-12.0, -3.0)
NOISE_DB: Final = (-40.0, -25.0)
"""White noise, against the RMS of an event."""

_PLURALS: Final = {**{timbre: f"{timbre}s" for timbre in TIMBRES}, "buzz": "buzzes", "hiss": "hisses"}
_SINGULARS: Final = {plural: timbre for timbre, plural in _PLURALS.items()}
_SWEEPING = re.compile(rf"an? ({'|'.join(SWEEP_HZ)}) {SWEEP}")
_EVENTS = re.compile(rf"(an?|{'|'.join(NUMBERS[1:])}) ({'|'.join(PITCHES)}) ({'|'.join([*_SINGULARS, *TIMBRES])})")
_SOUND_DOMAIN: Final = 1
"""Sounds and scenes of one seed have nothing to do with each other."""


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """What a caption says about a sound.

    Attributes:
        timbre: One of `TIMBRES`, or `sweep`.
        pitch: One of `PITCHES`; of a sweep `rising` or `falling`.
        count: How many events; a sweep is one.
    """

    timbre: str
    pitch: str
    count: int = 1

    @property
    def is_sweep(self) -> bool:
        """Whether it is a sweep and no run of events."""
        return self.timbre == SWEEP

    @property
    def noun(self) -> str:
        """What there is, in the number there is: `beep`, `beeps`."""
        return self.timbre if self.count == 1 else plural_of(self.timbre)


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound: what it is, and how exactly it sounds."""

    facts: SoundFacts
    pitch_factor: float = 1.0
    peak_dbfs: float = -6.0
    noise_db: float = -40.0
    noise_seed: int = 0


ALL_SOUNDS: Final[tuple[SoundFacts, ...]] = (
    *(SoundFacts(timbre, pitch, count) for timbre in TIMBRES for pitch in PITCHES for count in (1, 2, 3)),
    *(SoundFacts(SWEEP, pitch) for pitch in SWEEP_HZ),
)
"""All that can be heard: 38 captions."""


def plural_of(timbre: str) -> str:
    """Several of a timbre: `beeps`, `hisses`."""
    return _PLURALS[timbre]


def draw_sound(seed: int) -> Sound:
    """Draws the sound of a seed."""
    return sound_from(np.random.default_rng((seed, _SOUND_DOMAIN)))


def sound_from(rng: np.random.Generator, facts: SoundFacts | None = None) -> Sound:
    """Draws a sound, or how exactly a given one sounds."""
    return Sound(
        facts=facts or ALL_SOUNDS[int(rng.integers(len(ALL_SOUNDS)))],
        pitch_factor=float(rng.uniform(1 - MAX_PITCH_SHIFT, 1 + MAX_PITCH_SHIFT)),
        peak_dbfs=float(rng.uniform(*PEAK_DBFS)),
        noise_db=float(rng.uniform(*NOISE_DB)),
        noise_seed=int(rng.integers(2**31)),
    )


def sound_caption(facts: SoundFacts) -> str:
    """Writes the caption of a sound: `two high beeps`, `a rising sweep`."""
    if facts.is_sweep:
        return f"a {facts.pitch} {SWEEP}"
    return f"{NUMBERS[facts.count]} {facts.pitch} {facts.noun}"


def parse_sound_caption(text: str) -> SoundFacts | None:
    """Reads a caption of a sound; None where it is none or says anything else besides."""
    said = text.strip().lower().rstrip(".").rstrip()
    if found := _SWEEPING.fullmatch(said):
        return SoundFacts(SWEEP, found[1])
    found = _EVENTS.fullmatch(said)
    if found is None:
        return None
    number, pitch, noun = found.groups()
    count = NUMBERS.index(number) if number in NUMBERS else 1
    if (count == 1) != (noun in TIMBRES):
        return None
    return SoundFacts(_SINGULARS.get(noun, noun), pitch, count)
