from __future__ import annotations

from collections import Counter

import pytest

from services.playroom.scenes import SHOWN_PAIRS, Split, draw_scene, seed_of
from services.playroom.words import HELD_OUT_PAIRS


def test_a_seed_always_draws_the_same_scene() -> None:
    assert draw_scene(7) == draw_scene(7)
    assert draw_scene(7) != draw_scene(8)


@pytest.mark.parametrize("split", [Split.TRAIN, Split.VALIDATION, Split.TEST])
def test_no_split_but_the_compositional_one_shows_a_held_out_pair(split: Split) -> None:
    assert not any(draw_scene(seed_of(split, i), split).names_held_out_pair for i in range(2000))
    assert all(draw_scene(seed_of(Split.COMPOSITIONAL, i), Split.COMPOSITIONAL).names_held_out_pair for i in range(500))


def test_splits_do_not_share_seeds_and_end_where_they_should() -> None:
    assert seed_of(Split.TRAIN, 2**31 - 1) == 2**31 - 1
    assert seed_of(Split.VALIDATION, 0) == 2**31
    assert seed_of(Split.TEST, 0) == 2**31 + 10**6
    with pytest.raises(ValueError, match="test has scenes 0 to 999999"):
        seed_of(Split.TEST, 10**6)


def test_objects_are_drawn_as_the_world_says() -> None:
    scenes = [draw_scene(i) for i in range(3000)]
    counts = Counter(len(scene.objects) for scene in scenes)
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 900
    pairs = Counter((item.color, item.shape) for scene in scenes for item in scene.objects)
    assert set(pairs) == set(SHOWN_PAIRS)
    assert not set(pairs) & HELD_OUT_PAIRS
    for scene in scenes:
        cells = [item.cell for item in scene.objects]
        assert cells == sorted(set(cells))
        assert 0 <= scene.noise_sigma <= 4
        for item in scene.objects:
            assert max(map(abs, item.shift_px)) <= 1
            assert max(map(abs, item.color_offset)) <= 12
