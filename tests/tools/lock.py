"""Writes ``requirements.lock`` from what is installed: ``make lock`` after a change of dependencies that works."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
OURS = {"anyplex", "anyplex-server"}
# What openai-whisper asks for on Linux, for one kernel on GPUs that nothing here calls: 200 MB. A build of torch for
# GPUs brings its own. What diffusers asks for and takes from Python itself since 3.8: three packages.
UNUSED = {"triton", "importlib-metadata"}
HEAD = """\
# Written by `make lock` from an environment that passes the tests. Everything is pinned, and installed with --no-deps:
# all that is needed stands here, and what is asked for and not used does not: triton by openai-whisper,
# importlib-metadata by diffusers.
# torch comes first and by itself (see the Makefile): a machine without a GPU may offer a CPU build of it.
"""


def normal(name: str) -> str:
    """Return a name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(name: str, extras: set[str], found: dict[str, str]) -> None:
    """Add a distribution and all that it needs here to ``found``: name and version, without local parts."""
    if normal(name) in UNUSED:
        return
    try:
        dist: Distribution = distribution(name)
    except PackageNotFoundError:
        print(f"not installed: {name}", file=sys.stderr)
        return
    key = normal(dist.metadata["Name"])
    marked = f"{key}[{','.join(sorted(extras))}]"
    if marked in found:
        return
    found[marked] = ""
    found[key] = dist.version.partition("+")[0]
    for line in dist.requires or []:
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            closure(need.name, set(need.extras), found)


def needs(*extras: str) -> dict[str, str]:
    """Return what our own projects need, as their files say now."""
    found: dict[str, str] = {}
    lines: list[str] = []
    for path in (ROOT / "pyproject.toml", ROOT / "protos" / "pyproject.toml"):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        optional = project.get("optional-dependencies", {})
        lines += [*project["dependencies"], *(line for extra in extras for line in optional.get(extra, ()))]
    for need in map(Requirement, lines):
        if normal(need.name) not in OURS:
            closure(need.name, set(need.extras), found)
    return found


def main() -> int:
    """Write the file."""
    run, dev = needs("trace", "postgres"), needs("trace", "postgres", "dev")

    def pins(found: dict[str, str]) -> list[str]:
        return sorted(f"{name}=={version}" for name, version in found.items() if version and name not in OURS)

    sections = [HEAD, "# -- to run", *pins(run), "", "# -- to test, check and build"]
    sections += [pin for pin in pins(dev) if pin not in set(pins(run))]
    (ROOT / "requirements.lock").write_text("\n".join(sections) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
