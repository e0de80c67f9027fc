"""Compiling resolves components, and systems share those they have in common."""

from __future__ import annotations

import pytest

from graph.compile import check_versions, compile_system, merge_components, topological_order
from graph.errors import SpecError
from graph.profile import Profile, Replicas
from tests.unit.graph.worlds import CATALOG, FULL, compiled, read

OTHER = FULL.replace("system: full", "system: other").replace("type: linear, from: see}", "type: mlp, from: see}")
SHAPES = {"see": "A", "hear": "B", "see_in": "C", "watch_in": "C", "hear_in": "D", "think": "E"}


def versions(tag: str) -> dict[str, str]:
    spec, _ = read(FULL)
    return {slot: "base" if slot in ("see", "think") else f"{slot}-{tag}" for slot in spec.slots()}


def test_nodes_stand_after_those_they_read_from() -> None:
    plan = compiled(FULL.replace("nodes:\n", "nodes:\n  last: {kind: input_projector, type: mlp, from: mid}\n"
                                 "  mid: {kind: input_projector, type: mlp, from: see}\n").replace(
        "from: [see_in,", "from: [last, see_in,"))  # fmt: skip
    place = {node.name: index for index, node in enumerate(plan.nodes)}
    assert all(place[source] < place[node.name] for node in plan.nodes for source in node.inputs)
    assert [node.name for node in plan.projectors].index("mid") < [node.name for node in plan.projectors].index("last")


def test_the_plan_knows_its_routes() -> None:
    plan = compiled()
    assert plan.takes == ("text", "image", "video", "audio")
    assert plan.makes == ("text", "image", "audio")
    assert plan.outputs["image"].generator.name == "draw"
    assert [node.name for node in plan.outputs["image"].projectors] == ["draw_out"]
    assert plan.backbone.signals == {"image": 4, "audio": 8}
    assert plan.node("watch").slot == "see"
    assert "watch" not in plan.slots()
    assert "think/lora" in plan.slots()


def test_nodes_with_the_same_weights_share_a_component() -> None:
    plan = compiled(versions=versions("a"), architectures=SHAPES)
    assert plan.node("see").component == plan.node("watch").component
    assert plan.node("see_in").component == plan.node("watch_in").component
    assert plan.node("hear_in").component != plan.node("see_in").component
    assert plan.node("see").component.startswith("encoder-clip_vision-")


def test_slots_of_their_own_may_hold_the_same_weights_or_other_ones() -> None:
    text = FULL.replace(", weights: see}", "}")
    shapes = {**SHAPES, "watch": "A"}
    same = compiled(text, versions={**versions("a"), "watch": "base"}, architectures=shapes)
    assert {"see", "watch"} <= set(same.slots())
    merged = {part.id: part for part in merge_components([same])}
    eyes = merged[same.node("see").component]
    assert eyes.versions == ("base",)
    assert eyes.uses == (("full", "see"), ("full", "watch"))
    assert eyes.settings.replicas == Replicas(1, 1)
    other = compiled(text, versions={**versions("a"), "watch": "new"}, architectures=shapes)
    assert {part.id: part for part in merge_components([same, other])}[eyes.id].versions == ("base", "new")
    assert other.node("watch").version(other.versions).version == "new"
    assert other.node("see").version(other.versions).version == "base"


def test_systems_share_components_and_each_holds_all_their_versions() -> None:
    one = compiled(versions=versions("a"), architectures=SHAPES)
    two = compiled(OTHER, versions=versions("b"), architectures={**SHAPES, "see_in": "F"})
    merged = {part.id: part for part in merge_components([one, two])}
    see, think = merged[one.node("see").component], merged[one.backbone.component]
    assert see.versions == ("base",)
    assert see.uses == (("full", "see"), ("full", "watch"), ("other", "see"), ("other", "watch"))
    assert think.adapters == ("think/lora-a", "think/lora-b")
    assert one.node("see_in").component != two.node("see_in").component
    assert merged[one.node("hear_in").component].versions == ("hear_in-a", "hear_in-b")


def test_without_architectures_only_the_same_version_is_shared() -> None:
    one = compiled(versions=versions("a"))
    two = compiled(OTHER, versions=versions("b"))
    assert one.backbone.component == two.backbone.component
    assert one.node("hear").component != two.node("hear").component
    assert compiled().node("hear").component != compiled(OTHER).node("hear").component


def test_settings_make_components_differ_but_scaling_does_not() -> None:
    base = compiled(architectures=SHAPES)
    slow = compiled(architectures=SHAPES, profile=Profile("p", components={"full.hear": {"dtype": "bfloat16"}}))
    assert base.node("hear").component != slow.node("hear").component
    assert base.node("see").component == slow.node("see").component
    wide = compiled(OTHER, architectures=SHAPES, profile=Profile("p", components={"see": {"replicas": Replicas(0, 4)}}))
    assert base.node("see").component == wide.node("see").component
    merged = {part.id: part for part in merge_components([base, wide])}
    assert merged[base.node("see").component].settings.replicas == Replicas(1, 4)


def test_options_make_components_differ_but_stated_widths_do_not() -> None:
    loud = FULL.replace("type: tones,", "type: tones, options: {gain: 2, input_width: 8},")
    quiet = FULL.replace("type: tones,", "type: tones, options: {gain: 1},")
    stated = FULL.replace("type: tones,", "type: tones, options: {input_width: 9},")
    ids = [compiled(text).node("play").component for text in (loud, quiet, stated, FULL)]
    assert len(set(ids[:3])) == 3
    assert ids[2] == ids[3]


def test_a_system_with_problems_is_not_compiled() -> None:
    spec, _ = read(FULL.replace("from: draw_out", "from: draw_uot"))
    with pytest.raises(SpecError, match="did you mean 'draw_out'"):
        compile_system(spec, Profile("p"), catalog=CATALOG)


def test_a_version_set_must_fill_every_slot() -> None:
    spec, _ = read(FULL)
    full = versions("a")
    del full["think/lora"]
    assert check_versions(spec, full) == []
    told = [str(problem) for problem in check_versions(spec, {**full, "hear": "", "watch": "x"})]
    assert len(told) == 2
    assert "slot 'watch', which this system does not have" in told[0]
    assert "no version for slot 'hear'" in told[1]


def test_order_is_the_files_where_nothing_else_decides() -> None:
    spec, _ = read(FULL)
    assert topological_order(spec)[:3] == ["see", "watch", "hear"]
