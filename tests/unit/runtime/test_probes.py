from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from graph.errors import FailedPrecondition
from services.artifacts import ArtifactStore
from services.runtime.probes import ANNOTATION, MOST_VALUES, Noise, Probe, sums_of


def test_noise_is_the_same_everywhere() -> None:
    noise = Noise(1)
    assert noise.values(3).tolist() == pytest.approx([-0.68046, 1.20796, -1.19118], abs=1e-5)
    assert noise.ids(4, 1000) == Noise(1).ids(7, 1000)[3:]
    many = Noise(2).values(100, 100)
    assert float(many.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(many.var()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("count", [10, 5_000, MOST_VALUES * 2 + 1])
def test_the_error_of_the_sums_is_about_that_of_the_output(share: float, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(count, generator=generator)
    off = torch.randn(count, generator=generator) * share
    probe = Probe(0, (count,), sums_of(output), {})
    assert probe.error_of(output) < 1e-6
    assert probe.error_of(output + off) == pytest.approx(float(off.norm() / output.norm()), rel=0.5)


def probe_of(output: torch.Tensor, **given: float) -> Probe:
    return Probe(0, tuple(output.shape), sums_of(output), given)


def test_what_is_let_pass() -> None:
    output = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    probe = probe_of(output, float32=0.01, bfloat16=0.1)
    probe.check(output, "float32", "v")
    probe.check(output * 1.05, "bfloat16", "v")
    probe.check(output * 5, "float16", "v")
    with pytest.raises(
        FailedPrecondition, match=r"artifact v: its probe is wrong: 0.05 off .* at most 0.01 in float32"
    ):
        probe.check(output * 1.05, "float32", "v")
    for wrong, told in ((output[:2], r"\[2, 5\], \[4, 5\] expected"), (output * math.nan, "NaN or Inf")):
        with pytest.raises(FailedPrecondition, match=told):
            probe.check(wrong, "float16", "v")


def test_probes_are_kept_beside_the_weights(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    version = store.put(kind="encoder", type="x", config={}, tensors={})
    assert Probe.of(store.get(version)) is None
    output = torch.randn(7, generator=torch.Generator().manual_seed(0))
    store.annotate(version, {ANNOTATION: probe_of(output, float32=0.01).annotation()})
    found = Probe.of(store.get(version))
    assert found is not None
    found.check(output, "float32", version)
    assert (tmp_path / version / "annotations.json").stat().st_size < 2_000


@pytest.mark.parametrize(
    "said", [{}, [], "x", {"seed": 1}, {"seed": -1, "shape": [1], "sums": [0.0] * 32, "tolerance": {}},
             {"seed": 1, "shape": [1], "sums": [0.0], "tolerance": {}},
             {"seed": 1, "shape": [1], "sums": [None] * 32, "tolerance": {}},
             {"seed": 1, "shape": [1], "sums": [0.0] * 32, "tolerance": []}],
)  # fmt: skip
def test_probes_that_make_no_sense_are_refused(tmp_path: Path, said: object) -> None:
    store = ArtifactStore(tmp_path)
    version = store.put(kind="encoder", type="x", config={}, tensors={}, annotations={ANNOTATION: said})
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        Probe.of(store.get(version))
