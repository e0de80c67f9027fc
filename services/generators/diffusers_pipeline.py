"""Any pipeline of diffusers, driven by embeddings alone: one request at a time, its loop diffusers' own."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from graph.errors import AnyplexError, DeadlineExceeded, FailedPrecondition, Internal, InvalidRequest
from graph.messages import RenderProgress, RenderStarted
from services.artifacts.store import Artifact
from services.generators.encoding import Medium, encode_png, levels
from services.generators.engine import ConditionShape, RenderJob
from services.generators.latent_diffusion import scheduler_class
from services.generators.outbox import RenderEvent
from services.generators.plans import MAX_STEPS, Caps, Defaults, MediumPlan
from services.generators.roster_engine import RosterEngine, Running
from services.generators.rows import failure
from services.runtime.resident import fill_module

# Pipelines ask these for a multiple of it, whatever their autoencoder needs.
MULTIPLE = 8
# Pipelines that read the element type of a text encoder even when they get embeddings.
ASK_TEXT_ENCODERS = ("AudioLDMPipeline", "AudioLDM2Pipeline")


class AbsentPart:
    """Stands for a part that is not there, where only its element type is read."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class LoadedPipeline(nn.Module):
    """A pipeline and what it takes.

    Args:
        config: Of the artifact: ``pipeline``, ``modality``, ``models``, ``schedulers``, ``absent``, ``arguments``,
            ``conditions``, ``defaults``, ``caps``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.modality: str = config["modality"]
        self.parts = nn.ModuleDict({name: _model(entry) for name, entry in config["models"].items()})
        self.defaults = Defaults.from_config(config)
        self.caps = Caps.from_config(config, self.defaults, MULTIPLE, MAX_STEPS)
        self._conditions = {
            name: ConditionShape(entry["sizes"][0] if len(entry["sizes"]) > 1 else None, entry["sizes"][-1],
                                 bool(entry["optional"]))
            for name, entry in config["conditions"].items()
        }  # fmt: skip
        self._config = config
        self._pipeline: Any = None

    def conditions(self) -> dict[str, ConditionShape]:
        """Return what it reads."""
        return self._conditions

    def assemble(self) -> None:
        """Put the pipeline together, the weights being loaded."""
        import diffusers

        config = self._config
        pipeline_class = getattr(diffusers, config["pipeline"], None)
        if not (isinstance(pipeline_class, type) and issubclass(pipeline_class, diffusers.DiffusionPipeline)):
            raise FailedPrecondition(f"{str(config['pipeline'])[:64]!r} is no pipeline of diffusers")
        known = inspect.signature(pipeline_class.__init__).parameters
        given: dict[str, Any] = dict(self.parts.items())
        given |= {name: scheduler_class(entry).from_config(entry) for name, entry in config["schedulers"].items()}
        dtype = next(self.parameters()).dtype
        stub = AbsentPart(dtype) if config["pipeline"] in ASK_TEXT_ENCODERS else None
        given |= {name: stub if "encoder" in name or "model" in name else None for name in config["absent"]}
        given |= {name: value for name, value in config["arguments"].items() if name in known}
        self._pipeline = pipeline_class(**given)
        self._pipeline.set_progress_bar_config(disable=True)

    def run(self, job: RenderJob[LoadedPipeline], tell: Callable[[RenderProgress], None]) -> Medium:
        """Run the pipeline; ``tell`` hears of every step, and stops it by raising."""
        pipeline, plan = self._pipeline, job.plan
        for name in self._config["schedulers"]:
            # Some keep what they saw; one of its own for each request.
            scheduler = getattr(pipeline, name)
            pipeline.register_modules(**{name: type(scheduler).from_config(scheduler.config)})
        known = inspect.signature(pipeline.__call__).parameters
        arguments = self._embeds(job, known)
        wanted = {
            "num_inference_steps": plan.steps, "guidance_scale": plan.guidance, "height": plan.height or None,
            "width": plan.width or None, "num_frames": plan.frames or None,
            "audio_length_in_s": plan.seconds or None, "generator": torch.Generator().manual_seed(job.seed),
            "output_type": "np", "return_dict": False,
        }  # fmt: skip
        arguments |= {name: value for name, value in wanted.items() if name in known and value is not None}
        if "callback_on_step_end" in known:

            def on_step_end(pipe: Any, index: int, at: Any, seen: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
                tell(self._progress(plan, index, seen.get("latents")))
                return seen

            arguments["callback_on_step_end"] = on_step_end
        elif "callback" in known:
            arguments |= {"callback": lambda index, _, latents: tell(self._progress(plan, index, latents))}
            arguments |= {"callback_steps": 1}
        with torch.inference_mode():
            return self._medium(pipeline(**arguments)[0], plan)

    def _embeds(self, job: RenderJob[LoadedPipeline], known: Mapping[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, tensor in job.positive.items():
            given[name] = tensor[None].long() if name.endswith("_mask") else tensor[None]
            if f"negative_{name}" not in known:
                continue
            negative = job.negative.get(name)
            unlike = torch.zeros_like(given[name]) if negative is None else negative[None]
            given[f"negative_{name}"] = given[name] if name.endswith("_mask") else unlike
        return given

    def _progress(self, plan: MediumPlan, index: int, latents: Any) -> RenderProgress:  # noqa: ANN401
        steps = max(plan.steps, index + 1)
        wanted = plan.preview_every and (index + 1) % plan.preview_every == 0 and index + 1 < plan.steps
        vae: Any = dict(self.parts.items()).get("vae")
        if not wanted or self.modality != "image" or vae is None or getattr(latents, "ndim", 0) != 4:
            return RenderProgress(index + 1, steps)
        pixels = vae.decode(latents / getattr(vae.config, "scaling_factor", 1.0), return_dict=False)[0][0]
        picture = (pixels.float().cpu() * 0.5 + 0.5).permute(1, 2, 0).numpy()
        return RenderProgress(index + 1, steps, encode_png(levels(picture)))

    def _medium(self, made: Any, plan: MediumPlan) -> Medium:  # noqa: ANN401 - arrays, lists, tensors
        values = np.asarray(made[0], dtype=np.float32)
        if not np.isfinite(values).all():
            raise Internal("the pipeline gave NaN or Inf")
        if self.modality != "audio":
            return Medium(values, plan.fps if self.modality == "video" else 0.0)
        vocoder: Any = self.parts["vocoder"] if "vocoder" in self.parts else self.parts["vae"]
        return Medium(values.mean(0) if values.ndim > 1 else values, float(vocoder.config.sampling_rate))


def _model(entry: Mapping[str, Any]) -> nn.Module:
    """Build a model by the name of its class, which must be one of diffusers' or transformers'."""
    is_transformer = entry["library"] == "transformers"
    library: Any = importlib.import_module("transformers" if is_transformer else "diffusers")
    found: Any = getattr(library, str(entry["class"]), None)
    base: Any = library.PreTrainedModel if is_transformer else library.ModelMixin
    if not (isinstance(found, type) and issubclass(found, base)):
        raise FailedPrecondition(f"{str(entry['class'])[:64]!r} is no model of {entry['library']}")
    config = dict(entry["config"])
    make: Any = found
    model: nn.Module = make(make.config_class(**config)) if is_transformer else make.from_config(config)
    return model


def load_pipeline(artifact: Artifact, dtype: str, device: str) -> LoadedPipeline:
    """Build the pipeline of an artifact, ready to run.

    Raises:
        FailedPrecondition: Config and tensors do not fit each other, or make no pipeline.
    """
    try:
        pipeline = LoadedPipeline(artifact.config)
        fill_module(pipeline, artifact, dtype, device)
        pipeline.assemble()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FailedPrecondition(f"artifact {artifact.version} makes no pipeline of diffusers: {error}") from error
    return pipeline


class _StoppedError(Exception):
    """Nobody waits for the medium any more."""


class PipelineEngine(RosterEngine[LoadedPipeline]):
    """Runs pipelines one after the other on a thread; those that wait go by priority.

    Args:
        set_up: Runs first on the engine's thread.
    """

    def __init__(self, set_up: Callable[[], None] | None = None) -> None:
        super().__init__(1, "pipeline", set_up)

    def _shape(self, job: RenderJob[LoadedPipeline]) -> None:
        """Nothing has to be equal in jobs that never share anything."""

    async def _begin(self, running: Running[LoadedPipeline]) -> None:
        running.job.began()
        running.outbox.put(RenderStarted(running.job.plan.mime_type))

    async def _step(self, group: Sequence[Running[LoadedPipeline]]) -> None:
        for running in group:
            running.outbox.put(await self._outcome(running))
            self._roster.leave(running)

    async def _outcome(self, running: Running[LoadedPipeline]) -> RenderEvent | AnyplexError:
        loop, job, steps = asyncio.get_running_loop(), running.job, 0

        def tell(progress: RenderProgress) -> None:
            nonlocal steps
            steps += 1
            if running.over:
                raise _StoppedError
            loop.call_soon_threadsafe(running.outbox.put, progress)

        outcome = await self._pump.on_thread(lambda: job.model.run(job, tell))
        if isinstance(outcome, _StoppedError):
            return DeadlineExceeded("the time of the request is over")
        if isinstance(outcome, ValueError | TypeError) and not steps:
            # Pipelines check what they get before they begin.
            return InvalidRequest(
                f"the pipeline refuses this: {str(outcome).partition(chr(10))[0][:200]}", "conditioning"
            )
        return failure(outcome) if isinstance(outcome, BaseException) else outcome
