"""Conversations of the playroom as a backbone reads them: ids, what to learn, and where media stand."""

# B conversations, L positions, N media tokens in the batch, W words of a token

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.backbone.tokenizer import MEDIA, MEDIA_BEGIN, MEDIA_END
from services.playroom.captions import caption_of
from services.playroom.changes import change_scene
from services.playroom.questions import KINDS, Question, QuestionMaker, phrase
from services.playroom.sayings import ask_fact, caption_of_film, caption_of_sound
from services.playroom.scenes import Scene
from services.playroom.wordings import CAPTION, CHANGED
from services.playroom.words import COLORS, SIZES
from services.trainers.media import CELLS, MAX_WORDS, Shown, TokenWords, tokens_of

IGNORED = -100
_SIGNAL = re.compile(r"<\|(image|video|audio)_\d+\|>")
_FIRST_SIGNALS = ("<|image_0|>", "<|video_0|>", "<|audio_0|>")
_MEDIUM = f"{MEDIA_BEGIN}{MEDIA}{MEDIA_END}"
_SYSTEM_TEXTS = ("you are a helpful assistant.", "answer briefly.", "You answer questions about pictures.")


@dataclass(frozen=True)
class Conversation:
    """A whole conversation as text, one `<|media|>` for each medium, and the media in their order."""

    text: str
    media: tuple[Shown, ...]
    kinds: tuple[str, ...] = ()
    """Kind of every answer, in order."""
    makes: tuple[tuple[str, str], ...] = ()
    """Modality and caption of everything that answers make, in order: one for each block of signal tokens."""


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


@dataclass(frozen=True)
class Turn:
    """What is handed in, what is asked about it, and how: in writing, or by the last of its media."""

    media: tuple[Shown, ...]
    question: Question
    table: str = ""
    """A scene in words, before the question."""
    is_spoken: bool = False
    made: tuple[Shown, ...] = ()
    """Media that stand behind the answer: what an earlier turn has made."""
    makes: tuple[tuple[str, str], ...] = ()
    """Modality and caption of what the answer makes by its signal tokens."""

    @property
    def n_tokens(self) -> int:
        """About how many tokens it is."""
        said = "" if self.is_spoken else self.question.prompt
        words = sum(len(_TOKEN.findall(text)) for text in (self.table, said, self.question.answer))
        return words + sum(tokens_of(medium) + 2 for medium in (*self.media, *self.made)) + 4


def tokens_in(turns: Sequence[Turn]) -> int:
    """About how many tokens turns are."""
    return sum(turn.n_tokens for turn in turns)


def write_conversation(turns: Sequence[Turn], rng: np.random.Generator) -> Conversation:
    """Writes turns as the chat template does."""
    pieces = ["<|begin|>"]
    if rng.random() < 0.06:
        pieces.append(f"<|system|>{_SYSTEM_TEXTS[int(rng.integers(len(_SYSTEM_TEXTS)))]}<|end|>")
    for turn in turns:
        asked = "" if turn.is_spoken else vary(turn.question.prompt, rng)
        given = _MEDIUM * len(turn.media)
        answer = turn.question.answer + _MEDIUM * len(turn.made)
        pieces.append(f"<|user|>{given}{turn.table}{asked}<|end|><|assistant|>{answer}<|end|>")
    media = tuple(medium for turn in turns for medium in (*turn.media, *turn.made))
    makes = tuple(made for turn in turns for made in turn.makes)
    return Conversation("".join(pieces), media, tuple(turn.question.kind for turn in turns), makes)


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
        turns: list[Turn] = []
        shown: Scene | None = None
        captioned = False
        while (left := n_tokens - tokens_in(turns)) > _TURN_TOKENS:
            media: tuple[Shown, ...] = ()
            table, is_new = "", shown is None or (rng.random() < 0.08 and left > 60)
            if shown is None or is_new:
                shown = draw()
                table, media = (f"{table_of(shown)}\n", ()) if as_words else ("", (shown,))
                captioned = False
            if not captioned and rng.random() < (0.35 if is_new else 0.15) and left > 45:
                question, captioned = ask_caption(shown, rng), True
            else:
                question = self.hard_question(shown)
            turns.append(Turn(media, question, table))
        return write_conversation(turns, rng)

    def hard_question(self, scene: Scene) -> Question:
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
        return write_conversation([Turn((scene,), ask_caption(scene, self.rng))], self.rng)

    def compare(self, draw: Callable[[], Scene], n_tokens: int) -> Conversation:
        """Asks what changed between two pictures, for one pair after the other."""
        turns: list[Turn] = []
        while not turns or n_tokens - tokens_in(turns) > _TURN_TOKENS + 22:
            before = draw()
            after, attribute = change_scene(before, self.rng, speak_freely=self.speak_freely)
            question = Question("changed", phrase(CHANGED, self.rng), f"the {attribute}")
            turns.append(Turn((before, after) if self.rng.random() < 0.5 else (after, before), question))
        return write_conversation(turns, self.rng)

    def words(self, n_tokens: int, plain: float = 0.25) -> Conversation:
        """Talks about words alone; a share of `plain` repeats captions of sounds and films."""
        turns: list[Turn] = []
        while not turns or n_tokens - tokens_in(turns) > _TURN_TOKENS:
            turns.append(Turn((), self._repeat() if self.rng.random() < plain else ask_fact(self.rng)))
        return write_conversation(turns, self.rng)

    def _repeat(self) -> Question:
        caption = caption_of_sound(self.rng) if self.rng.random() < 0.5 else caption_of_film(self.rng)
        return Question("repeat", f"repeat: {caption}", caption)


