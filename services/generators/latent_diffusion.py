"""What the latent diffusion models have in common: parts of diffusers, and the sums around them.

The sums are those of diffusers' pipelines, so that embeddings and a seed give what the pipeline gives. What draws
random numbers does so in the pipeline's order.
"""

# B batch, C channels, H height, W width

from __future__ import annotations

import dataclasses
import inspect
import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from graph.errors import FailedPrecondition
from services.generators.encoding import Medium, levels
from services.generators.engine import ConditionShape
from services.generators.plans import Caps, Defaults, MediumPlan

SCHEDULER = re.compile(r"[A-Za-z0-9]{1,64}Scheduler")
# Pixels that the autoencoder decodes at once; more are decoded in turns.
DECODED_AT_ONCE = 2**21
# Numbers of latents that the denoiser reads at once on a CPU; what lies between its layers then stays in the caches.
PREDICTED_AT_ONCE = 2**15

Conditions = dict[str, torch.Tensor]


class Stored(nn.Module):
    """Conditioning that comes with the weights.

    Args:
        shapes: Shapes by name.
    """

    def __init__(self, shapes: Mapping[str, Any]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(tuple(shape)))

    def get(self, name: str) -> torch.Tensor | None:
        """Return one of them, float32 on the CPU; None when there is no such."""
        found = dict(self.named_buffers()).get(name)
        return None if found is None else found.float().cpu()


