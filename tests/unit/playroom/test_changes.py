from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from services.playroom.changes import ATTRIBUTES, change_scene
from services.playroom.scenes import Split, draw_scene, seed_of


@pytest.mark.parametrize("split", [Split.TEST, Split.COMPOSITIONAL])
def test_exactly_one_attribute_of_one_object_differs(split: Split) -> None:
    rng = np.random.default_rng(0)
    told: Counter[str] = Counter()
    for index in range(800):
        before = draw_scene(seed_of(split, index), split)
        after, attribute = change_scene(before, rng, speak_freely=split is Split.COMPOSITIONAL)
        assert after.background == before.background
        assert [item.cell for item in after.objects] == sorted({item.cell for item in after.objects})
        gone = {item.attributes for item in before.objects} - {item.attributes for item in after.objects}
        new = {item.attributes for item in after.objects} - {item.attributes for item in before.objects}
        assert len(gone) == len(new) == 1
        pair = zip(("shape", "color", "size", "place"), gone.pop(), new.pop(), strict=True)
        assert [name for name, old, now in pair if old != now] == [attribute]
        told[attribute] += 1
        if split is Split.TEST:
            assert not after.names_held_out_pair
    assert set(told) == set(ATTRIBUTES)
    assert min(told.values()) > 150


def test_the_second_picture_has_noise_of_its_own() -> None:
    before = draw_scene(0)
    after, _ = change_scene(before, np.random.default_rng(0))
    assert after.noise_seed != before.noise_seed
