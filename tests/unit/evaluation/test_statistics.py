from __future__ import annotations

import numpy as np
import pytest

from services.evaluation.statistics import (
    difference_95,
    mcnemar,
    median,
    paired_difference_95,
    rate_95,
)
from services.playroom.shares import wilson_95


def test_pairs() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 10) == pytest.approx(2 / 1024)
    assert mcnemar(5, 5) == 1.0
    low, high = paired_difference_95(5, 5, 500)
    assert low == pytest.approx(-high)
    assert 0.01 < high < 0.02
    assert paired_difference_95(0, 0, 0) == (-1.0, 1.0)
    assert paired_difference_95(0, 0, 500)[1] > 0


def test_medians() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([]) == 0.0


def test_wrong_words_that_come_together_leave_more_doubt() -> None:
    words = [6] * 500
    apart = rate_95([1] * 60 + [0] * 440, words)
    together = rate_95([6] * 10 + [0] * 490, words)
    assert apart[0] < 60 / 3000 < apart[1]
    assert together[0] < 60 / 3000 < together[1]
    assert together[1] - together[0] > 1.5 * (apart[1] - apart[0])
    low, high = rate_95([0] * 500, words)
    assert low == 0.0
    assert 0.001 < high < 0.01
    assert rate_95([], []) == (0.0, 1.0)
    assert rate_95([9] * 50, [6] * 50)[1] == pytest.approx(1.0)


def test_intervals_of_wrong_words_hold_the_truth_about_95_times_of_100() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        words = rng.integers(2, 9, 300)
        bad = rng.random(300) < 0.06
        wrong = np.where(bad, rng.binomial(words, 0.5), 0)
        low, high = rate_95(wrong.tolist(), words.tolist())
        held += low <= 0.03 <= high
    assert 0.9 <= held / 300 <= 0.99


def test_differences_have_the_interval_of_newcombe() -> None:
    # the example of the paper: 56 of 70 against 48 of 80
    low, high = difference_95(56 / 70, wilson_95(56, 70), 48 / 80, wilson_95(48, 80))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
