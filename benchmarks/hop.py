"""One call of 100 bytes to a component: our own gRPC hop against a Serve handle call, in one run.

Both callers live in the same Serve replica, both callees in replicas of their own; calls alternate in rounds. The hop
of ours is the whole of it: routing, contract, interceptors, token.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks._results import Bar, draw, judge, write

FASTER = 3.0
MORE_AT_16 = 4.0


def measure(rounds: int, calls: int) -> dict[str, Any]:
    """Start a Ray of our own, measure both ways in turn, and stop it."""
    from services.deploy.launch import RAY_ENVIRONMENT

    os.environ.update(RAY_ENVIRONMENT)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray
    from ray import serve

    from benchmarks._echo import Bench, EchoDeployment
    from graph.plan import ComponentPlan
    from services.deploy.applications import component_application
    from services.runtime.cluster import NAMESPACE, directory_actor
    from services.runtime.settings import RuntimeSettings

    root = str(Path(__file__).resolve().parents[1])
    ray.init(
        address="local", include_dashboard=False, object_store_memory=80 * 2**20, num_cpus=2, namespace=NAMESPACE,
        log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": {"PYTHONPATH": root}},
    )  # fmt: skip
    try:
        directory_actor()
        serve.start(proxy_location="Disabled")
        settings = RuntimeSettings(data_token=secrets.token_hex(16), control_token=secrets.token_hex(16))
        plan = ComponentPlan("echo", "input_projector", "echo", "benchmarks._echo:EchoComponent")
        serve.run(component_application(plan, (root,), settings), name="echo", route_prefix=None)
        plain: Any = serve.deployment(ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=100)(EchoDeployment)
        caller: Any = serve.deployment(ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=100)(Bench)
        bench = serve.run(caller.bind("echo", settings.data_token, plain.bind()), name="bench", route_prefix=None)
        bench.start.remote().result(timeout_s=60)
        return _rounds(bench, rounds, calls)
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _rounds(bench: Any, rounds: int, calls: int) -> dict[str, Any]:  # noqa: ANN401
    latency: dict[str, list[float]] = {"own": [], "serve": []}
    throughput: dict[str, list[float]] = {"own": [], "serve": []}
    for which in ("own", "serve"):
        bench.round.remote(which, 200, 16).result(timeout_s=120)
    for _ in range(rounds):
        for which in ("own", "serve"):
            took = bench.round.remote(which, calls, 1).result(timeout_s=120)
            latency[which].append(statistics.median(took[:-1]) * 1e3)
            took = bench.round.remote(which, calls * 2, 16).result(timeout_s=120)
            throughput[which].append(calls * 2 / took[-1])
    return {"latency_ms": latency, "throughput_per_s": throughput}


def paint(axes: Any, result: dict[str, Any]) -> None:  # noqa: ANN401
    """Draw every round of both ways side by side."""
    panels = (("latency_ms", "p50 of one call, ms"), ("throughput_per_s", "calls a second, 16 at once"))
    for axis, (key, title) in zip(axes, panels, strict=True):
        axis.boxplot([result[key]["own"], result[key]["serve"]], tick_labels=["own hop", "Serve handle"])
        axis.set_title(title)
        axis.set_ylim(bottom=0)


def bars_of(result: dict[str, Any]) -> list[Bar]:
    """Return what is asked of the result: medians of the ratios of all rounds."""
    ratios = result["ratios"]
    return [
        Bar("p50 of one call: as fast as a Serve handle", ratios["latency"], least=FASTER, unit="x"),
        Bar("16 at once: as many as a Serve handle", ratios["throughput_at_16"], least=MORE_AT_16, unit="x"),
    ]


def main(arguments: list[str]) -> int:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(prog="hop")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args(arguments)
    result = measure(options.rounds, options.calls)
    latency = {which: statistics.median(values) for which, values in result["latency_ms"].items()}
    throughput = {which: statistics.median(values) for which, values in result["throughput_per_s"].items()}
    faster = [s / o for o, s in zip(result["latency_ms"]["own"], result["latency_ms"]["serve"], strict=True)]
    more = [o / s for o, s in zip(*result["throughput_per_s"].values(), strict=True)]
    result["ratios"] = {"latency": statistics.median(faster), "throughput_at_16": statistics.median(more)}
    write("hop", {**result, "rounds": options.rounds})
    draw("hop", 2, lambda axes: paint(axes, result))
    print(f"{'100 bytes':22} {'own hop':>10} {'Serve handle':>14}   ratio in all rounds")
    print(
        f"{'p50, one at a time':22} {latency['own']:8.2f}ms {latency['serve']:12.2f}ms   "
        f"{min(faster):.2f}-{max(faster):.2f}"
    )
    print(
        f"{'calls/s, 16 at once':22} {throughput['own']:10.0f} {throughput['serve']:14.0f}   "
        f"{min(more):.2f}-{max(more):.2f}"
    )
    return judge(bars_of(result))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
