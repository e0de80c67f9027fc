from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graph.catalog import load_catalog
from graph.errors import FailedPrecondition
from graph.spec import find_system
from graph.validate import load_system
from services.artifacts import ArtifactStore
from services.runtime.component import Held
from services.runtime.probes import ANNOTATION, Probe
from services.trainers.probes import FLOORS, add_probes, make_probe
from tests.fakes import tiny
from tests.fakes.components import make_component, started

TYPES = [key for key, item in load_catalog().items() if item.factory.startswith("services.")]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def probed(store: ArtifactStore, version: str, on: str = "") -> Probe:
    probe = make_probe(store, version, on=on)
    store.annotate(version, {ANNOTATION: probe.annotation()})
    return probe


@pytest.mark.parametrize(("kind", "type_name"), TYPES, ids=["-".join(key) for key in TYPES])
def test_every_type_is_held_against_its_probe(store: ArtifactStore, kind: str, type_name: str) -> None:
    version, other = tiny.make(store, kind, type_name), tiny.make(store, kind, type_name, seed=1)
    probe = probed(store, version)
    assert probe.tolerance["float32"] == FLOORS["float32"]
    assert probe == probed(store, version), "the same again"
    apart = probe.error_of(_reply(store, other))
    print(f"figure: {kind} {type_name}: other weights are {apart:.2f} off, {probe.tolerance} let pass")
    assert apart > 10 * probe.tolerance["float32"]


def _reply(store: ArtifactStore, version: str) -> torch.Tensor:
    import asyncio

    async def ask() -> torch.Tensor:
        async with started(make_component(store, Held(version))) as component:
            reply: torch.Tensor = await component.answer_probe(1)
            return reply

    return asyncio.run(ask())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["encoder", "input_projector", "backbone", "output_projector", "generator"])
def test_what_computes_something_else_is_not_served(store: ArtifactStore, kind: str, dtype: str) -> None:
    import asyncio

    type_name = next(name for of, name in TYPES if of == kind)
    good, bad = (tiny.make(store, kind, type_name, seed=seed) for seed in (0, 1))
    store.annotate(bad, {ANNOTATION: probed(store, good).annotation()})

    async def load_both() -> None:
        async with started(make_component(store, Held(good), dtype=dtype)) as component:
            with pytest.raises(FailedPrecondition, match="probe is wrong"):
                await component.load_version(Held(bad))
            assert [held.version for held in component.card().versions] == [good]

    asyncio.run(load_both())


async def test_an_adapter_is_probed_on_its_backbone(store: ArtifactStore) -> None:
    base = tiny.decoder(store)
    good, bad = tiny.adapter(store), tiny.adapter(store, seed=1)
    async with started(make_component(store, Held(base))) as component:
        await component.load_version(Held(good, adapter=True))
        plain, adapted = await component.answer_probe(1), await component.answer_probe(1, good)
        assert not torch.equal(plain, adapted)
        from services.runtime.probes import sums_of

        for version in (good, bad):
            probe = Probe(1, tuple(adapted.shape), sums_of(adapted), {"float32": 0.005}, base)
            store.annotate(version, {ANNOTATION: probe.annotation()})
    async with started(make_component(store, Held(base), Held(good, adapter=True))) as component:
        with pytest.raises(FailedPrecondition, match="probe is wrong"):
            await component.load_version(Held(bad, adapter=True))
        assert {held.version for held in component.card().versions} == {base, good}


def test_a_set_gets_the_probes_it_lacks(store: ArtifactStore) -> None:
    spec = load_system(find_system("llava-1.5"))
    slots = tiny.fill(store, spec)
    made = add_probes(store, slots)
    assert sorted(made) == sorted(set(slots.values()))
    assert add_probes(store, slots) == []
    assert add_probes(store, slots, frozenset({slots["see"]})) == [slots["see"]]
    adapter = Probe.of(store.get(slots["think/lora"]))
    assert adapter is not None
    assert adapter.on == slots["think"]
    assert add_probes(store, {"think/lora": tiny.adapter(store, seed=3)}) == [], "nothing to probe it on"


def test_weights_that_give_nan_get_no_probe(store: ArtifactStore) -> None:
    artifact = store.get(tiny.projector(store, "linear"))
    tensors = {name: torch.full_like(tensor, 3e38) for name, tensor in artifact.load_tensors().items()}
    version = store.put(kind=artifact.kind, type=artifact.type, config=artifact.config, tensors=tensors)
    with pytest.raises(FailedPrecondition, match="NaN or Inf"):
        make_probe(store, version)
