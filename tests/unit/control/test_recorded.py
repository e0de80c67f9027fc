from __future__ import annotations

from collections.abc import Callable

import pytest

from graph.errors import FailedPrecondition, NotFound
from services.artifacts import ArtifactStore
from services.control.recorded import RegistryLog
from services.control.rollouts import RolloutLog
from services.registry import Registry

MakeLog = Callable[[], RolloutLog]


@pytest.fixture
def make_log(registry: Registry, store: ArtifactStore) -> MakeLog:
    """Opens what was written down, as a control service that starts again does."""
    return lambda: RegistryLog(registry, store)


def test_rollouts_are_found_again(make_log: MakeLog, versions: list[str]) -> None:
    log = make_log()
    rollout = log.begin("s", {"see": versions[0]}, {"see": versions[1]}, "key")
    assert (rollout.state, rollout.before, rollout.after) == ("pending", {"see": versions[0]}, {"see": versions[1]})
    rollout = log.advance(rollout, "loading", components=("a", "b"))
    rollout = log.advance(rollout, "flipping", generation=7)
    again = make_log()
    assert again.get(rollout.rollout_id) == again.by_key("key") == rollout == again.all("s")[0]
    assert (rollout.state, rollout.generation, rollout.components) == ("flipping", 7, ("a", "b"))
    assert rollout.ended_s == 0.0
    rollout = again.advance(rollout, "live", generation=7)
    assert (rollout.state, rollout.components) == ("live", ("a", "b"))
    assert rollout.ended_s >= rollout.begun_s > 0.0
    assert make_log().all() == [rollout]
    assert (again.by_key(""), again.by_key("other"), again.get("nothing"), again.all("t")) == (None, None, None, [])


@pytest.mark.parametrize("until", [(), ("loading",), ("loading", "flipping")])
def test_a_rollout_may_fail_anywhere(make_log: MakeLog, versions: list[str], until: tuple[str, ...]) -> None:
    log = make_log()
    rollout = log.begin("s", {"see": versions[0]}, {"see": versions[1]})
    for state in until:
        rollout = log.advance(rollout, state)
    rollout = log.advance(rollout, "failed", "its probe is wrong")
    assert (rollout.state, rollout.reason) == ("failed", "its probe is wrong")
    assert log.begin("s", {"see": versions[0]}, {"see": versions[2]}).state == "pending"
    assert [item.state for item in make_log().all("s")] == ["failed", "pending"]


def test_the_oldest_come_first(make_log: MakeLog, versions: list[str]) -> None:
    log = make_log()
    for before, after in ((0, 1), (1, 2), (2, 3)):
        rollout = log.begin("s", {"see": versions[before]}, {"see": versions[after]})
        for state in ("loading", "flipping", "live"):
            rollout = log.advance(rollout, state)
    assert [item.after["see"] for item in make_log().all()] == versions[1:]


# ---- what the registry makes of it ------------------------------------------------------------------------


def test_the_registry_knows_what_runs(registry: Registry, store: ArtifactStore, versions: list[str]) -> None:
    log = RegistryLog(registry, store)
    rollout = log.begin("s", {"see": versions[0], "think": versions[0]}, {"see": versions[1]})
    for state in ("loading", "flipping", "live"):
        rollout = log.advance(rollout, state)
    live = registry.live("s")
    assert live is not None
    assert dict(live.slots) == {"see": versions[1]}
    assert registry.artifact(versions[1]).live_in == ("s:see",)
    # The cluster was started anew, with the weights that come along.
    log.begin("s", {"see": versions[0]}, {"see": versions[2]})
    assert [change.what for change in registry.history("s").items[:2]] == ["pending", "adopted"]


def test_one_at_a_time(registry: Registry, store: ArtifactStore, versions: list[str]) -> None:
    log = RegistryLog(registry, store)
    log.begin("s", {"see": versions[0]}, {"see": versions[1]})
    with pytest.raises(FailedPrecondition, match="under way"):
        log.begin("s", {"see": versions[0]}, {"see": versions[2]})
    with pytest.raises(NotFound):
        log.begin("t", {"see": versions[0]}, {"see": "0" * 20})
