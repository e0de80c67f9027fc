"""The base text backbone: the playroom's language, before it has seen anything.

Half of the conversations are about scenes whose nine cells are handed in as nine embeddings, each the sum of the
embeddings of the cell's words. That is text: nothing is ever drawn, so every pair of color and shape may
appear. It is also the very form in which a projector can later hand over what an encoder sees.
"""

# B conversations, L positions, D width, N picture tokens, M labeled positions, V vocabulary

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.backbone.model import build_decoder
from services.backbone.tokenizer import train_tokenizer
from services.playroom.scenes import Scene, Split, scene_from
from services.trainers.conversations import (
    IGNORED,
    Conversation,
    ConversationMaker,
    Encoder,
    TokenBatch,
    cell_words,
    table_of,
    vary,
)
from services.trainers.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_CELL_WORDS = 6


def free_scene(rng: np.random.Generator) -> Scene:
    """Any scene at all: a third with held-out pairs, which is about their share of all scenes."""
    return scene_from(rng, Split.COMPOSITIONAL if rng.random() < 0.3 else Split.TRAIN)


def tokenizer_lines(seed: int, n_lines: int = 40_000) -> list[str]:
    """Lines of playroom language to learn merges from."""
    rng = np.random.default_rng(seed)
    maker = ConversationMaker(rng, speak_freely=True)
    lines: list[str] = []
    while len(lines) < n_lines:
        scene = free_scene(rng)
        question = maker.questions.ask(scene)
        lines += [table_of(scene), vary(question.prompt, rng), question.answer]
        for talk in (maker.words(40), maker.about(lambda: free_scene(rng), 50)):
            said = talk.text.replace("<|", "\n<|").split("\n")
            lines += [line.split("|>", 1)[-1] for line in said]
    return [line for line in lines if line]


