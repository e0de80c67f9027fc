"""What is locked is all that is needed, in versions that the project's files ask for; and that is what is checked."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.tools.lock import OURS, UNUSED, needs, normal

ROOT = Path(__file__).resolve().parents[2]
FILES = ("pyproject.toml", "protos/pyproject.toml")


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    """Return what is locked: name and version."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9A-Za-z.]*", pin) for pin in pins), "everything is pinned exactly"
    names = [pin.partition("==")[0] for pin in pins]
    assert len(names) == len(set(names)), "nothing twice"
    return dict(pin.split("==") for pin in pins)


@pytest.mark.parametrize("file", FILES)
def test_every_requirement_is_locked_in_a_version_that_fits(file: str, locked: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / file).read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for lines in project["project"].get("optional-dependencies", {}).values():
        asked += lines
    for need in map(Requirement, asked):
        if need.name in OURS:
            continue
        assert normal(need.name) in locked, f"{need} of {file}: run make lock"
        assert need.specifier.contains(locked[normal(need.name)]), (
            f"{need} of {file}, {locked[normal(need.name)]} locked"
        )


def test_what_they_need_themselves_is_locked_too(locked: dict[str, str]) -> None:
    found = {name for name, version in needs("trace", "postgres", "dev").items() if version} - OURS
    assert found - set(locked) == set(), "run make lock"


def test_what_is_locked_fits_together(locked: dict[str, str]) -> None:
    """It is installed as it stands there, so nobody else finds out."""
    wrong = []
    for name in locked:
        try:
            asked = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for need in map(Requirement, asked):
            other = normal(need.name)
            if need.marker is not None and not need.marker.evaluate({"extra": ""}) or other in UNUSED:
                continue
            if other not in locked or not need.specifier.contains(locked[other], prereleases=True):
                wrong.append(f"{name} asks for {need}, {locked.get(other, 'nothing')} locked")
    assert wrong == []


def test_nothing_is_locked_that_nobody_uses(locked: dict[str, str]) -> None:
    assert not UNUSED & set(locked)


def test_types_of_everything_that_is_delivered_are_checked() -> None:
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert mypy["strict"]
    assert {"graph", "services", "anyplex", "benchmarks"} <= set(mypy["packages"])
