"""The judge of sounds: reads timbre, pitch and count, or the sweep, back from samples, or says that it cannot.

Events are the runs in which a sound is loud. What they are made of is read from their mean spectrum: a tone keeps
its power at its pitch and few multiples of it (an octave above sounds in a chime alone, a twelfth in a buzz too),
a hiss spreads it over its band. A sweep is a single long run; its pitch is followed from window to window.
"""

# T samples, W windows, F frequencies

from __future__ import annotations

from math import gcd
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.playroom.sounds import (
    EVENT_PERIOD_S,
    EVENT_S,
    FIRST_EVENT_S,
    HISS_BAND_HZ,
    MAX_EVENTS,
    PITCH_HZ,
    SAMPLE_RATE_HZ,
    SOUND_S,
    SWEEP,
    SWEEP_HZ,
    SWEEP_S,
    SoundFacts,
)

Floats: TypeAlias = NDArray[np.float32]

_HOP = 160
_WINDOW = 320
_SILENCE_RMS = 1e-3
_LOUD_DB = -17.0
"""Against the loudest window; noise stays below by 8 dB, a chime falls below in the middle of its event."""
_MERGE_S = 0.08
_MIN_EVENT_S = 0.05
_MAX_EVENT_S = 0.4
_MAX_START_ERROR_S = 0.12
_SWEEP_SHARE = (0.8, 1.25)
_MAX_LEVEL_SPREAD_DB = 8.0
_MAX_PITCH_ERROR = 0.12
_LINE_HZ = 24.0
_MIN_TONE_SHARE = 0.8
_MIN_BAND_SHARE = 0.6
_MIN_OCTAVE = 0.08
"""Power of the second partial against the first; a chime has 0.25."""
_MAX_PARTIAL = 0.6
_MIN_TWELFTH = 0.04
"""Power of the third partial against the first; a buzz has 0.11."""
_SPECTRUM_SAMPLES = 8192
_BANDS: Final = (100.0, 800.0, 2500.0, 8000.0)


