"""Whether a canary is promoted, rolled back, or watched further: a pure function of what was seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graph.errors import InvalidRequest
from services.evaluation.statistics import difference_95
from services.runtime.tally import Tally


class Verdict(StrEnum):
    """What a gate says."""

    WAIT = "wait"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True)
class Decision:
    """What a gate says, and why: a line for people, kept in the history."""

    verdict: Verdict
    why: str


class GateSpec(BaseModel):
    """What decides about promotion, as an operator writes it.

    Attributes:
        suite: Evaluation suite that is asked of the canary; "" for none.
        thresholds: Least score by name that is accepted. Without a suite they are asked of scores put there by hand.
        error_increase: How much greater the canary's share of failed requests may be than the live set's.
        latency_ratio: How many times as long the canary's requests may take, at the quantile.
        quantile: Which latency is compared.
        min_requests: Fewest requests of either set before anything is promoted.
        min_errors: Fewer failed requests of the canary are no proof, however few requests it had.
        max_requests: So many of the canary's decide by what was measured, whatever its interval.
        max_wait_s: After that time a canary that was not promoted is rolled back.
        cases: Most cases of each of the suite's rows; 0 for all.
        promotes: Whether it promotes by itself. Where it does not, it only rolls back what is certainly worse.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    suite: str = Field(default="", max_length=100)
    thresholds: dict[str, float] = Field(default_factory=dict, max_length=1000)
    error_increase: float = Field(default=0.01, ge=0.0, le=1.0)
    latency_ratio: float = Field(default=1.25, ge=1.0)
    quantile: float = Field(default=0.95, gt=0.0, lt=1.0)
    min_requests: int = Field(default=50, ge=1)
    min_errors: int = Field(default=3, ge=1)
    max_requests: int = Field(default=2000, ge=1)
    max_wait_s: float = Field(default=3600.0, gt=0.0)
    cases: int = Field(default=0, ge=0)
    promotes: bool = True

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read a gate, as the registry keeps it.

        Raises:
            InvalidRequest: A key is unknown, or a value out of range.
        """
        try:
            return cls.model_validate(dict(content))
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidRequest(first["msg"], ".".join(["gate", *map(str, first["loc"])])) from error


@dataclass(frozen=True)
class Seen:
    """What is known of a canary at some moment.

    Attributes:
        canary: Its requests.
        live: Those of the live set, over the same time.
        scores: What was measured of it, by name; a suite's rows among them.
        waited_s: How long it has been a canary.
    """

    canary: Tally
    live: Tally
    scores: Mapping[str, float]
    waited_s: float


def decide(gate: GateSpec, seen: Seen) -> Decision:
    """Say what becomes of a canary.

    It is rolled back as soon as one thing is certainly worse, and promoted when nothing is: certainly, or, after
    ``max_requests``, as far as was measured. In between it is watched further, until ``max_wait_s``.
    """
    worse = _bad_score(gate, seen) or _worse_errors(gate, seen) or _slower(gate, seen)
    if worse:
        return Decision(Verdict.ROLL_BACK, worse)
    missing = _missing(gate, seen)
    if not gate.promotes:
        return Decision(Verdict.WAIT, missing or f"nothing is worse, it may be promoted: {_summary(gate, seen)}")
    if not missing:
        return Decision(Verdict.PROMOTE, _summary(gate, seen))
    if seen.waited_s >= gate.max_wait_s:
        return Decision(Verdict.ROLL_BACK, f"not decided within {gate.max_wait_s:g} s: {missing}")
    return Decision(Verdict.WAIT, missing)


def _bad_score(gate: GateSpec, seen: Seen) -> str:
    for name, least in gate.thresholds.items():
        # NaN is no score that reaches anything.
        if name in seen.scores and not seen.scores[name] >= least:
            return f"score {name} {seen.scores[name]:.3g}, at least {least:g} expected"
    return ""


def _error_difference(seen: Seen) -> tuple[float, float]:
    """Interval of the canary's share of errors less the live set's; from wider intervals than the function's name."""
    canary, live = seen.canary, seen.live
    return difference_95(canary.error_rate, canary.error_interval(), live.error_rate, live.error_interval())


def _worse_errors(gate: GateSpec, seen: Seen) -> str:
    low, _ = _error_difference(seen)
    if low <= gate.error_increase or seen.canary.errors < gate.min_errors:
        return ""
    return (
        f"errors {seen.canary.errors} of {seen.canary.requests}, live {seen.live.errors} of {seen.live.requests}: "
        f"at least {low:.1%} more, {gate.error_increase:.1%} let pass"
    )


def _slower(gate: GateSpec, seen: Seen) -> str:
    low_s, _ = seen.canary.quantile_interval_s(gate.quantile)
    _, high_s = seen.live.quantile_interval_s(gate.quantile)
    if not sum(seen.canary.buckets) or math.isinf(high_s) or low_s <= gate.latency_ratio * high_s:
        return ""
    return (
        f"latency at {gate.quantile:.0%}: at least {low_s:.3g} s, live at most {high_s:.3g} s, "
        f"{gate.latency_ratio:g} times as much let pass"
    )


def _missing(gate: GateSpec, seen: Seen) -> str:
    """Return what is not known yet; "" when all is."""
    unknown = sorted(set(gate.thresholds) - set(seen.scores))
    if unknown:
        return f"scores expected: {', '.join(unknown[:5])}"
    for name, tally in (("canary", seen.canary), ("live", seen.live)):
        if tally.requests < gate.min_requests:
            return f"{tally.requests} requests of the {name} set, at least {gate.min_requests} expected"
    settled = seen.canary.requests >= gate.max_requests
    _, high = _error_difference(seen)
    difference = seen.canary.error_rate - seen.live.error_rate
    if (difference if settled else high) > gate.error_increase:
        return f"errors {difference:+.1%}, at most {high:+.1%}: {gate.error_increase:.1%} let pass"
    canary_s, live_s = (tally.quantile_s(gate.quantile) for tally in (seen.canary, seen.live))
    if not canary_s <= gate.latency_ratio * live_s:
        return f"latency at {gate.quantile:.0%} {canary_s:.3g} s, live {live_s:.3g} s"
    return ""


def _summary(gate: GateSpec, seen: Seen) -> str:
    scores = [f"{name} {seen.scores[name]:.3g}" for name in gate.thresholds]
    counts = f"errors {seen.canary.errors} of {seen.canary.requests}, live {seen.live.errors} of {seen.live.requests}"
    return "; ".join([*scores, counts])
