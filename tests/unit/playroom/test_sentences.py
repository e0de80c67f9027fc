from __future__ import annotations

import numpy as np
import pytest

from services.playroom.scenes import Split
from services.playroom.sentences import DRAW, FILM, PLAY, SOURCES, sentence_from
from services.playroom.words import HELD_OUT_PAIRS


@pytest.mark.parametrize("source", SOURCES)
def test_sentences_of_every_source_are_short(source: str) -> None:
    rng = np.random.default_rng(0)
    sentences = [sentence_from(rng, source=source) for _ in range(60)]
    assert all(1 <= len(sentence.split()) <= 8 for sentence in sentences)
    assert len(set(sentences)) >= 6
    assert not any("{" in sentence for sentence in sentences)


def test_no_sentence_names_a_held_out_pair() -> None:
    rng = np.random.default_rng(0)
    sentences = [sentence_from(rng, Split.TEST, kept_out=bool(i % 2)) for i in range(3000)]
    assert not any(f"{color} {shape}" in each for each in sentences for color, shape in HELD_OUT_PAIRS)


def test_requests_have_six_wordings_to_train_on_and_two_kept_out() -> None:
    for wordings in (DRAW, PLAY, FILM):
        assert len(set(wordings.trained)) >= 6
        assert len(set(wordings.kept_out)) == 2
    rng = np.random.default_rng(0)
    assert {sentence_from(rng, kept_out=True, source="play").split()[0] for _ in range(30)} == {"could", "may"}


def test_sentences_repeat_by_seed() -> None:
    first, second = ([sentence_from(np.random.default_rng(seed)) for seed in range(20)] for _ in range(2))
    assert first == second
