"""Alignment and instruction tuning: what encoders give meets what the language knows.

`align` trains the projectors alone, on captions and transcripts; encoders and backbone are frozen. `instruct` trains
the projectors and a LoRA adapter, on everything that can be asked about media, with text without media mixed in, so
that the language keeps the pairs of color and shape that no picture shows.
"""

# B conversations, L positions, D width, N media tokens, V vocabulary, K tokens of a sound

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.input_projectors.linear import LinearProjector
from services.input_projectors.models import build_projector
from services.modules.lora import adapter_modules, add_adapter, use_adapter
from services.modules.signal_rows import SIGNAL_TENSORS, add_signal_rows
from services.playroom.films import Film, draw_film
from services.playroom.scenes import Scene, Split, draw_scene, seed_of
from services.playroom.sounds import Sound, draw_sound
from services.trainers.conversations import Conversation, Encoder, TokenBatch
from services.trainers.hearing import BLANK, Rooms, labels, plain_attention
from services.trainers.inputs import Arrival, MediaBatch, MediaInputs, MediaReader
from services.trainers.inputs import Encoder as MediaEncoder
from services.trainers.language import (
    Mixture,
    answer_loss,
    draw_conversations,
    embed_words,
    labeled_logits,
    right_answers,
    share_right,
    splice,
    text_conversations,
)
from services.trainers.media import (
    MAX_WORDS,
    SILENCE,
    Shown,
    Speech,
    TokenWords,
    cell_words,
    frame_words,
    said_in,
    words_of,
)
from services.trainers.outputs import MediaOutputs, OutputParts
from services.trainers.recipe import Recipe
from services.trainers.talks import Sources, TalkMaker

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "trained"
FINAL_BATCHES = 10
_RIDGE = 1e-3
_SHARPNESS = 8.0
"""How fast a word gets unlikely with its squared distance, in units of the mean square of the words' embeddings."""


@dataclass
class GroundedBatch:
    """Conversations; the first media they hand in are real, the rest is handed in as words."""

    tokens: TokenBatch
    media: MediaBatch
    shown: list[Shown]


@dataclass(frozen=True)
class GroundedBatches:
    """Makes the batches of a recipe, fresh media each.

    Attributes:
        captions: Modalities to ask for captions of and for nothing else; empty: conversations of the mixture.
        text: Share of conversations in which all media are words.
    """

    seed: int
    batch: int
    captions: tuple[str, ...]
    mixture: Mixture
    text: float
    tokenizer_json: bytes
    reader: MediaReader
    split: Split = Split.TRAIN

    def __call__(self, index: int) -> GroundedBatch:
        """Draws batch `index`."""
        rng = np.random.default_rng((self.seed, index))
        n_text = round(self.batch * self.text)
        talks = self._talks(rng, self.batch - n_text)
        shown = [medium for talk in talks for medium in talk.media]
        media = self.reader(shown, rng)
        words = text_conversations(rng, n_text, self.mixture) if n_text else []
        given: list[TokenWords | int] = [*media.lengths]
        given += [words_of(medium, rng) for talk in words for medium in talk.media]
        return GroundedBatch(Encoder(self.tokenizer_json)([*talks, *words], given), media, shown)

    def _talks(self, rng: np.random.Generator, count: int) -> list[Conversation]:
        n_seeds = 2**31 if self.split is Split.TRAIN else 10**6
        speak_freely = self.split is Split.COMPOSITIONAL

        def seed() -> int:
            return seed_of(self.split, int(rng.integers(n_seeds)))

        sources = Sources(
            scene=lambda: draw_scene(seed(), self.split),
            film=lambda: draw_film(seed(), self.split),
            sound=lambda: draw_sound(seed()),
        )
        if not self.captions:
            return draw_conversations(rng, count, self.mixture, sources, speak_freely=speak_freely)
        maker = TalkMaker(rng, sources, speak_freely=speak_freely)
        return [maker.caption(self.captions[i % len(self.captions)]) for i in range(count)]


