"""What a generator is conditioned on: the text encoder of captions, one for each medium.

Captions have few words in a fixed order, so the encoder is a table: words that belong together are summed into one
token, at the token that they are about. The table is random and stays so: codes of different words are nearly
orthogonal, which is all that a generator needs to tell them apart, and projectors can learn to hit them before there
is a generator. It never serves.
"""

# B captions, K tokens, W words of a token, D conditioning width, V words

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.playroom.sayings import MOTIONS
from services.playroom.words import BACKGROUNDS, COLORS, MAX_OBJECTS, NUMBERS, PLACES, SHAPES, SIZES

NOTHING: Final = "nothing"
UNSAID: Final = "unsaid"
_CELLS: Final = len(PLACES)
_PADDING: Final = 0
_THING: Final = (SIZES, COLORS, SHAPES)
_FILM: Final = (SIZES, COLORS, SHAPES, MOTIONS, BACKGROUNDS)
_SOUND: Final = (
    NUMBERS[1:],
    ("low", "middle", "high", "rising", "falling"),
    ("beep", "buzz", "chime", "hiss", "sweep"),
)
_PLURALS: Final = {"beeps": "beep", "buzzes": "buzz", "chimes": "chime", "hisses": "hiss"}
_PLACE: Final = re.compile(rf"\b(?:at|in|on) the ({'|'.join(sorted(PLACES, key=len, reverse=True))})\b")
_BACKGROUND: Final = re.compile(rf",? ?\bon an? ({'|'.join(BACKGROUNDS)}) background\b")
_BETWEEN: Final = re.compile(r",| and ")
N_TOKENS: Final = {"image": _CELLS + 1 + MAX_OBJECTS, "video": len(_FILM), "audio": 1}
WORDS: Final = tuple(
    dict.fromkeys((NOTHING, UNSAID, *(w for group in (*_THING, MOTIONS, BACKGROUNDS, *_SOUND) for w in group)))
)
SAID: Final = tuple((NOTHING, UNSAID, *group) for group in (*_THING, PLACES, BACKGROUNDS))
"""What can be said of an object and of the background, group by group."""
_NOTHING: Final = 0
_INDEX: Final = {word: index + 1 for index, word in enumerate(WORDS)}
_MAX_WORDS: Final = 3
_SEED: Final = 20_260
_TOKEN_WEIGHT: Final = 0.7


def _found(groups: Sequence[Sequence[str]], text: str) -> list[str]:
    """The word of each group that a text says, `UNSAID` where it says none."""
    padded = f" {text} "
    return [next((word for word in group if f" {word} " in padded), UNSAID) for group in groups]


def _picture_tokens(caption: str) -> list[list[str]]:
    """Nine cells, the background, and the objects whose place is not named."""
    background = _BACKGROUND.search(caption)
    cells = [[NOTHING] for _ in range(_CELLS)]
    free: list[list[str]] = []
    for phrase in _BETWEEN.split(_BACKGROUND.sub("", caption)):
        if not phrase.strip():
            continue
        place = _PLACE.search(phrase)
        said = _found(_THING, _PLACE.sub("", phrase))
        if place:
            cells[PLACES.index(place[1])] = said
        else:
            free.append(said)
    if not free and all(cell == [NOTHING] for cell in cells):
        return [[UNSAID]] * N_TOKENS["image"]
    free = [*free, *([NOTHING] for _ in range(MAX_OBJECTS))][:MAX_OBJECTS]
    return [*cells, [background[1] if background else UNSAID], *free]


def _sound_tokens(caption: str) -> list[list[str]]:
    words = " ".join(_PLURALS.get(word, word) for word in caption.split())
    return [_found(_SOUND, words)]


def tokens_of(modality: str, caption: str) -> list[list[str]]:
    """The words of each token that a caption becomes; what it leaves open is unsaid, and empty is all of it.

    Args:
        modality: `image`, `video` or `audio`.
        caption: A caption of the playroom, any part of which may be missing.
    """
    caption = caption.strip().lower()
    match modality:
        case "image":
            return _picture_tokens(caption)
        case "video":
            return [[word] for word in _found(_FILM, caption)]
        case _:
            return _sound_tokens(caption)


def said_of_objects(captions: Sequence[str]) -> Tensor:
    """What captions of pictures say of each object in turn, and last of the background.

    Returns:
        Index of size, color, shape, place and background among `SAID`, for every object and the background (BO5).
    """
    said_BO5 = torch.full((len(captions), MAX_OBJECTS + 1, len(SAID)), _NOTHING)
    for row, caption in enumerate(captions):
        caption = caption.strip().lower()
        phrases = [phrase for phrase in _BETWEEN.split(_BACKGROUND.sub("", caption)) if phrase.strip()]
        for index, phrase in enumerate(phrases[:MAX_OBJECTS]):
            place = _PLACE.search(phrase)
            words = [*_found(_THING, _PLACE.sub("", phrase)), place[1] if place else UNSAID, NOTHING]
            said_BO5[row, index] = _indices(words)
        background = _BACKGROUND.search(caption)
        words = [*([NOTHING] * (len(SAID) - 1)), background[1] if background else UNSAID]
        said_BO5[row, -1] = _indices(words)
    return said_BO5


def _indices(words: Sequence[str]) -> Tensor:
    return torch.tensor([group.index(word) for group, word in zip(SAID, words, strict=True)])


def word_ids(modality: str, captions: Sequence[str]) -> Tensor:
    """Ids of the words of captions (BKW), padded."""
    ids = torch.full((len(captions), N_TOKENS[modality], _MAX_WORDS), _PADDING)
    for row, caption in enumerate(captions):
        for token, words in enumerate(tokens_of(modality, caption)):
            ids[row, token, : len(words)] = torch.tensor([_INDEX[word] for word in words])
    return ids


class CaptionEncoder(nn.Module):
    """Captions of one medium → conditioning (BKD), by codes that follow from the width alone."""

    words: Tensor
    tokens: Tensor

    def __init__(self, modality: str, width: int) -> None:
        super().__init__()
        self.modality = modality
        generator = torch.Generator().manual_seed(_SEED + list(N_TOKENS).index(modality))
        words_VD = torch.randn(len(WORDS) + 1, width, generator=generator)
        words_VD[_PADDING] = 0
        tokens_KD = _TOKEN_WEIGHT * torch.randn(N_TOKENS[modality], width, generator=generator)
        self.register_buffer("words", words_VD, persistent=False)
        self.register_buffer("tokens", tokens_KD, persistent=False)

    def forward(self, ids_BKW: Tensor) -> Tensor:
        """Encodes ids of words; every token has a variance of one."""
        summed_BKD = self.words[ids_BKW].sum(2) + self.tokens
        return F.layer_norm(summed_BKD, summed_BKD.shape[-1:])

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Encodes captions (BKD)."""
        encoded: Tensor = self(word_ids(self.modality, captions).to(self.words.device))
        return encoded
