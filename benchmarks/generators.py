"""Pictures, sounds and films: how long one takes alone, and eight at once against eight in a row, in one run.

The weights are those of next-gpt; where it has none yet, random ones of the same shapes, which take as long. Rounds
alternate between the two ways; what is judged is the median of the ratios, its interval is over rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._results import Bar, draw, judge, write
from graph import messages as m
from graph.errors import NotFound
from services.artifacts import ArtifactStore

SYSTEM = "next-gpt"
AT_ONCE = 8
MOST_RATIO = 0.6
STEPS = 20
TOKENS = 12
TEXT_WIDTH = 64
SCHEDULER = {
    "_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False,
}  # fmt: skip
PICTURE_VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 32, 64, 96], "layers_per_block": 1, "latent_channels": 16, "norm_num_groups": 8,
    "mid_block_add_attention": False, "sample_size": 64,
}  # fmt: skip
UNET: dict[str, Any] = {
    "sample_size": 8, "in_channels": 16, "out_channels": 16, "block_out_channels": [96, 96], "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH, "attention_head_dim": 4, "norm_num_groups": 16,
    "down_block_types": ["CrossAttnDownBlock2D"] * 2, "up_block_types": ["CrossAttnUpBlock2D"] * 2,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One medium.

    Attributes:
        slot: Its generator in the system.
        type: Type of the random one that stands in.
        most_s: Most that one may take alone.
        config: Of the random one.
    """

    slot: str
    type: str
    most_s: float
    config: dict[str, Any]


CASES = {
    "image": Case("draw", "stable_diffusion", 1.5, {
        "unet": UNET, "vae": PICTURE_VAE, "scheduler": SCHEDULER,
        "defaults": {"steps": STEPS, "guidance": 1.5, "height": 64, "width": 64},
    }),
    "audio": Case("play", "audioldm", 2.0, {
        "unet": {
            **UNET, "in_channels": 8, "out_channels": 8, "cross_attention_dim": [96, 96],
            "class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": TEXT_WIDTH,
        },
        "vae": {
            **PICTURE_VAE, "in_channels": 1, "out_channels": 1, "down_block_types": ["DownEncoderBlock2D"] * 3,
            "up_block_types": ["UpDecoderBlock2D"] * 3, "block_out_channels": [16, 32, 64], "latent_channels": 8,
        },
        "vocoder": {
            "model_in_dim": 64, "sampling_rate": 16_000, "upsample_initial_channel": 96, "normalize_before": False,
            "upsample_rates": [5, 4, 4, 4], "upsample_kernel_sizes": [11, 8, 8, 8], "resblock_kernel_sizes": [3, 5],
            "resblock_dilation_sizes": [[1, 3], [1, 3]],
        },
        "scheduler": SCHEDULER, "defaults": {"steps": STEPS, "guidance": 1.5, "seconds": 2.0},
    }),
    "video": Case("film", "text_to_video", 4.0, {
        "unet": {
            **UNET, "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
            "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
        },
        "vae": PICTURE_VAE, "scheduler": SCHEDULER,
        "defaults": {"steps": STEPS, "guidance": 1.5, "height": 64, "width": 64, "frames": 8, "fps": 4},
    }),
}  # fmt: skip


def version_of(case: Case, scratch: ArtifactStore) -> tuple[ArtifactStore, str, bool]:
    """Return the generator of the system, or one like it; and whether it is the system's."""
    from services.deploy.versions import Weights

    weights = Weights.bundled()
    try:
        version = weights.set_of(SYSTEM).get(case.slot, "")
    except NotFound:
        version = ""
    if version:
        return weights.store, version, True
    import torch

    from services.generators.models import build_generator

    torch.manual_seed(0)
    model = build_generator(case.type, case.config)
    made = scratch.put(kind="generator", type=case.type, config=case.config, tensors=model.state_dict())
    return scratch, made, False


