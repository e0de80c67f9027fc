from __future__ import annotations

import math

import pytest

from graph.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound
from services.registry import Registry, Rollout
from services.registry.records import TRANSITIONS

STEPS = ("loading", "verifying", "flipping", "live")


@pytest.fixture
def running(registry: Registry) -> Registry:
    """A registry in which "s" runs v0 in both of its slots, and v1 to v4 are known."""
    for number in range(5):
        registry.put_artifact(f"v{number}", "encoder" if number % 2 else "backbone", "x", "hash")
    registry.establish("s", {"see": "v0", "think": "v0"}, system_yaml="system: s")
    return registry


def swap(registry: Registry, changes: dict[str, str], steps: tuple[str, ...] = STEPS, **given: object) -> Rollout:
    rollout = registry.begin_rollout("s", changes, **given)  # type: ignore[arg-type]
    for state in steps:
        rollout = registry.advance(rollout.id, state)
    return rollout


# ---- artifacts -------------------------------------------------------------------------------------------


def test_artifacts_are_known_once_and_annotated(registry: Registry) -> None:
    known = registry.put_artifact("v", "encoder", "clip_vision", "hash", {"scores": {"test": 0.5}})
    assert (known.kind, known.type, known.config_hash) == ("encoder", "clip_vision", "hash")
    again = registry.put_artifact("v", "encoder", "clip_vision", "hash", {"source": "here"})
    assert again.annotations == {"scores": {"test": 0.5}, "source": "here"}
    assert again.registered_at == known.registered_at
    registry.annotate("v", "source", ["there"])
    assert registry.artifact("v").annotations["source"] == ["there"]


def test_a_version_is_one_thing(registry: Registry) -> None:
    registry.put_artifact("v", "encoder", "x", "hash")
    with pytest.raises(AlreadyExists, match="known as a encoder x"):
        registry.put_artifact("v", "backbone", "x", "hash")
    assert registry.artifact("v").kind == "encoder"


@pytest.mark.parametrize("value", [math.nan, object(), "x" * 65_536])
def test_what_cannot_be_said_is_refused_and_changes_nothing(registry: Registry, value: object) -> None:
    registry.put_artifact("v", "encoder", "x", "hash", {"a": 1})
    with pytest.raises(InvalidRequest):
        registry.annotate("v", "a", value)
    with pytest.raises(InvalidRequest):
        registry.put_artifact("w", "encoder", "x", "hash", {"a": value})
    assert registry.artifact("v").annotations == {"a": 1}
    with pytest.raises(NotFound):
        registry.artifact("w")


def test_unknown_artifacts_are_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.artifact("v")
    with pytest.raises(NotFound):
        registry.annotate("v", "a", 1)
    with pytest.raises(InvalidRequest):
        registry.put_artifact("", "encoder", "x", "hash")


def test_lists_come_in_pages(running: Registry) -> None:
    first = running.artifacts(limit=3)
    rest = running.artifacts(limit=3, page_token=first.next_token)
    assert [item.version for item in (*first.items, *rest.items)] == [f"v{number}" for number in range(5)]
    assert rest.next_token == ""
    assert [item.version for item in running.artifacts(kind="encoder").items] == ["v1", "v3"]
    swap(running, {"see": "v1"})
    assert [(item.version, item.live_in) for item in running.artifacts(system="s").items] == [
        ("v0", ("s:think",)),
        ("v1", ("s:see",)),
    ]
    for limit in (0, 101):
        with pytest.raises(InvalidRequest, match="limit"):
            running.artifacts(limit=limit)


# ---- systems ---------------------------------------------------------------------------------------------


def test_a_system_gets_its_first_set_once(running: Registry) -> None:
    live = running.live("s")
    assert live is not None
    assert (live.generation, live.slots) == (1, {"see": "v0", "think": "v0"})
    assert running.establish("s", {"see": "v0", "think": "v0"}) == live
    with pytest.raises(AlreadyExists, match="generation 1 is live"):
        running.establish("s", {"see": "v1"})
    with pytest.raises(NotFound, match="never registered: nobody"):
        running.establish("t", {"see": "nobody"})
    with pytest.raises(InvalidRequest):
        running.establish("t", {})
    assert running.live("t") is None
    assert [system.name for system in running.systems().items] == ["s"]


