"""Cases with media out: the truth is judged right, anything else is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.playroom.captions import facts_of
from services.playroom.codecs import FILM_CODINGS, encode_film
from services.playroom.filling import fill
from services.playroom.filming import draw_films, encode_gif
from services.playroom.making import ANSWER_ONLY, MAKING_CELLS
from services.playroom.making_cases import KINDS, SPOKEN_CELLS, MakingCase, draw_making_cases
from services.playroom.making_judges import caption_of_medium, wrong_with
from services.playroom.scenes import Scene, Split
from services.playroom.sounds import Sound
from services.playroom.speech import can_speak
from services.playroom.studio import Medium, OwnStudio, as_picture
from services.playroom.wanted import WantedScene, WantedSound

_STUDIO = OwnStudio()


def _cases(kind: str, count: int = 4, split: Split = Split.TEST) -> list[MakingCase]:
    if kind in SPOKEN_CELLS and not can_speak():
        pytest.skip("espeak-ng is not installed")
    return list(draw_making_cases(split, kind, count, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_is_right_and_silence_is_not(kind: str) -> None:
    for case in _cases(kind):
        text, media = case.truth()
        verdict = case.judge(text, media)
        assert (verdict.right, verdict.decided, verdict.reason) == (True, True, "")
        nothing = case.judge("", ())
        assert not nothing.right
        assert nothing.decided is (not media)


@pytest.mark.parametrize("kind", KINDS)
def test_cases_are_the_same_again_and_about_half_of_them_kept_out(kind: str) -> None:
    cases = _cases(kind, 8)
    assert cases == _cases(kind, 8)
    assert 0 < sum(case.request.kept_out for case in cases) < 8
    assert all(case.group for case in cases)


@pytest.mark.parametrize("kind", MAKING_CELLS)
def test_another_case_s_truth_is_mostly_wrong(kind: str) -> None:
    cases = _cases(kind, 12)
    right = [case.judge(*other.truth()).right for case, other in zip(cases, [*cases[1:], cases[0]], strict=True)]
    assert np.mean(right) < 0.8


def test_media_that_nobody_asked_for_are_decided_wrongly() -> None:
    made = _cases("text_to_image", 1)[0].truth()[1]
    for case in _cases("text_to_text", 4):
        text, _ = case.truth()
        verdict = case.judge(text, made)
        assert (verdict.right, verdict.decided) == (False, False)
        assert "made image, no medium wanted" in verdict.reason


def test_bytes_that_cannot_be_read_are_wrong_and_no_accident() -> None:
    wanted = (WantedScene(()), WantedSound("beep", "low"), _cases("text_to_video", 1)[0].request.makes[0].wanted)
    for each in wanted:
        for data in (b"", b"nothing", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WAVE"):
            assert wrong_with(each, Medium(each.modality, "", data))


def test_a_picture_of_something_else_is_told() -> None:
    rng = np.random.default_rng(0)
    case = next(case for case in _cases("text_to_image/one_object", 30) if "all" in case.group)
    wanted = case.request.makes[0].wanted
    assert isinstance(wanted, WantedScene)
    scene = fill(rng, wanted)
    assert isinstance(scene, Scene)
    assert not wrong_with(wanted, as_picture(scene, rng))
    other = replace(scene, background="black" if scene.background != "black" else "white")
    assert "background" in wrong_with(wanted, as_picture(other, rng))
    assert wanted.differs(facts_of(scene)) == ""


def test_a_medium_is_read_as_the_caption_it_deserves() -> None:
    for kind in ("text_to_image", "text_to_audio", "text_to_video"):
        for case in _cases(kind, 8):
            (medium,) = case.truth()[1]
            words = caption_of_medium(medium).split()
            named = set(case.request.makes[0].wanted.caption.replace(",", "").split())
            assert named - {"a", "an", "object", "sound"} <= {word.strip(",") for word in words} | {"one", "sounds"}
    for modality in ("image", "audio", "video"):
        assert caption_of_medium(Medium(modality, "", b"nothing")) == ""


def test_films_are_judged_in_every_format_that_is_made() -> None:
    rng = np.random.default_rng(1)
    for case in _cases("text_to_video", 6):
        wanted = case.request.makes[0].wanted
        film = fill(rng, wanted)
        assert not isinstance(film, Scene | Sound)
        frames = draw_films([film])[0]
        for data in (encode_gif(frames), encode_film(frames, FILM_CODINGS["mp4"])):
            assert not wrong_with(wanted, Medium("video", "", data))


def test_follow_ups_have_what_was_made_before_in_the_turn_before() -> None:
    cases = _cases("follow_up", 20)
    assert any(case.earlier[0].made for case in cases)
    assert all(len(case.parts) == 1 and isinstance(case.parts[0], str) for case in cases)


def test_nothing_but_words_is_expected_where_only_an_answer_is() -> None:
    for case in _cases(ANSWER_ONLY, 20):
        assert case.truth()[1] == ()
        assert not case.judge("something else", ()).right


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(ValueError, match="no kind 'smell'"):
        list(draw_making_cases(Split.TEST, "smell", 1))
