"""Alignment and instruction tuning: what the eyes see meets what the language knows.

`align` trains the projector alone, on captions; encoder and backbone are frozen. `instruct` trains the projector
and a LoRA adapter, on captions, questions and comparisons over several turns, with text without pictures mixed
in, so that the language keeps the pairs of color and shape that no picture shows.
"""

# B conversations, L positions, D width, N picture tokens, P pictures, C cells, F feature width

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from services.encoders.clip_vision import ClipVision, Preprocess
from services.input_projectors.models import build_projector
from services.modules.lora import adapter_modules, add_adapter, use_adapter
from services.playroom.scenes import Scene, Split, draw_scene, seed_of
from services.trainers.conversations import Conversation, ConversationMaker, Encoder, TokenBatch
from services.trainers.language import (
    CellWords,
    Mixture,
    answer_logits,
    answer_loss,
    embed_cells,
    right_answers,
    share_right,
    splice,
    text_conversations,
)
from services.trainers.recipe import Recipe
from services.trainers.vision import seen_pixels

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "trained"
FINAL_BATCHES = 10


@dataclass
class GroundedBatch:
    """Conversations, and pixels (P3HW) of the pictures among what they hand in; the rest is handed in as words."""

    tokens: TokenBatch
    pixels: Tensor
    is_drawn: list[bool]


@dataclass(frozen=True)
class PictureMixture:
    """What is talked about: captions alone, or everything."""

    captions_only: bool
    text: float
    changed: float
    n_tokens: int
    larger: float
    jpeg: float


def picture_conversations(
    rng: np.random.Generator, n: int, mixture: PictureMixture, draw: Callable[[], Scene], speak_freely: bool = False
) -> list[Conversation]:
    """Draws conversations about pictures; unless `speak_freely`, none names a held-out pair."""
    maker = ConversationMaker(rng, speak_freely=speak_freely)
    if mixture.captions_only:
        return [maker.caption(draw()) for _ in range(n)]
    return [
        maker.compare(draw, mixture.n_tokens) if rng.random() < mixture.changed else maker.about(draw, mixture.n_tokens)
        for _ in range(n)
    ]


@dataclass(frozen=True)
class GroundedBatches:
    """Makes the batches of a recipe, fresh scenes each."""

    seed: int
    batch: int
    mixture: PictureMixture
    tokenizer_json: bytes
    preprocess: Preprocess
    split: Split = Split.TRAIN

    def __call__(self, index: int) -> GroundedBatch:
        """Draws batch `index`."""
        rng = np.random.default_rng((self.seed, index))
        n_text = int(round(self.batch * self.mixture.text))
        talks = picture_conversations(
            rng,
            self.batch - n_text,
            self.mixture,
            lambda: self._scene(rng),
            speak_freely=self.split is Split.COMPOSITIONAL,
        )
        drawn = [scene for talk in talks for scene in talk.scenes]
        if n_text:
            talks += text_conversations(rng, n_text, Mixture(0.1, 0.2, 0.1, self.mixture.n_tokens))
        tokens = Encoder(self.tokenizer_json)(talks)
        pixels = seen_pixels(drawn, rng, self.preprocess, self.mixture.larger, self.mixture.jpeg)
        n_words = len(tokens.scenes) - len(drawn)
        return GroundedBatch(tokens, self.preprocess.normalized(pixels), [True] * len(drawn) + [False] * n_words)

    def _scene(self, rng: np.random.Generator) -> Scene:
        n_scenes = 2**31 if self.split is Split.TRAIN else 10**6
        return draw_scene(seed_of(self.split, int(rng.integers(n_scenes))), self.split)


@dataclass
class GroundingParts:
    """What a grounding stage builds on."""

    encoder: ClipVision
    decoder: PreTrainedModel
    tokenizer_json: bytes
    projector_type: str
    projector_config: dict[str, object]
    projector_tensors: dict[str, Tensor] | None


