"""Conversations of the playroom as a backbone reads them: ids, what to learn, and where pictures stand."""

# B conversations, L positions, N picture tokens in the batch

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.backbone.tokenizer import MEDIA, MEDIA_BEGIN, MEDIA_END
from services.playroom.captions import caption_of
from services.playroom.questions import KINDS, Question, QuestionMaker, phrase
from services.playroom.sayings import ask_fact, caption_of_film, caption_of_sound
from services.playroom.scenes import Scene
from services.playroom.wordings import CAPTION, CHANGED
from services.playroom.words import COLORS, HELD_OUT_PAIRS, PLACES, SHAPES, SIZES

CELLS = 9
IGNORED = -100
_PICTURE = f"{MEDIA_BEGIN}{MEDIA}{MEDIA_END}"
_SYSTEM_TEXTS = ("you are a helpful assistant.", "answer briefly.", "You answer questions about pictures.")


@dataclass(frozen=True)
class Conversation:
    """A whole conversation as text, one `<|media|>` for each picture, and what the pictures show."""

    text: str
    scenes: tuple[Scene, ...]
    kinds: tuple[str, ...] = ()
    """Kind of every answer, in order."""


def vary(prompt: str, rng: np.random.Generator) -> str:
    """Writes a prompt the way different people would: capitals, punctuation, spelling, courtesy."""
    if rng.random() < 0.2:
        prompt = prompt.replace("color", "colour").replace("center", "centre")
    draw = rng.random()
    if draw < 0.15:
        prompt = prompt.rstrip("?")
    elif draw < 0.25 and not prompt.endswith("?"):
        prompt += "."
    draw = rng.random()
    if draw < 0.04:
        prompt = f"please {prompt}"
    elif draw < 0.08 and prompt.endswith("?"):
        prompt = f"can you tell me: {prompt}"
    return prompt[0].upper() + prompt[1:] if rng.random() < 0.4 else prompt


def ask_caption(scene: Scene, rng: np.random.Generator) -> Question:
    """Asks for the caption of a scene."""
    return Question("caption", phrase(CAPTION, rng), caption_of(scene))


def changed_scene(scene: Scene, rng: np.random.Generator, speak_freely: bool) -> tuple[Scene, str]:
    """Changes one attribute of one object; returns the new scene and what changed."""
    while True:
        index = int(rng.integers(len(scene.objects)))
        item = scene.objects[index]
        match attribute := ("color", "shape", "size", "place")[int(rng.integers(4))]:
            case "color":
                changed = replace(item, color=COLORS[int(rng.integers(len(COLORS)))])
            case "shape":
                changed = replace(item, shape=SHAPES[int(rng.integers(len(SHAPES)))])
            case "size":
                changed = replace(item, size=SIZES[int(rng.integers(2))])
            case _:
                changed = replace(item, cell=int(rng.integers(CELLS)))
        others = [other for other in scene.objects if other is not item]
        if changed == item or any(other.cell == changed.cell for other in others):
            continue
        if not speak_freely and (changed.color, changed.shape) in HELD_OUT_PAIRS:
            continue
        objects = tuple(sorted([*others, changed], key=lambda other: other.cell))
        return replace(scene, objects=objects, noise_seed=scene.noise_seed ^ 1), attribute


def table_of(scene: Scene) -> str:
    """Writes what is in each cell, in reading order, as the eyes would hand it over, but in words."""
    cells = ["nothing"] * CELLS
    for item in scene.objects:
        cells[item.cell] = f"{item.size} {item.color} {item.shape}"
    return f"[ {' | '.join(cells)} ] background {scene.background}"


# Kinds that need a search or a comparison are asked more often than those that only name what is found.
_KIND_WEIGHTS = {"neighbor": 3.0, "compare": 3.0, "exists": 2.0, "place": 2.0}
_KINDS = np.array(KINDS)
_KIND_SHARES = np.array([_KIND_WEIGHTS.get(kind, 1.0) for kind in KINDS])
_KIND_SHARES /= _KIND_SHARES.sum()
_SIZE_OR_COLOR = re.compile(rf"\b({'|'.join((*SIZES, *COLORS))})\b")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_TURN_TOKENS = 14