async def measure_one(case: Case, scratch: ArtifactStore, rounds: int, threads: int) -> dict[str, Any]:
    """Measure one medium."""
    import torch

    from services.generators.service import GeneratorComponent
    from services.runtime.component import ComponentContext, Held
    from services.runtime.tensors import TensorStore, from_torch

    store, version, bundled = version_of(case, scratch)
    artifact = store.get(version)
    context = ComponentContext(
        "bench",
        artifact.kind,
        artifact.type,
        store,
        (Held(version),),
        TensorStore(),
        threads=threads,
        max_batch=AT_ONCE,
    )
    component = GeneratorComponent(context)
    await component.start()
    shapes = component.card().conditioning

    async def one(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        conditioning = {
            name: from_torch(torch.randn([size or TOKENS for size in shape.sizes], generator=generator))
            for name, shape in shapes.items()
            if not shape.optional
        }
        request = m.RenderRequest(m.Conditioning(conditioning), m.MediaParameters(), seed)
        async with aclosing(component.render(m.VersionRef(), request)) as events:
            async for _ in events:
                pass

    async def in_a_row() -> None:
        for seed in range(AT_ONCE):
            await one(seed)

    async def at_once() -> None:
        await asyncio.gather(*(one(seed) for seed in range(AT_ONCE)))

    result: dict[str, Any] = {"bundled": bundled, "alone_s": [], "in_a_row_s": [], "at_once_s": []}
    await one(0)
    for _ in range(rounds):
        result["alone_s"].append(await timed(lambda: one(1)))
        result["in_a_row_s"].append(await timed(in_a_row))
        result["at_once_s"].append(await timed(at_once))
    await component.stop()
    pairs = zip(result["at_once_s"], result["in_a_row_s"], strict=True)
    return {**result, "ratios": [together / single for together, single in pairs]}


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    """Return how long something took, seconds."""
    begin = time.perf_counter()
    await work()
    return time.perf_counter() - begin


def interval(values: list[float]) -> tuple[float, float]:
    """Return a 95 % interval of the median, by drawing rounds again."""
    draw_again = random.Random(1)
    medians = sorted(statistics.median(draw_again.choices(values, k=len(values))) for _ in range(2_000))
    return medians[49], medians[1_949]


async def measure(media: list[str], rounds: int, threads: int) -> dict[str, Any]:
    """Measure every medium, one after the other."""
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        scratch = ArtifactStore(Path(folder))
        return {medium: await measure_one(CASES[medium], scratch, rounds, threads) for medium in media}


def paint(axes: Any, result: dict[str, Any]) -> None:  # noqa: ANN401
    """Draw times alone, and the ratios of all rounds."""
    media = list(result)
    axes[0].boxplot([result[medium]["alone_s"] for medium in media], tick_labels=media)
    axes[0].set_title("one alone, s")
    axes[1].boxplot([result[medium]["ratios"] for medium in media], tick_labels=media)
    axes[1].axhline(MOST_RATIO, color="red", linewidth=1)
    axes[1].set_title(f"{AT_ONCE} at once / {AT_ONCE} in a row")
    for axis in axes:
        axis.set_ylim(bottom=0)


def bars_of(result: dict[str, Any]) -> list[Bar]:
    """Return what is asked of the result."""
    bars = []
    for medium, found in result.items():
        alone = statistics.median(found["alone_s"])
        bars.append(Bar(f"one {medium} alone", alone, most=CASES[medium].most_s, unit="s"))
        ratio = statistics.median(found["ratios"])
        bars.append(Bar(f"{AT_ONCE} of {medium} at once against in a row", ratio, most=MOST_RATIO, unit="x"))
    return bars


def main(arguments: list[str]) -> int:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(prog="generators")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--media", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    result = asyncio.run(measure(options.media, options.rounds, options.threads))
    write("generators", {"media": result, "rounds": options.rounds, "at_once": AT_ONCE})
    draw("generators", 2, lambda axes: paint(axes, result))
    print(f"{'':8} {'alone':>8} {'8 in a row':>11} {'8 at once':>10}   ratio (95 % of the median, all rounds)")
    for medium, found in result.items():
        alone, single, together = (statistics.median(found[key]) for key in ("alone_s", "in_a_row_s", "at_once_s"))
        low, high = interval(found["ratios"])
        print(
            f"{medium:8} {alone:7.2f}s {single:10.2f}s {together:9.2f}s   {statistics.median(found['ratios']):.2f} "
            f"({low:.2f}-{high:.2f}, {min(found['ratios']):.2f}-{max(found['ratios']):.2f})"
            f"{'' if found['bundled'] else '  random weights'}"
        )
    return judge(bars_of(result))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
