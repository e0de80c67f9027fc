from __future__ import annotations

import time

import numpy as np
import pytest

from services.playroom.sounds import HISS_BAND_HZ, PITCH_HZ, SAMPLE_RATE_HZ, Sound, SoundFacts, draw_sound
from services.playroom.synthesis import Floats, decode_wav, encode_wav, render_sounds

_NO_NOISE_DB = -200.0


def _rendered(timbre: str, pitch: str, count: int = 1, **exactly: float) -> Floats:
    settings = {"noise_db": _NO_NOISE_DB, **exactly}
    return render_sounds([Sound(SoundFacts(timbre, pitch, count), **settings)])[0]  # type: ignore[arg-type]


def _spectrum(samples_T: Floats) -> tuple[Floats, Floats]:
    """Magnitudes and their frequencies (Hz)."""
    n = 1 << 16
    spectrum = np.abs(np.fft.rfft(samples_T * np.hanning(len(samples_T)), n)).astype(np.float32)
    return spectrum, np.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_events_are_where_the_world_has_them_and_equal(count: int) -> None:
    samples = _rendered("hiss", "middle", count)
    assert samples.shape == (32_000,)
    loud = np.zeros(32_000, bool)
    for index in range(count):
        start = 1600 + 8000 * index
        loud[start : start + 4000] = True
        assert samples[start : start + 4000] == pytest.approx(samples[1600:5600], abs=1e-6)
    assert np.abs(samples[~loud]).max() < 1e-6
    assert np.abs(samples[loud]).max() == pytest.approx(10 ** (-6 / 20), rel=1e-4)


def test_events_fade_in_and_out_linearly_for_10_ms() -> None:
    samples = _rendered("beep", "high")
    event = samples[1600:5600]
    plain = np.sin(2 * np.pi * 880 * np.arange(4000) / SAMPLE_RATE_HZ)
    gain = np.minimum(1, np.minimum(np.arange(4000), np.arange(4000)[::-1]) / 160)
    scale = 10 ** (-6 / 20) / np.abs(plain * gain).max()
    assert event == pytest.approx(plain * gain * scale, abs=1e-3)


def test_a_buzz_has_odd_harmonics_below_4_khz() -> None:
    spectrum, hz = _spectrum(_rendered("buzz", "middle")[1600:5600])
    lines = {k: spectrum[np.abs(hz - 440 * k) < 20].max() for k in range(1, 13)}
    for k in (3, 5, 7, 9):
        assert lines[k] / lines[1] == pytest.approx(1 / k, rel=0.02)
    for k in (2, 4, 6, 8, 10, 11, 12):
        assert lines[k] / lines[1] < 0.01


def test_a_chime_decays_with_its_partials() -> None:
    event = _rendered("chime", "high")[1600:5600]
    spectrum, hz = _spectrum(event)
    lines = {k: spectrum[np.abs(hz - 880 * k) < 20].max() for k in range(1, 5)}
    assert lines[2] / lines[1] == pytest.approx(0.5, rel=0.03)
    assert lines[3] / lines[1] == pytest.approx(0.25, rel=0.03)
    assert lines[4] / lines[1] < 0.01
    early, late = (np.sqrt(np.square(event[start : start + 400]).mean()) for start in (400, 400 + 1280))
    assert late / early == pytest.approx(np.exp(-1), rel=0.02)


@pytest.mark.parametrize("pitch", sorted(HISS_BAND_HZ))
def test_a_hiss_stays_in_its_band_and_falls_off_like_a_butterworth_filter(pitch: str) -> None:
    low, high = HISS_BAND_HZ[pitch]
    sounds = [
        Sound(SoundFacts("hiss", pitch), noise_db=_NO_NOISE_DB, peak_dbfs=-6, noise_seed=seed) for seed in range(200)
    ]
    power = np.zeros((1 << 15) + 1)
    for samples in render_sounds(sounds):
        spectrum, hz = _spectrum(samples[1600:5600])
        power += np.square(spectrum)
    middle = power[(hz > 1.3 * low) & (hz < 0.8 * high)].mean()
    for edge in (low, high):
        at_edge = power[np.abs(hz - edge) < 0.03 * edge].mean()
        assert 10 * np.log10(at_edge / middle) == pytest.approx(-3.0, abs=1.0)
    assert 10 * np.log10(power[hz < low / 2].mean() / middle) < -20


@pytest.mark.parametrize(("direction", "ends"), [("rising", (200, 1600)), ("falling", (1600, 200))])
def test_sweeps_are_linear_in_frequency(direction: str, ends: tuple[float, float]) -> None:
    samples = _rendered("sweep", direction)
    assert np.abs(samples[:1600]).max() < 1e-6
    assert np.abs(samples[17600:]).max() < 1e-6
    for at_s in (0.1, 0.5, 0.9):
        start = 1600 + round(at_s * SAMPLE_RATE_HZ) - 400
        spectrum, hz = _spectrum(samples[start : start + 800])
        assert hz[spectrum.argmax()] == pytest.approx(ends[0] + (ends[1] - ends[0]) * at_s, abs=15)


@pytest.mark.parametrize("pitch", sorted(PITCH_HZ))
def test_pitch_is_shifted_by_its_factor(pitch: str) -> None:
    spectrum, hz = _spectrum(_rendered("beep", pitch, pitch_factor=1.03)[1600:5600])
    assert hz[spectrum.argmax()] == pytest.approx(1.03 * PITCH_HZ[pitch], rel=0.003)


def test_noise_is_as_far_below_an_event_as_the_sound_says() -> None:
    samples = _rendered("beep", "low", noise_db=-30.0)
    event, noise = samples[1760:5440], samples[6000:]
    below = 20 * np.log10(np.sqrt(np.square(noise).mean()) / np.sqrt(np.square(event).mean()))
    assert below == pytest.approx(-30.0, abs=0.5)


@pytest.mark.parametrize(("bits", "step"), [(16, 2**-15), (8, 2**-7)])
def test_wav_keeps_samples_to_half_a_step(bits: int, step: float) -> None:
    samples = render_sounds([draw_sound(1)])[0]
    read, rate_hz = decode_wav(encode_wav(samples, bits))
    assert rate_hz == SAMPLE_RATE_HZ
    assert read == pytest.approx(samples, abs=0.6 * step)


def test_other_depths_are_refused() -> None:
    with pytest.raises(ValueError, match="24 bits, expected one of"):
        encode_wav(np.zeros(10, np.float32), 24)


def test_making_sounds_is_fast_and_repeats() -> None:
    sounds = [draw_sound(seed) for seed in range(300)]
    render_sounds(sounds[:40])
    start_s = time.process_time()
    samples = render_sounds(sounds)
    print(f"sounds made per second of one core: {len(sounds) / (time.process_time() - start_s):.0f}")
    assert (samples == render_sounds(sounds)).all()
    assert np.abs(samples).max() < 1
