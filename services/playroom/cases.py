"""Cases: a picture, a prompt, and a judge of the answer. What `evaluation` and the trainers measure with."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from services.playroom.captions import caption_of, facts_of, parse_caption
from services.playroom.drawing import encode_picture, picture_of
from services.playroom.questions import QuestionMaker, is_right, phrase
from services.playroom.scenes import Scene, Split, draw_scene, seed_of
from services.playroom.wordings import CAPTION


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and if not, why."""

    right: bool
    reason: str = ""


@dataclass(frozen=True)
class Case:
    """One picture, one prompt, and what has to come.

    Attributes:
        kind: `caption`, or the kind of the question.
        picture: The encoded picture, PNG or JPEG.
        mime_type: Of `picture`.
        kept_out: Whether the wording was kept out of training.
    """

    kind: str
    scene: Scene
    picture: bytes
    mime_type: str
    prompt: str
    expected: str
    kept_out: bool

    def open(self) -> Image.Image:
        """Opens the picture."""
        return Image.open(io.BytesIO(self.picture))

    def judge(self, answer: str) -> Verdict:
        """Judges an answer: captions as parsed sets, the rest as words."""
        if self.kind != "caption":
            right = is_right(answer, self.expected)
            return Verdict(right, "" if right else f"expected {self.expected!r}, got {answer!r}")
        said, wanted = parse_caption(answer), facts_of(self.scene)
        if said is None:
            return Verdict(False, f"not a caption: {answer!r}")
        if said == wanted:
            return Verdict(True)
        missing = sorted(" ".join(item) for item in wanted.objects - said.objects)
        extra = sorted(" ".join(item) for item in said.objects - wanted.objects)
        return Verdict(False, f"missing {missing}, extra {extra}, background {said.background}")


def _picture(scene: Scene, rng: np.random.Generator) -> tuple[bytes, str]:
    drawn = picture_of(scene)
    if rng.random() < 0.5:
        return encode_picture(drawn), "image/png"
    return encode_picture(drawn, int(rng.integers(80, 101))), "image/jpeg"


def picture_cases(split: Split, kind: str, count: int, seed: int = 0) -> list[Case]:
    """Draws cases of a split.

    Args:
        split: Where scenes come from.
        kind: `caption`, `question` (every kind alike), or one kind of question.
        count: How many.
        seed: Chooses among scenes, wordings and file formats; half of the wordings are kept-out ones.
    """
    rng = np.random.default_rng((seed, count))
    first = int(rng.integers(10**6 - 50 * count))
    speak_freely = split is Split.COMPOSITIONAL
    cases: list[Case] = []
    index = first
    while len(cases) < count:
        scene = draw_scene(seed_of(split, index), split)
        index += 1
        kept_out = bool(rng.random() < 0.5)
        if kind == "caption":
            prompt, expected, case_kind = phrase(CAPTION, rng, kept_out), caption_of(scene), "caption"
        else:
            maker = QuestionMaker(rng, kept_out=kept_out, speak_freely=speak_freely)
            question = maker.try_ask(scene, None if kind == "question" else kind)
            if question is None:
                continue
            prompt, expected, case_kind = question.prompt, question.answer, question.kind
        picture, mime_type = _picture(scene, rng)
        cases.append(Case(case_kind, scene, picture, mime_type, prompt, expected, kept_out))
    return cases