class GroundingStage:
    """Trains a projector (`align`), or a projector and a LoRA adapter (`instruct`)."""

    def __init__(self, recipe: Recipe, device: torch.device, parts: GroundingParts) -> None:
        self.recipe = recipe
        self.device = device
        self.parts = parts
        self.encoder = parts.encoder.to(device).requires_grad_(False).eval()
        self.decoder = parts.decoder
        self.decoder.to(device)  # type: ignore[arg-type]  # its wrapper hides the signature
        self.decoder.requires_grad_(False)
        if device.type == "cpu":  # see LanguageStage
            self.decoder.set_attn_implementation("eager")
        self.cells = CellWords(Encoder(parts.tokenizer_json))
        torch.manual_seed(recipe.seed)
        self.projector = build_projector(parts.projector_type, parts.projector_config).to(device)
        if parts.projector_tensors is not None:
            self.projector.load_state_dict(parts.projector_tensors)
        self.adapter: str | None = None
        trained: dict[str, nn.Module] = {"projector": self.projector}
        if recipe.stage == "instruct":
            lora = recipe.model["lora"]
            add_adapter(self.decoder, ADAPTER, rank=lora["rank"], alpha=lora["alpha"], targets=lora["targets"])
            self.adapter = ADAPTER
            trained["lora"] = adapter_modules(self.decoder, ADAPTER)
        self.trained = nn.ModuleDict(trained)

    def batch_maker(self) -> GroundedBatches:
        """Returns the recipe's batches."""
        return self._batches(Split.TRAIN)

    def _batches(self, split: Split) -> GroundedBatches:
        options = self.recipe.options
        mixture = PictureMixture(
            captions_only=self.recipe.stage == "align",
            text=options.get("text", 0.0) if split is Split.TRAIN else 0.0,
            changed=options.get("changed", 0.0),
            n_tokens=int(options.get("tokens", 0)),
            larger=options["larger"],
            jpeg=options["jpeg"],
        )
        preprocess = self.encoder.preprocess_settings
        return GroundedBatches(
            self.recipe.seed, self.recipe.batch, mixture, self.parts.tokenizer_json, preprocess, split
        )

    def _media(self, batch: GroundedBatch, noise: float) -> Tensor:
        """Embeddings of everything that is handed in, in order (ND)."""
        n_drawn = sum(batch.is_drawn)
        with torch.no_grad():
            features = self.encoder(batch.pixels.to(self.device))
        media_ND: Tensor = self.projector(features.float()).flatten(0, 1)
        if n_drawn == len(batch.is_drawn):
            return media_ND
        words = self.cells(batch.tokens.scenes[n_drawn:]).to(self.device)
        cells_ND = embed_cells(self.decoder.get_input_embeddings(), words, noise)
        return torch.cat([media_ND.to(cells_ND.dtype), cells_ND])

    def _logits(self, batch: GroundedBatch, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        embeddings_BLD = self.decoder.get_input_embeddings()(batch.tokens.ids.to(self.device))
        at_N = batch.tokens.media_at.to(self.device)
        embeddings_BLD = splice(embeddings_BLD, at_N, self._media(batch, noise))
        with use_adapter(self.decoder, self.adapter):
            return answer_logits(self.decoder, embeddings_BLD, batch.tokens.labels.to(self.device))

    def loss(self, batch: GroundedBatch) -> Tensor:
        """Cross-entropy of the answers."""
        return answer_loss(*self._logits(batch, self.recipe.options.get("noise", 0.0)), batch.tokens)

    @torch.no_grad()
    def score(self, final: bool) -> dict[str, float]:
        """Share of answers that are exactly right, by kind, on unseen scenes; then with held-out pairs."""
        scores: dict[str, float] = {}
        for split, prefix in ((Split.VALIDATION, ""), (Split.COMPOSITIONAL, "compositional_")):
            make = self._batches(split)
            results = []
            for index in range(FINAL_BATCHES if final else 3):
                batch = make(2**40 + index)
                results.append(right_answers(*self._logits(batch), batch.tokens))
            scores.update(share_right(results, prefix))
        return scores
