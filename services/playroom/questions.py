"""Questions about a scene with their answers, and whether an answer is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from services.playroom.scenes import Scene, SceneObject
from services.playroom.wordings import NEIGHBOR_SIDES, PICTURE_WORDS, QUESTIONS, Wordings
from services.playroom.words import (
    COLORS,
    HELD_OUT_PAIRS,
    NUMBERS,
    SHAPES,
    SIZES,
    with_article,
)

KINDS = ("color", "shape", "size", "place", "count", "exists", "neighbor", "compare", "background")
_VALUES = {"size": SIZES, "color": COLORS, "shape": SHAPES}
_PLURALS = {**{shape: f"{shape}s" for shape in SHAPES}, "cross": "crosses", "object": "objects"}


@dataclass(frozen=True)
class Question:
    """One question in words, what it is about, and its answer."""

    kind: str
    prompt: str
    answer: str


def _value(item: SceneObject, attribute: str) -> str:
    match attribute:
        case "size":
            return item.size
        case "color":
            return item.color
        case "shape":
            return item.shape
        case _:
            return item.place


def _noun(attributes: dict[str, str]) -> str:
    """`red circle`, `large object`: what is named of size, color and shape, in that order."""
    words = [attributes[name] for name in ("size", "color") if name in attributes]
    return " ".join([*words, attributes.get("shape", "object")])


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _matching(scene: Scene, attributes: dict[str, str]) -> list[SceneObject]:
    return [item for item in scene.objects if all(_value(item, name) == value for name, value in attributes.items())]


def _single_out(scene: Scene, item: SceneObject, rng: np.random.Generator, hidden: str = "") -> str | None:
    """Names an object by attributes that fit it alone, `hidden` not among them; None if there are none."""
    names = [name for name in ("size", "color", "shape", "place") if name != hidden]
    choices = []
    for count in range(len(names) + 1):
        for chosen in combinations(names, count):
            attributes = {name: _value(item, name) for name in chosen}
            if len(_matching(scene, attributes)) == 1:
                choices.append(attributes)
    if not choices:
        return None
    attributes = choices[int(rng.integers(len(choices)))]
    place = attributes.pop("place", None)
    return f"the {_noun(attributes)}" + (f" at the {place}" if place else "")


def _criterion(scene: Scene, rng: np.random.Generator, n_attributes: int, speak_freely: bool) -> dict[str, str]:
    """Picks attributes: of an object, of an object with one of them changed, or any."""
    names = [("size", "color", "shape")[i] for i in sorted(rng.permutation(3)[:n_attributes])]
    while True:
        item = scene.objects[int(rng.integers(len(scene.objects)))]
        attributes = {name: _value(item, name) for name in names}
        draw = rng.random()
        if draw < 0.25:
            attributes = {name: _pick(rng, _VALUES[name]) for name in names}
        elif draw < 0.5:
            changed = _pick(rng, names)
            attributes[changed] = _pick(rng, _VALUES[changed])
        if speak_freely or (attributes.get("color"), attributes.get("shape")) not in HELD_OUT_PAIRS:
            return attributes


def neighbor_of(scene: Scene, item: SceneObject, side: str) -> SceneObject | None:
    """The nearest object in the same row (left, right) or column (above, below) on that side."""
    step = 1 if side in ("right", "below") else -1
    if side in ("left", "right"):
        line = [other for other in scene.objects if other.row == item.row]
        distance = {other: step * (other.column - item.column) for other in line}
    else:
        line = [other for other in scene.objects if other.column == item.column]
        distance = {other: step * (other.row - item.row) for other in line}
    ahead = [other for other in line if distance[other] > 0]
    return min(ahead, key=lambda other: distance[other], default=None)


def phrase(wordings: Wordings, rng: np.random.Generator, kept_out: bool = False, **slots: str) -> str:
    """Picks a wording and fills its slots."""
    options = wordings.kept_out if kept_out else wordings.trained
    return _pick(rng, options).format(pic=_pick(rng, PICTURE_WORDS), **slots)


class QuestionMaker:
    """Makes questions about scenes.

    `kept_out` uses the wordings that training never sees; `speak_freely` allows naming pairs of color and
    shape that are held out of pictures (text without media, and the compositional split).
    """

    def __init__(self, rng: np.random.Generator, *, kept_out: bool = False, speak_freely: bool = False) -> None:
        self.rng = rng
        self.kept_out = kept_out
        self.speak_freely = speak_freely
        self._makers: dict[str, Callable[[Scene], Question | None]] = {
            "count": self._count,
            "exists": self._exists,
            "neighbor": self._neighbor,
            "compare": self._compare,
            "background": self._background,
        }

    def ask(self, scene: Scene) -> Question:
        """Asks a question of any kind that the scene allows."""
        while (question := self.try_ask(scene)) is None:
            pass
        return question

    def try_ask(self, scene: Scene, kind: str | None = None) -> Question | None:
        """Asks a question of a kind (any at random without one); None where the scene does not allow it."""
        chosen = kind or _pick(self.rng, KINDS)
        make = self._makers.get(chosen)
        return make(scene) if make else self._attribute(scene, chosen)

    def _say(self, kind: str, wording: str, answer: str, **slots: str) -> Question:
        return Question(kind, phrase(QUESTIONS[wording], self.rng, self.kept_out, **slots), answer)

    def _any_object(self, scene: Scene) -> SceneObject:
        return scene.objects[int(self.rng.integers(len(scene.objects)))]

    def _attribute(self, scene: Scene, kind: str) -> Question | None:
        item = self._any_object(scene)
        the = _single_out(scene, item, self.rng, hidden=kind)
        return self._say(kind, kind, _value(item, kind), the=the) if the else None

    def _count(self, scene: Scene) -> Question:
        n_attributes = int(self.rng.choice(4, p=[0.25, 0.5, 0.2, 0.05]))
        attributes = _criterion(scene, self.rng, n_attributes, self.speak_freely) if n_attributes else {}
        many = _noun({**attributes, "shape": _PLURALS[attributes.get("shape", "object")]})
        return self._say("count", "count", NUMBERS[len(_matching(scene, attributes))], many=many)

    def _exists(self, scene: Scene) -> Question:
        attributes = _criterion(scene, self.rng, int(self.rng.integers(1, 4)), self.speak_freely)
        answer = "yes" if _matching(scene, attributes) else "no"
        return self._say("exists", "exists", answer, a=with_article(_noun(attributes)))

    def _neighbor(self, scene: Scene) -> Question | None:
        pairs = [(item, side) for item in scene.objects for side in NEIGHBOR_SIDES]
        found = [pair for pair in pairs if neighbor_of(scene, *pair)]
        options = found if found and self.rng.random() < 0.6 else pairs
        item, side = options[int(self.rng.integers(len(options)))]
        the = _single_out(scene, item, self.rng)
        if the is None:
            return None
        other = neighbor_of(scene, item, side)
        return self._say("neighbor", side, other.noun if other else "nothing", the=the)

    def _compare(self, scene: Scene) -> Question | None:
        if len(scene.objects) != 2:
            return None
        first, second = scene.objects
        same = [name for name in _VALUES if _value(first, name) == _value(second, name)]
        attribute = _pick(self.rng, same if same and self.rng.random() < 0.5 else list(_VALUES))
        answer = "yes" if attribute in same else "no"
        return self._say("compare", "compare", answer, attribute=attribute)

    def _background(self, scene: Scene) -> Question:
        return self._say("background", "background", scene.background)


_SPELLINGS = {"grey": "gray", "colour": "color", "centre": "center"}
_PUNCTUATION = re.compile(r"[^\w\s]")


def normalize_answer(text: str) -> str:
    """Lower case, no punctuation, single spaces, one spelling."""
    words = _PUNCTUATION.sub(" ", text.lower()).split()
    return " ".join(_SPELLINGS.get(word, word) for word in words)


def is_right(answer: str, expected: str) -> bool:
    """Whether an answer says what is expected and nothing else; a leading article is free."""
    said, wanted = (normalize_answer(text).split() for text in (answer, expected))
    for words in (said, wanted):
        if len(words) > 1 and words[0] in ("a", "an", "the"):
            words.pop(0)
    return said == wanted
