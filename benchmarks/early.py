"""Drawing while the answer is still decoded, against drawing after it: time to the first preview, in one run.

Backbone, output projector and generator of next-gpt run in processes of their own, reached over gRPC; the two ways are
two plans of one system, and rounds alternate between them. Where next-gpt has no weights yet that make pictures, random
ones of the same shapes stand in: the answer then begins with the picture, as long as it is allowed to be.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks._results import Bar, draw, judge, write
from benchmarks._serving import serve
from benchmarks.generators import CASES, SYSTEM, interval, version_of
from graph import messages as m
from graph.caller import Call
from graph.compile import compile_system
from graph.executor import Executor
from graph.plan import SystemPlan
from graph.problems import Report
from graph.profile import load_profile
from graph.spec import read_system
from graph.yaml_lines import parse_yaml
from services.artifacts import ArtifactStore
from services.runtime.caller import GrpcCaller
from services.runtime.directory import Entry, Routes
from services.runtime.tensors import ChannelPool

FASTER = 1.5
ASKED = "draw a small red circle at the top left and then tell me three facts about it"
PREVIEW_STEP = 2
START_S = 120.0
PROJECTOR: dict[str, Any] = {
    "input_width": 256, "output_width": 64, "signals": {"image": 4}, "hidden_width": 128, "n_queries": 13, "layers": 2,
    "heads": 4, "ff_width": 256, "adds_input_embeddings": True,
}  # fmt: skip
NODES = """
system: early
nodes:
  think:    {kind: backbone, type: decoder, lora: true, signals: {image: 4}}
  draw_out: {kind: output_projector, type: transformer, from: think, signal: image}
  draw:     {kind: generator, modality: image, type: stable_diffusion, from: draw_out}
"""


@dataclass(frozen=True)
class Parts:
    """Versions by slot, where they lie, and whether they are the system's own."""

    versions: dict[str, str]
    store: ArtifactStore
    bundled: bool


