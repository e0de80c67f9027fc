"""What comes along for understanding stays small enough to be cloned in passing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKERS = ("generator", "output_projector")
MOST_BYTES = 15_000_000


def test_what_understands_is_small() -> None:
    """At most 15 MB, as git has the files.

    Counted are all artifacts that are neither a generator's nor an output projector's, manifests and histories
    included: those of next-gpt and all of llava-1.5, what both share once. So are the version sets and every recipe.
    """
    found = subprocess.run(["git", "ls-files", "-z", "weights"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a checkout of git")
    files = [Path(name) for name in found.stdout.split("\0") if name]
    size_bytes = {path: (ROOT / path).stat().st_size for path in files if not _makes(path)}
    assert size_bytes
    assert sum(size_bytes.values()) <= MOST_BYTES


def _makes(path: Path) -> bool:
    """Whether a file belongs to an artifact that makes media."""
    if path.parts[1] != "artifacts":
        return False
    manifest = json.loads((ROOT.joinpath(*path.parts[:3]) / "artifact.json").read_text(encoding="utf-8"))
    return manifest["kind"] in MAKERS
