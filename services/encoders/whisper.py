"""Whisper's audio tower: sounds in, one feature per 20 ms out. Torch only; `service` is its gRPC face.

Source: Radford et al. 2022, arXiv 2212.04356, section 2.2; front end and encoder are those of openai-whisper.
"""

# B windows, T samples, M mel channels, L mel frames, P positions, F feature width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from numpy.typing import NDArray
from torch import Tensor, nn

from services.artifacts.whisper_dims import DIMENSIONS, SAMPLES_PER_POSITION, check_dims

if TYPE_CHECKING:
    from typing import Self


_POSITIONS = "encoder.positional_embedding"


class WhisperEncoder(nn.Module):
    """The audio tower with its front end: what an `encoder` artifact of type `whisper` holds.

    A window is at most `n_audio_ctx` positions long. With `trim_to` of 0 every sound is padded with silence to that
    length, which is what Whisper does and openai-whisper asserts. With n > 0 a sound is padded to whole runs of n
    positions only, so that a short one costs little, here and in the backbone; the weights have to be trained so.
    """

    def __init__(self, dims: Mapping[str, int], trim_to: int = 0) -> None:
        from whisper.model import AudioEncoder

        super().__init__()
        check_dims(dims)
        if trim_to < 0 or (trim_to and dims["n_audio_ctx"] % trim_to):
            raise ValueError(f"trim_to: {trim_to}; expected 0, or what divides n_audio_ctx, {dims['n_audio_ctx']}")
        self.dims = dict(dims)
        self.trim_to = trim_to
        self.n_mels: int = dims["n_mels"]
        self.positions_per_window: int = dims["n_audio_ctx"]
        self.samples_per_window: int = dims["n_audio_ctx"] * SAMPLES_PER_POSITION
        self.feature_width: int = dims["n_audio_state"]
        self.encoder = AudioEncoder(*(dims[name] for name in DIMENSIONS))
        # openai-whisper's own norms read float32 whatever they hold, which bfloat16 weights do not bear.
        for block in self.encoder.blocks:
            block.attn_ln, block.mlp_ln = nn.LayerNorm(self.feature_width), nn.LayerNorm(self.feature_width)
        self.encoder.ln_post = nn.LayerNorm(self.feature_width)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the tower of an artifact's config, with random weights."""
        return cls(config["dims"], config.get("trim_to", 0))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401 - torch's own
        """Loads weights; positions are sines, and need not be among them."""
        positions = {_POSITIONS: self.encoder.positional_embedding}
        return super().load_state_dict({**positions, **state_dict}, strict=strict, assign=assign)

    def tensors_to_store(self) -> dict[str, Tensor]:
        """All weights but the positions."""
        return {name: tensor for name, tensor in self.state_dict().items() if name != _POSITIONS}

    def windows_of(self, samples_T: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Cuts a sound into windows, the last one shorter; a sound without samples is one empty window."""
        step = self.samples_per_window
        return [samples_T[start : start + step] for start in range(0, max(1, len(samples_T)), step)]

    def positions_for(self, n_samples: int) -> int:
        """How many positions a window of so many samples keeps."""
        if not self.trim_to:
            return self.positions_per_window
        run = self.trim_to * SAMPLES_PER_POSITION
        return min(self.positions_per_window, max(1, -(-n_samples // run)) * self.trim_to)

    def preprocess(self, windows: Sequence[NDArray[np.float32]]) -> list[Tensor]:
        """Turns windows of 16 kHz mono into log-mel spectrograms (ML each, float32), as long as what they keep."""
        from whisper.audio import log_mel_spectrogram, pad_or_trim

        mels = []
        for samples_T in windows:
            n_samples = self.positions_for(len(samples_T)) * SAMPLES_PER_POSITION
            padded = pad_or_trim(torch.from_numpy(np.ascontiguousarray(samples_T)), n_samples)
            mels.append(log_mel_spectrogram(padded, self.n_mels))
        return mels

    def forward(self, mel_BML: Tensor) -> Tensor:
        """Encodes spectrograms of one length into features of every position (BPF)."""
        tower = self.encoder
        # The tower's own forward, but for the length that it asserts.
        hidden_BPF = F.gelu(tower.conv2(F.gelu(tower.conv1(mel_BML)))).permute(0, 2, 1)
        hidden_BPF = (hidden_BPF + tower.positional_embedding[: hidden_BPF.shape[1]]).to(mel_BML.dtype)
        for block in tower.blocks:
            hidden_BPF = block(hidden_BPF)
        features_BPF: Tensor = tower.ln_post(hidden_BPF)
        return features_BPF
