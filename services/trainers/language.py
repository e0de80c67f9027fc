"""The base text backbone: the playroom's language, before it has seen anything.

Most of the conversations are about media that are handed in as embeddings, each the sum of the embeddings of the
words of a cell, of a frame, of a tenth of a second. That is text: nothing is ever drawn or played, so every pair of
color and shape may appear. It is also the very form in which a projector can later hand over what an encoder gives.
"""

# B conversations, L positions, D width, N media tokens, M labeled positions, V vocabulary

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.backbone.model import build_decoder
from services.backbone.tokenizer import train_tokenizer
from services.playroom.films import film_from
from services.playroom.scenes import Scene, Split, scene_from
from services.playroom.sounds import sound_from
from services.trainers.conversations import (
    IGNORED,
    Conversation,
    ConversationMaker,
    Encoder,
    TokenBatch,
    table_of,
    vary,
)
from services.trainers.media import words_of
from services.trainers.recipe import Recipe
from services.trainers.requests import DRAWING_CELLS, draw_request
from services.trainers.talks import Sources, TalkMaker, sentence_to_hear, spoken_words

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel

_SHOWN = {"image": 0.3, "video": 0.4, "audio": 0.3}
_SPOKEN_ABOUT = {"image": 0.76, "video": 0.12, "audio": 0.12}


def free_scene(rng: np.random.Generator) -> Scene:
    """Any scene at all: a third with held-out pairs, which is about their share of all scenes."""
    return scene_from(rng, Split.COMPOSITIONAL if rng.random() < 0.3 else Split.TRAIN)


def tokenizer_lines(seed: int, n_lines: int = 40_000) -> list[str]:
    """Lines of playroom language to learn merges from."""
    rng = np.random.default_rng(seed)
    maker = ConversationMaker(rng, speak_freely=True)
    talks = TalkMaker(rng, free_sources(rng), speak_freely=True)
    # each word that may be spotted in a sound has to be one token
    lines = [f"a {word}" for word in (*spoken_words(), "silence", "sound", "film") for _ in range(20)]
    while len(lines) < n_lines:
        scene = free_scene(rng)
        question = maker.questions.ask(scene)
        lines += [table_of(scene), vary(question.prompt, rng), question.answer]
        lines += [sentence_to_hear(rng), sentence_to_hear(rng)]
        for talk in (maker.words(40), maker.about(lambda: free_scene(rng), 50), talks.about(_SHOWN, 50, spoken=0.0)):
            said = talk.text.replace("<|", "\n<|").split("\n")
            lines += [line.split("|>", 1)[-1] for line in said]
    return [line for line in lines if line]


def free_sources(rng: np.random.Generator) -> Sources:
    """Any scene, film or sound at all."""
    return Sources(
        scene=lambda: free_scene(rng),
        film=lambda: film_from(rng, Split.COMPOSITIONAL if rng.random() < 0.3 else Split.TRAIN),
        sound=lambda: sound_from(rng),
    )


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
    """How often each kind of conversation comes, relative to each other, and how long they get.

    Attributes:
        n_tokens: About how long a conversation is.
        pictures: Several turns about a picture.
        tables: The same with the scene in words.
        words: Facts that need no media.
        changed: What changed between two pictures.
        media: Pictures, films and sounds in turns, asked about in writing.
        spoken: The same, and half of the questions are spoken.
        speech: Sentences to write down, facts asked by voice.
        same_number: A picture and a sound.
        making: Requests that want media, and some that do not.
        drawing: Requests for pictures, from words and from other pictures.
    """

    n_tokens: int
    pictures: float = 0.0
    tables: float = 0.0
    words: float = 0.0
    changed: float = 0.0
    media: float = 0.0
    spoken: float = 0.0
    speech: float = 0.0
    same_number: float = 0.0
    making: float = 0.0
    drawing: float = 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Share of each kind; they sum up to one."""
        weights = {name: float(value) for name, value in vars(self).items() if name != "n_tokens"}
        return {name: weight / sum(weights.values()) for name, weight in weights.items() if weight}

    @classmethod
    def from_options(cls, options: Mapping[str, float]) -> Self:
        """Reads the mixture of a recipe; options that are not about it are left alone."""
        known = {field.name for field in fields(cls)} - {"n_tokens"}
        return cls(int(options["tokens"]), **{name: value for name, value in options.items() if name in known})


def draw_conversations(
    rng: np.random.Generator, n: int, mixture: Mixture, sources: Sources, *, speak_freely: bool
) -> list[Conversation]:
    """Draws conversations of a mixture."""
    pictures = ConversationMaker(rng, speak_freely=speak_freely)
    talks = TalkMaker(rng, sources, speak_freely=speak_freely)
    length = mixture.n_tokens
    makers: dict[str, Callable[[], Conversation]] = {
        "pictures": lambda: pictures.about(sources.scene, length),
        "tables": lambda: pictures.about(sources.scene, length, as_words=True),
        "words": lambda: pictures.words(length),
        "changed": lambda: pictures.compare(sources.scene, length),
        "media": lambda: talks.about(_SHOWN, length, spoken=0.0),
        "spoken": lambda: talks.about(_SPOKEN_ABOUT, length, spoken=0.8),
        "speech": lambda: talks.transcripts(length),
        "same_number": lambda: talks.same_number(length),
        "making": lambda: draw_request(
            rng, Split.COMPOSITIONAL if speak_freely and rng.random() < 0.3 else Split.TRAIN
        ),
        "drawing": lambda: draw_request(
            rng, Split.COMPOSITIONAL if speak_freely and rng.random() < 0.3 else Split.TRAIN, DRAWING_CELLS
        ),
    }
    shares = mixture.shares
    chosen = rng.choice(list(shares), n, p=list(shares.values()))
    return [makers[str(kind)]() for kind in chosen]


def text_conversations(rng: np.random.Generator, n: int, mixture: Mixture) -> list[Conversation]:
    """Draws conversations in which nothing is ever drawn or played, so that every pair may appear."""
    return draw_conversations(rng, n, mixture, free_sources(rng), speak_freely=True)


def embed_words(embedding: nn.Module, words_NW: Tensor, noise: float) -> Tensor:
    """Sums the embeddings of each token's words, and blurs them by up to `noise` of their own size (ND)."""
    known = words_NW >= 0
    summed_ND: Tensor = (embedding(words_NW.clamp(min=0)) * known.unsqueeze(-1)).sum(1)
    if noise > 0:
        scale = summed_ND.detach().square().mean(-1, keepdim=True).sqrt()
        amount = torch.rand(len(summed_ND), 1, device=summed_ND.device) * noise
        summed_ND = summed_ND + torch.randn_like(summed_ND) * scale * amount
    return summed_ND


