"""Systems that come, change and go in a cluster that runs; what is wrong changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyplex import NotFound
from graph.spec import find_system
from tests.cluster import Cluster, make_tiny_weights, running, write_profile
from tests.pictures import picture

FIRST, SECOND = "llava-1.5", "next-gpt"

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("apply")
    weights = root / "weights"
    weights.mkdir()
    make_tiny_weights(weights)
    profile = write_profile(root / "profile.yaml")
    with running(root / "home", profile, name="apply", weights=weights, systems=(FIRST,)) as cluster:
        yield cluster


def names(cluster: Cluster) -> set[str]:
    with cluster.client() as client:
        return {system.name for system in client.systems()}


def test_a_system_comes_changes_and_goes(cluster: Cluster, tmp_path: Path) -> None:
    file = str(find_system(SECOND))
    shown = cluster.anyplex("apply", file, "--dry-run", "--name", "apply")
    assert (shown.returncode, f"system {SECOND}: new" in shown.stdout) == (0, True), shown.stderr
    assert names(cluster) == {FIRST}
    done = cluster.anyplex("apply", file, "--name", "apply", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lines"][-1] == f"system {SECOND} is as asked for"
    with cluster.client() as client:
        assert client.generate(["what is this?", picture()], system=SECOND, max_tokens=4).usage.media_tokens > 0
        assert client.generate(["what is this?", picture()], system=FIRST, max_tokens=4).usage.media_tokens > 0
    again = cluster.anyplex("apply", file, "--name", "apply")
    assert (again.returncode, "nothing to change" in again.stdout) == (0, True), again.stdout
    other = tmp_path / "other.yaml"
    other.write_text(Path(file).read_text() + "\n# changed in words alone\n")
    changed = cluster.anyplex("apply", str(other), "--name", "apply")
    assert (changed.returncode, "+# changed in words alone" in changed.stdout) == (0, True), changed.stdout
    gone = cluster.anyplex("delete", SECOND, "--name", "apply")
    assert gone.returncode == 0, gone.stderr
    assert names(cluster) == {FIRST}
    with cluster.client() as client:
        with pytest.raises(NotFound):
            client.generate("hello", system=SECOND)
        assert client.generate(["what is this?", picture()], system=FIRST, max_tokens=4).usage.media_tokens > 0


def test_what_is_wrong_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(Path(find_system(FIRST)).read_text().replace("backbone", "backbonne"))
    done = cluster.anyplex("apply", str(wrong), "--name", "apply")
    assert (done.returncode, "backbonne" in done.stderr) == (3, True), done.stderr
    only = cluster.anyplex("delete", FIRST, "--name", "apply")
    assert (only.returncode, "the only one" in only.stderr) == (9, True), only.stderr
    nothing = cluster.anyplex("delete", "nothing", "--name", "apply")
    assert (nothing.returncode, FIRST in nothing.stderr) == (5, True), nothing.stderr
    assert names(cluster) == {FIRST}
