from __future__ import annotations

import numpy as np
import pytest

from services.playroom.films import FilmFacts, draw_film
from services.playroom.media_questions import FILM_KINDS, SOUND_KINDS, MediaQuestionMaker
from services.playroom.media_wordings import (
    FILM_CAPTION,
    FILM_QUESTIONS,
    IT,
    SAME_NUMBER,
    SOUND_CAPTION,
    SOUND_QUESTIONS,
    WRITE_DOWN,
)
from services.playroom.scenes import Scene, SceneObject, draw_scene
from services.playroom.sounds import ALL_SOUNDS, SoundFacts
from services.playroom.words import HELD_OUT_PAIRS

_SOUND = SoundFacts("hiss", "low", 3)
_FILM = FilmFacts("red", "circle", "moving left", "black")
_ONE = Scene((SceneObject("ring", "blue", "small", 4),), "white")


def test_every_meaning_has_six_wordings_to_train_on_and_two_kept_out() -> None:
    by_kind = [*SOUND_QUESTIONS.values(), *FILM_QUESTIONS.values(), *IT.values()]
    for wordings in (SOUND_CAPTION, FILM_CAPTION, SAME_NUMBER, WRITE_DOWN, *by_kind):
        assert len(set(wordings.trained)) >= 6
        assert len(set(wordings.kept_out)) == 2
        assert not set(wordings.trained) & set(wordings.kept_out)


@pytest.mark.parametrize(("kind", "answer"), [("events", "three"), ("pitch", "low"), ("timbre", "hiss")])
def test_answers_about_sounds_follow_from_them(kind: str, answer: str) -> None:
    maker = MediaQuestionMaker(np.random.default_rng(0))
    for _ in range(20):
        question = maker.try_ask_sound(_SOUND, kind)
        assert question is not None
        assert (question.kind, question.answer) == (kind, answer)
        assert "{" not in question.prompt


@pytest.mark.parametrize(
    ("kind", "answer"), [("thing", "a red circle"), ("color", "red"), ("shape", "circle"), ("way", "left")]
)
def test_answers_about_films_follow_from_them(kind: str, answer: str) -> None:
    maker = MediaQuestionMaker(np.random.default_rng(0))
    for _ in range(20):
        question = maker.try_ask_film(_FILM, kind)
        assert question is not None
        assert (question.kind, question.answer) == (kind, answer)
        assert "{" not in question.prompt


def test_what_the_world_leaves_open_is_never_asked() -> None:
    maker = MediaQuestionMaker(np.random.default_rng(0))
    sweep = SoundFacts("sweep", "rising")
    assert maker.try_ask_sound(sweep) is None
    assert maker.ask_of_it(sweep) is None
    assert maker.same_number(_ONE, sweep) is None
    assert maker.try_ask_film(FilmFacts("red", "star", "standing still", "gray"), "thing") is None
    assert maker.ask_of_it(draw_scene(next(seed for seed in range(99) if len(draw_scene(seed).objects) > 1))) is None


def test_captions_are_asked_for_and_given() -> None:
    maker = MediaQuestionMaker(np.random.default_rng(0), kept_out=True)
    assert maker.caption_sound(_SOUND).answer == "three low hisses"
    assert maker.caption_film(_FILM).answer == "a red circle moving left on a black background"
    assert maker.caption_sound(_SOUND).prompt.startswith(("give me a description", "say what can be heard"))


def test_it_is_what_was_handed_in() -> None:
    maker = MediaQuestionMaker(np.random.default_rng(0))
    for shown, answers in (
        (_ONE, {"color": "blue", "shape": "ring", "size": "small", "place": "center"}),
        (_SOUND, {"pitch": "low", "timbre": "hiss"}),
        (_FILM, {"color": "red", "shape": "circle", "way": "left"}),
    ):
        asked = [maker.ask_of_it(shown) for _ in range(60)]
        assert {question.kind: question.answer for question in asked if question} == answers


def test_numbers_are_compared() -> None:
    maker = MediaQuestionMaker(np.random.default_rng(0))
    for count, answer in ((1, "yes"), (2, "no")):
        question = maker.same_number(_ONE, SoundFacts("beep", "low", count))
        assert question is not None
        assert question.answer == answer
        assert "beeps" in question.prompt


def test_all_kinds_are_asked_and_no_prompt_names_a_held_out_pair() -> None:
    maker = MediaQuestionMaker(np.random.default_rng(0))
    sounds = [maker.try_ask_sound(facts) for facts in ALL_SOUNDS * 5]
    films = [maker.try_ask_film(draw_film(seed).facts) for seed in range(300)]
    assert {question.kind for question in sounds if question} == set(SOUND_KINDS)
    assert {question.kind for question in films if question} == set(FILM_KINDS)
    named = [f"{question.prompt} {question.answer}" for question in films if question]
    assert not any(f"{color} {shape}" in text for text in named for color, shape in HELD_OUT_PAIRS)
