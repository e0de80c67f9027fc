"""What is said in conversations by voice: sentences nobody says, and questions that stumble."""

from __future__ import annotations

import numpy as np
import pytest

from services.playroom.speech import MAX_WORDS, transcript_of
from services.trainers.talks import _SMALL_WORDS, sentence_to_hear, spoken_words, stumbled

QUESTIONS = ("where is the small blue cross?", "are there more red circles than stars?", "what is above the ring?")


def _about(sentence: str) -> list[str]:
    return sorted(word for word in sentence.split() if word not in _SMALL_WORDS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_who_stumbles_still_says_what_it_is_about(question: str) -> None:
    rng = np.random.default_rng(0)
    said = {transcript_of(stumbled(question, rng)) for _ in range(200)}
    assert {tuple(_about(one)) for one in said} == {tuple(_about(transcript_of(question)))}
    assert all(2 <= len(one.split()) <= MAX_WORDS for one in said)
    assert len(said) > 50
    assert any(not one.startswith(question.split()[0]) for one in said)


def test_words_to_hear_are_words_that_are_spoken() -> None:
    rng = np.random.default_rng(1)
    known = set(spoken_words())
    said = [transcript_of(sentence_to_hear(rng)).split() for _ in range(300)]
    assert all(1 <= len(words) <= MAX_WORDS and set(words) <= known for words in said)