def splice(embeddings_BLD: Tensor, media_at_N: Tensor, media_ND: Tensor) -> Tensor:
    """Puts the embeddings of media where the batch has their tokens."""
    flat = embeddings_BLD.flatten(0, 1)
    return flat.index_copy(0, media_at_N, media_ND.to(flat.dtype)).view_as(embeddings_BLD)


def answer_logits(decoder: PreTrainedModel, embeddings_BLD: Tensor, labels_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Runs the decoder, and its head at labeled positions only (MV); returns their flat indices too."""
    hidden_BLD = decoder.base_model(inputs_embeds=embeddings_BLD, use_cache=False).last_hidden_state
    return labeled_logits(decoder, hidden_BLD, labels_BL)


def labeled_logits(decoder: PreTrainedModel, hidden_BLD: Tensor, labels_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Runs the head at labeled positions only (MV); returns their flat indices too."""
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
        talks = text_conversations(rng, n, mixture)
        return Encoder(self.tokenizer_json)(talks, [words_of(shown, rng) for talk in talks for shown in talk.media])


@dataclass(frozen=True)
class Earlier:
    """A backbone to go on from: its tokenizer, and its weights."""

    tokenizer_json: bytes
    tensors: Mapping[str, Tensor]


_EMBEDDING = "model.embed_tokens.weight"


def moved(earlier: Earlier, tokenizer_json: bytes) -> dict[str, Tensor]:
    """Weights of a backbone for another tokenizer: a token keeps its row, a new one gets the mean of its old pieces."""
    from tokenizers import Tokenizer

    old, new = (Tokenizer.from_str(file.decode()) for file in (earlier.tokenizer_json, tokenizer_json))
    rows_VD = earlier.tensors[_EMBEDDING]
    moved_VD = rows_VD.clone()
    for token, row in new.get_vocab().items():
        text = new.decoder.decode([token]) if old.token_to_id(token) is None else ""
        ids = old.encode(text).ids if text else [old.token_to_id(token)]
        moved_VD[row] = rows_VD[ids].mean(0)
    return {**earlier.tensors, _EMBEDDING: moved_VD}


class LanguageStage:
    """Trains a `decoder` backbone on text."""

    def __init__(self, recipe: Recipe, device: torch.device, folder: Path, earlier: Earlier | None = None) -> None:
        self.recipe = recipe
        self.device = device
        signals = recipe.model["signals"]
        vocabulary = recipe.model["decoder"]["vocab_size"]
        self.files = kept_tokenizer(folder, lambda: train_tokenizer(tokenizer_lines(recipe.seed), vocabulary, signals))
        torch.manual_seed(recipe.seed)
        self.trained = build_decoder(recipe.model)
        if earlier is not None:
            self.trained.load_state_dict(moved(earlier, self.files["tokenizer.json"]), strict=False)
        self.trained.to(device)  # type: ignore[arg-type]  # its wrapper hides the signature
        if device.type == "cpu":  # bfloat16 attention of torch's CPU kernel is slower backwards than plain products
            self.trained.set_attn_implementation("eager")

    def batch_maker(self) -> LanguageBatches:
        """Returns the recipe's batches."""
        mixture = Mixture.from_options(self.recipe.options)
        return LanguageBatches(self.recipe.seed, self.recipe.batch, mixture, self.files["tokenizer.json"])

    def _logits(self, batch: TokenBatch, noise: float) -> tuple[Tensor, Tensor]:
        embedding = self.trained.get_input_embeddings()
        embeddings_BLD = embedding(batch.ids.to(self.device))
        if len(batch.media_at):
            media_ND = embed_words(embedding, batch.words.to(self.device), noise)
            embeddings_BLD = splice(embeddings_BLD, batch.media_at.to(self.device), media_ND)
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
