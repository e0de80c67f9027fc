"""What the registry knows, as the command line shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.deploy.versions import Weights
from services.registry import Registry
from tests.unit.cli.conftest import Cli


@pytest.fixture
def registry(tmp_path: Path, cli: Cli) -> Registry:
    """The registry that the command line opens, "s" having swapped once and failed once."""
    registry = Registry(f"sqlite:///{tmp_path}/home/registry/default.db")
    for number in range(3):
        registry.put_artifact(f"v{number}", "encoder", "x", "hash", {"scores": {"test": number / 2}})
    registry.establish("s", {"see": "v0", "think": "v0"})
    done = registry.begin_rollout("s", {"see": "v1"}, canary=0.05)
    registry.score(done.id, {"caption": 0.5})
    for state in ("loading", "verifying", "canary", "flipping", "live"):
        registry.advance(done.id, state)
    registry.advance(registry.begin_rollout("s", {"think": "v2"}).id, "failed", "artifact v2: its probe is wrong")
    return registry


def test_versions(cli: Cli, registry: Registry) -> None:
    ran = cli("versions", "--limit", "2")
    assert ran.code == 0
    assert "s:see" in ran.out
    assert "more: --page v1" in ran.out
    page = json.loads(cli("versions", "--json", "--system", "s", "--page", "v0").out)
    assert [item["version"] for item in page["versions"]] == ["v1", "v2"]
    assert page["versions"][0]["live_in"] == ["s:see"]
    assert page["next_page"] == ""
    assert json.loads(cli("versions", "v1", "--json").out)["annotations"] == {"scores": {"test": 0.5}}
    assert "scores" in cli("versions", "v1").out
    assert json.loads(cli("versions", "--kind", "backbone", "--json").out)["versions"] == []


def test_rollouts(cli: Cli, registry: Registry) -> None:
    ran = cli("rollout", "s")
    assert ran.code == 0
    assert "its probe is wrong" in ran.out
    last, first = json.loads(cli("rollout", "s", "--json").out)["rollouts"]
    assert (last["state"], first["state"], first["canary"]) == ("failed", "live", 0.05)
    told = cli("rollout", "s", "--id", first["id"]).out
    assert "caption 0.5" in told
    assert "think" not in told, "what did not change is left out"
    assert json.loads(cli("rollout", "s", "--id", first["id"], "--json").out) == first


def test_history(cli: Cli, registry: Registry) -> None:
    lines = json.loads(cli("history", "s", "--json").out)["history"]
    assert [line["what"] for line in lines[:2]] == ["failed", "pending"]
    assert [line["number"] for line in lines] == list(range(len(lines), 0, -1))
    assert "established" in cli("history", "s").out


def test_what_is_not_known(cli: Cli, registry: Registry) -> None:
    for command in (("versions", "v9"), ("rollout", "t"), ("rollout", "s", "--id", "x"), ("register", "0" * 20)):
        ran = cli(*command)
        assert ran.code == 5
        assert ran.err.count("\n") == 1
    assert cli("versions", "--registry", "nonsense").code == 3
    assert cli("history", "s", "--page", "x").code == 3


def test_bundled_sets_are_registered(cli: Cli) -> None:
    ran = cli("register", "next-gpt", "--json")
    assert ran.code == 0
    wanted = set(Weights.bundled().set_of("next-gpt").values())
    assert {item["version"] for item in json.loads(ran.out)} == wanted
    assert cli("register", *wanted).code == 0, "again is harmless"
    assert {item["version"] for item in json.loads(cli("versions", "--json").out)["versions"]} == wanted