def _tokens_of(picture: str, question: Question) -> int:
    """About how many tokens a turn is."""
    n_pictures = picture.count(MEDIA)
    in_words = 0 if n_pictures else len(_TOKEN.findall(picture))
    said = len(_TOKEN.findall(question.prompt)) + len(_TOKEN.findall(question.answer))
    return said + in_words + n_pictures * (CELLS + 2) + 4


class ConversationMaker:
    """Draws conversations.

    `speak_freely` says that the pictures are text in disguise, so that every pair may be named.
    """

    def __init__(self, rng: np.random.Generator, *, speak_freely: bool) -> None:
        self.rng = rng
        self.speak_freely = speak_freely
        self.questions = QuestionMaker(rng, speak_freely=speak_freely)

    def about(self, draw: Callable[[], Scene], n_tokens: int, as_words: bool = False) -> Conversation:
        """Talks about pictures, turn by turn until about `n_tokens` are said; now and then a new one comes in."""
        rng = self.rng
        turns: list[tuple[str, Question]] = []
        shown: list[Scene] = []
        captioned = False
        while (left := n_tokens - sum(_tokens_of(*turn) for turn in turns)) > _TURN_TOKENS:
            picture = ""
            if not shown or (rng.random() < 0.08 and left > 60):
                shown.append(draw())
                picture = f"{table_of(shown[-1])}\n" if as_words else _PICTURE
                captioned = False
            if not captioned and rng.random() < (0.35 if picture else 0.15) and left > 45:
                question, captioned = ask_caption(shown[-1], rng), True
            else:
                question = self._hard_question(shown[-1])
            turns.append((picture, question))
        return self._written(turns, () if as_words else tuple(shown))

    def _hard_question(self, scene: Scene) -> Question:
        """Asks a question, rather of a hard kind, and rather one that names objects by their shape alone."""
        by_shape = self.rng.random() < 0.5
        while True:
            kind = str(self.rng.choice(_KINDS, p=_KIND_SHARES))
            for _ in range(4 if by_shape else 1):
                question = self.questions.try_ask(scene, kind)
                if question is not None and not (by_shape and _SIZE_OR_COLOR.search(question.prompt)):
                    break
            if question is not None:
                return question

    def caption(self, scene: Scene) -> Conversation:
        """Asks for a caption and nothing else."""
        return self._written([(_PICTURE, ask_caption(scene, self.rng))], (scene,))

    def compare(self, draw: Callable[[], Scene], n_tokens: int) -> Conversation:
        """Asks what changed between two pictures, for one pair after the other."""
        turns: list[tuple[str, Question]] = []
        scenes: list[Scene] = []
        while not turns or n_tokens - sum(_tokens_of(*turn) for turn in turns) > _TURN_TOKENS + 22:
            before = draw()
            after, attribute = changed_scene(before, self.rng, self.speak_freely)
            question = Question("changed", phrase(CHANGED, self.rng), f"the {attribute}")
            turns.append((_PICTURE + _PICTURE, question))
            scenes += [before, after] if self.rng.random() < 0.5 else [after, before]
        return self._written(turns, tuple(scenes))

    def words(self, n_tokens: int, plain: float = 0.25) -> Conversation:
        """Talks about words alone; a share of `plain` repeats captions of sounds and films."""
        turns: list[tuple[str, Question]] = []
        while not turns or n_tokens - sum(_tokens_of(*turn) for turn in turns) > _TURN_TOKENS:
            question = self._repeat() if self.rng.random() < plain else ask_fact(self.rng)
            turns.append(("", question))
        return self._written(turns, ())

    def _repeat(self) -> Question:
        caption = caption_of_sound(self.rng) if self.rng.random() < 0.5 else caption_of_film(self.rng)
        return Question("repeat", f"repeat: {caption}", caption)

    def _written(self, turns: Sequence[tuple[str, Question]], scenes: tuple[Scene, ...]) -> Conversation:
        rng = self.rng
        pieces = ["<|begin|>"]
        if rng.random() < 0.06:
            pieces.append(f"<|system|>{_SYSTEM_TEXTS[int(rng.integers(len(_SYSTEM_TEXTS)))]}<|end|>")
        for picture, question in turns:
            prompt = vary(question.prompt, rng)
            pieces.append(f"<|user|>{picture}{prompt}<|end|><|assistant|>{question.answer}<|end|>")
        return Conversation("".join(pieces), scenes, tuple(question.kind for _, question in turns))


