"""The judge against the generator itself. `PLAYROOM_JUDGE_SAMPLES=2000` runs it at the size the world asks for."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from services.playroom.captions import facts_of
from services.playroom.drawing import encode_picture, picture_of
from services.playroom.judging import read_picture
from services.playroom.scenes import Split, draw_scene, seed_of

SAMPLES = int(os.environ.get("PLAYROOM_JUDGE_SAMPLES", "300"))


@pytest.mark.parametrize("quality", [None, 80], ids=["png", "jpeg80"])
def test_judge_agrees_with_the_generator(quality: int | None) -> None:
    agreed = 0
    for index in range(SAMPLES):
        split = Split.COMPOSITIONAL if index % 2 else Split.TEST
        scene = draw_scene(seed_of(split, index), split)
        picture = Image.open(io.BytesIO(encode_picture(picture_of(scene), quality)))
        agreed += read_picture(picture) == facts_of(scene)
    print(f"judge of pictures, {'PNG' if quality is None else 'JPEG 80'}: {agreed} of {SAMPLES} agree")
    assert agreed / SAMPLES >= 0.99 if SAMPLES < 2000 else agreed / SAMPLES >= 0.995


def test_judge_reads_larger_pictures() -> None:
    scene = draw_scene(5)
    assert read_picture(picture_of(scene, 2)) == facts_of(scene)


def test_judge_says_when_it_cannot_tell() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert read_picture(Image.fromarray(noise)) is None


def test_an_empty_picture_has_no_objects() -> None:
    facts = read_picture(Image.new("RGB", (64, 64), (245, 245, 245)))
    assert facts is not None
    assert facts.objects == frozenset()
    assert facts.background == "white"
