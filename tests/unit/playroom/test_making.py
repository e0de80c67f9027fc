"""Requests that want media: each cell's rule, what is named and what is free, and what training never sees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest

from services.playroom.captions import facts_of
from services.playroom.crossing import cross
from services.playroom.describing import describe
from services.playroom.fact_sentences import facts_about, wrong_with_facts
from services.playroom.filling import fill
from services.playroom.films import Film, FilmFacts
from services.playroom.making import ANSWER_CELLS, ANSWER_ONLY, CELLS, CELLS_UNSEEN, MAKING_CELLS, TABLE, make_request
from services.playroom.requests import Making, Request, Spoken, modality_of
from services.playroom.scenes import Scene, Split
from services.playroom.sounds import Sound, SoundFacts
from services.playroom.speech import MAX_WORDS
from services.playroom.wanted import Wanted, WantedFilm, WantedObject, WantedScene, WantedSound
from services.playroom.words import HELD_OUT_PAIRS


def pairs_of(wanted: Wanted) -> Iterator[tuple[str, str]]:
    """The (color, shape) of everything that is seen, free words included."""
    match wanted:
        case WantedScene():
            yield from ((item.color, item.shape) for item in wanted.objects)
        case WantedFilm():
            yield (wanted.color, wanted.shape)
        case _:
            return


def _requests(cell: str, split: Split = Split.TRAIN, count: int = 200, *, kept_out: bool = False) -> list[Request]:
    rng = np.random.default_rng(7)
    return [make_request(rng, cell, split, kept_out) for _ in range(count)]


def _differs(wanted: Wanted, made: Scene | Sound | Film) -> str:
    match wanted, made:
        case WantedScene(), Scene():
            return wanted.differs(facts_of(made))
        case WantedSound(), Sound():
            return wanted.differs(made.facts)
        case WantedFilm(), Film():
            return wanted.differs(made.facts)
    return f"{type(made)} for {type(wanted)}"


def _words(request: Request) -> list[str]:
    spoken = [item.sentence for item in request.inputs if isinstance(item, Spoken)]
    earlier = [text for turn in request.earlier for text in (turn.prompt, turn.says)]
    return [request.prompt, request.says, *spoken, *earlier]


def _shown(request: Request) -> list[Scene | Film]:
    everything = chain(request.inputs, *((*turn.inputs, *turn.made) for turn in request.earlier))
    return [item for item in everything if isinstance(item, Scene | Film)]


def _names_held_out(text: str) -> bool:
    return any(f"{color} {shape}" in text for color, shape in HELD_OUT_PAIRS)


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_drawn_follows_from_the_generator_alone(cell: str) -> None:
    assert _requests(cell, count=20) == _requests(cell, count=20)


@pytest.mark.parametrize("cell", TABLE)
def test_each_cell_of_the_table_takes_and_makes_what_its_name_says(cell: str) -> None:
    given, _, made = cell.partition("_to_")
    for request in _requests(cell):
        assert [modality_of(item) for item in request.inputs] == ([] if given == "text" else [given])
        assert [making.modality for making in request.makes] == ([] if made == "text" else [made])
        assert request.says
        assert request.prompt or isinstance(request.inputs[0], Spoken)


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_free_can_be_filled_in_and_what_is_named_comes(cell: str) -> None:
    rng = np.random.default_rng(1)
    for making in chain.from_iterable(request.makes for request in _requests(cell)):
        assert _differs(making.wanted, fill(rng, making.wanted)) == ""


@pytest.mark.parametrize("split", [Split.TRAIN, Split.TEST])
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell not in (*ANSWER_CELLS, ANSWER_ONLY)])
def test_training_and_test_neither_show_nor_name_pairs_that_are_held_out(cell: str, split: Split) -> None:
    rng = np.random.default_rng(2)
    for request in _requests(cell, split, 400):
        assert not any(item.names_held_out_pair for item in _shown(request))
        assert not any(_names_held_out(text) for text in _words(request))
        for making in request.makes:
            assert HELD_OUT_PAIRS.isdisjoint(pairs_of(making.wanted))
            made = fill(rng, making.wanted)
            assert isinstance(made, Sound) or not made.names_held_out_pair


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell not in (*CELLS_UNSEEN, ANSWER_ONLY)])
def test_compositional_requests_show_or_name_a_pair_that_is_held_out(cell: str) -> None:
    for request in _requests(cell, Split.COMPOSITIONAL):
        pairs = set(chain.from_iterable(pairs_of(making.wanted) for making in request.makes))
        assert any(item.names_held_out_pair for item in _shown(request)) or pairs & HELD_OUT_PAIRS


@pytest.mark.parametrize("cell", CELLS_UNSEEN)
def test_what_is_only_heard_has_no_compositional_split(cell: str) -> None:
    with pytest.raises(ValueError, match="nothing is seen"):
        make_request(np.random.default_rng(0), cell, Split.COMPOSITIONAL)


def test_an_unknown_cell_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="text_to_image"):
        make_request(np.random.default_rng(0), "text_to_smell")


@pytest.mark.parametrize("cell", [cell for cell in MAKING_CELLS if not cell.startswith("text")])
def test_kept_out_prompts_are_worded_as_training_never_is(cell: str) -> None:
    def prompts(*, kept_out: bool) -> set[str]:
        requests = _requests(cell, count=600, kept_out=kept_out)
        return {request.prompt or str(request.inputs[-1]) for request in requests}

    assert not prompts(kept_out=True) & prompts(kept_out=False)


def test_what_is_spoken_is_short() -> None:
    for cell in ("audio_to_image", "audio_to_audio", "audio_to_video", "spoken_edit", ANSWER_ONLY):
        for kept_out in (False, True):
            for request in _requests(cell, kept_out=kept_out):
                spoken = [item.sentence for item in request.inputs if isinstance(item, Spoken)]
                assert all(len(sentence.split()) <= MAX_WORDS for sentence in spoken)


def test_only_an_answer_makes_nothing_even_where_what_was_said_asks_for_a_medium() -> None:
    requests = _requests(ANSWER_ONLY, count=600)
    assert not any(request.makes for request in requests)
    assert any(request.kind == "transcript" and request.says.startswith("draw") for request in requests)
    assert {modality_of(item) for request in requests for item in request.inputs} == {"image", "audio", "video"}


def test_several_media_come_in_the_order_asked_each_after_its_sentence() -> None:
    for request in _requests("several"):
        assert len(request.makes) in (2, 3)
        assert len({making.modality for making in request.makes}) == len(request.makes)
        kinds = [isinstance(item, Making) for item in request.answer]
        assert kinds == [False, True] * len(request.makes)


def test_facts_about_a_drawing_are_true_and_their_judge_knows() -> None:
    for request in _requests("three_facts"):
        wanted = request.makes[0].wanted
        assert isinstance(wanted, WantedScene)
        assert wrong_with_facts(request.says, wanted) == ""
        assert "2 facts" in wrong_with_facts(request.says.rpartition(". ")[0], wanted)
        without = request.says.replace(facts_about(wanted)[0], "it is nice")
        assert wrong_with_facts(without, wanted) == "2 facts, 3 expected"


def test_a_false_fact_is_told() -> None:
    wanted = WantedScene((WantedObject("circle", "red", "large"),))
    assert (
        wrong_with_facts("here is a circle. it is blue. it is a circle. it is large", wanted) == "not true: color blue"
    )
    assert wrong_with_facts("it is red. its shape is a circle. the circle is large", wanted) == ""
    assert "not true" in wrong_with_facts("it is red. it is a circle. it is at the top", wanted)


def test_what_it_is_in_a_follow_up_was_made_or_handed_in_before() -> None:
    requests = _requests("follow_up")
    assert all(len(request.earlier) == 1 and not request.inputs for request in requests)
    assert all(len(request.earlier[0].made) + len(request.earlier[0].inputs) == 1 for request in requests)
    assert 0.4 < np.mean([bool(request.earlier[0].made) for request in requests]) < 0.8


@pytest.mark.parametrize(
    ("cell", "kind", "shown", "wanted"),
    [
        ("video_to_video", "backwards", "moving left", "moving right"),
        ("video_to_video", "backwards", "standing still", "standing still"),
        ("video_to_audio", "play_seen", "growing", "rising"),
        ("video_to_audio", "play_seen", "moving down", "falling"),
    ],
)
def test_films_become_what_the_table_says(cell: str, kind: str, shown: str, wanted: str) -> None:
    rng = np.random.default_rng(3)
    found = [cross(rng, cell) for _ in range(200)]
    fitting = [each for each in found if isinstance(each.shown, Film) and each.shown.facts.motion == shown]
    assert fitting
    for each in fitting:
        assert each.kind == kind
        assert wanted in each.wanted.caption


def test_sounds_become_what_the_table_says() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        each = cross(rng, "audio_to_audio")
        assert isinstance(each.shown, Sound)
        facts = each.shown.facts
        pitches = ["low", "middle", "high"]
        if each.kind == "again":
            assert each.wanted == WantedSound(facts.timbre, facts.pitch, facts.count)
        else:
            step = 1 if each.kind == "higher" else -1
            at = min(2, max(0, pitches.index(facts.pitch) + step))
            assert each.wanted == WantedSound(facts.timbre, pitches[at], facts.count)
    for _ in range(50):
        each = cross(rng, "audio_to_image")
        assert isinstance(each.shown, Sound)
        assert isinstance(each.wanted, WantedScene)
        back = {"circle": "beep", "square": "buzz", "star": "chime", "cross": "hiss"}
        item = each.wanted.objects[0]
        pitch = {"large": "low", "small": "high"}[item.size]
        assert (back[item.shape], pitch, len(each.wanted.objects)) == (
            each.shown.facts.timbre,
            each.shown.facts.pitch,
            each.shown.facts.count,
        )


def test_edits_change_all_objects_in_one_attribute() -> None:
    rng = np.random.default_rng(5)
    kinds = set()
    for _ in range(300):
        each = cross(rng, "image_to_image")
        kinds.add(each.kind)
        assert isinstance(each.shown, Scene)
        assert isinstance(each.wanted, WantedScene)
        assert each.wanted.differs(facts_of(each.shown))
        if each.kind == "recolor":
            assert len({item.color for item in each.wanted.objects}) == 1
        if each.kind == "put":
            assert len(each.shown.objects) == 1
    assert kinds == {"recolor", "resize", "reshape", "background", "put"}


def test_what_is_free_may_be_anything_and_what_is_named_may_not() -> None:
    wanted = WantedScene((WantedObject("circle", "red"), WantedObject("star")), "")
    assert wanted.caption == "a red circle and a star"
    seen = facts_of(fill_scene_of("circle red small top", "star blue large left"))
    assert wanted.differs(seen) == ""
    assert "wanted" in wanted.differs(facts_of(fill_scene_of("circle blue small top", "star blue large left")))
    assert wanted.differs(facts_of(fill_scene_of("circle red small top"))) == "1 objects, 2 wanted"
    assert WantedSound("", "low", 2).differs(SoundFacts("buzz", "low", 2)) == ""
    assert WantedSound("", "", 1).differs(SoundFacts("sweep", "rising"))
    assert WantedSound("sweep").differs(SoundFacts("sweep", "rising")) == ""
    assert WantedFilm(motion="moving up").differs(FilmFacts("red", "ring", "moving up", "gray")) == ""
    assert WantedFilm(motion="moving up").differs(FilmFacts("red", "ring", "growing", "gray"))


def test_what_concerns_a_whole_picture_or_film_is_settled_before_a_generator_is_told() -> None:
    wanted = WantedScene((WantedObject("star", "red"), WantedObject("ring", "", "small", "center"), WantedObject()), "")
    assert wanted.settled.caption.split(", ") == [
        "a large red star at the left",
        "a small ring at the center and a large object at the right",
        "on a white background",
    ]
    assert wanted.settled.settled == wanted.settled
    assert WantedFilm("red").settled.caption == "a red object standing still on a white background"
    assert WantedSound("", "low", 2).settled == WantedSound("", "low", 2)
    rng = np.random.default_rng(11)
    for request in (make_request(rng, "text_to_image", Split.TRAIN) for _ in range(200)):
        (making,) = request.makes
        assert isinstance(making.wanted, WantedScene)
        places = [item.place for item in making.wanted.settled.objects]
        assert len({*places, ""}) == len(places) + 1
        for item, named in zip(making.wanted.settled.objects, making.wanted.objects, strict=True):
            assert set(named.named) <= set(item.named)  # what is named stays as it is
        assert making.says.endswith(making.wanted.caption)


def fill_scene_of(*objects: str) -> Scene:
    """A scene of `shape color size place` each, on white."""
    items = tuple(WantedObject(*words.split()) for words in objects)
    scene = fill(np.random.default_rng(0), WantedScene(items, "white"))
    assert isinstance(scene, Scene)
    return scene


def test_descriptions_name_all_that_is_named_and_nothing_else() -> None:
    rng = np.random.default_rng(6)
    wanted = WantedScene((WantedObject("star", "red", "large", "top"), WantedObject("ring", "", "small")), "gray")
    said = {describe(rng, wanted, kept_out=bool(i % 2)) for i in range(300)}
    assert len(said) > 50
    for text in said:
        words = text.replace(",", " ").replace(".", " ").split()
        assert all(word in words for word in ("star", "red", "large", "top", "ring", "small", "gray"))
        assert not {"white", "black", "blue", "circle", "left"} & set(words)


def test_thousands_of_requests_come_in_a_second() -> None:
    rng = np.random.default_rng(8)
    start_s = time.perf_counter()
    for _ in range(100):
        for cell in CELLS:
            make_request(rng, cell)
    assert time.perf_counter() - start_s < 100 * len(CELLS) / 100.0
