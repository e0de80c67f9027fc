"""Intervals of shares."""

from __future__ import annotations

import pytest

from services.playroom.shares import wilson_95


def test_intervals_cover_the_share() -> None:
    low, high = wilson_95(450, 500)
    assert (round(low, 4), round(high, 4)) == (0.8706, 0.9233)
    assert wilson_95(90, 100) == pytest.approx((0.826, 0.945), abs=0.001)
    assert wilson_95(0, 0) == (0.0, 1.0)
    assert wilson_95(10, 10)[1] == pytest.approx(1.0)
