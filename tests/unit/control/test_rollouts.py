from __future__ import annotations

from pathlib import Path

import pytest

from graph.errors import FailedPrecondition
from services.control import rollouts
from services.control.rollouts import KEPT, RolloutLog


def test_what_was_under_way_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "rollouts" / "log.json"
    log = RolloutLog(path)
    begun = log.begin("s", {"think": "a"}, {"think": "b"}, key="k")
    log.advance(begun, rollouts.FLIPPING, generation=2, components=("c",))
    again = RolloutLog(path)
    found = again.by_key("k")
    assert found is not None
    assert (found.state, found.generation, found.components, found.ended_s) == ("flipping", 2, ("c",), 0.0)
    done = again.advance(found, rollouts.FAILED, "why")
    assert RolloutLog(path).get(found.rollout_id) == done
    assert (again.all("s"), again.all("t"), again.by_key("")) == ([done], [], None)


def test_the_oldest_is_forgotten() -> None:
    log = RolloutLog()
    first = log.begin("s", {}, {})
    for _ in range(KEPT):
        log.begin("s", {}, {})
    assert len(log.all()) == KEPT
    assert log.get(first.rollout_id) is None


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text('{"rollouts": [{"nothing": 1}]}')
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        RolloutLog(path)