@dataclass(frozen=True)
class ProjectorParts:
    """A projector to train: its type and config, and its weights where they are there already."""

    type: str
    config: dict[str, Any]
    tensors: dict[str, Tensor] | None


@dataclass
class GroundingParts:
    """What a grounding stage builds on, encoders and projectors by modality."""

    encoders: dict[str, MediaEncoder]
    projectors: dict[str, ProjectorParts]
    decoder: PreTrainedModel
    tokenizer_json: bytes
    adapter_tensors: dict[str, Tensor] | None = None
    encoder_configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, OutputParts] = field(default_factory=dict)


@dataclass
class Decoded:
    """What the backbone makes of a batch.

    Shapes:
        embeddings, hidden: BLD, what went in and what came out.
        logits: MV, at labeled positions only.
        labeled_at: M, flat indices of those.
    """

    embeddings: Tensor
    hidden: Tensor
    logits: Tensor
    labeled_at: Tensor


class GroundingStage:
    """Trains projectors (`align`), or projectors and a LoRA adapter (`instruct`)."""

    def __init__(self, recipe: Recipe, device: torch.device, parts: GroundingParts) -> None:
        self.recipe = recipe
        self.device = device
        self.parts = parts
        self.decoder = parts.decoder
        self.decoder.to(device)  # type: ignore[arg-type]  # its wrapper hides the signature
        self.decoder.requires_grad_(False)
        if device.type == "cpu":  # see LanguageStage
            self.decoder.set_attn_implementation("eager")
            plain_attention()
        torch.manual_seed(recipe.seed)
        projectors = nn.ModuleDict()
        for modality, part in parts.projectors.items():
            projectors[modality] = build_projector(part.type, part.config).to(device)
            if part.tensors is not None:
                projectors[modality].load_state_dict(part.tensors)
        taught = [modality for modality in parts.encoders if f"{modality}_encoder" in recipe.writes]
        self.inputs = MediaInputs(parts.encoders, projectors, device, taught)
        self.words = Encoder(parts.tokenizer_json)
        self.adapter: str | None = None
        trained: dict[str, nn.Module] = {"projectors": projectors}
        if taught:
            trained["encoders"] = nn.ModuleDict({modality: parts.encoders[modality] for modality in taught})
        if recipe.stage != "align":
            self._add_adapter()
            trained["lora"] = adapter_modules(self.decoder, ADAPTER)
        self.outputs: MediaOutputs | None = None
        if parts.outputs:
            self.outputs = MediaOutputs(parts.outputs, device)
            trained["output_projectors"] = self.outputs.projectors
            if self.outputs.objects is not None and recipe.options.get("objects", 0.0):
                trained["objects"] = self.outputs.objects
        self.trained = nn.ModuleDict(trained)
        if n_batches := int(recipe.options.get("least_squares", 0)):
            self._solve(n_batches)

    def _add_adapter(self) -> None:
        """Puts an adapter beside the backbone, with rows for signal tokens where something is made."""
        lora = self.recipe.model["lora"]
        sizes = {"rank": lora["rank"], "alpha": lora["alpha"], "targets": lora["targets"]}
        tensors = self.parts.adapter_tensors
        rows: dict[str, Tensor] | None = None
        if tensors is not None:
            rows = {name: tensor for name, tensor in tensors.items() if name in SIGNAL_TENSORS} or None
            tensors = {name: tensor for name, tensor in tensors.items() if name not in SIGNAL_TENSORS}
        add_adapter(self.decoder, ADAPTER, **sizes, tensors=tensors)
        if self.parts.outputs:
            add_signal_rows(self.decoder, ADAPTER, self.words.signal_ids(), rows)
        self.adapter = ADAPTER

    def batch_maker(self) -> Callable[[int], GroundedBatch]:
        """Returns the recipe's batches."""
        return self._batches(Split.TRAIN)

    def _batches(self, split: Split) -> GroundedBatches:
        options = self.recipe.options
        captions: tuple[str, ...] = ()
        if self.recipe.stage == "align":
            kinds = {"image": ("image",), "video": ("video",), "audio": ("audio", "speech", "speech")}
            captions = tuple(kind for modality in self.parts.projectors for kind in kinds[modality])
        rooms = Rooms(options.get("noisy", 0.0), options.get("narrow", 0.0))
        return GroundedBatches(
            self.recipe.seed,
            self.recipe.batch,
            captions,
            Mixture.from_options({"tokens": 0, **options}),
            options.get("text", 0.0) if split is Split.TRAIN else 0.0,
            self.parts.tokenizer_json,
            self.inputs.reader(Arrival(options["larger"], options["jpeg"], rooms)),
            split,
        )

    @torch.no_grad()
    def _solve(self, n_batches: int) -> None:
        """Starts linear projectors of pictures and films where the squared distance from the words is least."""
        make = self._batches(Split.TRAIN)
        sums: dict[str, tuple[Tensor, Tensor]] = {}
        every = self.inputs.projectors.items()
        linear = {name: projector for name, projector in every if isinstance(projector, LinearProjector)}
        for index in range(n_batches):
            batch = make(2**41 + index)
            features = self.inputs.features(batch.media)
            for modality, kind in (("image", Scene), ("video", Film)):
                if modality not in features or modality not in linear:
                    continue
                shaped_NF = linear[modality].stages(features[modality][0].float()).flatten(0, -2)
                inputs_NF = F.pad(shaped_NF, (0, 1), value=1.0).double()
                wanted_ND = self._wanted([shown for shown in batch.shown if isinstance(shown, kind)]).double()
                products = inputs_NF.T @ inputs_NF, inputs_NF.T @ wanted_ND
                before = sums.get(modality)
                sums[modality] = products if before is None else (before[0] + products[0], before[1] + products[1])
        for modality, (square_FF, mixed_FD) in sums.items():
            ridge = _RIDGE * square_FF.diagonal().mean() * torch.eye(len(square_FF), dtype=square_FF.dtype)
            solved_FD = torch.linalg.solve(square_FF + ridge.to(square_FF.device), mixed_FD).float()
            linear[modality].projection.weight.copy_(solved_FD[:-1].T)
            linear[modality].projection.bias.copy_(solved_FD[-1])

    def _wanted(self, seen: list[Shown]) -> Tensor:
        """Sums of the words' embeddings that the tokens of pictures and films stand for (ND)."""
        rows: list[list[int]] = []
        for medium in seen:
            for words in cell_words(medium) if isinstance(medium, Scene) else frame_words(medium):  # type: ignore[arg-type]
                ids = [self.words.word(word) for word in words]
                rows.append(ids + [-1] * (MAX_WORDS - len(ids)))
        embedding = self.decoder.get_input_embeddings()
        return embed_words(embedding, torch.tensor(rows, device=self.device), 0.0).float()

    def run(self, batch: GroundedBatch) -> Decoded:
        """Runs the decoder over a batch, with the option `noise` on media that are words."""
        return self._run(batch, self.inputs.embed(batch.media), self.recipe.options.get("noise", 0.0))

    def _run(self, batch: GroundedBatch, embedded: list[Tensor], noise: float = 0.0) -> Decoded:
        embedding = self.decoder.get_input_embeddings()
        with use_adapter(self.decoder, self.adapter):
            embeddings_BLD = embedding(batch.tokens.ids.to(self.device))
            n_real = sum(batch.media.lengths)
            words_ND = embed_words(embedding, batch.tokens.words[n_real:].to(self.device), noise)
            media_ND = torch.cat([*(row.to(words_ND.dtype) for row in embedded), words_ND])
            if len(media_ND):
                embeddings_BLD = splice(embeddings_BLD, batch.tokens.media_at.to(self.device), media_ND)
            hidden_BLD = self.decoder.base_model(inputs_embeds=embeddings_BLD, use_cache=False).last_hidden_state
            logits_MV, at_M = labeled_logits(self.decoder, hidden_BLD, batch.tokens.labels.to(self.device))
        return Decoded(embeddings_BLD, hidden_BLD, logits_MV, at_M)

    def loss(self, batch: GroundedBatch) -> Tensor:
        """Cross-entropy of the answers, and how far embeddings are from the words they stand for.

        The option `distance` weighs that of pictures and films, `spotting` that of sounds, and `conditioning` how far
        output projectors are from what generators are told by captions, and `objects` how far signal tokens of
        pictures are from telling them object by object.
        """
        options = self.recipe.options
        embedded = self.inputs.embed(batch.media)
        run = self._run(batch, embedded, options.get("noise", 0.0))
        loss = answer_loss(run.logits, run.labeled_at, batch.tokens)
        if self.outputs is not None:
            distance = self.outputs.distance(batch.tokens, run.hidden, run.embeddings)
            loss = loss + options["conditioning"] * distance
            if weight := options.get("objects", 0.0):
                loss = loss + weight * self.outputs.spoken_of(batch.tokens, run.hidden)
        pairs = list(zip(batch.shown, embedded, strict=True))
        seen = [(medium, row_TD) for medium, row_TD in pairs if isinstance(medium, Scene | Film)]
        if seen and (weight := options.get("distance", 0.0)):
            wanted_ND = self._wanted([medium for medium, _ in seen])
            given_ND = torch.cat([row_TD.float() for _, row_TD in seen])
            loss = loss + weight * F.mse_loss(given_ND, wanted_ND) / wanted_ND.square().mean()
        if weight := options.get("spotting", 0.0):
            known = set(labels())
            heard = [(row_TD, said_in(medium)) for medium, row_TD in pairs if isinstance(medium, Sound | Speech)]
            if heard := [(row_TD, words) for row_TD, words in heard if known.issuperset(words)]:
                rows, said = zip(*heard, strict=True)
                loss = loss + weight * self._spotting_loss([row_TD.float() for row_TD in rows], list(said))
        return loss

    def _spotting_loss(self, heard: list[Tensor], said: list[list[str]]) -> Tensor:
        """Temporal classification, in which a word is the likelier the nearer its embedding is.

        That only prefers a word to others, so the distance from what was understood is added.
        """
        words = labels()
        ids = torch.tensor([self.words.word(word) for word in (*SILENCE, *words[1:])], device=self.device)
        known_VD = self.decoder.get_input_embeddings()(ids).float()
        rows_BKD = nn.utils.rnn.pad_sequence(heard, batch_first=True)
        distances_BKV = torch.cdist(rows_BKD, known_VD.expand(len(heard), -1, -1)).square()
        log_BKV = (-_SHARPNESS * distances_BKV / known_VD.square().sum(-1).mean()).log_softmax(-1)
        index_of = {word: index for index, word in enumerate(words)}
        targets = torch.tensor([index_of[word] for sentence in said for word in sentence], device=self.device)
        lengths = (torch.tensor([len(row) for row in heard]), torch.tensor([len(sentence) for sentence in said]))
        spotting: Tensor = F.ctc_loss(log_BKV.transpose(0, 1), targets, *lengths, blank=BLANK, zero_infinity=True)
        meant_BKD = log_BKV.detach().exp() @ known_VD
        counts_BK = torch.arange(rows_BKD.shape[1]) < lengths[0][:, None]
        distance: Tensor = F.mse_loss(rows_BKD[counts_BK], meant_BKD[counts_BK]) / known_VD.square().mean()
        return spotting + distance

    @torch.no_grad()
    def score(self, final: bool) -> dict[str, float]:
        """Share of answers that are exactly right, by kind, on unseen media; then with held-out pairs."""
        scores: dict[str, float] = {}
        for split, prefix in ((Split.VALIDATION, ""), (Split.COMPOSITIONAL, "compositional_")):
            make = self._batches(split)
            results = []
            for index in range(FINAL_BATCHES if final else 3):
                batch = make(2**40 + index)
                run = self._run(batch, self.inputs.embed(batch.media))
                results.append(right_answers(run.logits, run.labeled_at, batch.tokens))
                if self.outputs is not None:
                    results.append(self.outputs.right(batch.tokens, run.hidden, run.embeddings))
            scores.update(share_right(results, prefix))
        return scores
