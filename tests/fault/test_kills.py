"""Rows 20 and 22: processes that are killed while eight clients ask; and a directory that is."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections import Counter

import psutil
import pytest

from anyplex import Client, Unavailable
from tests.cluster import GATEWAY, Cluster, kill, pid_at
from tests.fault.traffic import Traffic
from tests.fault.wire import processes
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster

CLIENTS = 8
TENFOLD = 10
"""Times are judged by `make bench fault`; here they only must not run away."""
NODES = ("see", "see_in", "think")
# Guards against hanging, ten times what is expected; what was measured is printed, and judged where it is stable.
GONE_GUARD_S = 10.0
BACK_GUARD_S = 240.0
GONE_S: list[float] = []
"""How long each replica that was killed stayed in the routing."""


class Watch(threading.Thread):
    """Looks how many replicas a node has, many times a second, and remembers every change."""

    def __init__(self, client: Client, system: str, node: str) -> None:
        super().__init__(daemon=True)
        self.client, self.system, self.node = client, system, node
        self.changes: list[tuple[float, int]] = []
        self._ending = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ending.wait(0.01):
            described = self.client.describe(self.system)
            count = next(node.replicas for node in described.nodes if node.name == self.node)
            if not self.changes or self.changes[-1][1] != count:
                self.changes.append((time.monotonic(), count))

    def end(self) -> None:
        self._ending.set()
        self.join(timeout=10)

    def when(self, count: int, since_s: float) -> float | None:
        """When there were so many for the first time since a moment."""
        return next((at_s for at_s, found in self.changes if found == count and at_s >= since_s), None)


@pytest.mark.parametrize("node", NODES)
def test_row_20_a_replica_is_killed_under_load(cluster: Cluster, client: Client, node: str) -> None:
    component = cluster.component(f"next-gpt.{node}")
    cold_s = cluster.cold_start_s[component]
    others = processes(cluster, component)
    watch = Watch(client, "next-gpt", node)
    with Traffic(cluster, CLIENTS) as traffic:
        wait_until(lambda: len(traffic.outcomes) >= 4 * CLIENTS, 120)
        killed_s = time.monotonic()
        kill(cluster.address_of(f"next-gpt.{node}"))
        wait_until(lambda: watch.when(0, killed_s), GONE_GUARD_S)
        wait_until(lambda: watch.when(1, killed_s), BACK_GUARD_S)
        back_s = time.monotonic() - killed_s
        wait_until(lambda: traffic.finished_since(killed_s + back_s) >= 2 * CLIENTS, 120)
    watch.end()
    gone_s = (watch.when(0, killed_s) or 0.0) - killed_s
    failed = traffic.errors()
    late = [outcome for outcome in failed if outcome.begun_s > killed_s + gone_s]
    print(f"figure: row 20: {node} killed under {CLIENTS} clients: out of the routing after {gone_s * 1000:.0f} ms, "
          f"back after {back_s:.1f} s (its cold start in this run {cold_s:.1f} s, {back_s / cold_s:.2f}×), "
          f"{len(failed)} of {len(traffic.outcomes)} failed {dict(Counter(o.code for o in failed))}")  # fmt: skip
    assert {outcome.code for outcome in failed} <= {"unavailable"}, [str(outcome.error) for outcome in failed][:3]
    assert len(failed) <= CLIENTS, "only those that were on it"
    assert late == [], "whoever asks later waits for the new one"
    assert all(outcome.begun_s <= killed_s + gone_s for outcome in failed)
    GONE_S.append(gone_s)
    assert back_s <= 1.5 * TENFOLD * cold_s
    assert {address: pid_at(address) for address in others} == others, "nothing else was restarted"
    wait_until(lambda: cluster.in_flight() == {}, 10)


def test_row_22_the_gateway_is_killed_under_load(cluster: Cluster) -> None:
    cold_s = cluster.cold_start_s[GATEWAY]
    address = cluster.address
    others = processes(cluster)
    with Traffic(cluster, CLIENTS) as traffic:
        wait_until(lambda: len(traffic.outcomes) >= 4 * CLIENTS, 120)
        killed_s = time.monotonic()
        killed = kill(address)
        # A client that tries again, as the real one does by itself, needs no more than patience.
        with Client(address, deadline_s=BACK_GUARD_S) as patient:
            wait_until(lambda: _listens(address, killed), BACK_GUARD_S)
            back_s = time.monotonic() - killed_s
            wait_until(lambda: _answers(patient), BACK_GUARD_S)
        wait_until(lambda: traffic.finished_since(killed_s + back_s) >= 2 * CLIENTS, 60)
        recovered_s = min(o.ended_s for o in traffic.outcomes if o.begun_s > killed_s and not o.error) - killed_s
    failed = traffic.errors()
    print(f"figure: rows 20, 22: gateway killed under {CLIENTS} clients: back after {back_s:.1f} s (its cold start "
          f"{cold_s:.1f} s, {back_s / cold_s:.2f}×), first answer after {recovered_s:.1f} s, "
          f"codes {dict(Counter(outcome.code for outcome in failed))}")  # fmt: skip
    assert {outcome.code for outcome in failed} == {"unavailable"}
    assert back_s <= 1.5 * TENFOLD * cold_s
    assert recovered_s - back_s < 5.0 * TENFOLD, "clients reconnect"
    assert {address: pid_at(address) for address in others} == others
    wait_until(lambda: cluster.in_flight() == {}, 10)


def _answers(client: Client) -> bool:
    try:
        client.generate("still there?", max_tokens=1)
    except Unavailable:
        return False
    return True


def _listens(address: str, killed: int) -> bool:
    try:
        return pid_at(address) != killed
    except LookupError:
        return False


def test_traffic_goes_on_without_the_directory(cluster: Cluster, client: Client) -> None:
    processes = psutil.Process(cluster.state.pid).children(recursive=True)
    systems = {system.name for system in client.systems()}
    (directory,) = [process for process in processes if "DirectoryActor" in " ".join(process.cmdline())]
    with Traffic(cluster, CLIENTS) as traffic:
        wait_until(lambda: len(traffic.outcomes) >= 2 * CLIENTS, 120)
        killed_s = time.monotonic()
        os.kill(directory.pid, signal.SIGKILL)
        wait_until(lambda: traffic.finished_since(killed_s) >= 12 * CLIENTS, 120)

        def restarted() -> bool:
            children = psutil.Process(cluster.state.pid).children(recursive=True)
            return any("DirectoryActor" in " ".join(process.cmdline()) for process in children if process.is_running())

        wait_until(restarted, 60)
        # The new one has heard from everybody again, and knows the systems.
        wait_until(lambda: all(node.replicas == 1 for node in client.describe("next-gpt").nodes), 60)
        again_s = time.monotonic()
        wait_until(lambda: traffic.finished_since(again_s) >= 2 * CLIENTS, 60)
    print(
        f"figure: directory killed under {CLIENTS} clients: {len(traffic.errors())} of {len(traffic.outcomes)} failed"
    )
    assert traffic.errors() == []
    assert {system.name for system in client.systems()} == systems


def test_a_replica_killed_without_traffic_leaves_too(cluster: Cluster, client: Client) -> None:
    watch = Watch(client, "next-gpt", "see_in")
    wait_until(lambda: watch.changes)
    killed_s = time.monotonic()
    kill(cluster.address_of("next-gpt.see_in"))
    wait_until(lambda: watch.when(0, killed_s), GONE_GUARD_S)
    gone_s = (watch.when(0, killed_s) or 0.0) - killed_s
    wait_until(lambda: watch.when(1, killed_s), BACK_GUARD_S)
    watch.end()
    GONE_S.append(gone_s)
    print(f"figure: a replica killed without traffic left the directory after {gone_s * 1000:.0f} ms, "
          f"median of all kills {statistics.median(GONE_S) * 1000:.0f} ms")  # fmt: skip
    assert statistics.median(GONE_S) < 1.0 * TENFOLD
