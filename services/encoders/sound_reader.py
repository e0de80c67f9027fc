"""Sounds and speech for ``whisper``: one piece a window, whose features follow each other."""

# T tokens, F feature width

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from anyplex.v1 import component_pb2
from graph import messages as m
from services.artifacts.whisper_dims import SAMPLE_RATE_HZ
from services.encoders.reader import Reader, Reading, Sizes
from services.encoders.service import EncoderComponent
from services.encoders.sounds import MAX_SECONDS, decode_sound, sample_hash
from services.runtime.component import ComponentContext

if TYPE_CHECKING:
    import torch

    from services.encoders.whisper import WhisperEncoder


def component(context: ComponentContext) -> EncoderComponent[WhisperEncoder]:
    """Build the component of an audio encoder."""
    return EncoderComponent(context, SoundReader())


class SoundReader(Reader["WhisperEncoder"]):
    """Reads sounds window by window."""

    modalities = ("audio",)

    def build(self, config: Mapping[str, Any]) -> WhisperEncoder:
        """Build the audio tower."""
        from services.encoders.whisper import WhisperEncoder

        return WhisperEncoder.from_config(config)

    def read(self, item: m.Media, frames: int, model: WhisperEncoder) -> Reading:
        """Decode a sound and take the spectrograms of its windows."""
        samples_T = decode_sound(item.data or b"")
        # The mel channels and the length of a window shape the spectrogram, the trim how many features are left.
        settings = json.dumps({"dims": model.dims, "trim_to": model.trim_to}, sort_keys=True)
        return Reading(
            model.preprocess(model.windows_of(samples_T)),
            sample_hash(samples_T, settings),
            item.modality,
        )

    def join(self, reading: Reading, outputs_TF: Sequence[torch.Tensor]) -> tuple[torch.Tensor, tuple[str, ...]]:
        """Let the windows follow each other."""
        import torch

        return torch.cat(list(outputs_TF)), ("tokens", "width")

    def blank(self, model: WhisperEncoder) -> torch.Tensor:
        """Return a tenth of a second of silence."""
        return model.preprocess([np.zeros(SAMPLE_RATE_HZ // 10, np.float32)])[0]

    def sizes(self, model: WhisperEncoder) -> Sizes:
        """Return how many tokens a started second gives, or a window where windows stay whole."""
        step = model.samples_per_window
        longest = MAX_SECONDS * SAMPLE_RATE_HZ
        most = sum(model.positions_for(min(step, longest - start)) for start in range(0, longest, step))
        if model.trim_to:
            per_second = -(-SAMPLE_RATE_HZ * model.positions_per_window // step)
            count = component_pb2.TokenCount(tokens_per_unit=per_second, unit="second", max_units=MAX_SECONDS)
        else:
            per_window = model.positions_per_window
            count = component_pb2.TokenCount(tokens_per_unit=per_window, unit="window", max_units=most // per_window)
        return Sizes(model.feature_width, 0, most, {"audio": count})