@dataclass
class TokenBatch:
    """Conversations as tensors.

    Shapes:
        ids (BL): tokens, every medium as a run of the media token; padded at the end.
        labels (BL): what position i has to predict, `IGNORED` where nothing.
        weights (BL): weight of that prediction.
        answer (BL): index of the answer that the position belongs to, counted through the batch.
        media_at (N): flat positions of the media tokens, in order.
        words (NW): ids of the words of every media token, -1 beyond them; all -1 where real features take its place.
        blocks (M): flat positions of the first signal token of everything that answers make.

    Attributes:
        kinds: Kind of every answer.
        makes: Modality and caption of everything that answers make, in order.
    """

    ids: Tensor
    labels: Tensor
    weights: Tensor
    answer: Tensor
    media_at: Tensor
    words: Tensor
    kinds: list[str]
    blocks: Tensor
    makes: list[tuple[str, str]]


class Encoder:
    """Turns conversations into batches by the tokenizer of a backbone."""

    def __init__(self, tokenizer_json: bytes) -> None:
        from tokenizers import Tokenizer

        self.tokenizer: Any = Tokenizer.from_str(tokenizer_json.decode())
        self._word_ids: dict[str, int] = {}
        self._piece_ids: dict[str, list[int]] = {}
        ids: dict[str, int] = self.tokenizer.get_vocab(with_added_tokens=True)
        self._media, self._pad = ids[MEDIA], ids["<|pad|>"]
        self._end, self._assistant = ids["<|end|>"], ids["<|assistant|>"]
        self._first_signals = [ids[name] for name in _FIRST_SIGNALS if name in ids]
        self._handed_over = [self._media, ids[MEDIA_BEGIN], ids[MEDIA_END]]

    def word(self, text: str) -> int:
        """Id of a word that is one token.

        Raises:
            ValueError: It is more than one.
        """
        if text not in self._word_ids:
            ids = self.tokenizer.encode(text).ids
            if len(ids) != 1:
                raise ValueError(f"{text!r} is {len(ids)} tokens, expected one")
            self._word_ids[text] = int(ids[0])
        return self._word_ids[text]

    def _pieces(self, text: str) -> list[int]:
        """Ids of a word, which may be more than one token."""
        if text not in self._piece_ids:
            self._piece_ids[text] = [int(piece) for piece in self.tokenizer.encode(text).ids]
        return self._piece_ids[text]

    def signal_ids(self) -> list[int]:
        """Ids of all signal tokens."""
        ids: dict[str, int] = self.tokenizer.get_vocab(with_added_tokens=True)
        return sorted(row for token, row in ids.items() if _SIGNAL.fullmatch(token))

    def __call__(self, conversations: Sequence[Conversation], given: Sequence[TokenWords | int]) -> TokenBatch:
        """Encodes conversations, padded to the longest.

        Args:
            conversations: What is said.
            given: For every medium of theirs, in order: the words of its tokens, or how many real features it has.
        """
        lengths = iter([row if isinstance(row, int) else len(row) for row in given])
        rows = []
        for encoding in self.tokenizer.encode_batch([c.text for c in conversations]):
            ids = np.asarray(encoding.ids)
            times = np.ones(len(ids), int)
            times[ids == self._media] = [next(lengths) for _ in range(int((ids == self._media).sum()))]
            rows.append(np.repeat(ids, times))
        length = max((len(row) for row in rows), default=0)
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
        labels[np.isin(labels, self._handed_over)] = IGNORED  # nobody says media
        return TokenBatch(
            ids=torch.from_numpy(ids),
            labels=torch.from_numpy(labels),
            weights=torch.from_numpy(weights),
            answer=torch.from_numpy(answers),
            media_at=torch.from_numpy(np.flatnonzero(ids.reshape(-1) == self._media)),
            words=self._words(given),
            kinds=[kind for c in conversations for kind in c.kinds],
            blocks=torch.from_numpy(np.flatnonzero(np.isin(ids.reshape(-1), self._first_signals))),
            makes=[made for c in conversations for made in c.makes],
        )

    def _words(self, given: Sequence[TokenWords | int]) -> Tensor:
        """Ids of the words of media tokens (NW)."""
        rows: list[list[int]] = []
        for medium in given:
            if isinstance(medium, int):
                rows += [[-1] * MAX_WORDS] * medium
                continue
            for words in medium:
                ids = [piece for word in words for piece in self._pieces(word)][:MAX_WORDS]
                rows.append(ids + [-1] * (MAX_WORDS - len(ids)))
        return torch.tensor(rows, dtype=torch.long).reshape(-1, MAX_WORDS)
