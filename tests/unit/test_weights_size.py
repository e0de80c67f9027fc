"""What comes along stays small enough to be cloned in passing: what understands, and what makes media."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
MAKERS = ("generator", "output_projector")
MAKING_STAGES = ("picture_autoencoder", "sound_autoencoder", "diffusion", "align_output")
MOST_BYTES = {"understanding": 15_000_000, "making": 25_000_000}


def test_weights_are_small() -> None:
    """At most 15 MB understand and 25 MB make media, as git has the files.

    Manifests, histories, version sets and recipes included; what next-gpt and llava-1.5 share counts once. An adapter
    understands, but for its rows of signal tokens, which ask for media.
    """
    found = subprocess.run(["git", "ls-files", "-z", "weights"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a checkout of git")
    files = [Path(name) for name in found.stdout.split("\0") if name]
    signals = sum(_signal_bytes(path) for path in files)
    size_bytes = {"understanding": -signals, "making": signals}
    for path in files:
        size_bytes["making" if _makes(path) else "understanding"] += (ROOT / path).stat().st_size
    print(size_bytes)
    assert all(0 < size_bytes[part] <= most for part, most in MOST_BYTES.items()), size_bytes


def _makes(path: Path) -> bool:
    """Whether a file belongs to what makes media."""
    if path.parts[1] == "recipes":
        recipe = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
        return recipe["stage"] in MAKING_STAGES or "output_projectors" in recipe.get("model", {})
    if path.parts[1] != "artifacts":
        return False
    manifest = json.loads((ROOT.joinpath(*path.parts[:3]) / "artifact.json").read_text(encoding="utf-8"))
    return manifest["kind"] in MAKERS


def _signal_bytes(path: Path) -> int:
    """Bytes of the rows of signal tokens, zero in files that have none."""
    if path.suffix != ".safetensors":
        return 0
    with safe_open(ROOT / path, "pt") as tensors:
        return sum(
            tensors.get_tensor(name).nbytes
            for name in tensors.keys()  # noqa: SIM118 - not a mapping
            if name in ("signal_embeddings", "signal_head")
        )
