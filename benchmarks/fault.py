"""Processes that are killed (kill -9) while eight clients ask, one component after the other; and load on one of them.

Before that, media that would become far larger than their files: what it costs to refuse them.

Time back counts from the kill to the new replica in the routing, against the same component's own cold start in the
same run. Clients never try again by themselves.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc

from anyplex import AnyplexError, Client, Image
from benchmarks._results import Bar, draw, judge, write
from tests import films, sounds
from tests.cluster import (
    GATEWAY,
    Cluster,
    are_bundled_weights_complete,
    kill,
    make_tiny_weights,
    running,
    write_profile,
)
from tests.fault import test_films, test_pictures, test_sounds
from tests.fault.bombs import MOST_MIB, refuse, show
from tests.fault.test_kills import Watch
from tests.fault.test_scaling import Counts, heavy_picture
from tests.fault.traffic import Traffic
from tests.fault.wire import SENDABLE
from tests.pictures import encoded
from tests.waiting import wait_until

SYSTEM = "next-gpt"
NODES = ("see", "see_in", "think")
CLIENTS = 8
LOADERS = 56
GUARD_S = 240.0
BACK_OF_COLD = 1.5
GATEWAY_BACK_S = 5.0
REFUSED_MS = 100.0
# Well above what eight clients put on the encoder: only the load at the end makes it scale.
SCALING = {"target_ongoing": 12, "upscale_delay_s": 1, "downscale_delay_s": 4}


def refuse_bombs(cluster: Cluster) -> dict[str, Any]:
    """Hand in media that must be refused, kind by kind; each kind's reader has answered something before."""
    kinds = {
        "row 5, pictures": ("see", "image", test_pictures.BOMBS, encoded()),
        "row 5, animated pictures": ("watch", "video", test_pictures.BOMBS, films.film(films.grays(8))),
        "row 6, sounds": ("hear", "audio", test_sounds.BOMBS, sounds.encoded(sounds.tone())),
        "row 7, films": ("watch", "video", test_films.BOMBS, films.film(films.grays(8))),
    }
    found: dict[str, Any] = {}
    with grpc.insecure_channel(cluster.address, SENDABLE) as channel:
        for kind, (node, modality, bombs, good) in kinds.items():
            answer = show(channel, modality, good, SYSTEM)
            if answer.code is not grpc.StatusCode.OK:
                raise RuntimeError(f"{kind}: a good one was refused: {answer.message}")
            costs = refuse(cluster, channel, node, modality, bombs, SYSTEM)
            found[kind] = {
                "files": len(bombs), "median_ms": costs.middle_ms(), "slowest_ms": costs.slowest_ms(),
                "slowest": costs.slowest(), "grown_mib": dict(costs.grown_mib),
            }  # fmt: skip
    return found


def kill_component(cluster: Cluster, node: str) -> dict[str, Any]:
    """Kill the replica of one node under load; wait until a new one answers."""
    component = cluster.component(f"{SYSTEM}.{node}")
    with cluster.client(retry=False) as client, Traffic(cluster, CLIENTS, {"system": SYSTEM}) as traffic:
        watch = Watch(client, SYSTEM, node)
        wait_until(lambda: len(traffic.outcomes) >= 4 * CLIENTS, GUARD_S)
        killed_s = time.monotonic()
        kill(cluster.address_of(f"{SYSTEM}.{node}"))
        wait_until(lambda: watch.when(0, killed_s), GUARD_S)
        wait_until(lambda: watch.when(1, killed_s), GUARD_S)
        back_s = (watch.when(1, killed_s) or 0.0) - killed_s
        wait_until(lambda: traffic.finished_since(killed_s + back_s) >= 2 * CLIENTS, GUARD_S)
        watch.end()
    gone_s = (watch.when(0, killed_s) or 0.0) - killed_s
    return _told(node, traffic, back_s, cluster.cold_start_s[component], killed_s + gone_s)


def kill_gateway(cluster: Cluster) -> dict[str, Any]:
    """Kill the gateway under load; wait until the new one answers."""
    address = cluster.address
    with Traffic(cluster, CLIENTS, {"system": SYSTEM}) as traffic:
        wait_until(lambda: len(traffic.outcomes) >= 4 * CLIENTS, GUARD_S)
        killed_s = time.monotonic()
        kill(address)
        wait_until(lambda: _answers(cluster), GUARD_S)
        back_s = time.monotonic() - killed_s
        wait_until(lambda: traffic.finished_since(killed_s + back_s) >= 2 * CLIENTS, GUARD_S)
    answered_s = min(one.ended_s for one in traffic.outcomes if one.begun_s > killed_s and not one.error) - killed_s
    told = _told(GATEWAY, traffic, back_s, cluster.cold_start_s[GATEWAY], killed_s + back_s)
    return {**told, "clients_back_s": answered_s - back_s}


def _told(node: str, traffic: Traffic, back_s: float, cold_s: float, gone_s: float) -> dict[str, Any]:
    failed = traffic.errors()
    return {
        "node": node, "back_s": back_s, "cold_start_s": cold_s, "of_cold": back_s / cold_s,
        "requests": len(traffic.outcomes), "failed": len(failed),
        "failed_late": sum(one.begun_s > gone_s for one in failed), "codes": dict(Counter(one.code for one in failed)),
    }  # fmt: skip


def _answers(cluster: Cluster) -> bool:
    try:
        with Client(cluster.address, token=cluster.token, deadline_s=GUARD_S, retry=False) as client:
            client.generate("still there?", max_tokens=1)
    except AnyplexError:
        return False
    return True


