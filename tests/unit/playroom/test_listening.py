"""The judge of sounds against the generator. `PLAYROOM_JUDGE_SAMPLES=2000` runs it at the size the world asks for."""

from __future__ import annotations

import os

import numpy as np
import pytest

from services.playroom.codecs import SOUND_CODINGS, decode_sound, encode_sound
from services.playroom.listening import read_sound, to_rate
from services.playroom.scenes import Split, seed_of
from services.playroom.sounds import SAMPLE_RATE_HZ, Sound, SoundFacts, draw_sound
from services.playroom.synthesis import Floats, decode_wav, encode_wav, render_sounds

SAMPLES = int(os.environ.get("PLAYROOM_JUDGE_SAMPLES", "400"))


@pytest.mark.parametrize("bits", [None, 16, 8], ids=["raw", "pcm16", "pcm8"])
def test_judge_agrees_with_the_generator(bits: int | None) -> None:
    sounds = [draw_sound(seed_of(Split.TEST, index)) for index in range(SAMPLES)]
    agreed = 0
    for sound, samples in zip(sounds, render_sounds(sounds), strict=True):
        heard, rate_hz = (samples, SAMPLE_RATE_HZ) if bits is None else decode_wav(encode_wav(samples, bits))
        agreed += read_sound(heard, rate_hz) == sound.facts
    print(f"judge of sounds, {bits or 'no'} bits: {agreed} of {SAMPLES} agree")
    assert agreed / SAMPLES >= 0.995


@pytest.mark.parametrize("name", sorted(SOUND_CODINGS))
def test_judge_hears_through_compression(name: str) -> None:
    samples = max(100, SAMPLES // 4) if SAMPLES < 2000 else SAMPLES
    sounds = [draw_sound(seed_of(Split.TEST, index)) for index in range(samples)]
    heard = [decode_sound(encode_sound(each, SOUND_CODINGS[name])) for each in render_sounds(sounds)]
    agreed = sum(read_sound(*each) == sound.facts for each, sound in zip(heard, sounds, strict=True))
    print(f"judge of sounds, {name}: {agreed} of {samples} agree")
    assert agreed / samples >= 0.995


def test_judge_hears_other_rates() -> None:
    for index in range(40):
        sound = draw_sound(index)
        samples = to_rate(render_sounds([sound])[0], SAMPLE_RATE_HZ, 44_100)
        assert read_sound(samples, 44_100) == sound.facts


def test_judge_hears_loudness_and_noise_that_no_generator_has_to_hit() -> None:
    rng = np.random.default_rng(0)
    for index in range(60):
        sound = draw_sound(index)
        samples = 0.3 * render_sounds([sound])[0]
        delayed = np.roll(samples, int(rng.integers(-800, 800)))
        assert read_sound(delayed.astype(np.float32)) == sound.facts


def _joined(*sounds: Sound) -> Floats:
    mixed: Floats = np.sum(render_sounds(sounds), axis=0, dtype=np.float32)
    return mixed


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(32_000, np.float32),
        np.zeros(10, np.float32),
        np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32),
        np.sin(np.arange(32_000) * 0.2).astype(np.float32),
        _joined(Sound(SoundFacts("beep", "low")), Sound(SoundFacts("beep", "high"))),
        _joined(Sound(SoundFacts("sweep", "rising")), Sound(SoundFacts("sweep", "falling"))),
        to_rate(render_sounds([Sound(SoundFacts("beep", "low"))])[0], 16_000, 22_050),
    ],
    ids=["silence", "nothing", "noise", "endless", "two pitches", "two sweeps", "wrong pitch"],
)
def test_judge_says_when_it_cannot_tell(samples: Floats) -> None:
    assert read_sound(samples) is None
