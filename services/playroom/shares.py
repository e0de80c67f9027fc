"""Shares of right answers, and how sure they are."""

from __future__ import annotations

import math
from typing import Final

Z_95: Final = 1.959964
"""So many standard deviations to either side hold 95 % of a normal distribution."""


def wilson_95(right: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Source: Wilson 1927, JASA 22(158).
    """
    if count == 0:
        return (0.0, 1.0)
    share, square = right / count, Z_95**2
    center = (share + square / (2 * count)) / (1 + square / count)
    half = Z_95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return (max(0.0, center - half), min(1.0, center + half))
