"""Intervals and tests for shares of right answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.playroom.shares import Z_95, wilson_95


def rate_95(wrong: Sequence[int], words: Sequence[int]) -> tuple[float, float]:
    """Return the 95 % interval of a share of wrong words, given wrong words and words of each sentence.

    Wrong words come together, so a word is worth less than a draw of its own: Wilson's interval is taken at the
    number of independent draws that would have the variance of the ratio over sentences.
    """
    total, count = sum(words), len(words)
    if count < 2 or total == 0:
        return (0.0, 1.0)
    share = min(1.0, sum(wrong) / total)
    squares = sum((w - share * n) ** 2 for w, n in zip(wrong, words, strict=True))
    variance = squares * count / (count - 1) / total**2
    draws = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else float(count)
    return wilson_95(share * draws, draws)


def difference_95(
    first: float, first_95: tuple[float, float], second: float, second_95: tuple[float, float]
) -> tuple[float, float]:
    """Return the 95 % interval of the first share less the second, from their own intervals.

    Source: Newcombe 1998, Statistics in Medicine 17(8), method 10.
    """
    low = math.hypot(first - first_95[0], second_95[1] - second)
    high = math.hypot(first_95[1] - first, second - second_95[0])
    return (first - second - low, first - second + high)


def paired_difference_95(gained: int, lost: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares over the same cases."""
    if count == 0:
        return (-1.0, 1.0)
    difference = (gained - lost) / count
    # one more of each kind: without it nothing gained and nothing lost would leave no doubt at all
    spread = gained + lost + 2 - (gained - lost) ** 2 / count
    half = Z_95 * math.sqrt(max(0.0, spread)) / count
    return (difference - half, difference + half)


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