class LatentDiffusion(nn.Module):
    """A generator made of a denoiser, an autoencoder and a scheduler.

    Args:
        config: Of the artifact: ``unet``, ``vae`` and ``scheduler`` as diffusers has them; ``defaults``, ``caps``;
            ``negative``, shapes by name of the negative conditioning that the artifact brings along.
    """

    modality: ClassVar[str] = "image"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        self.unet: nn.Module = self._unet_class().from_config(dict(config["unet"]))
        self.vae: nn.Module = AutoencoderKL.from_config(dict(config["vae"]))
        self._unet_config: Any = self.unet.config
        self._vae_config: Any = self.vae.config
        self._scheduler_class = scheduler_class(config["scheduler"])
        self._scheduler_config = {key: value for key, value in config["scheduler"].items() if key != "_class_name"}
        # Schedulers with an offset would begin beyond the last step that was trained.
        offset = int(self._scheduler_config.get("steps_offset", 0))
        most_steps = int(self._scheduler_config.get("num_train_timesteps", 1000)) - offset
        self.vae_scale = 2 ** (len(self._vae_config.block_out_channels) - 1)
        self.defaults = self._complete(Defaults.from_config(config))
        self.caps = Caps.from_config(config, self.defaults, self.vae_scale, most_steps)
        self.negative = Stored(config.get("negative", {}))
        accepted = inspect.signature(self._scheduler_class.step).parameters
        self._accepts = {name for name in ("eta", "generator") if name in accepted}

    def drop_encoder(self) -> None:
        """Forget the half of the autoencoder that only training needs."""
        vae: Any = self.vae
        vae.encoder = vae.quant_conv = None

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return next(self.unet.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.unet.parameters()).device

    @abstractmethod
    def conditions(self) -> dict[str, ConditionShape]:
        """Return what it reads, by name; the first is the one that an output projector gives."""

    @abstractmethod
    def latent_shape(self, plan: MediumPlan) -> tuple[int, ...]:
        """Return the shape of one medium's latents, without the batch."""

    @abstractmethod
    def unet_inputs(
        self, positive: Conditions, negative: Conditions, generator: torch.Generator
    ) -> tuple[Conditions, Conditions]:
        """Return what the denoiser reads beside latents and times, each with a batch of one: positive, negative.

        Args:
            positive: Conditioning.
            negative: Negative conditioning, of the same shapes; what is missing is the generator's own.
            generator: What draws, if something has to be drawn.
        """

    @abstractmethod
    def finish(self, latents_B: torch.Tensor, plans: list[MediumPlan]) -> list[Medium]:
        """Decode latents of one shape."""

    def new_scheduler(self, steps: int) -> Any:  # noqa: ANN401 - schedulers have no common base that says it
        """Return a scheduler of one's own, its timesteps set."""
        scheduler = self._scheduler_class.from_config(dict(self._scheduler_config))
        scheduler.set_timesteps(steps, device="cpu")
        return scheduler

    def negative_of(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Return the generator's own negative of a conditioning: what the artifact brings, else zeros."""
        stored = self.negative.get(name)
        return stored if stored is not None and stored.shape == like.shape else torch.zeros_like(like)

    def predict(self, latents_B: torch.Tensor, times_B: torch.Tensor, inputs: Conditions) -> torch.Tensor:
        """Return what the denoiser says of noisy latents, in float32 on the CPU."""
        count = len(latents_B)
        at_once = max(1, PREDICTED_AT_ONCE // max(1, latents_B[0].numel())) if self.device.type == "cpu" else count
        pieces = [
            self._predict(
                latents_B[first : first + at_once],
                times_B[first : first + at_once],
                {name: tensor[first : first + at_once] for name, tensor in inputs.items()},
            )
            for first in range(0, count, at_once)
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _predict(self, latents_B: torch.Tensor, times_B: torch.Tensor, inputs: Conditions) -> torch.Tensor:
        moved = {name: tensor.to(self.device, self.dtype) for name, tensor in inputs.items()}
        moved.setdefault("encoder_hidden_states", None)  # type: ignore[arg-type]
        latents_B = latents_B.to(self.device, self.dtype)
        output = self.unet(latents_B, times_B.to(self.device), return_dict=False, **moved)
        predicted: torch.Tensor = output[0]
        return predicted.float().cpu()

    def scheduler_step(
        self,
        scheduler: Any,  # noqa: ANN401 - untyped in diffusers
        noise: torch.Tensor,
        time: torch.Tensor,
        latents: torch.Tensor,
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latents of the next step, and what they look like without noise as far as the scheduler says."""
        extra: dict[str, Any] = {"eta": 0.0, "generator": generator}
        given = {name: extra[name] for name in self._accepts}
        output = scheduler.step(self.to_pictures(noise), time, self.to_pictures(latents), **given)
        after = self.from_pictures(output.prev_sample)
        clean = output.get("pred_original_sample")
        return after, after if clean is None else self.from_pictures(clean)

    def to_pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Return one medium's latents, with a batch of one, as a scheduler wants them: as a batch of pictures."""
        return latents

    def from_pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Undo ``to_pictures``."""
        return latents

    def preview(self, latents: torch.Tensor, plan: MediumPlan) -> NDArray[np.uint8]:
        """Return a picture (HWC or HW) of latents on their way; of a film its middle frame."""
        pixels = self.decode_pixels(self.preview_latents(latents)[None])[0]
        return levels(pixels.permute(1, 2, 0).numpy())

    def preview_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the part of the latents that a preview shows, CHW."""
        return latents

    def decode_latents(self, latents_B: torch.Tensor) -> torch.Tensor:
        """Return what the autoencoder makes of latents, BCHW, float32 on the CPU."""
        vae: Any = self.vae
        scaled_B = (latents_B / self._vae_config.scaling_factor).to(self.device, self.dtype)
        pixels = latents_B.shape[-1] * latents_B.shape[-2] * self.vae_scale**2
        at_once = max(1, DECODED_AT_ONCE // max(1, pixels))
        pieces = [vae.decode(piece, return_dict=False)[0].float().cpu() for piece in scaled_B.split(at_once)]
        return torch.cat(pieces)

    def decode_pixels(self, latents_B: torch.Tensor) -> torch.Tensor:
        """Return pictures, BCHW, 0 to 1."""
        return (self.decode_latents(latents_B) * 0.5 + 0.5).clamp(0, 1)

    def _unet_class(self) -> Any:  # noqa: ANN401 - untyped in diffusers
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        return UNet2DConditionModel

    def _complete(self, defaults: Defaults) -> Defaults:
        """Fill in sizes that the config leaves open, as diffusers does: from the denoiser's sample size."""
        size = self._unet_config.sample_size
        height, width = (size, size) if isinstance(size, int) or size is None else size
        return dataclasses.replace(
            defaults,
            height=defaults.height or (height or 64) * self.vae_scale,
            width=defaults.width or (width or 64) * self.vae_scale,
        )


def scheduler_class(config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - untyped in diffusers
    """Return the class of a scheduler's config.

    Raises:
        FailedPrecondition: diffusers has no such scheduler.
    """
    import diffusers
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    name = config.get("_class_name")
    found = getattr(diffusers, name, None) if isinstance(name, str) and SCHEDULER.fullmatch(name) else None
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise FailedPrecondition(f"scheduler {str(name)[:64]!r}: the name of one of diffusers' schedulers expected")
    return found
