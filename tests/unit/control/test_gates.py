from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import InvalidRequest
from services.control.gates import Decision, GateSpec, Seen, Verdict, decide
from services.runtime.tally import GROWTH, N_BUCKETS, Tally

latencies = st.lists(st.floats(0.002, 100.0), min_size=1, max_size=300)


def tally(requests: int, errors: int = 0, took_s: float = 0.1) -> Tally:
    made = Tally()
    for number in range(requests):
        made.note(took_s, number < errors)
    return made


def told(gate: GateSpec, canary: Tally, live: Tally, waited_s: float = 0.0, **scores: float) -> Decision:
    return decide(gate, Seen(canary, live, scores, waited_s))


# ---- what is counted -------------------------------------------------------------------------------------


@given(latencies, st.floats(0.01, 0.99))
def test_quantiles_are_at_most_a_bucket_off(took_s: list[float], share: float) -> None:
    made = Tally()
    for one in took_s:
        made.note(one, failed=False)
    exact = sorted(took_s)[math.ceil(share * len(took_s)) - 1]
    assert exact / 1.0001 <= made.quantile_s(share) <= exact * GROWTH * 1.0001
    low, high = made.quantile_interval_s(share)
    assert low <= made.quantile_s(share) <= high


@given(st.lists(st.tuples(st.floats(), st.booleans()), max_size=50), st.lists(st.tuples(st.floats(), st.booleans())))
def test_tallies_add_up(first: list[tuple[float, bool]], second: list[tuple[float, bool]]) -> None:
    one, other, whole = Tally(), Tally(), Tally()
    for made, seen in ((one, first), (other, second), (whole, [*first, *second])):
        for took_s, failed in seen:
            made.note(took_s, failed)
    one.add(other.requests, other.errors, other.buckets)
    assert one == whole


@pytest.mark.parametrize(
    ("requests", "errors", "buckets"),
    [(1, 0, [0] * N_BUCKETS), (1, 2, [0] * N_BUCKETS), (0, 0, [0]), (0, 0, [1, -1, *[0] * (N_BUCKETS - 2)])],
)
def test_counts_that_do_not_belong_together_are_refused(requests: int, errors: int, buckets: list[int]) -> None:
    with pytest.raises(InvalidRequest):
        Tally().add(requests, errors, buckets)


# ---- what is decided -------------------------------------------------------------------------------------


def test_a_gate_waits_for_requests_and_scores() -> None:
    gate = GateSpec(suite="understanding", thresholds={"caption": 0.9}, min_requests=10)
    assert told(gate, tally(900), tally(900)) == Decision(Verdict.WAIT, "scores expected: caption")
    assert told(gate, tally(9), tally(900), caption=0.95).why == "9 requests of the canary set, at least 10 expected"
    assert told(gate, tally(900), tally(9), caption=0.95).why == "9 requests of the live set, at least 10 expected"
    late = told(gate, tally(9), tally(900), 3600.0, caption=0.95)
    assert late.verdict is Verdict.ROLL_BACK
    assert late.why.startswith("not decided within 3600 s: 9 requests")


def test_a_gate_that_nothing_speaks_against_opens() -> None:
    gate = GateSpec(thresholds={"caption": 0.9})
    opened = told(gate, tally(2000, 2), tally(20_000, 20), caption=0.95)
    assert opened == Decision(Verdict.PROMOTE, "caption 0.95; errors 2 of 2000, live 20 of 20000")


@pytest.mark.parametrize("score", [0.89, math.nan, -math.inf])
def test_a_score_that_is_too_low_ends_it_at_once(score: float) -> None:
    decision = told(GateSpec(thresholds={"caption": 0.9}), tally(0), tally(0), caption=score)
    assert decision.verdict is Verdict.ROLL_BACK
    assert decision.why.startswith("score caption")