def test_files_are_written_down_with_the_system(running: Registry) -> None:
    assert running.system("s").system_yaml == "system: s"
    assert running.apply_files("s", "system: s\nsource: x", "profile: local")
    assert not running.apply_files("s", "system: s\nsource: x", "profile: local")
    assert running.system("s").profile_yaml == "profile: local"
    assert [change.what for change in running.history("s").items] == ["applied", "established"]


def test_what_runs_is_adopted(running: Registry) -> None:
    assert running.adopt("s", {"see": "v0", "think": "v0"}).generation == 1, "nothing is new"
    assert running.adopt("t", {"see": "v1"}).generation == 1
    swap(running, {"see": "v1"})
    adopted = running.adopt("s", {"see": "v2"})
    assert (adopted.generation, running.live("s"), running.previous("s")) == (3, adopted, None)
    assert running.history("s").items[0].what == "adopted"
    running.begin_rollout("s", {"see": "v3"})
    with pytest.raises(FailedPrecondition, match="under way"):
        running.adopt("s", {"see": "v4"})


def test_history_goes_on_when_a_system_comes_back(running: Registry) -> None:
    swap(running, {"see": "v1"})
    running.delete_system("s")
    assert running.live("s") is None
    assert running.systems().items == ()
    for ask in (lambda: running.system("s"), lambda: running.delete_system("s"), lambda: swap(running, {"see": "v2"})):
        with pytest.raises(NotFound):
            ask()
    assert running.establish("s", {"see": "v2"}).generation == 3
    whole = running.history("s").items
    assert [change.number for change in whole] == list(range(len(whole), 0, -1))
    assert [change.what for change in whole[:2]] == ["established", "deleted"]


# ---- rollouts --------------------------------------------------------------------------------------------


def test_several_slots_change_together(running: Registry) -> None:
    rollout = swap(running, {"see": "v1", "think": "v2"})
    assert (rollout.state, rollout.ended) == ("live", True)
    assert (rollout.before.generation, rollout.after.generation) == (1, 2)
    assert running.live("s") == rollout.after
    assert running.previous("s") == rollout.before
    assert dict(rollout.after.slots) == {"see": "v1", "think": "v2"}
    assert [change.what for change in reversed(running.history("s").items)] == ["established", "pending", *STEPS]
    assert [change.live for change in reversed(running.history("s").items)] == [1, 1, 1, 1, 1, 2]


def test_an_empty_version_empties_a_slot(running: Registry) -> None:
    assert dict(swap(running, {"think": ""}).after.slots) == {"see": "v0"}


def test_a_canary_is_a_set_beside_the_live_one(running: Registry) -> None:
    rollout = swap(running, {"see": "v1"}, ("loading", "verifying", "canary"), canary=0.05, gate={"suite": "x"})
    assert (rollout.canary, rollout.gate) == (0.05, {"suite": "x"})
    assert running.alias("s", "canary") == rollout.after
    assert running.live("s") == rollout.before
    assert running.active("s") == rollout
    running.score(rollout.id, {"caption": 0.5})
    running.score(rollout.id, {"question": 0.75})
    ended = running.advance(rollout.id, "rolled_back", "caption 0.5, at least 0.9 expected")
    assert ended.scores == {"caption": 0.5, "question": 0.75}
    assert ended.why == "caption 0.5, at least 0.9 expected"
    assert running.alias("s", "canary") is None
    assert running.live("s") == rollout.before
    assert running.previous("s") is None
    assert running.active("s") is None
    assert running.history("s").items[0].why == ended.why


def test_going_back_is_a_rollout_of_its_own(running: Registry) -> None:
    with pytest.raises(FailedPrecondition, match="no previous set"):
        running.begin_rollback("s")
    forth = swap(running, {"see": "v1"})
    back = running.begin_rollback("s", key="back")
    assert running.begin_rollback("s", key="back") == back
    for state in STEPS:
        running.advance(back.id, state)
    live = running.live("s")
    assert live is not None
    assert (live.generation, live.slots) == (3, forth.before.slots)
    assert running.previous("s") == forth.after
    assert running.rollout(back.id).undoes


