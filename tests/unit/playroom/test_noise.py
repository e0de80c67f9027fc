from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from services.playroom.noise import fill_with_noise


def test_noise_is_gaussian_independent_and_repeats() -> None:
    noise, again = np.empty((400, 500), np.float32), np.empty((400, 500), np.float32)
    fill_with_noise(noise, 7)
    fill_with_noise(again, 7)
    assert (noise == again).all()
    assert kstest(noise.reshape(-1), "norm").pvalue > 0.01
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    for other in (noise[1:].reshape(-1), np.roll(noise, 1, axis=1)[1:].reshape(-1)):
        assert abs(np.corrcoef(noise[:-1].reshape(-1), other)[0, 1]) < 0.01
    fill_with_noise(again, 8)
    assert abs(np.corrcoef(noise.reshape(-1), again.reshape(-1))[0, 1]) < 0.01
