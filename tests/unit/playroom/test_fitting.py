"""What the judges share: halves, blurs and nearest words."""

from __future__ import annotations

import numpy as np
import pytest

from services.playroom.fitting import blurred, halved, nearest_background, nearest_color, through_jpeg
from services.playroom.words import BACKGROUND_LEVEL, COLOR_RGB


def test_halves_are_means() -> None:
    tiles_NHW = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6)
    assert halved(tiles_NHW).shape == (2, 2, 3)
    assert halved(tiles_NHW)[1, 1, 2] == tiles_NHW[1, 2:, 4:].mean()


def test_a_blur_keeps_what_is_even() -> None:
    tiles_NHW = np.zeros((1, 5, 5), np.float32)
    tiles_NHW[0, 2, 2] = 1.0
    blur_HW = blurred(tiles_NHW)[0]
    assert blur_HW.sum() == pytest.approx(1.0)
    assert blur_HW[2, 2] == pytest.approx(0.75**2)
    assert blur_HW[1, 2] == blur_HW[2, 1] == blur_HW[3, 2] == pytest.approx(0.75 * 0.125)


def test_names_of_colors_near_and_far() -> None:
    assert [nearest_color(np.array(color, np.float32) + 20) for color in COLOR_RGB.values()] == list(COLOR_RGB)
    assert nearest_color(np.array([250, 250, 250], np.float32)) is None
    levels = [np.full(3, level, np.float32) for level in BACKGROUND_LEVEL.values()]
    assert [nearest_background(level_C) for level_C in levels] == list(BACKGROUND_LEVEL)
    assert nearest_background(np.array([245, 200, 245], np.float32)) is None


def test_jpeg_keeps_light() -> None:
    pixels_HWC = np.full((16, 16, 3), 300.0, np.float32)
    pixels_HWC[:8] = -20.0
    seen_HWC = through_jpeg(pixels_HWC)
    assert seen_HWC[:8].mean() == pytest.approx(0.0, abs=2.0)
    assert seen_HWC[8:].mean() == pytest.approx(255.0, abs=2.0)
