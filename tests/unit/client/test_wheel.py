"""The client's distribution works with grpcio and protobuf alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.fakes.gateway import FakeGateway

ROOT = Path(__file__).resolve().parents[3]
USE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from anyplex import Client, Image
from anyplex.v1 import tool_pb2, training_pb2_grpc
with Client(sys.argv[3]) as client:
    print(client.generate(["hello", Image(b"\\x89PNG\\r\\n\\x1a\\n")]).text)
    print([system.name for system in client.systems()])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it from a copy: building leaves things behind."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(
        ROOT / "protos", folder / "protos", ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__")
    )
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(folder), str(folder / "protos")], check=True, timeout=240)
    (found,) = folder.glob("anyplex-*.whl")
    return found


def link(name: str, into: Path, seen: set[str]) -> None:
    """Make a distribution and what it needs importable from a folder, and nothing else."""
    if name in seen:
        return
    seen.add(name)
    found = distribution(name)
    for file in found.files or ():
        if file.suffix not in {".py", ".so", ".pem"} or ".." in file.parts:
            continue
        target = into / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(found.locate_file(file))
    for need in map(Requirement, found.requires or ()):
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            link(need.name, into, seen)


def test_the_wheel_holds_contracts_types_and_client(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = (ROOT / "protos" / "anyplex").rglob("*")
    expected = {str(p.relative_to(ROOT / "protos")) for p in sources if p.suffix in {".py", ".pyi", ".proto", ".typed"}}
    assert expected - names == set()
    metadata = next(name for name in names if name.endswith("METADATA"))
    asked = [line for line in zipfile.ZipFile(wheel).read(metadata).decode().splitlines() if "Requires-Dist" in line]
    assert sorted(line.split()[1].split("<")[0].split(">")[0] for line in asked) == ["grpcio", "protobuf"]


def test_it_works_with_grpcio_and_protobuf_alone(wheel: Path, gateway: FakeGateway, tmp_path: Path) -> None:
    installed, alone = tmp_path / "installed", tmp_path / "alone"
    zipfile.ZipFile(wheel).extractall(installed)
    seen: set[str] = set()
    for name in ("grpcio", "protobuf"):
        link(name, alone, seen)
    command = [sys.executable, "-I", "-S", "-c", USE, str(installed), str(alone), gateway.address]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[:2] == ["hello <image:8> ", "['next-gpt', 'llava-1.5']"]
    assert seen <= {"grpcio", "protobuf", "typing-extensions", "typing_extensions"}
