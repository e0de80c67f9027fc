"""Dimensions and front end of `whisper` artifacts: what whoever imports one and whoever serves it agree on.

Source: openai-whisper's `audio` and `model`, without importing them: they bring numba along.
"""

from __future__ import annotations

from collections.abc import Mapping

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160
SAMPLES_PER_POSITION = 2 * HOP_SAMPLES
"""The second convolution halves the mel frames: 20 ms a position."""

MEL_CHANNELS = (80, 128)
"""Those that openai-whisper brings filters for."""

DIMENSIONS = ("n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer")


def check_dims(dims: Mapping[str, int]) -> None:
    """Refuse what openai-whisper would stumble over later.

    Raises:
        ValueError: A dimension is missing, unknown, or of another kind or size.
    """
    if set(dims) != set(DIMENSIONS):
        raise ValueError(f"dims: {sorted(dims)}; expected {sorted(DIMENSIONS)}")
    for name, size in dims.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"dims.{name}: {size!r}; expected a whole number from 1")
    if dims["n_mels"] not in MEL_CHANNELS:
        raise ValueError(f"dims.n_mels: {dims['n_mels']}; expected one of {MEL_CHANNELS}")
    if dims["n_audio_state"] % dims["n_audio_head"] or dims["n_audio_state"] % 2:
        raise ValueError(f"dims.n_audio_state: {dims['n_audio_state']}; expected an even multiple of n_audio_head")
