from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from services.playroom.captions import parse_caption
from services.playroom.filming import Pixels, decode_gif
from services.playroom.films import parse_film_caption
from services.playroom.judging import read_picture
from services.playroom.listening import read_sound
from services.playroom.media_cases import SPOKEN_TASKS, TASKS, judge_answer, media_cases
from services.playroom.scenes import Split
from services.playroom.sounds import parse_sound_caption
from services.playroom.speech import can_speak
from services.playroom.studio import Medium, OwnStudio
from services.playroom.synthesis import decode_wav
from services.playroom.watching import read_film
from services.playroom.words import HELD_OUT_PAIRS, NUMBERS

_WRITTEN = tuple(task for task in TASKS if task not in SPOKEN_TASKS)
needs_espeak = pytest.mark.skipif(not can_speak(), reason="espeak-ng is not installed (Debian package espeak-ng)")


@pytest.mark.parametrize("task", [*_WRITTEN, *(pytest.param(task, marks=needs_espeak) for task in SPOKEN_TASKS)])
def test_cases_repeat_by_seed_and_judge_their_own_answer_right(task: str) -> None:
    cases = media_cases(Split.TEST, task, 10, seed=3)
    assert cases == media_cases(Split.TEST, task, 10, seed=3)
    assert {case.task for case in cases} == {task}
    assert {case.kept_out for case in cases} == {True, False}
    for case in cases:
        assert case.judge(case.expected).right
        verdict = case.judge("a purple elephant")
        assert not verdict.right
        assert "elephant" in verdict.reason


def _media(parts: tuple[str | Medium, ...]) -> list[Medium]:
    return [part for part in parts if isinstance(part, Medium)]


def _open(medium: Medium) -> Image.Image:
    return Image.open(io.BytesIO(medium.data))


def test_captions_say_what_the_judges_read_from_the_media() -> None:
    for case in media_cases(Split.TEST, "sound_caption", 10):
        (sound,) = _media(case.parts)
        assert read_sound(*decode_wav(sound.data)) == parse_sound_caption(case.expected)
    for case in media_cases(Split.COMPOSITIONAL, "film_caption", 10):
        (film,) = _media(case.parts)
        facts = parse_film_caption(case.expected)
        assert facts is not None
        assert (facts.color, facts.shape) in HELD_OUT_PAIRS
        assert read_film(decode_gif(film.data)) == facts


def test_numbers_of_objects_and_events_are_those_that_are_compared() -> None:
    cases = media_cases(Split.TEST, "same_number", 40)
    for case in cases:
        media = {medium.modality: medium for medium in _media(case.parts)}
        seen, heard = read_picture(_open(media["image"])), read_sound(*decode_wav(media["audio"].data))
        assert seen is not None
        assert heard is not None
        assert case.expected == ("yes" if len(seen.objects) == heard.count else "no")
    assert 8 < Counter(case.expected for case in cases)["yes"] < 32


def test_what_changed_is_what_differs_between_the_pictures() -> None:
    for case in media_cases(Split.TEST, "changed", 12):
        facts = [read_picture(_open(medium)) for medium in _media(case.parts)]
        before, after = (fact.objects for fact in facts if fact is not None)
        pair = zip(("shape", "color", "size", "place"), *(before - after), *(after - before), strict=True)
        assert [f"the {name}" for name, old, new in pair if old != new] == [case.expected]


def test_follow_ups_hand_media_in_before_and_ask_about_the_last() -> None:
    cases = media_cases(Split.TEST, "follow_up", 60)
    assert {len(case.earlier) for case in cases} == {1, 2}
    for case in cases:
        assert _media(case.parts) == []
        last = _media(case.earlier[-1].parts)[0]
        if case.kind in ("pitch", "timbre", "events"):
            facts = read_sound(*decode_wav(last.data))
            assert facts is not None
            assert case.expected in (facts.pitch, facts.timbre, NUMBERS[facts.count])
        if case.kind == "way":
            assert last.modality == "video"
        if case.kind == "place":
            picture = read_picture(_open(last))
            assert picture is not None
            assert case.expected in {item[3] for item in picture.objects}


@needs_espeak
def test_spoken_questions_stand_where_written_ones_do() -> None:
    for case in media_cases(Split.TEST, "spoken_question", 4):
        assert [medium.modality for medium in _media(case.parts)] == ["image", "audio"]
        assert all(isinstance(part, Medium) for part in case.parts)
        samples, rate_hz = decode_wav(_media(case.parts)[1].data)
        assert len(samples) <= 4 * rate_hz
        assert 0 < len(_media(case.parts)[1].said.split()) <= 8


def test_other_codecs_take_arrays() -> None:
    def as_shape(frames: Pixels, rng: np.random.Generator) -> Medium:
        return Medium("video", "video/none", repr(frames.shape).encode())

    (case,) = media_cases(Split.TEST, "film_caption", 1, studio=OwnStudio(as_film=as_shape))
    assert _media(case.parts)[0].data == b"(8, 64, 64, 3)"


def test_facts_need_no_media() -> None:
    assert all(_media(case.parts) == [] for case in media_cases(Split.TEST, "fact", 20))


def test_captions_are_judged_by_what_they_say() -> None:
    film = "a red circle moving left on a black background"
    assert judge_answer("film_caption", film.upper(), film).right
    assert not judge_answer("film_caption", film.replace("left", "right"), film).right
    assert not judge_answer("sound_caption", "two beeps", "two high beeps").right
    picture = "a small red star at the top, on a gray background"
    assert judge_answer("caption", picture, picture).right
    assert parse_caption(picture) is not None


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match="no task 'smell', expected one of sound_caption"):
        media_cases(Split.TEST, "smell", 1)
