"""Makes probes of artifacts: what their components make of noise in float32, and how far other dtypes are off that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

import torch

from graph.catalog import load_catalog
from graph.errors import FailedPrecondition
from services.artifacts import ArtifactStore
from services.runtime.component import Held
from services.runtime.factory import ComponentSpec
from services.runtime.model_component import ModelComponent
from services.runtime.probes import ANNOTATION, Probe, sums_of

logger = logging.getLogger("anyplex.trainers")

FLOORS: Mapping[str, float] = {"float32": 5e-3, "bfloat16": 2e-2}
"""Least tolerance: other processors add up in another order, and graphics cards round more than they say."""

ROOM = 3.0
"""Tolerance, in what a dtype was off where the probe was made."""

MOST = 0.5
"""A dtype that would need more is left out: damaged weights would pass."""


def make_probe(store: ArtifactStore, version: str, *, on: str = "", places: Iterable[str] = (), seed: int = 1) -> Probe:
    """Run a component on noise, in every dtype that it may be served in.

    Args:
        store: Where the artifact is.
        version: Whose probe.
        on: Version of the backbone that an adapter is probed on.
        places: Where ``store`` looks, in order; its root where nothing is said.
        seed: Of the noise.

    Raises:
        AnyplexError: The artifact cannot be loaded, or has no probes.
        KeyError: The catalog has no such type.
    """
    named = tuple(places) or (str(store.root),)
    expected = asyncio.run(_answer(store, named, version, on, "float32", seed))
    if not bool(torch.isfinite(expected).all()):
        raise FailedPrecondition("gives NaN or Inf for noise", f"artifact {version}")
    exact = Probe(seed, tuple(expected.shape), sums_of(expected), {}, on)
    tolerance = {}
    for dtype, floor in FLOORS.items():
        off = exact.error_of(asyncio.run(_answer(store, named, version, on, dtype, seed)))
        most = max(floor, float(f"{ROOM * off:.2g}"))
        if most <= MOST:
            tolerance[dtype] = most
    return Probe(seed, exact.shape, exact.sums, tolerance, on)


def add_probes(store: ArtifactStore, slots: Mapping[str, str], versions: frozenset[str] | None = None) -> list[str]:
    """Make the probes of a version set and keep them beside the artifacts.

    Args:
        store: Where they are.
        slots: The version set.
        versions: Those alone; None: all that have none yet.

    Returns:
        Versions that got one.

    Raises:
        AnyplexError: An artifact cannot be loaded.
    """
    catalog, made = load_catalog(), []
    for slot, version in slots.items():
        artifact = store.get(version)
        wanted = ANNOTATION not in artifact.annotations() if versions is None else version in versions
        base = slots.get(slot.partition("/")[0], "") if artifact.kind == "adapter" else ""
        known = bool(base) if artifact.kind == "adapter" else (artifact.kind, artifact.type) in catalog
        if not wanted or not known or version in made:
            continue
        probe = make_probe(store, version, on=base)
        store.annotate(version, {ANNOTATION: probe.annotation()})
        made.append(version)
        logger.info("%s: probe of %s, tolerance %s", slot, version, dict(probe.tolerance))
    return made


async def _answer(
    store: ArtifactStore, places: tuple[str, ...], version: str, on: str, dtype: str, seed: int
) -> torch.Tensor:
    artifact = store.get(on or version)
    factory = load_catalog()[artifact.kind, artifact.type].factory
    held = (Held(on), Held(version, adapter=True)) if on else (Held(version),)
    spec = ComponentSpec(
        "probe", artifact.kind, artifact.type, factory, places, held, dtype=dtype, threads=torch.get_num_threads()
    )
    component = spec.build()
    if not isinstance(component, ModelComponent):
        raise TypeError(f"{factory} makes no component with a model")
    try:
        await component.start()
        return await component.answer_probe(seed, version if on else "")
    finally:
        await component.stop()
