from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from services.playroom.sounds import (
    ALL_SOUNDS,
    SoundFacts,
    draw_sound,
    parse_sound_caption,
    sound_caption,
    sound_from,
)


@pytest.mark.parametrize(
    ("facts", "caption"),
    [
        (SoundFacts("beep", "high", 2), "two high beeps"),
        (SoundFacts("buzz", "low", 1), "one low buzz"),
        (SoundFacts("chime", "middle", 3), "three middle chimes"),
        (SoundFacts("hiss", "high", 1), "one high hiss"),
        (SoundFacts("hiss", "low", 2), "two low hisses"),
        (SoundFacts("buzz", "low", 3), "three low buzzes"),
        (SoundFacts("sweep", "rising"), "a rising sweep"),
    ],
)
def test_captions_read_like_the_examples(facts: SoundFacts, caption: str) -> None:
    assert sound_caption(facts) == caption
    assert parse_sound_caption(f"{caption.capitalize()}.") == facts


def test_there_are_38_captions_and_each_is_read_back() -> None:
    captions = [sound_caption(facts) for facts in ALL_SOUNDS]
    assert len(set(captions)) == 38
    assert [parse_sound_caption(caption) for caption in captions] == list(ALL_SOUNDS)


@pytest.mark.parametrize(
    "text",
    ["", "two beeps", "two high beep", "one high beeps", "four high beeps", "a sweep", "two high beeps and a dog"],
)
def test_what_is_no_caption_is_not_read(text: str) -> None:
    assert parse_sound_caption(text) is None


def test_sounds_repeat_by_seed_and_every_choice_is_in_its_range() -> None:
    sounds = [draw_sound(seed) for seed in range(4000)]
    assert sounds == [draw_sound(seed) for seed in range(4000)]
    seen = Counter(sound.facts for sound in sounds)
    assert set(seen) == set(ALL_SOUNDS)
    assert min(seen.values()) > 60
    for values, low, high in (
        ([sound.pitch_factor for sound in sounds], 0.97, 1.03),
        ([sound.peak_dbfs for sound in sounds], -12, -3),
        ([sound.noise_db for sound in sounds], -40, -25),
    ):
        assert low <= min(values) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < max(values) <= high


def test_a_sound_can_be_drawn_for_given_facts() -> None:
    facts = SoundFacts("chime", "low", 2)
    assert sound_from(np.random.default_rng(0), facts).facts == facts
