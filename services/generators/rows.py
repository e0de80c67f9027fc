"""Media on their way through denoising: each a row of a batch, with seed, guidance, steps and scheduler of its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch

from graph.errors import AnyplexError, Exhausted, Internal
from graph.messages import RenderProgress
from services.generators.encoding import Medium, encode_png
from services.generators.engine import RenderJob
from services.generators.latent_diffusion import LatentDiffusion

# What torch, diffusers and their schedulers raise when something cannot be computed.
FAILURES = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
RETRY_AFTER_S = 2.0


def shape_of(job: RenderJob[LatentDiffusion]) -> Hashable:
    """Return what must be alike in jobs that share a batch: the version, and the shapes of all that is stacked."""
    given = sorted((name, tuple(tensor.shape)) for name, tensor in job.positive.items())
    return (id(job.model), job.model.latent_shape(job.plan), tuple(given))


class Row:
    """One job in a batch.

    Args:
        job: The job.
    """

    @torch.inference_mode()
    def __init__(self, job: RenderJob[LatentDiffusion]) -> None:
        model, plan = job.model, job.plan
        self.job = job
        self.index = 0
        self._generator = torch.Generator().manual_seed(job.seed)
        self.positive, self.negative = model.unet_inputs(job.positive, job.negative, self._generator)
        self.scheduler = model.new_scheduler(plan.steps)
        self.times: list[torch.Tensor] = list(self.scheduler.timesteps)
        noise = torch.randn((1, *model.latent_shape(plan)), generator=self._generator)
        self.latents = noise * self.scheduler.init_noise_sigma
        self.clean = self.latents

    @property
    def done(self) -> bool:
        """Whether it has no noise left."""
        return self.index >= len(self.times)

    def noisy(self) -> torch.Tensor:
        """Return the latents as the denoiser wants them at this step, with a batch of one."""
        scaled: torch.Tensor = self.scheduler.scale_model_input(self.latents, self.times[self.index])
        return scaled

    @torch.inference_mode()
    def advance(self, predicted: torch.Tensor) -> RenderProgress:
        """Take one step by what the denoiser said, guidance included.

        Raises:
            Internal: NaN or Inf came out.
        """
        plan, model = self.job.plan, self.job.model
        time = self.times[self.index]
        self.latents, self.clean = model.scheduler_step(self.scheduler, predicted, time, self.latents, self._generator)
        self.index += 1
        if not torch.isfinite(self.latents).all():
            raise Internal(f"the denoising gave NaN or Inf in step {self.index}")
        wanted = plan.preview_every and self.index % plan.preview_every == 0 and not self.done
        preview = encode_png(model.preview(self.clean[0], plan)) if wanted else b""
        return RenderProgress(self.index, len(self.times), preview)


@torch.inference_mode()
def predict(rows: Sequence[Row]) -> list[torch.Tensor]:
    """Ask the denoiser once for all rows; the negative sides of those with guidance are rows of the same batch."""
    model = rows[0].job.model
    guided = [row for row in rows if row.job.plan.guided]
    latents_B = torch.cat([row.noisy() for row in rows])
    times_B = torch.stack([row.times[row.index] for row in rows])
    inputs = {name: torch.cat([row.positive[name] for row in rows]) for name in rows[0].positive}
    if guided:
        which = torch.tensor([index for index, row in enumerate(rows) if row.job.plan.guided])
        latents_B, times_B = torch.cat([latents_B, latents_B[which]]), torch.cat([times_B, times_B[which]])
        inputs = {name: torch.cat([whole, *(row.negative[name] for row in guided)]) for name, whole in inputs.items()}
    said_B = model.predict(latents_B, times_B, inputs)
    negatives = iter(said_B[len(rows) :, None])
    answers = []
    for row, said in zip(rows, said_B[: len(rows), None], strict=True):
        if row.job.plan.guided:
            unlike = next(negatives)
            answers.append(unlike + row.job.plan.guidance * (said - unlike))
        else:
            answers.append(said)
    return answers


def step(rows: Sequence[Row]) -> list[RenderProgress | AnyplexError]:
    """Take one step with all rows; one that fails fails alone."""
    return [_advanced(row, said) for row, said in zip(rows, _predicted(rows), strict=True)]


def _advanced(row: Row, said: torch.Tensor | AnyplexError) -> RenderProgress | AnyplexError:
    if isinstance(said, AnyplexError):
        return said
    try:
        return row.advance(said)
    except (AnyplexError, *FAILURES) as error:
        return failure(error)


def _predicted(rows: Sequence[Row]) -> Sequence[torch.Tensor | AnyplexError]:
    try:
        return predict(rows)
    except FAILURES as error:
        if len(rows) == 1:
            return [failure(error)]
        # One of them may be what all fail for, or all together too many: each gets its chance alone.
        return [said for row in rows for said in _predicted([row])]


def finish(rows: Sequence[Row]) -> list[Medium | AnyplexError]:
    """Decode rows of one shape; one that fails fails alone."""
    try:
        with torch.inference_mode():
            latents_B = torch.cat([row.latents for row in rows])
            media = rows[0].job.model.finish(latents_B, [row.job.plan for row in rows])
    except FAILURES as error:
        if len(rows) == 1:
            return [failure(error)]
        return [outcome for row in rows for outcome in finish([row])]
    return [
        medium if np.isfinite(medium.values).all() else Internal("decoding the latents gave NaN or Inf")
        for medium in media
    ]


def failure(error: BaseException) -> AnyplexError:
    """Return the error that a request ends with when its step fails."""
    if isinstance(error, AnyplexError):
        return error
    known: AnyplexError = Internal("the generator's step failed")
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        known = Exhausted("not enough memory for a medium of this size now", "", RETRY_AFTER_S)
    known.__cause__ = error
    return known