def to_rate(samples_T: Floats, rate_hz: int, wanted_hz: int = SAMPLE_RATE_HZ) -> Floats:
    """Resamples."""
    if rate_hz == wanted_hz:
        return samples_T
    from scipy.signal import resample_poly

    common = gcd(rate_hz, wanted_hz)
    resampled: Floats = resample_poly(samples_T, wanted_hz // common, rate_hz // common).astype(np.float32)
    return resampled


def _loudness(samples_T: Floats) -> Floats:
    """RMS of windows of 20 ms, one every 10 ms (W)."""
    windows = np.lib.stride_tricks.sliding_window_view(samples_T, _WINDOW)[::_HOP]
    rms: Floats = np.sqrt(np.square(windows).mean(1))
    return rms


def _runs(samples_T: Floats) -> list[tuple[float, float]]:
    """Start and end in seconds of every run in which the sound is loud."""
    rms_W = _loudness(samples_T)
    if rms_W.max() < _SILENCE_RMS:
        return []
    loud_W = np.concatenate([[False], rms_W > rms_W.max() * 10 ** (_LOUD_DB / 20), [False]])
    edges = np.flatnonzero(np.diff(loud_W.astype(np.int8))).reshape(-1, 2)
    hop_s, reach_s = _HOP / SAMPLE_RATE_HZ, (_WINDOW - _HOP) / 2 / SAMPLE_RATE_HZ
    runs: list[tuple[float, float]] = []
    for first, last in edges:
        start_s, end_s = first * hop_s + reach_s, last * hop_s + reach_s
        if runs and start_s - runs[-1][1] < _MERGE_S:
            runs[-1] = (runs[-1][0], end_s)
        else:
            runs.append((start_s, end_s))
    return [run for run in runs if run[1] - run[0] >= _MIN_EVENT_S]


def _spectrum(samples_T: Floats, starts_s: list[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean power spectrum of the events that start there, and its frequencies in Hz (F)."""
    n_event = round(EVENT_S * SAMPLE_RATE_HZ)
    power_F = np.zeros(_SPECTRUM_SAMPLES // 2 + 1)
    for start_s in starts_s:
        first = max(0, round(start_s * SAMPLE_RATE_HZ))
        event = samples_T[first : first + n_event]
        power_F += np.square(np.abs(np.fft.rfft(event * np.hanning(len(event)), _SPECTRUM_SAMPLES)))
    return power_F, np.fft.rfftfreq(_SPECTRUM_SAMPLES, 1 / SAMPLE_RATE_HZ).astype(np.float64)


def _read_tone(power_F: NDArray[np.float64], hz_F: NDArray[np.float64]) -> tuple[str, str] | None:
    """Reads timbre and pitch of a tone; None where it is none."""
    fundamental_hz = float(hz_F[int(np.argmax(np.where(hz_F < 1.2 * PITCH_HZ["high"], power_F, 0.0)))])

    def line(partial: int) -> float:
        return float(power_F[np.abs(hz_F - partial * fundamental_hz) <= _LINE_HZ].sum())

    # no timbre has the fourth partial or even ones above it
    lines = [line(partial) for partial in (1, 2, *range(3, 19, 2)) if partial * fundamental_hz < SAMPLE_RATE_HZ / 2]
    if sum(lines) < _MIN_TONE_SHARE * power_F.sum() or max(lines[1:3]) > _MAX_PARTIAL * lines[0]:
        return None
    pitch = min(PITCH_HZ, key=lambda name: abs(fundamental_hz - PITCH_HZ[name]))
    if abs(fundamental_hz / PITCH_HZ[pitch] - 1) > _MAX_PITCH_ERROR:
        return None
    if lines[1] > _MIN_OCTAVE * lines[0]:
        return "chime", pitch
    return ("buzz" if lines[2] > _MIN_TWELFTH * lines[0] else "beep"), pitch


def _read_hiss(power_F: NDArray[np.float64], hz_F: NDArray[np.float64]) -> tuple[str, str] | None:
    """Reads the band of a hiss; None where no band holds most of the power, or a few lines do."""
    total = power_F.sum()
    if np.sort(power_F)[-round(2 * _LINE_HZ / hz_F[1]) :].sum() > _MIN_TONE_SHARE * total:
        return None
    shares = {
        pitch: float(power_F[(hz_F >= low_hz) & (hz_F < high_hz)].sum() / total)
        for pitch, low_hz, high_hz in zip(HISS_BAND_HZ, _BANDS, _BANDS[1:], strict=False)
    }
    pitch = max(shares, key=lambda name: shares[name])
    return ("hiss", pitch) if shares[pitch] >= _MIN_BAND_SHARE else None


def _read_sweep(samples_T: Floats, start_s: float, end_s: float) -> SoundFacts | None:
    """Follows the strongest frequency of windows of 64 ms through a run."""
    n_window = 1024
    first, last = round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
    windows = np.lib.stride_tricks.sliding_window_view(samples_T[first:last], n_window)[:: n_window // 2]
    power_WF = np.square(np.abs(np.fft.rfft(windows * np.hanning(n_window), 4 * n_window, axis=1)))
    hz_F = np.fft.rfftfreq(4 * n_window, 1 / SAMPLE_RATE_HZ)
    peak_W = hz_F[power_WF.argmax(1)]
    near_WF = np.abs(hz_F[None, :] - peak_W[:, None]) <= 100.0
    if (power_WF * near_WF).sum() < _MIN_TONE_SHARE * power_WF.sum():
        return None
    at_W = (np.arange(len(peak_W)) + 0.5) / len(peak_W)
    for direction, (from_hz, to_hz) in SWEEP_HZ.items():
        expected_W = from_hz + (to_hz - from_hz) * at_W
        if np.median(np.abs(peak_W - expected_W)) < 150.0 and np.abs(peak_W - expected_W).mean() < 250.0:
            return SoundFacts(SWEEP, direction)
    return None


def read_sound(samples_T: Floats, rate_hz: int = SAMPLE_RATE_HZ) -> SoundFacts | None:
    """Reads what is heard, None where it cannot tell. Takes what any decoder gives, channels averaged."""
    heard_T = to_rate(samples_T, rate_hz)
    if len(heard_T) < _WINDOW or len(heard_T) > 2 * SOUND_S * SAMPLE_RATE_HZ:
        return None
    runs = _runs(heard_T)
    if len(runs) == 1 and _SWEEP_SHARE[0] <= (runs[0][1] - runs[0][0]) / SWEEP_S <= _SWEEP_SHARE[1]:
        return _read_sweep(heard_T, *runs[0])
    if not 1 <= len(runs) <= MAX_EVENTS:
        return None
    expected_s = [FIRST_EVENT_S + EVENT_PERIOD_S * index for index in range(len(runs))]
    for (start_s, end_s), at_s in zip(runs, expected_s, strict=True):
        if abs(start_s - at_s) > _MAX_START_ERROR_S or end_s - start_s > _MAX_EVENT_S:
            return None
    starts_s = [start_s for start_s, _ in runs]
    powers = [float(_spectrum(heard_T, [start_s])[0].sum()) for start_s in starts_s]
    if 10 * np.log10(max(powers) / min(powers)) > _MAX_LEVEL_SPREAD_DB:
        return None
    spectrum = _spectrum(heard_T, starts_s)
    found = _read_tone(*spectrum) or _read_hiss(*spectrum)
    return SoundFacts(*found, len(runs)) if found else None
