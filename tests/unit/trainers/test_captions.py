from __future__ import annotations

import numpy as np
import torch

from services.playroom.films import draw_film
from services.playroom.scenes import draw_scene
from services.playroom.sounds import draw_sound
from services.playroom.wanted import wanted_of
from services.trainers.captions import N_TOKENS, NOTHING, SAID, UNSAID, CaptionEncoder, said_of_objects, tokens_of
from services.trainers.studio import captioned


def test_words_stand_at_the_token_that_they_are_about() -> None:
    tokens = tokens_of("image", "a large red circle at the top left, a star and a small cross, on a gray background")
    assert tokens[0] == ["large", "red", "circle"]
    assert tokens[1:9] == [["nothing"]] * 8
    assert tokens[9:] == [["gray"], [UNSAID, UNSAID, "star"], ["small", UNSAID, "cross"], ["nothing"]]
    assert tokens_of("video", "a red circle moving left on a black background") == [
        [UNSAID], ["red"], ["circle"], ["moving left"], ["black"],
    ]  # fmt: skip
    assert tokens_of("audio", "two high hisses") == [["two", "high", "hiss"]]
    assert tokens_of("audio", "a rising sweep") == [[UNSAID, "rising", "sweep"]]


def test_what_is_said_of_each_object_is_told_in_its_turn() -> None:
    caption = "a large red circle at the top left and a star, on a gray background"
    said = [
        [group[index] for group, index in zip(SAID, row, strict=True)] for row in said_of_objects([caption])[0].tolist()
    ]
    assert said == [
        ["large", "red", "circle", "top left", NOTHING],
        [UNSAID, UNSAID, "star", UNSAID, NOTHING],
        [NOTHING] * 5,
        [NOTHING, NOTHING, NOTHING, NOTHING, "gray"],
    ]


def test_an_empty_caption_leaves_all_open() -> None:
    for modality, count in N_TOKENS.items():
        tokens = tokens_of(modality, "")
        assert len(tokens) == count
        assert {word for words in tokens for word in words} == {UNSAID}


def test_every_caption_of_the_playroom_is_read_whole() -> None:
    rng = np.random.default_rng(0)
    for seed in range(200):
        for modality, shown in (("image", draw_scene(seed)), ("video", draw_film(seed)), ("audio", draw_sound(seed))):
            whole = {word for words in tokens_of(modality, captioned(shown, rng, 0.0)[1]) for word in words}
            fitting, caption = captioned(shown, rng, 1.0)
            part = {word for words in tokens_of(modality, caption) for word in words}
            assert part - {UNSAID} <= {
                word for words in tokens_of(modality, wanted_of(fitting).caption) for word in words
            }
            # of films the size is never said, of sweeps no count
            assert UNSAID not in whole or modality == "video" or "sweep" in whole


def test_different_captions_are_different_conditions_of_one_variance() -> None:
    encoder = CaptionEncoder("image", 64)
    one, other = encoder.encode(["a red circle, on a white background", "a red circle, on a black background"])
    assert one.shape == (N_TOKENS["image"], 64)
    assert not torch.equal(one, other)
    assert torch.equal(one[:9], other[:9])
    assert torch.equal(CaptionEncoder("image", 64).encode(["a red circle, on a white background"])[0], one)
    assert (one - other)[9].square().mean() > 0.3
    assert torch.allclose(one.var(-1, correction=0), torch.ones(len(one)), atol=1e-3)
