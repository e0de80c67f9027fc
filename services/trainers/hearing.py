"""The base audio encoder: captions of sounds and transcripts of speech, by connectionist temporal classification.

A linear head over every tenth of a second points at the code of the word that is heard there, or at that of silence,
and is thrown away. Codes are orthogonal, and the head has to hit them, not only to prefer one: so whatever vectors a
backbone has for the same words, a linear projector can hit those.

Source: Graves et al. 2006, "Connectionist temporal classification".
"""

# B sounds, T samples, M mel channels, L mel frames, P positions, K tokens, F feature width, C code width, V labels

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from numpy.typing import NDArray
from torch import Tensor, nn

from services.artifacts.whisper_dims import SAMPLE_RATE_HZ, SAMPLES_PER_POSITION
from services.encoders.whisper import WhisperEncoder
from services.input_projectors.stages import concat_adjacent
from services.playroom.scenes import Split, seed_of
from services.playroom.sentences import sentence_from
from services.playroom.sounds import ALL_SOUNDS, draw_sound, sound_caption, sound_from
from services.playroom.speech import fits, speak, transcript_of, utterance_from, words_wrong
from services.playroom.synthesis import render_sounds
from services.trainers.media import SOUND_MARK, Speech, said_in
from services.trainers.recipe import Recipe
from services.trainers.talks import spoken_words
from services.trainers.voices import SpokenPool, kept_pool

Floats = NDArray[np.float32]
BLANK: Final = 0
CODE_WIDTH: Final = 256
FINAL_SENTENCES = 400
_SHARPNESS: Final = 12.0
_FADE_HZ: Final = 500.0


def labels() -> tuple[str, ...]:
    """Every word that the head knows, the blank first."""
    said = {f" {word}" for facts in ALL_SOUNDS for word in sound_caption(facts).split()}
    return ("", SOUND_MARK, *sorted((said | {f" {word}" for word in spoken_words()}) - {SOUND_MARK}))


def plain_attention() -> None:
    """Has Whisper towers multiply plainly: bfloat16 attention of torch's CPU kernel is slower backwards."""
    from whisper.model import MultiHeadAttention

    MultiHeadAttention.use_sdpa = False


@dataclass
class HearingBatch:
    """Spectrograms (BML), how many tokens of each sound count (B), and the words of all as labels in one row."""

    mel: Tensor
    n_tokens: Tensor
    targets: Tensor
    n_targets: Tensor


@dataclass(frozen=True)
class Rooms:
    """How sounds arrive: louder or softer, later, in noise, through a narrow line."""

    noise: float
    narrow: float

    def heard(self, samples_T: Floats, rng: np.random.Generator, longest_T: int) -> Floats:
        """One sound as it may arrive."""
        before, after = rng.integers(0, int(0.2 * SAMPLE_RATE_HZ), 2)
        before = min(int(before), max(0, longest_T - len(samples_T)))
        after = min(int(after), max(0, longest_T - len(samples_T) - before))
        heard = np.concatenate([np.zeros(before, np.float32), samples_T, np.zeros(after, np.float32)])
        if rng.random() < self.narrow:
            heard = _without_above(heard, float(rng.uniform(3500.0, 7500.0)))
        loud = float(np.sqrt(np.square(heard).mean())) + 1e-6
        if rng.random() < self.noise:
            heard = heard + loud * 10 ** (-rng.uniform(12.0, 45.0) / 20) * rng.standard_normal(len(heard), np.float32)
        gain = 10 ** (rng.uniform(-18.0, 3.0) / 20)
        return np.clip(heard * np.float32(gain), -1.0, 1.0).astype(np.float32)


def _without_above(samples_T: Floats, cutoff_hz: float) -> Floats:
    """Takes away what lies above a frequency."""
    spectrum = np.fft.rfft(samples_T)
    frequencies = np.fft.rfftfreq(len(samples_T), 1 / SAMPLE_RATE_HZ)
    spectrum *= np.clip(1 - (frequencies - cutoff_hz) / _FADE_HZ, 0.0, 1.0)
    return np.fft.irfft(spectrum, len(samples_T)).astype(np.float32)


@dataclass(frozen=True)
class HearingBatches:
    """Makes the batches of a recipe: fresh sounds or speech out of the pool, each in another room.

    Speech of a batch is about equally long, so that little of it is padding.
    """

    seed: int
    batch: int
    encoder: WhisperEncoder
    pool: SpokenPool
    by_length: NDArray[np.int64]
    rooms: Rooms
    sounds: float

    def __call__(self, index: int) -> HearingBatch:
        """Draws batch `index`."""
        rng = np.random.default_rng((self.seed, index))
        if rng.random() < self.sounds:
            drawn = [sound_from(rng) for _ in range(self.batch)]
            samples, said = list(render_sounds(drawn)), [said_in(sound) for sound in drawn]
        else:
            first = int(rng.integers(len(self.pool) - self.batch + 1))
            spoken = self.by_length[first : first + self.batch]
            samples = [self.pool.utterance(int(i)) for i in spoken]
            said = [said_in(Speech(self.pool.sentences[int(i)])) for i in spoken]
        longest_T = self.encoder.samples_per_window
        return batch_of(self.encoder, [self.rooms.heard(one, rng, longest_T) for one in samples], said)


