"""Whatever the graph and the request, the backbone reads what a naive evaluation says it should."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from graph.executor import Executor
from graph.messages import Message
from graph.plan import SystemPlan
from tests.fakes.caller import FakeCaller
from tests.unit.graph.test_understanding import read_by
from tests.unit.graph.worlds import asking, compiled, said, shown, turn

MODALITIES = ("image", "audio", "video")


@st.composite
def systems(draw: st.DrawFn) -> SystemPlan:
    """Draw a system: encoders, and projectors that read from any of what stands before them."""
    encoders = draw(st.lists(st.sampled_from(MODALITIES), min_size=1, max_size=4))
    lines = [f"  e{i}: {{kind: encoder, type: joint, modality: {name}}}\n" for i, name in enumerate(encoders)]
    free = [f"e{i}" for i in range(len(encoders))]
    projectors: list[str] = []
    for index in range(draw(st.integers(1, 5))):
        sources = draw(st.lists(st.sampled_from([*free, *projectors]), min_size=1, max_size=3, unique=True))
        lines.append(f"  p{index}: {{kind: input_projector, type: linear, from: [{', '.join(sources)}]}}\n")
        projectors.append(f"p{index}")
    # What nobody reads yet goes to the backbone, encoders by way of one more projector.
    text = "".join(lines)
    loose = [name for name in [*free, *projectors] if f"[{name}" not in text and f", {name}" not in text]
    ends = [name for name in loose if name in projectors]
    if encoders_left := [name for name in loose if name in free]:
        lines.append(f"  last: {{kind: input_projector, type: mlp, from: [{', '.join(encoders_left)}]}}\n")
        ends.append("last")
    lines.append(f"  think: {{kind: backbone, type: decoder, from: [{', '.join(ends)}]}}\n")
    order = draw(st.permutations(lines))
    return compiled("system: drawn\nnodes:\n" + "".join(order))


def expected(plan: SystemPlan, message: Message) -> list[str]:
    """Evaluate one turn by hand, part by part, node by node."""

    def given_by(node: str, part: int) -> list[str]:
        media = message.parts[part].media
        assert media is not None
        plan_node = plan.node(node)
        if plan_node.kind == "encoder":
            return [f"{node}({(media.data or b'').decode()})"] if plan_node.modality == media.modality else []
        return [f"{node}({mark})" for source in plan_node.inputs for mark in given_by(source, part)]

    found: list[str] = []
    for index, part in enumerate(message.parts):
        if part.media is None:
            found.append(part.text)
        else:
            found += [mark for name in plan.backbone.inputs for mark in given_by(name, index)]
    return found


@settings(deadline=None, derandomize=True, database=None, max_examples=150)
@given(systems(), st.data())
def test_the_backbone_reads_what_it_should(plan: SystemPlan, data: st.DataObject) -> None:
    parts = st.one_of(
        st.sampled_from(["a", "b", "c d"]).map(said),
        st.builds(shown, st.sampled_from(["x", "y", "zz"]), st.sampled_from(plan.takes[1:])),
    )
    turns = st.lists(parts, min_size=1, max_size=5).map(lambda drawn: turn(*drawn))
    messages = data.draw(st.lists(turns, min_size=1, max_size=3))
    caller = FakeCaller()

    async def run() -> None:
        async for _ in Executor(caller).run(plan, asking(*messages), float("inf")):
            pass
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert read_by(caller) == [expected(plan, message) for message in messages]
    assert caller.running == []
