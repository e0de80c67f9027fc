"""What was seen of the requests of one version set: counts, and latencies in a histogram of fixed size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from graph.errors import InvalidRequest

LEAST_S = 1e-3
MOST_S = 1e4
GROWTH = 1.05
"""A bucket is so many times as wide as the one before: what is read from it is at most 5 % too high."""

N_BUCKETS = math.ceil(math.log(MOST_S / LEAST_S, GROWTH)) + 1
Z = 3.29
"""99.9 %: a gate looks again and again, and each look is a chance to be wrong."""


def wilson(right: float, count: float, z: float = Z) -> tuple[float, float]:
    """Return the interval of a share.

    Source: Wilson 1927, JASA 22(158).
    """
    if count <= 0:
        return (0.0, 1.0)
    share, square = right / count, z**2
    center = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return (max(0.0, center - half), min(1.0, center + half))


@dataclass
class Tally:
    """Requests of one version set. Tallies of several gateways are added up.

    Attributes:
        requests: How many ended, but for those that their callers took back.
        errors: How many of them failed by a fault of ours.
        buckets: How many took how long; those that failed are not among them.
    """

    requests: int = 0
    errors: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * N_BUCKETS)

    def note(self, took_s: float, failed: bool) -> None:
        """Count a request that ended."""
        self.requests += 1
        if failed:
            self.errors += 1
            return
        # NaN and what is below counts as least, what is beyond as most.
        ratio = took_s / LEAST_S if took_s > LEAST_S else 1.0
        index = N_BUCKETS - 1 if took_s >= MOST_S else math.ceil(math.log(ratio, GROWTH))
        self.buckets[min(index, N_BUCKETS - 1)] += 1

    def add(self, requests: int, errors: int, buckets: Sequence[int]) -> None:
        """Add what somebody else counted.

        Raises:
            InvalidRequest: The counts do not belong together.
        """
        if len(buckets) != N_BUCKETS or min(buckets) < 0 or not 0 <= errors <= requests:
            raise InvalidRequest(f"{requests} requests, {errors} errors, {len(buckets)} buckets", "tally")
        if sum(buckets) != requests - errors:
            raise InvalidRequest(f"{sum(buckets)} latencies, {requests - errors} expected", "tally")
        self.requests += requests
        self.errors += errors
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, buckets, strict=True)]

    @property
    def error_rate(self) -> float:
        """Share of requests that failed; 0 of none."""
        return self.errors / self.requests if self.requests else 0.0

    def error_interval(self) -> tuple[float, float]:
        """Return the interval of that share."""
        return wilson(self.errors, self.requests)

    def quantile_s(self, share: float) -> float:
        """Return the latency that a share of requests stays below; infinite where there are none."""
        return self._at_rank(math.ceil(share * sum(self.buckets)))

    def quantile_interval_s(self, share: float) -> tuple[float, float]:
        """Return the interval of a quantile, whatever latencies are distributed like: by the ranks of its shares."""
        count = sum(self.buckets)
        low, high = wilson(share * count, count)
        upper = math.inf if high * count >= count else self._at_rank(math.ceil(high * count))
        return (self._at_rank(math.floor(low * count)), upper)

    def __add__(self, other: Tally) -> Tally:
        """Return both together."""
        both = Tally()
        for one in (self, other):
            both.add(one.requests, one.errors, one.buckets)
        return both

    def _at_rank(self, rank: int) -> float:
        if rank < 1:
            return 0.0 if sum(self.buckets) else math.inf
        seen = 0
        for index, number in enumerate(self.buckets):
            seen += number
            if seen >= rank:
                return LEAST_S * GROWTH**index
        return math.inf


@dataclass
class Compared:
    """What was seen of a canary, and of the live set since there is that canary.

    Attributes:
        canary: Requests of the canary's sessions.
        live: Requests of all others that ran the live set.
    """

    canary: Tally = field(default_factory=Tally)
    live: Tally = field(default_factory=Tally)

    def __add__(self, other: Compared) -> Compared:
        """Return both together."""
        return Compared(self.canary + other.canary, self.live + other.live)
