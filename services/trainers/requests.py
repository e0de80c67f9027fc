"""Requests that want media as conversations: what is said with each medium, and the signal tokens that ask for it."""

from __future__ import annotations

from typing import Final

import numpy as np

from services.playroom.making import ANSWER_ONLY, CELLS, CELLS_UNSEEN, MAKING_CELLS, make_request
from services.playroom.questions import Question
from services.playroom.requests import Input, Making, Request, Spoken
from services.playroom.scenes import Split
from services.trainers.conversations import Conversation, Turn, write_conversation
from services.trainers.media import Shown, Speech

SIGNALS: Final = {"image": 4, "video": 24, "audio": 8}
"""How many signal tokens ask for a medium."""
BLOCKS: Final = {
    modality: "".join(f"<|{modality}_{index}|>" for index in range(count)) for modality, count in SIGNALS.items()
}
_WEIGHTS: Final = {"text_to_image": 2.5, "text_to_video": 1.2, "image_to_image": 1.5, ANSWER_ONLY: 1.0}
DRAWING_CELLS: Final = ("text_to_image", "image_to_image")
_CELLS: Final = tuple(cell for cell in CELLS if cell in MAKING_CELLS or "_to_" not in cell)


def _shown(given: Input) -> Shown:
    return Speech(given.sentence) if isinstance(given, Spoken) else given


def answer_text(request: Request) -> str:
    """All that an answer says, each sentence with the signal tokens of its medium right behind it."""
    text = ""
    for item in request.answer:
        if isinstance(item, Making):
            text += BLOCKS[item.modality]
        else:
            text += f". {item}" if text else item
    return text


def conversation_of(request: Request, rng: np.random.Generator) -> Conversation:
    """Writes a request and its answer, with the turns before it."""
    turns = [
        Turn(
            tuple(_shown(given) for given in earlier.inputs),
            Question("earlier", earlier.prompt, earlier.says),
            made=tuple(earlier.made),
        )
        for earlier in request.earlier
    ]
    question = Question(request.cell, request.prompt, answer_text(request))
    makes = tuple((making.modality, making.caption) for making in request.makes)
    media = tuple(_shown(given) for given in request.inputs)
    turns.append(Turn(media, question, is_spoken=not request.prompt, makes=makes))
    return write_conversation(turns, rng)


def draw_request(rng: np.random.Generator, split: Split, cells: tuple[str, ...] = _CELLS) -> Conversation:
    """Draws a request of any cell in a trained wording, as a conversation."""
    if split is Split.COMPOSITIONAL:
        cells = tuple(cell for cell in cells if cell not in CELLS_UNSEEN)
    weights = np.array([_WEIGHTS.get(cell, 1.0) for cell in cells])
    cell = str(rng.choice(cells, p=weights / weights.sum()))
    return conversation_of(make_request(rng, cell, split), rng)
