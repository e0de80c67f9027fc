from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.encoders.frame_times import choose_frames


def test_first_and_last_are_in() -> None:
    assert choose_frames([index / 30 for index in range(101)], 1 / 30, 3)[0] == [0, 50, 100]


def test_rounded_times_do_not_matter() -> None:
    """WebM counts in milliseconds."""
    starts_s = [round(index / 30, 3) for index in range(8)]
    assert choose_frames(starts_s, 0.033, 8)[0] == list(range(8))


def test_what_lasts_comes_often() -> None:
    assert choose_frames([0, 10], 0, 4)[0] == [0, 0, 1, 1]
    assert choose_frames([0, 0.25], 1.75, 8)[0] == [0, *[1] * 7]
    assert choose_frames([5.0], 2.0, 3) == ([0, 0, 0], [0, 0, 0])


@given(
    st.lists(st.floats(0.001, 100), min_size=1, max_size=50),
    st.floats(0, 100),
    st.integers(1, 64),
)
def test_choices_are_in_order(steps: list[float], last_s: float, count: int) -> None:
    starts_s = [sum(steps[:index]) for index in range(len(steps))]
    indices, moments_s = choose_frames(starts_s, last_s, count)
    assert len(indices) == len(moments_s) == count
    assert indices == sorted(indices)
    assert indices[0] == 0 or starts_s[indices[0]] == pytest.approx(0, abs=100)
    if count > 1:
        assert indices[-1] == len(starts_s) - 1