def test_one_rollout_at_a_time_from_what_is_live(running: Registry) -> None:
    first = running.begin_rollout("s", {"see": "v1"}, base_generation=1)
    with pytest.raises(FailedPrecondition, match="is under way"):
        running.begin_rollout("s", {"see": "v2"})
    with pytest.raises(FailedPrecondition, match="is under way"):
        running.delete_system("s")
    for state in STEPS:
        running.advance(first.id, state)
    with pytest.raises(FailedPrecondition, match="generation 2 is live, 1 expected"):
        running.begin_rollout("s", {"see": "v2"}, base_generation=1)
    with pytest.raises(FailedPrecondition, match="already"):
        running.begin_rollout("s", {"see": "v1"})
    assert running.begin_rollout("s", {"see": "v2"}, base_generation=2).after.generation == 3


def test_a_rollout_that_failed_leaves_the_old_set(running: Registry) -> None:
    rollout = swap(running, {"see": "v1"}, ("loading", "failed"))
    live = running.live("s")
    assert live is not None
    assert live == rollout.before
    assert swap(running, {"see": "v1"}).after.generation == 3, "a generation is never used again"


def test_details_stay_with_a_rollout(running: Registry) -> None:
    rollout = running.begin_rollout("s", {"see": "v1"})
    running.advance(rollout.id, "loading", details={"components": ["a"], "generation": 1})
    assert running.advance(rollout.id, "loading", details={"generation": 2}).details["generation"] == 2
    for wrong in ({"a": math.nan}, {"a": object()}, {"a": "x" * 65_536}):
        with pytest.raises(InvalidRequest, match="details"):
            running.advance(rollout.id, "verifying", details=wrong)
    assert running.rollout(rollout.id).details == {"components": ["a"], "generation": 2}
    assert running.rollout(rollout.id).state == "loading"


def test_the_same_key_is_the_same_rollout(running: Registry) -> None:
    first = swap(running, {"see": "v1"}, key="k")
    assert running.begin_rollout("s", {"see": "v1"}, base_generation=1, key="k") == first
    with pytest.raises(AlreadyExists):
        running.begin_rollout("s", {"see": "v2"}, key="k")
    assert len(running.rollouts("s").items) == 1


@pytest.mark.parametrize("state", TRANSITIONS)
def test_states_follow_each_other_in_one_way(running: Registry, state: str) -> None:
    rollout = running.begin_rollout("s", {"see": "v1"})
    path = ("pending", "loading", "verifying", "canary", "flipping", "live")
    for before in path[1 : path.index(state) + 1] if state in path else (state,):
        running.advance(rollout.id, before)
    for following in TRANSITIONS:
        if following != state and following not in TRANSITIONS[state]:
            with pytest.raises(FailedPrecondition, match=f"{following} does not follow {state}"):
                running.advance(rollout.id, following)
    lines = len(running.history("s").items)
    assert running.advance(rollout.id, state).state == state
    assert len(running.history("s").items) == lines, "nothing happened twice"


@pytest.mark.parametrize(
    "given", [{"changes": {}}, {"canary": 0.0}, {"canary": 1.5}, {"key": "k" * 129}, {"canary": math.nan}]
)
def test_rollouts_that_make_no_sense_are_refused(running: Registry, given: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        running.begin_rollout("s", **{"changes": {"see": "v1"}, **given})  # type: ignore[arg-type]
    assert running.active("s") is None


def test_rollouts_and_history_come_in_pages(running: Registry) -> None:
    for number in (1, 2, 3, 4):
        swap(running, {"see": f"v{number}"})
    first = running.rollouts("s", limit=3)
    rest = running.rollouts("s", limit=3, page_token=first.next_token)
    assert [item.after.generation for item in (*first.items, *rest.items)] == [5, 4, 3, 2]
    numbers, token = [], "none yet"
    while token:
        page = running.history("s", limit=4, page_token="" if token == "none yet" else token)
        numbers += [change.number for change in page.items]
        token = page.next_token
    assert numbers == list(range(21, 0, -1))
    for token in ("x", "-1", "9" * 10, "²"):
        with pytest.raises(InvalidRequest, match="page_token"):
            running.history("s", page_token=token)


def test_unknown_rollouts_systems_aliases_and_states(running: Registry) -> None:
    for ask in (lambda: running.rollout("x"), lambda: running.advance("x", "live"), lambda: running.score("x", {})):
        with pytest.raises(NotFound):
            ask()
    with pytest.raises(NotFound):
        running.begin_rollout("t", {"see": "v1"})
    with pytest.raises(InvalidRequest):
        running.alias("s", "other")
    with pytest.raises(InvalidRequest):
        running.advance(running.begin_rollout("s", {"see": "v1"}).id, "done")
    assert running.active("t") is None
