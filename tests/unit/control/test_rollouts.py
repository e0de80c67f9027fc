from __future__ import annotations

import pytest

from graph.errors import FailedPrecondition
from services.control import rollouts
from services.control.rollouts import KEPT, RolloutLog


def test_one_of_a_system_at_a_time() -> None:
    log = RolloutLog(lambda: 5.0)
    begun = log.begin("s", {"think": "a"}, {"think": "b"}, key="k", canary=0.1, gate={"suite": "x"})
    with pytest.raises(FailedPrecondition, match="under way"):
        log.begin("s", {"think": "a"}, {"think": "c"})
    assert log.begin("t", {}, {}).state == "pending"
    canary = log.advance(begun, rollouts.CANARY, generation=2, components=("c",))
    assert (canary.offered_s, canary.ended_s, log.canary_of("s"), log.canary_of("t")) == (5.0, 0.0, canary, None)
    with pytest.raises(FailedPrecondition, match="roll it back"):
        log.begin("s", {"think": "a"}, {"think": "c"})
    assert log.score(canary, {"row": 0.5}).scores == {"row": 0.5}
    found = log.by_key("k")
    assert found is not None
    done = log.advance(found, rollouts.ROLLED_BACK, "why")
    assert (done.reason, done.ended_s, done.scores, done.components) == ("why", 5.0, {"row": 0.5}, ("c",))
    assert (log.all("s"), log.all("u"), log.by_key("")) == ([done], [], None)
    assert log.begin("s", {}, {}).state == "pending"


def test_the_oldest_is_forgotten() -> None:
    log = RolloutLog()
    first = log.begin("0", {}, {})
    for number in range(KEPT):
        log.begin(str(number + 1), {}, {})
    assert len(log.all()) == KEPT
    assert log.get(first.rollout_id) is None
