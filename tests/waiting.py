"""Waiting for a state instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(state: Callable[[], bool] | Callable[[], Awaitable[bool]], guard_s: float = 10.0) -> float:
    """Wait until a state holds; return how long that took, in seconds."""
    begun_s = time.monotonic()
    while True:
        holds = state()
        if isinstance(holds, Awaitable):
            holds = await holds
        if holds:
            return time.monotonic() - begun_s
        if time.monotonic() - begun_s > guard_s:
            raise TimeoutError(f"not so after {guard_s} s")
        await asyncio.sleep(0.005)


def wait_until(state: Callable[[], object], guard_s: float = 30.0, step_s: float = 0.02) -> float:
    """Wait until a state holds, in tests that block; return how long that took, in seconds."""
    begun_s = time.monotonic()
    while not state():
        if time.monotonic() - begun_s > guard_s:
            raise TimeoutError(f"not so after {guard_s} s")
        time.sleep(step_s)
    return time.monotonic() - begun_s
