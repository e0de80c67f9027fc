"""Intervals and tests for shares of right answers."""

from __future__ import annotations

import math

_Z_95 = 1.959964


def wilson_95(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Source: Wilson 1927, JASA 22(158).
    """
    if count == 0:
        return (0.0, 1.0)
    share, square = right / count, _Z_95**2
    center = (share + square / (2 * count)) / (1 + square / count)
    half = _Z_95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return (max(0.0, center - half), min(1.0, center + half))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p that two systems differ, from the cases that only one of them got right.

    Source: McNemar 1947, Psychometrika 12(2).
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2.0 * tail / float(2**discordant))


def median(values: list[float]) -> float:
    """Return the median; 0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
