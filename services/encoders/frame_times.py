"""Which frames of a film are taken: evenly spaced in time, whatever times its frames have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def choose_frames(starts_s: Sequence[float], last_s: float, count: int) -> tuple[list[int], list[float]]:
    """Choose `count` frames, evenly spaced in time from the first to the last.

    A frame that is shown for long is chosen as often as a moment falls into it, so that a film whose frames are alike,
    and were written once, is sampled as one with all of them.

    Args:
        starts_s: When each frame appears, in order.
        last_s: How long the last one is shown; 0 means as long as the shortest.
        count: How many.

    Returns:
        Indices, and the moments they were chosen for, in seconds from the first.
    """
    starts = np.asarray(starts_s, dtype=np.float64) - starts_s[0]
    steps = np.diff(starts)
    shown = [step for step in (*steps.tolist(), last_s) if step > 0]
    step = min(shown, default=0.0)
    # The last moment is the start of the last frame, or of the last of the frames that a long one stands for.
    end = float(starts[-1]) + max(0.0, last_s - step)
    # Its end is exact, which end · n / n is not.
    moments = np.linspace(0.0, end, count)
    # Times are rounded in files, so the frame is taken that begins nearest, half a step ahead included.
    indices = np.searchsorted(starts, moments + step / 2, side="right") - 1
    return indices.clip(0, len(starts) - 1).tolist(), moments.tolist()
