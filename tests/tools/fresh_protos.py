"""Proves that the generated contracts are those of the ``.proto`` files; ``--write`` generates them."""

from __future__ import annotations

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
PACKAGE = Path("anyplex/v1")
ENDINGS = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Compile all contracts into a folder."""
    sources = [str(path.relative_to(PROTOS)) for path in sorted((PROTOS / PACKAGE).glob("*.proto"))]
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}",
        f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}",
        f"--plugin=protoc-gen-mypy_grpc={plugin}", f"--mypy_grpc_out={out}", *sources,
    ]  # fmt: skip
    subprocess.run(command, cwd=PROTOS, check=True)


def generated(folder: Path) -> set[str]:
    """Return the names of generated files."""
    return {path.name for path in (folder / PACKAGE).iterdir() if path.name.endswith(ENDINGS)}


def main(arguments: list[str]) -> int:
    """Compare, or write."""
    if arguments == ["--write"]:
        generate(PROTOS)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        generate(out)
        names = generated(out) | generated(PROTOS)
        _, differ, missing = filecmp.cmpfiles(out / PACKAGE, PROTOS / PACKAGE, sorted(names), shallow=False)
    stale = sorted([*differ, *missing])
    for name in stale:
        print(f"protos/{PACKAGE}/{name}: not what its .proto generates; run: make protos", file=sys.stderr)
    print(f"generated contracts: {len(names)} files, {len(stale)} stale")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