def load_encoder(cluster: Cluster) -> dict[str, Any]:
    """Load the encoder until it has a second replica, then leave it alone until that is gone again."""
    encoder = cluster.component(f"{SYSTEM}.see")
    counts = Counts(cluster)
    heavy = {"system": SYSTEM, "max_tokens": 1, "parts": [Image(heavy_picture())]}
    with Traffic(cluster, 2, {"system": SYSTEM, "max_tokens": 4}) as steady:
        begun_s = time.monotonic()
        with Traffic(cluster, LOADERS, heavy) as load:
            wait_until(lambda: len(cluster.replicas(encoder)) == 2, GUARD_S)
            up_s = time.monotonic() - begun_s
            wait_until(lambda: load.finished_since(begun_s + up_s) >= 2 * LOADERS, GUARD_S)
        calm_s = time.monotonic()
        wait_until(lambda: len(cluster.replicas(encoder)) == 1, GUARD_S)
        down_s = time.monotonic() - calm_s
    counts.end()
    lost = len(load.errors()) + len(steady.errors())
    reversals = max(0, len(counts.series[encoder]) - 2)
    return {"up_s": up_s, "down_s": down_s, "lost": lost, "reversals": reversals, "replicas": counts.series}


def measure(rounds: int) -> dict[str, Any]:
    """Start a cluster of our own, hand it bombs, kill everything in it in turn, load it, stop it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        weights: Path | None = None
        if not are_bundled_weights_complete():
            weights = root / "weights"
            weights.mkdir()
            make_tiny_weights(weights)
        scaled = {"replicas": {"min": 1, "max": 2}, "autoscaling": SCALING}
        profile = write_profile(root / "profile.yaml", {"see": scaled})
        kills: list[dict[str, Any]] = []
        with running(root / "home", profile, name="fault-bench", weights=weights, systems=(SYSTEM,)) as cluster:
            refusals = refuse_bombs(cluster)
            for _ in range(rounds):
                kills += [kill_component(cluster, node) for node in NODES]
                kills.append(kill_gateway(cluster))
            scaling = load_encoder(cluster)
    return {
        "weights": "tiny" if weights else "bundled", "clients": CLIENTS, "refusals": refusals, "kills": kills,
        "scaling": scaling,
    }  # fmt: skip


def bars_of(result: dict[str, Any]) -> list[Bar]:
    """Return what is asked of the result: medians of the rounds for times, the worst round for errors."""
    bars: list[Bar] = []
    for kind, costs in result["refusals"].items():
        bars.append(Bar(f"{kind}: slowest refusal", costs["slowest_ms"], most=REFUSED_MS, unit="ms"))
        bars.append(Bar(f"{kind}: memory", max(costs["grown_mib"].values()), most=MOST_MIB, unit="MiB"))
    for node in (*NODES, GATEWAY):
        mine = [one for one in result["kills"] if one["node"] == node]
        of_cold = statistics.median(one["of_cold"] for one in mine)
        bars.append(Bar(f"{node}: back, of its own cold start", of_cold, most=BACK_OF_COLD, unit="x"))
        if node == GATEWAY:
            back_s = statistics.median(one["clients_back_s"] for one in mine)
            bars.append(Bar(f"{node}: clients are back after it", back_s, most=GATEWAY_BACK_S, unit="s"))
        else:
            bars.append(Bar(f"{node}: requests lost", max(one["failed"] for one in mine), most=CLIENTS))
            bars.append(Bar(f"{node}: of those asked later", max(one["failed_late"] for one in mine), most=0))
    bars.append(Bar("load on the encoder: reversals", result["scaling"]["reversals"], most=1))
    bars.append(Bar("load on the encoder: requests lost", result["scaling"]["lost"], most=0))
    return bars


def paint(axes: Any, result: dict[str, Any]) -> None:  # noqa: ANN401
    """Draw times back beside cold starts, and requests lost."""
    nodes = (*NODES, GATEWAY)
    by_node = {node: [one for one in result["kills"] if one["node"] == node] for node in nodes}
    places = range(len(nodes))
    back, lost = axes
    for shift, key, label in ((-0.2, "back_s", "back after the kill"), (0.2, "cold_start_s", "own cold start")):
        heights = [statistics.median(one[key] for one in by_node[node]) for node in nodes]
        back.bar([place + shift for place in places], heights, width=0.4, label=label)
    back.set_ylabel("seconds")
    back.legend()
    lost.bar(places, [max(one["failed"] for one in by_node[node]) for node in nodes])
    lost.set_ylabel("requests lost, most of all rounds")
    for axis in (back, lost):
        axis.set_xticks(places, nodes)


def main(arguments: list[str]) -> int:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(prog="fault")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    result = measure(options.rounds)
    write("fault", result)
    draw("fault", 2, lambda axes: paint(axes, result))
    for kind, costs in result["refusals"].items():
        print(f"{kind}: {costs['files']} files refused, median {costs['median_ms']:.0f} ms, slowest "
              f"{costs['slowest_ms']:.0f} ms ({costs['slowest']}), memory {costs['grown_mib']} MiB higher")  # fmt: skip
    print(f"{'killed':10} {'back s':>8} {'cold s':>8} {'of cold':>8} {'lost':>6} {'of':>6}  codes")
    for one in result["kills"]:
        print(f"{one['node']:10} {one['back_s']:8.1f} {one['cold_start_s']:8.1f} {one['of_cold']:7.2f}x "
              f"{one['failed']:6} {one['requests']:6}  {one['codes']}")  # fmt: skip
    scaling = result["scaling"]
    print(f"load on the encoder: second replica after {scaling['up_s']:.1f} s, gone after {scaling['down_s']:.1f} s")
    return judge(bars_of(result))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