def kept_tokenizer(folder: Path, train: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
    """Trains a tokenizer once and keeps it beside the checkpoint: a model that goes on needs the same ids."""
    path = folder / "tokenizer.json"
    files = train()
    if path.exists():
        return {**files, "tokenizer.json": path.read_bytes()}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(files["tokenizer.json"])
    return files


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds of conversation; the rest is about scenes handed in as embeddings."""

    tables: float
    words: float
    changed: float
    n_tokens: int


def text_conversations(rng: np.random.Generator, n: int, mixture: Mixture) -> list[Conversation]:
    """Draws conversations without pictures: scenes in words or as embeddings of words, facts, captions."""
    maker = ConversationMaker(rng, speak_freely=True)
    conversations = []
    for draw in rng.random(n):
        if draw < mixture.tables:
            talk = maker.about(lambda: free_scene(rng), mixture.n_tokens, as_words=True)
        elif draw < mixture.tables + mixture.words:
            talk = maker.words(mixture.n_tokens)
        elif draw < mixture.tables + mixture.words + mixture.changed:
            talk = maker.compare(lambda: free_scene(rng), mixture.n_tokens)
        else:
            talk = maker.about(lambda: free_scene(rng), mixture.n_tokens)
        conversations.append(talk)
    return conversations


class CellWords:
    """Ids of the words of every cell of scenes, padded with -1 (N, `MAX_CELL_WORDS`)."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._ids: dict[str, int] = {}

    def __call__(self, scenes: Sequence[Scene]) -> Tensor:
        """Looks the words of all cells up."""
        rows = []
        for scene in scenes:
            for words in cell_words(scene):
                ids = [self._id(word) for word in words]
                rows.append(ids + [-1] * (MAX_CELL_WORDS - len(ids)))
        return torch.tensor(rows, dtype=torch.long).reshape(-1, MAX_CELL_WORDS)

    def _id(self, word: str) -> int:
        if word not in self._ids:
            self._ids[word] = self._encoder.word(word)
        return self._ids[word]


def embed_cells(embedding: nn.Module, words_NW: Tensor, noise: float) -> Tensor:
    """Sums the embeddings of each cell's words, and blurs them by up to `noise` of their own size (ND)."""
    known = words_NW >= 0
    summed_ND: Tensor = (embedding(words_NW.clamp(min=0)) * known.unsqueeze(-1)).sum(1)
    if noise > 0:
        scale = summed_ND.detach().square().mean(-1, keepdim=True).sqrt()
        amount = torch.rand(len(summed_ND), 1, device=summed_ND.device) * noise
        summed_ND = summed_ND + torch.randn_like(summed_ND) * scale * amount
    return summed_ND


def splice(embeddings_BLD: Tensor, media_at_N: Tensor, media_ND: Tensor) -> Tensor:
    """Puts the embeddings of pictures where the batch has their tokens."""
    flat = embeddings_BLD.flatten(0, 1)
    return flat.index_copy(0, media_at_N, media_ND.to(flat.dtype)).view_as(embeddings_BLD)


def answer_logits(decoder: PreTrainedModel, embeddings_BLD: Tensor, labels_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Runs the decoder, and its head at labeled positions only (MV); returns their flat indices too."""
    hidden_BLD = decoder.base_model(inputs_embeds=embeddings_BLD, use_cache=False).last_hidden_state
    at_M = (labels_BL.flatten() != IGNORED).nonzero().squeeze(1)
    head = decoder.get_output_embeddings()  # type: ignore[no-untyped-call]
    logits_MV: Tensor = head(hidden_BLD.flatten(0, 1)[at_M])
    return logits_MV.float(), at_M


def answer_loss(logits_MV: Tensor, at_M: Tensor, batch: TokenBatch) -> Tensor:
    """Weighted cross-entropy of the answers."""
    device = logits_MV.device
    labels_M, weights_M = (t.to(device).flatten()[at_M] for t in (batch.labels, batch.weights))
    losses_M = F.cross_entropy(logits_MV, labels_M, reduction="none")
    return (losses_M * weights_M).sum() / weights_M.sum()


def right_answers(logits_MV: Tensor, at_M: Tensor, batch: TokenBatch) -> dict[str, list[bool]]:
    """Which answers greedy decoding would get exactly right, by kind."""
    at_M = at_M.cpu()
    hits = logits_MV.argmax(-1).cpu() == batch.labels.flatten()[at_M]
    owner = batch.answer.flatten()[at_M]
    misses = torch.bincount(owner, weights=(~hits).float(), minlength=len(batch.kinds))
    result: dict[str, list[bool]] = {}
    for kind, missed in zip(batch.kinds, misses.tolist(), strict=True):
        result.setdefault(kind, []).append(missed == 0)
    return result


def share_right(results: Sequence[dict[str, list[bool]]], prefix: str = "") -> dict[str, float]:
    """Sums answers up: captions, questions (mean of their kinds' answers), and every kind by itself."""
    merged: dict[str, list[bool]] = {}
    for result in results:
        for kind, hits in result.items():
            merged.setdefault(kind, []).extend(hits)
    return {f"{prefix}{kind}": round(sum(hits) / len(hits), 4) for kind, hits in sorted(merged.items())}


@dataclass(frozen=True)
class LanguageBatches:
    """Makes the batches of a recipe."""

    seed: int
    batch: int
    mixture: Mixture
    tokenizer_json: bytes

    def __call__(self, index: int) -> TokenBatch:
        """Draws batch `index`."""
        rng = np.random.default_rng((self.seed, index))
        mixture, n = self.mixture, self.batch
        if index % 2:  # short conversations are where a way to search is found first
            mixture, n = replace(mixture, n_tokens=mixture.n_tokens * 3 // 8), self.batch * 2
        return Encoder(self.tokenizer_json)(text_conversations(rng, n, mixture))


class LanguageStage:
    """Trains a `decoder` backbone on text."""

    def __init__(self, recipe: Recipe, device: torch.device, folder: Path) -> None:
        self.recipe = recipe
        self.device = device
        signals = recipe.model["signals"]
        vocabulary = recipe.model["decoder"]["vocab_size"]
        self.files = kept_tokenizer(folder, lambda: train_tokenizer(tokenizer_lines(recipe.seed), vocabulary, signals))
        self.cells = CellWords(Encoder(self.files["tokenizer.json"]))
        torch.manual_seed(recipe.seed)
        self.trained = build_decoder(recipe.model)
        self.trained.to(device)  # type: ignore[arg-type]  # its wrapper hides the signature
        if device.type == "cpu":  # bfloat16 attention of torch's CPU kernel is slower backwards than plain products
            self.trained.set_attn_implementation("eager")

    def batch_maker(self) -> LanguageBatches:
        """Returns the recipe's batches."""
        options = self.recipe.options
        mixture = Mixture(options["tables"], options["words"], options["changed"], int(options["tokens"]))
        return LanguageBatches(self.recipe.seed, self.recipe.batch, mixture, self.files["tokenizer.json"])

    def _logits(self, batch: TokenBatch, noise: float) -> tuple[Tensor, Tensor]:
        embedding = self.trained.get_input_embeddings()
        embeddings_BLD = embedding(batch.ids.to(self.device))
        if batch.scenes:
            cells_ND = embed_cells(embedding, self.cells(batch.scenes).to(self.device), noise)
            embeddings_BLD = splice(embeddings_BLD, batch.media_at.to(self.device), cells_ND)
        return answer_logits(self.trained, embeddings_BLD, batch.labels.to(self.device))

    def loss(self, batch: TokenBatch) -> Tensor:
        """Cross-entropy of the answers."""
        logits_MV, at_M = self._logits(batch, self.recipe.options["noise"])
        return answer_loss(logits_MV, at_M, batch)

    @torch.no_grad()
    def score(self, final: bool) -> dict[str, float]:
        """Share of answers that are exactly right, by kind, on conversations not trained on."""
        make = self.batch_maker()
        results = []
        for index in range(16 if final else 4):
            batch = make(2**40 + index)
            results.append(right_answers(*self._logits(batch, 0.0), batch))
        return share_right(results)
