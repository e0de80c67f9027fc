from __future__ import annotations

import re

import numpy as np
import pytest

from services.playroom.questions import KINDS, QuestionMaker, is_right, neighbor_of
from services.playroom.scenes import Scene, SceneObject, Split, draw_scene
from services.playroom.wordings import CAPTION, CHANGED, QUESTIONS
from services.playroom.words import HELD_OUT_PAIRS

_ROW = Scene(
    (
        SceneObject("circle", "red", "large", 3),
        SceneObject("square", "blue", "small", 4),
        SceneObject("ring", "orange", "small", 5),
    ),
    background="white",
)


def test_every_meaning_has_six_wordings_to_train_on_and_two_kept_out() -> None:
    for wordings in (*QUESTIONS.values(), CAPTION, CHANGED):
        assert len(set(wordings.trained)) >= 6
        assert len(set(wordings.kept_out)) == 2
        assert not set(wordings.trained) & set(wordings.kept_out)


def test_neighbors_are_the_nearest_in_the_same_line() -> None:
    left, middle, right = _ROW.objects
    assert neighbor_of(_ROW, left, "right") is middle
    assert neighbor_of(_ROW, right, "left") is middle
    assert neighbor_of(_ROW, left, "left") is None
    assert neighbor_of(_ROW, middle, "above") is None


def test_answers_follow_from_the_scene() -> None:
    maker = QuestionMaker(np.random.default_rng(0))
    for _ in range(100):
        count = maker.try_ask(_ROW, "count")
        assert count is not None
        if "objects" in count.prompt and not re.search("small|large|red|blue|orange", count.prompt):
            assert count.answer in ("three", "zero")
        background = maker.try_ask(_ROW, "background")
        assert background is not None
        assert background.answer == "white"
        neighbor = maker.try_ask(_ROW, "neighbor")
        assert neighbor is not None
        assert neighbor.answer in ("nothing", "a large red circle", "a small blue square", "a small orange ring")


def test_the_asked_attribute_is_not_given_away_and_the_object_is_singled_out() -> None:
    maker = QuestionMaker(np.random.default_rng(1))
    for seed in range(300):
        scene = draw_scene(seed)
        for kind in ("color", "shape", "size", "place"):
            question = maker.try_ask(scene, kind)
            if question is None:
                continue
            words = re.findall(r"\w+", question.prompt)
            if kind != "size":  # "is it small or large?" names both
                assert question.answer not in words
            assert "the" in words


def test_comparisons_are_asked_of_two_objects_only() -> None:
    maker = QuestionMaker(np.random.default_rng(2))
    assert maker.try_ask(_ROW, "compare") is None
    two = Scene(_ROW.objects[1:], "white")
    asked = [maker.try_ask(two, "compare") for _ in range(30)]
    assert {(q.prompt.split()[-1].rstrip("?"), q.answer) for q in asked if q and q.prompt.endswith("size?")} <= {
        ("size", "yes")
    }


def test_questions_beside_pictures_name_no_held_out_pair() -> None:
    maker = QuestionMaker(np.random.default_rng(3))
    for seed in range(1500):
        prompt = maker.ask(draw_scene(seed)).prompt
        for color, shape in HELD_OUT_PAIRS:
            assert f"{color} {shape}" not in prompt


def test_all_kinds_are_asked_and_answers_are_balanced_enough() -> None:
    maker = QuestionMaker(np.random.default_rng(4))
    asked = [maker.ask(draw_scene(seed)) for seed in range(3000)]
    assert {question.kind for question in asked} == set(KINDS)
    exists = [question.answer for question in asked if question.kind == "exists"]
    assert 0.35 < exists.count("yes") / len(exists) < 0.75
    neighbor = [question.answer for question in asked if question.kind == "neighbor"]
    assert 0.2 < neighbor.count("nothing") / len(neighbor) < 0.8


def test_kept_out_wordings_are_used_when_asked_for() -> None:
    scene = draw_scene(11, Split.TRAIN)
    kept_out = QuestionMaker(np.random.default_rng(5), kept_out=True)
    assert {q.prompt for _ in range(40) if (q := kept_out.try_ask(scene, "background"))} == {
        "on what background is it?",
        "can you tell me what color the background is?",
    }


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("Red.", "red", True),
        ("grey", "gray", True),
        ("small blue square", "a small blue square", True),
        ("a small blue square", "a small blue square", True),
        ("top left", "top", False),
        ("two", "three", False),
        ("", "no", False),
        ("yes no", "no", False),
        ("centre", "center", True),
    ],
)
def test_answers_are_compared_as_words(answer: str, expected: str, right: bool) -> None:
    assert is_right(answer, expected) is right
