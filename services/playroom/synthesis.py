"""Making sounds: events by timbre and pitch, faded, scaled and repeated, then white noise over the whole."""

# N sounds, T samples of a sound, E samples of an event

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.playroom.sounds import (
    EVENT_PERIOD_S,
    EVENT_S,
    FADE_S,
    FIRST_EVENT_S,
    HISS_BAND_HZ,
    PITCH_HZ,
    SAMPLE_RATE_HZ,
    SOUND_S,
    SWEEP_HZ,
    SWEEP_S,
    Sound,
)

Floats: TypeAlias = NDArray[np.float32]

SOUND_SAMPLES: Final = round(SOUND_S * SAMPLE_RATE_HZ)
_BUZZ_LIMIT_HZ = 4000.0
_CHIME_DECAY_S = 0.08
_CHIME_PARTIALS = ((1, 1.0), (2, 0.5), (3, 0.25))
_FILTER_ORDER = 4
_FULL_SCALE = {8: 127.0, 16: 32767.0}
_ZERO_LEVEL = {8: 128, 16: 0}
_SAMPLE_TYPE: dict[int, np.dtype[np.uint8] | np.dtype[np.int16]] = {
    8: np.dtype(np.uint8),
    16: np.dtype(np.int16).newbyteorder("<"),
}


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)


@lru_cache(maxsize=4)
def _fades(n_samples: int) -> Floats:
    """A gain that goes up from zero and down to zero again, linearly."""
    ramp = np.arange(n_samples) / _samples(FADE_S)
    return np.minimum(1.0, np.minimum(ramp, ramp[::-1])).astype(np.float32)


def _tone(timbre: str, pitch_hz: float) -> Floats:
    time_E = np.arange(_samples(EVENT_S), dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)
    angle_E = np.float32(2 * np.pi * pitch_hz) * time_E
    tone_E: Floats
    match timbre:
        case "beep":
            tone_E = np.sin(angle_E)
        case "buzz":
            partials = range(1, int(np.ceil(_BUZZ_LIMIT_HZ / pitch_hz)), 2)
            tone_E = np.sum([np.sin(k * angle_E) / k for k in partials], axis=0, dtype=np.float32)
        case _:
            tone_E = np.sum([a * np.sin(k * angle_E) for k, a in _CHIME_PARTIALS], axis=0, dtype=np.float32)
            tone_E *= np.exp(-time_E / np.float32(_CHIME_DECAY_S))
    return tone_E


def _hiss(pitch: str, pitch_factor: float, rng: np.random.Generator) -> Floats:
    """Band-passed white noise; the filter has run in before the event starts."""
    from scipy.signal import butter, sosfilt

    n_event = _samples(EVENT_S)
    band_hz = [edge * pitch_factor for edge in HISS_BAND_HZ[pitch]]
    band = butter(_FILTER_ORDER, band_hz, "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    filtered: Floats = sosfilt(band, rng.standard_normal(2 * n_event))[n_event:].astype(np.float32)
    return filtered


@lru_cache(maxsize=2)
def _sweep(direction: str) -> Floats:
    """A sine whose frequency goes linearly from one end to the other."""
    start_hz, end_hz = SWEEP_HZ[direction]
    time = np.arange(_samples(SWEEP_S)) / SAMPLE_RATE_HZ
    angle = 2 * np.pi * (start_hz * time + (end_hz - start_hz) / (2 * SWEEP_S) * np.square(time))
    return np.sin(angle).astype(np.float32)


def _event(sound: Sound, rng: np.random.Generator) -> Floats:
    """One event, faded, at its peak level."""
    facts = sound.facts
    if facts.is_sweep:
        raw = _sweep(facts.pitch)
    elif facts.timbre == "hiss":
        raw = _hiss(facts.pitch, sound.pitch_factor, rng)
    else:
        raw = _tone(facts.timbre, PITCH_HZ[facts.pitch] * sound.pitch_factor)
    faded = raw * _fades(len(raw))
    peak = np.float32(10 ** (sound.peak_dbfs / 20))
    scaled: Floats = faded * (peak / np.abs(faded).max())
    return scaled


def render_sounds(sounds: Sequence[Sound]) -> Floats:
    """Makes sounds, noise included.

    Shapes:
        Result: NT, 2 s at 16 kHz, full scale is 1.
    """
    samples_NT = np.empty((len(sounds), SOUND_SAMPLES), np.float32)
    for row_T, sound in zip(samples_NT, sounds, strict=True):
        rng = np.random.default_rng(sound.noise_seed)
        event_E = _event(sound, rng)
        loudness = np.sqrt(np.square(event_E).mean())
        rng.standard_normal(out=row_T, dtype=np.float32)
        row_T *= np.float32(loudness * 10 ** (sound.noise_db / 20))
        for index in range(sound.facts.count):
            start = _samples(FIRST_EVENT_S + EVENT_PERIOD_S * index)
            row_T[start : start + len(event_E)] += event_E
    return np.clip(samples_NT, -1.0, 1.0, out=samples_NT)


def encode_wav(samples_T: Floats, bits: int = 16, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """Writes mono samples as WAV, PCM of 16 or 8 bits.

    Raises:
        ValueError: There is no such depth.
    """
    if bits not in _FULL_SCALE:
        raise ValueError(f"encode_wav: {bits} bits, expected one of {sorted(_FULL_SCALE)}")
    levels = np.rint(np.clip(samples_T, -1.0, 1.0) * _FULL_SCALE[bits]) + _ZERO_LEVEL[bits]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(bits // 8)
        writer.setframerate(rate_hz)
        writer.writeframes(levels.astype(_SAMPLE_TYPE[bits]).tobytes())
    return buffer.getvalue()


def decode_wav(data: bytes) -> tuple[Floats, int]:
    """Reads a PCM WAV of 8 or 16 bits: its samples, channels averaged, and its rate in Hz.

    Raises:
        ValueError: The samples have another depth.
    """
    with wave.open(io.BytesIO(data)) as reader:
        bits, channels, rate_hz = 8 * reader.getsampwidth(), reader.getnchannels(), reader.getframerate()
        raw = reader.readframes(reader.getnframes())
    if bits not in _FULL_SCALE:
        raise ValueError(f"decode_wav: {bits} bits a sample, expected one of {sorted(_FULL_SCALE)}")
    levels = np.frombuffer(raw, _SAMPLE_TYPE[bits]).astype(np.float32) - _ZERO_LEVEL[bits]
    mono: Floats = (levels / np.float32(_FULL_SCALE[bits])).reshape(-1, channels).mean(1, dtype=np.float32)
    return mono, rate_hz