def test_errors_end_it_as_soon_as_they_are_certain() -> None:
    gate, live = GateSpec(), tally(1000, 1)
    verdicts = [told(gate, tally(count, count), live).verdict for count in range(20)]
    needed = verdicts.index(Verdict.ROLL_BACK)
    print(f"figure: {needed} failed requests of {needed} are enough to roll back")
    assert 3 <= needed <= 5
    assert "more, 1.0% let pass" in told(gate, tally(100, 30), live).why


def test_latencies_are_compared() -> None:
    live = tally(1000, took_s=0.1)
    assert told(GateSpec(), tally(2000, took_s=0.11), live).verdict is Verdict.PROMOTE
    slow = told(GateSpec(), tally(2000, took_s=0.2), live)
    assert slow.verdict is Verdict.ROLL_BACK
    assert slow.why.startswith("latency at 95%")


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 50))
def test_more_errors_never_help(good: int, bad: int, more: int, live_errors: int) -> None:
    order = [Verdict.PROMOTE, Verdict.WAIT, Verdict.ROLL_BACK]
    gate, live = GateSpec(min_requests=20, max_requests=100), tally(300, live_errors)
    before = told(gate, tally(good + bad, bad), live).verdict
    after = told(gate, tally(good + bad + more, bad + more), live).verdict
    if before is Verdict.ROLL_BACK or good + bad >= gate.max_requests:
        assert order.index(after) >= order.index(before)


def test_the_same_version_is_hardly_ever_rolled_back() -> None:
    """Looked at after every 20 requests, 2 % of which fail on either side."""
    runs, gate, rolled_back, promoted = 200, GateSpec(max_requests=1000), 0, 0
    for seed in range(runs):
        verdict, _ = _watched(gate, random.Random(seed), canary_errors=0.02)
        rolled_back += verdict is Verdict.ROLL_BACK
        promoted += verdict is Verdict.PROMOTE
    print(f"figure: of {runs} canaries as good as the live set {rolled_back} rolled back, {promoted} promoted")
    assert rolled_back <= 0.02 * runs
    assert promoted >= 0.8 * runs


def test_a_worse_version_is_rolled_back_and_touched_its_share_alone() -> None:
    runs, gate, touched = 100, GateSpec(), []
    for seed in range(runs):
        verdict, requests = _watched(gate, random.Random(seed), canary_errors=0.2)
        assert verdict is Verdict.ROLL_BACK
        touched.append(requests)
    print(f"figure: with 20 % errors instead of 2 % rolled back after {sum(touched) / runs:.0f} of the canary's "
          f"requests, at most {max(touched)}")  # fmt: skip
    assert max(touched) <= 400


def _watched(gate: GateSpec, chance: random.Random, canary_errors: float) -> tuple[Verdict, int]:
    canary, live = Tally(), Tally()
    while canary.requests < 4_000:
        for made, share, count in ((canary, canary_errors, 20), (live, 0.02, 180)):
            for _ in range(count):
                made.note(chance.lognormvariate(-2.0, 0.5), chance.random() < share)
        verdict = decide(gate, Seen(canary, live, {}, 0.0)).verdict
        if verdict is not Verdict.WAIT:
            return verdict, canary.requests
    return Verdict.WAIT, canary.requests


# ---- as it is written ------------------------------------------------------------------------------------


def test_gates_are_read_as_they_are_kept() -> None:
    gate = GateSpec(suite="understanding", thresholds={"caption": 0.9})
    assert GateSpec.read(gate.model_dump()) == gate


@pytest.mark.parametrize(
    ("content", "where"),
    [({"suit": "x"}, "gate.suit"), ({"quantile": 1.0}, "gate.quantile"), ({"min_requests": 0}, "gate.min_requests"),
     ({"thresholds": {"a": math.nan}}, "gate.thresholds.a"), ({"max_wait_s": math.inf}, "gate.max_wait_s")],
)  # fmt: skip
def test_gates_that_make_no_sense_are_refused(content: dict[str, object], where: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        GateSpec.read(content)
    assert refused.value.where == where
