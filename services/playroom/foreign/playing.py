"""Sounds by sox: its own sines, noise, filters and fades, stereo at 44.1 kHz."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from services.playroom.foreign.encoding import SOUND_RATE_HZ, SOUND_TYPES, encode_sounds
from services.playroom.foreign.programs import run
from services.playroom.sounds import (
    EVENT_PERIOD_S,
    EVENT_S,
    FADE_S,
    FIRST_EVENT_S,
    HISS_BAND_HZ,
    PITCH_HZ,
    SOUND_S,
    SWEEP_HZ,
    SWEEP_S,
    Sound,
)

_NOISE_S = 30.0
_NOISE_RMS = 1 / math.sqrt(3)
"""Of sox's white noise, which is uniform."""
_BUZZ_LIMIT_HZ = 4000.0
_CHIME_DECAY_S = 0.08
# sox's logarithmic fade goes down by 100 dB from end to end
_CHIME_FADE_S = 5 * math.log(10) * _CHIME_DECAY_S
_BUTTERWORTH_Q: Final = (0.5412, 1.3066)
"""Of the two halves of a Butterworth filter of fourth order."""
_NOTHING: Final = ["-r", str(SOUND_RATE_HZ), "-n"]
"""What sox reads where its effects make the sound themselves."""


@dataclass(frozen=True)
class SoundOrder:
    """A sound to be played.

    Attributes:
        ending: `wav`, `flac`, `mp3` or `opus`.
        noise_from_s: Where in sox's noise that of the background starts; a hiss starts elsewhere.
    """

    sound: Sound
    ending: str
    noise_from_s: float
    hiss_from_s: float

    @property
    def mime_type(self) -> str:
        """Its media type."""
        return SOUND_TYPES[self.ending]


def order_sound(sound: Sound, rng: np.random.Generator) -> SoundOrder:
    """Chooses the format of a sound, and its noise."""
    ending = tuple(SOUND_TYPES)[int(rng.integers(len(SOUND_TYPES)))]
    starts_s = rng.uniform(0.0, _NOISE_S - SOUND_S, 2)
    return SoundOrder(sound, ending, float(starts_s[0]), float(starts_s[1]))


def play_sounds(orders: Sequence[SoundOrder], folder: Path) -> list[bytes]:
    """Makes sounds.

    Raises:
        ForeignError: sox or FFmpeg is missing or fails.
    """
    whole = [*_NOTHING, "-r", str(SOUND_RATE_HZ), "-c", "2", "-b", "24", "noise.wav"]
    run("sox", ["-R", *whole, "synth", str(_NOISE_S), "whitenoise"], folder)
    paths = [_play(order, index, folder) for index, order in enumerate(orders)]
    return encode_sounds(paths, [order.ending for order in orders], folder)


def _play(order: SoundOrder, index: int, folder: Path) -> Path:
    sound = order.sound
    event, path = f"event-{index}.wav", f"sound-{index}.wav"
    length_s = SWEEP_S if sound.facts.is_sweep else EVENT_S
    fades = ["fade", "t", str(FADE_S), str(length_s), str(FADE_S)]
    source, effects = _event(order)
    written = ["-r", str(SOUND_RATE_HZ), "-c", "1", "-e", "floating-point", "-b", "32", event]
    run("sox", ["-R", *source, *written, *effects, *fades, "gain", "-n", f"{sound.peak_dbfs:.3f}"], folder)
    samples = np.frombuffer(run("sox", ["-R", event, "-t", "f32", "-"], folder), "<f4")
    rms = float(np.sqrt(np.square(samples, dtype=np.float64).mean()))
    noise_gain = rms * 10 ** (sound.noise_db / 20) / _NOISE_RMS
    placed = ["pad", str(FIRST_EVENT_S), str(SOUND_S), "trim", "0", str(SOUND_S)]
    if sound.facts.count > 1:
        placed = ["pad", "0", str(EVENT_PERIOD_S - EVENT_S), "repeat", str(sound.facts.count - 1), *placed]
    run("sox", ["-R", event, "-c", "2", "-e", "floating-point", "-b", "32", f"placed-{index}.wav", *placed], folder)
    run(
        "sox",
        [
            "-R", "-m", "-v", "1", f"placed-{index}.wav", "-v", f"{noise_gain:.6f}",
            f"|sox -R noise.wav -p trim {order.noise_from_s:.4f} {SOUND_S}", "-b", "24", path,
        ],
        folder,
    )  # fmt: skip
    return folder / path


def _event(order: SoundOrder) -> tuple[list[str], list[str]]:
    """One event without fades: what sox reads, and its effects."""
    facts = order.sound.facts
    if facts.is_sweep:
        start_hz, end_hz = SWEEP_HZ[facts.pitch]
        return _NOTHING, ["synth", str(SWEEP_S), "sine", f"{start_hz:g}:{end_hz:g}"]
    if facts.timbre == "hiss":
        low_hz, high_hz = (edge * order.sound.pitch_factor for edge in HISS_BAND_HZ[facts.pitch])
        effects = ["trim", f"{order.hiss_from_s:.4f}", str(2 * EVENT_S), "remix", "1"]
        for q in _BUTTERWORTH_Q:
            effects += ["highpass", "-2", f"{low_hz:.2f}", f"{q}q", "lowpass", "-2", f"{high_hz:.2f}", f"{q}q"]
        # the filters have run in before the event starts
        return ["noise.wav"], [*effects, "trim", str(EVENT_S), str(EVENT_S)]
    pitch_hz = PITCH_HZ[facts.pitch] * order.sound.pitch_factor
    match facts.timbre:
        case "beep":
            return _NOTHING, ["synth", str(EVENT_S), "sine", f"{pitch_hz:.3f}"]
        case "buzz":
            partials = [(k, 1 / k) for k in range(1, math.ceil(_BUZZ_LIMIT_HZ / pitch_hz), 2)]
            return _NOTHING, _mixed(pitch_hz, partials, EVENT_S)
        case _:
            mixed = _mixed(pitch_hz, [(1, 1.0), (2, 0.5), (3, 0.25)], _CHIME_FADE_S)
            length_s = f"{_CHIME_FADE_S:.4f}"
            return _NOTHING, [*mixed, "fade", "l", "0", length_s, length_s, "trim", "0", str(EVENT_S)]


def _mixed(pitch_hz: float, partials: Sequence[tuple[int, float]], length_s: float) -> list[str]:
    """Sines at multiples of a pitch, each with its strength against the first."""
    sines = [word for k, _ in partials for word in ("sine", f"{k * pitch_hz:.3f}")]
    # together they must not clip; the level is set afterwards
    strengths = [f"{place}v{0.4 * part:.4f}" for place, (_, part) in enumerate(partials, start=1)]
    return ["synth", f"{length_s:.4f}", *sines, "remix", ",".join(strengths)]