@dataclass
class TokenBatch:
    """Conversations as tensors.

    Shapes:
        ids (BL): tokens, every picture as a run of the media token; padded at the end.
        labels (BL): what position i has to predict, `IGNORED` where nothing.
        weights (BL): weight of that prediction.
        answer (BL): index of the answer that the position belongs to, counted through the batch.
        media_at (N): flat positions of the picture tokens, in order.
    """

    ids: Tensor
    labels: Tensor
    weights: Tensor
    answer: Tensor
    media_at: Tensor
    scenes: list[Scene]
    kinds: list[str]


class Encoder:
    """Turns conversations into batches by the tokenizer of a backbone."""

    def __init__(self, tokenizer_json: bytes, tokens_per_picture: int = CELLS) -> None:
        from tokenizers import Tokenizer

        self.tokenizer: Any = Tokenizer.from_str(tokenizer_json.decode())
        self.tokens_per_picture = tokens_per_picture
        ids: dict[str, int] = self.tokenizer.get_vocab(with_added_tokens=True)
        self._media, self._pad = ids[MEDIA], ids["<|pad|>"]
        self._end, self._assistant = ids["<|end|>"], ids["<|assistant|>"]

    def word(self, text: str) -> int:
        """Id of a word that is one token.

        Raises:
            ValueError: It is more than one.
        """
        ids = self.tokenizer.encode(text).ids
        if len(ids) != 1:
            raise ValueError(f"{text!r} is {len(ids)} tokens, expected one")
        return int(ids[0])

    def __call__(self, conversations: Sequence[Conversation]) -> TokenBatch:
        """Encodes conversations, padded to the longest."""
        rows = []
        for encoding in self.tokenizer.encode_batch([c.text for c in conversations]):
            ids = np.asarray(encoding.ids)
            rows.append(np.repeat(ids, np.where(ids == self._media, self.tokens_per_picture, 1)))
        length = max(len(row) for row in rows)
        shape = (len(rows), length)
        ids, labels = np.full(shape, self._pad), np.full(shape, IGNORED)
        weights, answers = np.zeros(shape, np.float32), np.full(shape, -1)
        n_answers = 0
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            ends = np.flatnonzero(row == self._end)
            for start in np.flatnonzero(row == self._assistant):
                stop = int(ends[np.searchsorted(ends, start)])
                labels[i, start:stop] = row[start + 1 : stop + 1]
                weights[i, start:stop] = (stop - start) ** -0.75
                answers[i, start:stop] = n_answers
                n_answers += 1
        return TokenBatch(
            ids=torch.from_numpy(ids),
            labels=torch.from_numpy(labels),
            weights=torch.from_numpy(weights),
            answer=torch.from_numpy(answers),
            media_at=torch.from_numpy(np.flatnonzero(ids.reshape(-1) == self._media)),
            scenes=[scene for c in conversations for scene in c.scenes],
            kinds=[kind for c in conversations for kind in c.kinds],
        )


def cell_words(scene: Scene) -> list[tuple[str, ...]]:
    """The words of each cell, its place among them: what an encoder has to tell about it."""
    words: list[tuple[str, ...]] = [(" nothing",)] * CELLS
    for item in scene.objects:
        words[item.cell] = (f" {item.size}", f" {item.color}", f" {item.shape}")
    return [
        (*said, f" {scene.background}", *(f" {word}" for word in place.split()))
        for said, place in zip(words, PLACES, strict=True)
    ]
