"""Speech to train on: spoken once by espeak-ng, then kept beside the checkpoints and drawn from again and again."""

# T samples

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.playroom.speech import fits, speak, utterance_from
from services.trainers.talks import sentence_to_hear

logger = logging.getLogger(__name__)
_FULL_SCALE: Final = 32767.0
_TELL_EVERY: Final = 1000


@dataclass(frozen=True)
class SpokenPool:
    """Utterances: their sentences, and their samples one after the other as 16-bit integers."""

    sentences: list[str]
    ends: NDArray[np.int64]
    samples: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.sentences)

    def lengths(self) -> NDArray[np.int64]:
        """How many samples every utterance has."""
        return np.diff(self.ends, prepend=0)

    def utterance(self, index: int) -> NDArray[np.float32]:
        """Samples of one utterance, at 16 kHz (T)."""
        first = int(self.ends[index - 1]) if index else 0
        levels = np.asarray(self.samples[first : int(self.ends[index])])
        return levels.astype(np.float32) / np.float32(_FULL_SCALE)


def make_pool(folder: Path, count: int, seed: int, salad: float) -> None:
    """Speaks `count` sentences and writes them down.

    Raises:
        SpeechError: espeak-ng is missing or fails.
    """
    rng = np.random.default_rng(seed)
    sentences: list[str] = []
    spoken: list[NDArray[np.int16]] = []
    while len(sentences) < count:
        utterance = utterance_from(rng, sentence_to_hear(rng, salad))
        samples_T = speak(utterance)
        if not fits(samples_T):
            continue
        sentences.append(utterance.sentence)
        spoken.append(np.rint(samples_T * _FULL_SCALE).astype(np.int16))
        if len(sentences) % _TELL_EVERY == 0:
            logger.info("speech: %d of %d sentences", len(sentences), count)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "samples.npy", np.concatenate(spoken))
    np.save(folder / "ends.npy", np.cumsum([len(one) for one in spoken]))
    partial = folder / "sentences.partial"
    partial.write_text(json.dumps(sentences))
    os.replace(partial, folder / "sentences.json")  # last, so that it says that everything is there


def kept_pool(folder: Path, count: int, seed: int, salad: float = 0.5) -> SpokenPool:
    """Opens the pool of a folder, which is made first where there is none."""
    if not (folder / "sentences.json").exists():
        make_pool(folder, count, seed, salad)
    return SpokenPool(
        sentences=json.loads((folder / "sentences.json").read_text()),
        ends=np.load(folder / "ends.npy"),
        samples=np.load(folder / "samples.npy", mmap_mode="r"),
    )