def batch_of(encoder: WhisperEncoder, samples: Sequence[Floats], said: Sequence[Sequence[str]]) -> HearingBatch:
    """Puts sounds and their words together."""
    index_of = {word: index for index, word in enumerate(labels())}
    n_tokens = [encoder.positions_for(len(one)) // encoder.trim_to for one in samples]
    longest_T = max(n_tokens) * encoder.trim_to * SAMPLES_PER_POSITION
    return HearingBatch(
        mel=torch.stack(encoder.preprocess([np.pad(one, (0, max(0, longest_T - len(one)))) for one in samples])),
        n_tokens=torch.tensor(n_tokens),
        targets=torch.tensor([index_of[word] for words in said for word in words]),
        n_targets=torch.tensor([len(words) for words in said]),
    )


class HearingTraining(nn.Module):
    """The encoder and the head that teaches it."""

    codes: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = WhisperEncoder.from_config(config)
        self.head = nn.Linear(self.encoder.trim_to * self.encoder.feature_width, CODE_WIDTH)
        random = torch.randn(CODE_WIDTH, len(labels()), generator=torch.Generator().manual_seed(0))
        self.register_buffer("codes", torch.linalg.qr(random).Q.T.contiguous())

    def forward(self, mel_BML: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits of every token (BKV), and how far tokens are from the codes that they point at (BK)."""
        pointed_BKC = self.head(concat_adjacent(self.encoder(mel_BML), self.encoder.trim_to)).float()
        logits_BKV = _SHARPNESS * pointed_BKC @ self.codes.T
        meant_BKC = logits_BKV.detach().softmax(-1) @ self.codes
        return logits_BKV, (pointed_BKC - meant_BKC).square().sum(-1)


def spotted(logits_KV: Tensor, n_tokens: int) -> list[str]:
    """The words that the head spots, by the best label of every token."""
    best = logits_KV[:n_tokens].argmax(-1).tolist()
    known = labels()
    return [known[here] for here, last in zip(best, [BLANK, *best], strict=False) if here not in (BLANK, last)]


class HearingStage:
    """Trains a `whisper` encoder."""

    def __init__(
        self, recipe: Recipe, device: torch.device, folder: Path, earlier: Mapping[str, Tensor] | None = None
    ) -> None:
        self.recipe = recipe
        self.device = device
        options = recipe.options
        self.pool = kept_pool(folder / "speech", int(options["sentences"]), recipe.seed)
        torch.manual_seed(recipe.seed)
        self.trained = HearingTraining(recipe.model).to(device)
        if earlier is not None:
            self.trained.encoder.load_state_dict(earlier)
        if device.type == "cpu":
            plain_attention()

    def batch_maker(self) -> Callable[[int], HearingBatch]:
        """Returns the recipe's batches."""
        options = self.recipe.options
        front_end = WhisperEncoder.from_config(self.recipe.model)  # batches need its numbers, never its weights
        rooms = Rooms(options["noise"], options["narrow"])
        by_length = np.argsort(self.pool.lengths(), kind="stable")
        return HearingBatches(
            self.recipe.seed, self.recipe.batch, front_end, self.pool, by_length, rooms, options["sounds"]
        )

    def loss(self, batch: HearingBatch) -> Tensor:
        """Negative log likelihood of the words, over all ways to place them, and the distance from their codes."""
        logits_BKV, distances_BK = self.trained(batch.mel.to(self.device))
        log_KBV = logits_BKV.log_softmax(-1).transpose(0, 1)
        targets = batch.targets.to(self.device)
        loss = F.ctc_loss(log_KBV, targets, batch.n_tokens, batch.n_targets, blank=BLANK, zero_infinity=True)
        total: Tensor = loss + self.recipe.options["distance"] * distances_BK.mean()
        return total

    @torch.no_grad()
    def score(self, final: bool) -> dict[str, float]:
        """Share of sounds that are captioned right, and of words that are wrong in speech, by wording."""
        count = FINAL_SENTENCES if final else 60
        self._missed: list[float] = []
        scores = {"sounds": self._sounds_right(count)}
        for kept_out, name in ((False, "words_wrong"), (True, "words_wrong_kept_out")):
            scores[name] = self._words_wrong(count, kept_out)
        return {**scores, "distance": round(float(np.mean(self._missed)), 4)}

    def _spot(self, samples: Sequence[Floats]) -> list[list[str]]:
        """The words of sounds, one at a time: in batches they would be padded."""
        found = []
        for one in samples:
            batch = batch_of(self.trained.encoder, [one], [()])
            logits_BKV, distances_BK = self.trained(batch.mel.to(self.device))
            found.append(spotted(logits_BKV[0].cpu(), int(batch.n_tokens)))
            self._missed.append(float(distances_BK.mean()))
        return found

    def _sounds_right(self, count: int) -> float:
        sounds = [draw_sound(seed_of(Split.VALIDATION, index)) for index in range(count)]
        found = self._spot(list(render_sounds(sounds)))
        return sum(words == said_in(sound) for words, sound in zip(found, sounds, strict=True)) / count

    def _words_wrong(self, count: int, kept_out: bool) -> float:
        rng = np.random.default_rng(2**32 + kept_out)
        samples: list[Floats] = []
        expected: list[str] = []
        while len(samples) < count:
            sentence = sentence_from(rng, Split.VALIDATION, kept_out=kept_out)
            if fits(spoken_T := speak(utterance_from(rng, sentence))):
                samples.append(spoken_T)
                expected.append(transcript_of(sentence))
        wrong = sum(
            words_wrong("".join(words), text) for words, text in zip(self._spot(samples), expected, strict=True)
        )
        return round(wrong / sum(len(text.split()) for text in expected), 4)
