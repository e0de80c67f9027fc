"""Dimensions of `whisper` artifacts are held against openai-whisper, which has them too."""

from __future__ import annotations

import pytest

from services.artifacts.whisper_dims import HOP_SAMPLES, SAMPLE_RATE_HZ, SAMPLES_PER_POSITION, check_dims

GOOD = {"n_mels": 80, "n_audio_ctx": 200, "n_audio_state": 128, "n_audio_head": 4, "n_audio_layer": 2}


def test_the_front_end_is_that_of_openai_whisper() -> None:
    from whisper import audio

    assert (SAMPLE_RATE_HZ, HOP_SAMPLES) == (audio.SAMPLE_RATE, audio.HOP_LENGTH)
    assert audio.N_SAMPLES_PER_TOKEN == SAMPLES_PER_POSITION


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"n_mels": 40}, "n_mels: 40; expected one of"),
        ({"n_audio_head": 3}, "even multiple of n_audio_head"),
        ({"n_audio_layer": 0}, "n_audio_layer: 0; expected a whole number from 1"),
        ({"n_vocab": 7}, "n_vocab"),
    ],
)
def test_other_dimensions_are_refused(changed: dict[str, int], complaint: str) -> None:
    check_dims(GOOD)
    with pytest.raises(ValueError, match=complaint):
        check_dims(GOOD | changed)
