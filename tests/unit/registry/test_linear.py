"""Whatever happens at once: a system's history is one line, and nothing that was answered is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from graph.errors import FailedPrecondition
from services.registry import Registry

PROCESSES, THREADS, EACH = 4, 5, 5
"""100 swaps, each of a version that it registers and annotates first."""
SLOTS = [f"slot-{process}-{thread}" for process in range(PROCESSES) for thread in range(THREADS)]


def worker(url: str, process: int) -> None:
    """What one process does: each thread has a slot of its own, and swaps it again and again."""
    registry = Registry(url)
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(swap_often, registry, f"{process}-{thread}") for thread in range(THREADS)]:
            done.result()


def swap_often(registry: Registry, name: str) -> None:
    for number in range(1, EACH + 1):
        version = f"v-{name}-{number}"
        registry.put_artifact(version, "encoder", "x", "hash")
        registry.annotate(version, "number", number)
        rollout = _begin(registry, f"slot-{name}", version)
        for state in ("loading", "verifying", "flipping", "live"):
            registry.advance(rollout, state)


def _begin(registry: Registry, slot: str, version: str) -> str:
    while True:
        try:
            return registry.begin_rollout("s", {slot: version}, key=version).id
        except FailedPrecondition:
            # Somebody else's is under way.
            time.sleep(0.05)


def test_concurrent_registrations_and_swaps(url: str) -> None:
    registry = Registry(url)
    registry.put_artifact("v0", "encoder", "x", "hash")
    registry.establish("s", dict.fromkeys(SLOTS, "v0"))
    root = Path(__file__).resolve().parents[3]
    env = {**os.environ, "PYTHONPATH": f"{root}:{root / 'protos'}"}
    code = "import sys; from tests.unit.registry.test_linear import worker; worker(sys.argv[1], int(sys.argv[2]))"
    begun = time.monotonic()
    workers = [
        subprocess.Popen([sys.executable, "-c", code, url, str(number)], env=env, cwd=root)
        for number in range(PROCESSES)
    ]
    assert [process.wait() for process in workers] == [0] * PROCESSES
    took_s = time.monotonic() - begun
    swaps = PROCESSES * THREADS * EACH

    history = tuple(reversed(registry.history("s", limit=1000).items))
    assert [change.number for change in history] == list(range(1, 2 + 5 * swaps))
    assert [change.live for change in history if change.what == "live"] == list(range(2, swaps + 2))
    rollouts = [*(page := registry.rollouts("s")).items]
    while page.next_token:
        rollouts += (page := registry.rollouts("s", page_token=page.next_token)).items
    assert [rollout.before.generation for rollout in rollouts] == list(range(swaps, 0, -1)), "each from the one before"
    for rollout in rollouts:
        assert dict(rollout.after.slots) == {**rollout.before.slots, **rollout.changes}

    live = registry.live("s")
    assert live is not None
    assert dict(live.slots) == {slot: f"v-{slot.removeprefix('slot-')}-{EACH}" for slot in SLOTS}, "nothing is lost"
    known = [*(some := registry.artifacts()).items]
    while some.next_token:
        known += (some := registry.artifacts(page_token=some.next_token)).items
    assert {item.version: item.annotations.get("number") for item in known if item.version != "v0"} == {
        f"v-{slot.removeprefix('slot-')}-{number}": number for slot in SLOTS for number in range(1, EACH + 1)
    }
    print(f"figure: {swaps} registrations and {swaps} swaps by {PROCESSES} processes of {THREADS} threads in "
          f"{took_s:.1f} s: {len(history)} lines of history in one line, 0 lost")  # fmt: skip


def test_the_same_key_at_once_is_one_rollout(registry: Registry) -> None:
    for version in ("v0", "v1"):
        registry.put_artifact(version, "encoder", "x", "hash")
    registry.establish("s", {"see": "v0"})
    begin = threading.Barrier(8)

    def swap() -> str:
        begin.wait()
        return registry.begin_rollout("s", {"see": "v1"}, key="once").id

    with ThreadPoolExecutor(8) as pool:
        found = {done.result() for done in [pool.submit(swap) for _ in range(8)]}
    assert len(found) == 1


def test_registering_the_same_at_once_is_one_artifact(registry: Registry) -> None:
    begin = threading.Barrier(8)

    def put(number: int) -> None:
        begin.wait()
        registry.put_artifact("v", "encoder", "x", "hash", {f"key-{number}": number})

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(put, number) for number in range(8)]:
            done.result()
    assert registry.artifact("v").annotations == {f"key-{number}": number for number in range(8)}


def test_establishing_at_once_gives_one_set(registry: Registry) -> None:
    registry.put_artifact("v", "encoder", "x", "hash")
    begin = threading.Barrier(8)

    def establish() -> int:
        begin.wait()
        return registry.establish("s", {"see": "v"}).generation

    with ThreadPoolExecutor(8) as pool:
        assert {done.result() for done in [pool.submit(establish) for _ in range(8)]} == {1}
    assert len(registry.history("s").items) == 1
