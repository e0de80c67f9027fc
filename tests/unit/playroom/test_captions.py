from __future__ import annotations

import pytest

from services.playroom.captions import caption_of, facts_of, parse_caption
from services.playroom.scenes import Scene, SceneObject, draw_scene

_SCENE = Scene(
    (SceneObject("circle", "red", "large", 0), SceneObject("ring", "orange", "small", 4)), background="white"
)


def test_captions_read_like_the_examples() -> None:
    assert caption_of(_SCENE) == (
        "a large red circle at the top left and a small orange ring at the center, on a white background"
    )
    three = Scene((*_SCENE.objects, SceneObject("star", "blue", "small", 8)), "gray")
    assert caption_of(three) == (
        "a large red circle at the top left, a small orange ring at the center and a small blue star at the "
        "bottom right, on a gray background"
    )


def test_every_caption_is_read_back() -> None:
    for seed in range(500):
        scene = draw_scene(seed)
        assert parse_caption(caption_of(scene)) == facts_of(scene)


def test_order_and_articles_are_free() -> None:
    said = "An small orange ring at the center and a large red circle at the top left, on a white background."
    assert parse_caption(said) == facts_of(_SCENE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a large red circle at the top left",
        "a large red circle, on a white background",
        "a large red circle at the top left, on a white background, on a gray background",
        "a large red circle at the top left and a cat, on a white background",
        "a large red circle at the top left and a large red circle at the top left, on a white background",
    ],
)
def test_what_is_no_caption_is_not_read(text: str) -> None:
    assert parse_caption(text) is None
