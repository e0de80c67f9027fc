from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from graph.errors import Exhausted
from services.artifacts.cache import Cache


def filled(size_bytes: int) -> Callable[[Path], None]:
    def write(scratch: Path) -> None:
        (scratch / "model.safetensors").write_bytes(bytes(size_bytes))

    return write


def test_who_was_asked_for_last_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 30_000)
    for age, name in enumerate("abc"):
        cache.keep(name * 20, 10_000, filled(9_000))
        os.utime(tmp_path / "cache" / (name * 20), (1_000 + age, 1_000 + age))
    os.utime(tmp_path / "cache" / ("a" * 20), (2_000, 2_000))
    cache.keep("d" * 20, 10_000, filled(9_000))
    assert {path.name[0] for path in (tmp_path / "cache").iterdir()} == {"c", "a", "d"}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1_000)
    with pytest.raises(Exhausted, match="do not fit"):
        cache.keep("a" * 20, 1_001, filled(1))


def test_what_is_in_use_makes_no_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10_000)
    cache.keep("a" * 20, 6_000, filled(6_000))
    with pytest.raises(Exhausted, match="in use"):
        cache.keep("b" * 20, 6_000, filled(6_000))


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10_000)

    def fail(scratch: Path) -> None:
        filled(100)(scratch)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.keep("a" * 20, 100, fail)
    assert list((tmp_path / "cache").iterdir()) == []
    assert cache.find("a" * 20) is None


def test_the_environment_says_where(tmp_path: Path) -> None:
    assert Cache.from_env({"ANYPLEX_HOME": str(tmp_path)}).root == tmp_path / "cache"
    cache = Cache.from_env({"ANYPLEX_CACHE": str(tmp_path / "x"), "ANYPLEX_CACHE_BYTES": "5"})
    assert (cache.root, cache.max_bytes) == (tmp_path / "x", 5)