class StandIn(GrpcCaller):
    """Makes a backbone that has not learned to draw begin its answer with a picture: as if handed over in its block."""

    opener: int = 0

    async def decode(self, call: Call, request: m.DecodeRequest) -> AsyncIterator[m.DecodeEvent]:
        """Decode an answer whose first token was a signal."""
        begun = replace(request, produced_ids=(self.opener,))
        async with aclosing(super().decode(call, begun)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event


def find_parts(folder: Path) -> Parts:
    """Return the weights of the system, or what stands in for them."""
    from services.deploy.versions import Weights

    weights = Weights.bundled()
    versions = {slot: weights.set_of(SYSTEM).get(slot, "") for slot in ("think", "think/lora", "draw_out", "draw")}
    if all(versions.values()):
        return Parts(versions, weights.store, True)
    import torch

    from services.output_projectors.models import build_projector

    scratch = ArtifactStore(folder, weights.store.root)
    backbone = weights.store.get(versions["think"])
    files = {name: backbone.read_file(name) for name in backbone.file_digests}
    # Without an end token every answer is as long as it may be.
    files["generation_config.json"] = b'{"eos_token_id": []}'
    versions["think"] = scratch.put(
        kind="backbone", type="decoder", config=backbone.config, tensors=backbone.load_tensors(), files=files
    )
    torch.manual_seed(0)
    projector = build_projector("transformer", PROJECTOR)
    versions["draw_out"] = scratch.put(
        kind="output_projector", type="transformer", config=PROJECTOR, tensors=projector.state_dict()
    )
    _, versions["draw"], _ = version_of(CASES["image"], scratch)
    return Parts(versions, scratch, False)


def plan_of(parts: Parts, *, late: bool) -> SystemPlan:
    """Return the plan of one of the two ways."""
    report = Report("early")
    located = parse_yaml(NODES + ("limits: {late_media: true}\n" if late else ""), report)
    if located is None or report.problems:
        raise ValueError(f"the benchmark's own system is wrong: {report.problems}")
    return compile_system(read_system(located, report), load_profile("local"), parts.versions)


@contextmanager
def serving(parts: Parts, plan: SystemPlan, folder: Path, threads: int) -> Iterator[Routes]:
    """Run the components, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    processes, entries = [], []
    try:
        ears = []
        for node in plan.nodes:
            ear, tell = spawn.Pipe(duplex=False)
            version = node.version(parts.versions)
            given = (node.kind, node.type, (version.version, version.adapter), folder, threads, tell)
            processes.append(spawn.Process(target=serve, args=given, daemon=True))
            processes[-1].start()
            ears.append((node, ear))
        for node, ear in ears:
            if not ear.poll(START_S):
                raise TimeoutError(f"{node.name} did not start within {START_S:g} s")
            address = ear.recv()
            held = node.version(parts.versions)
            versions = frozenset(filter(None, (held.version, held.adapter)))
            entries.append(Entry(address, node.component, address, versions=versions))
        yield Routes(tuple(entries))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(10)


async def one(caller: GrpcCaller, plan: SystemPlan, parts: Parts, options: argparse.Namespace) -> dict[str, float]:
    """Ask once; return when things came, in seconds since the question."""
    request = m.Request(
        "early", plan.system, (m.Message("user", (m.Part(text=ASKED),)),), parts.versions,
        m.Sampling(max_tokens=options.tokens, seed=1),
        media_parameters={"image": m.MediaParameters(steps=options.steps, preview_every_steps=PREVIEW_STEP)},
    )  # fmt: skip
    begin, times = time.perf_counter(), {"tokens": 0.0}
    async with aclosing(Executor(caller).run(plan, request, time.monotonic() + 60.0)) as events:
        async for event in events:
            now = time.perf_counter() - begin
            match event.body:
                case m.MediaProgress(preview=preview) if preview:
                    times.setdefault("preview_s", now)
                case m.MediaChunk(last=True):
                    times["picture_s"] = now
                case m.MediaFailed(error=error):
                    raise error
                case m.Finished(usage=usage, timings=timings):
                    times["tokens"] = usage.completion_tokens
                    times |= {f"{timing.node}_s": timing.end_s for timing in timings}
    return {**times, "all_s": time.perf_counter() - begin}


async def measure(options: argparse.Namespace, parts: Parts, routes: Routes) -> dict[str, list[dict[str, float]]]:
    """Ask in both ways, in turns."""
    channels = ChannelPool()
    caller = (GrpcCaller if parts.bundled else StandIn)(routes, channels)
    if isinstance(caller, StandIn):
        from services.backbone.codec import TextCodec

        caller.opener = TextCodec.from_artifact(parts.store.get(parts.versions["think"])).signal_ids["image"][0]
    found: dict[str, list[dict[str, float]]] = {"early": [], "late": []}
    plans = {way: plan_of(parts, late=way == "late") for way in found}
    for number in range(options.rounds + 1):
        for way, plan in plans.items():
            times = await one(caller, plan, parts, options)
            if number:  # the first round warms up
                found[way].append(times)
    await channels.close()
    return found


def main(arguments: list[str]) -> int:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(prog="early")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=64, help="longest answer")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parts = find_parts(folder)
        with serving(parts, plan_of(parts, late=False), folder, options.threads) as routes:
            found = asyncio.run(measure(options, parts, routes))
    ratios = [late["preview_s"] / early["preview_s"] for early, late in zip(*found.values(), strict=True)]
    write("early", {"ways": found, "ratios": ratios, "bundled": parts.bundled, **vars(options)})
    draw("early", 1, lambda axes: _paint(axes[0], found))
    print(f"{'':6} {'preview':>8} {'picture':>8} {'decoded':>8} {'all':>8}  tokens")
    for way, rounds in found.items():
        keys = ("preview_s", "picture_s", "think_s", "all_s", "tokens")
        middle = [statistics.median(times[key] for times in rounds) for key in keys]
        print(f"{way:6}" + "".join(f"{value:8.2f}s" for value in middle[:4]) + f"  {middle[4]:.0f}")
    low, high = interval(ratios)
    print(f"ratio {statistics.median(ratios):.2f} ({low:.2f}-{high:.2f}){'' if parts.bundled else '  random weights'}")
    return judge([Bar("first preview: earlier than after decoding", statistics.median(ratios), least=FASTER, unit="x")])


def _paint(axes: Any, found: dict[str, list[dict[str, float]]]) -> None:  # noqa: ANN401
    axes.boxplot([[times["preview_s"] for times in rounds] for rounds in found.values()], tick_labels=list(found))
    axes.set_title("time to the first preview, s")
    axes.set_ylim(bottom=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
