from __future__ import annotations

import pytest

from graph.errors import FailedPrecondition, InvalidRequest
from graph.replan import VersionInfo, with_versions
from tests.unit.graph.worlds import CATALOG, compiled

PLAN = compiled(
    versions={"see": "v1", "see_in": "p1", "think": "t1", "think/lora": "l1"},
    architectures={"see": "A", "see_in": "P", "think": "T", "think/lora": "L"},
)


def info(version: str, kind: str, type: str, architecture: str) -> VersionInfo:
    return VersionInfo(version, kind, type, architecture)


def test_the_same_architecture_keeps_its_component() -> None:
    changed = with_versions(PLAN, {"see_in": info("p2", "input_projector", "linear", "P")}, CATALOG)
    assert changed.versions == {**PLAN.versions, "see_in": "p2"}
    assert changed.generation == PLAN.generation + 1
    assert [node.component for node in changed.nodes] == [node.component for node in PLAN.nodes]


def test_another_architecture_gets_a_component_of_its_own() -> None:
    changed = with_versions(PLAN, {"see": info("v2", "encoder", "clip_vision", "B")}, CATALOG)
    assert changed.node("see").component != PLAN.node("see").component
    assert changed.node("see").component == changed.encoders["image"][0].component
    # Both nodes take their weights from that slot.
    assert changed.node("watch").component != PLAN.node("watch").component
    assert changed.node("think") == PLAN.node("think")


def test_another_type_too() -> None:
    changed = with_versions(PLAN, {"see_in": info("p2", "input_projector", "mlp", "M")}, CATALOG)
    assert (changed.node("see_in").type, changed.projectors[0].type) == ("mlp", "mlp")


@pytest.mark.parametrize(
    ("slot", "version", "error", "told"),
    [
        ("thunk", info("x", "backbone", "decoder", "T"), InvalidRequest, "no such slot"),
        ("think", info("x", "encoder", "whisper", "W"), FailedPrecondition, "backbone 'decoder' expected"),
        ("think/lora", info("x", "backbone", "decoder", "T"), FailedPrecondition, "an adapter expected"),
        ("see", info("x", "encoder", "unheard_of", "U"), FailedPrecondition, "there is no encoder 'unheard_of'"),
    ],
)
def test_what_does_not_belong_there(slot: str, version: VersionInfo, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        with_versions(PLAN, {slot: version}, CATALOG)


def test_places_are_components_with_what_they_hold() -> None:
    backbone = PLAN.backbone.component
    assert {(backbone, "t1"), (backbone, "l1")} <= PLAN.places()
    assert (backbone, "t2") in PLAN.places({**PLAN.versions, "think": "t2"})
