"""What one medium shall be: parameters of the request, checked and completed before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from graph.errors import FailedPrecondition, InvalidRequest
from graph.messages import MediaParameters
from services.generators.encoding import FORMATS

MAX_STEPS = 1_000
MAX_GUIDANCE = 100.0
# A model that learned one size makes little sense of much larger ones, and attention's memory grows with the square.
TIMES_DEFAULT = 4


@dataclass(frozen=True)
class Defaults:
    """What an artifact's config says under ``defaults``: what a request that says nothing gets.

    Attributes:
        steps: Denoising steps.
        guidance: Guidance scale; 1 and less: none.
        height: Pixels; 0 where there are none.
        width: Pixels.
        frames: Frames of a film; 0 for other media.
        fps: Frames a second of a film.
        seconds: Length of a sound; 0 for other media.
        noise_level: Noise added to the picture embedding (unCLIP).
        text_tokens: Tokens of text conditioning where none is given (unCLIP).
    """

    steps: int = 20
    guidance: float = 7.5
    height: int = 0
    width: int = 0
    frames: int = 0
    fps: float = 8.0
    seconds: float = 0.0
    noise_level: int = 0
    text_tokens: int = 77

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Defaults:
        """Read ``defaults`` of an artifact's config.

        Raises:
            FailedPrecondition: A key is unknown or a value no number.
        """
        given = config.get("defaults", {})
        known: dict[str, Any] = {field.name: int if field.type == "int" else float for field in fields(cls)}
        wrong = [key for key in given if key not in known]
        wrong += [key for key, value in given.items() if isinstance(value, bool) or not isinstance(value, int | float)]
        if wrong:
            raise FailedPrecondition(
                f"defaults of the generator: {sorted(wrong)[:5]}: numbers of {sorted(known)} expected"
            )
        return cls(**{key: known[key](value) for key, value in given.items()})


@dataclass(frozen=True)
class Caps:
    """The most that may be asked for; ``caps`` of an artifact's config, else four times the defaults.

    Attributes:
        pixels: Of one picture or frame.
        side: Of its longer side.
        frames: Of a film.
        seconds: Of a sound.
        steps: Of denoising.
        multiple: Sides are multiples of it.
    """

    pixels: int
    side: int
    frames: int
    seconds: float
    steps: int
    multiple: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], defaults: Defaults, multiple: int, most_steps: int) -> Caps:
        """Read ``caps`` of an artifact's config.

        Raises:
            FailedPrecondition: A key is unknown.
        """
        given = dict(config.get("caps", {}))
        derived: dict[str, Any] = {
            "pixels": TIMES_DEFAULT * defaults.height * defaults.width,
            "side": TIMES_DEFAULT * max(defaults.height, defaults.width),
            "frames": TIMES_DEFAULT * defaults.frames,
            "seconds": TIMES_DEFAULT * defaults.seconds,
            "steps": MAX_STEPS,
        }
        if not set(given) <= set(derived):
            raise FailedPrecondition(f"caps of the generator: {sorted(derived)} expected, found {sorted(given)[:9]}")
        caps = derived | given
        return cls(**caps | {"steps": min(caps["steps"], most_steps)}, multiple=multiple)


@dataclass(frozen=True)
class MediumPlan:
    """One medium to be made: checked, complete.

    Attributes:
        modality: What it is.
        steps: Denoising steps.
        guidance: Guidance scale; 1 and less: no negative side.
        mime_type: Media type of the file.
        preview_every: A preview every so many steps; 0: none.
        height: Pixels; 0 where there are none.
        width: Pixels.
        frames: Frames of a film; 0 for other media.
        fps: Frames a second of a film.
        seconds: Length of a sound; 0 for other media.
    """

    modality: str
    steps: int
    guidance: float
    mime_type: str
    preview_every: int = 0
    height: int = 0
    width: int = 0
    frames: int = 0
    fps: float = 8.0
    seconds: float = 0.0

    @property
    def guided(self) -> bool:
        """Whether the negative side is needed."""
        return self.guidance > 1.0


def plan_medium(modality: str, parameters: MediaParameters, defaults: Defaults, caps: Caps) -> MediumPlan:
    """Check parameters and fill in what they leave open.

    Raises:
        InvalidRequest: One is out of range, or means nothing for this medium.
    """
    _check_meaning(modality, parameters)
    plan = MediumPlan(
        modality=modality,
        steps=_within("steps", parameters.steps, min(defaults.steps, caps.steps), 1, caps.steps),
        guidance=_within("guidance_scale", parameters.guidance_scale, defaults.guidance, 0.0, MAX_GUIDANCE),
        mime_type=_mime_type(modality, parameters.mime_type),
        preview_every=_within("preview_every_steps", parameters.preview_every_steps, 0, 0, MAX_STEPS),
        height=_within("height", parameters.height, defaults.height, caps.multiple, caps.side, defaults.height > 0),
        width=_within("width", parameters.width, defaults.width, caps.multiple, caps.side, defaults.width > 0),
        frames=_within("frames", _frames(parameters, defaults), defaults.frames, 1, caps.frames, defaults.frames > 0),
        fps=defaults.fps,
        seconds=_seconds(modality, parameters, defaults, caps),
    )
    for name, side in (("height", plan.height), ("width", plan.width)):
        if side % caps.multiple:
            raise InvalidRequest(f"{side}, a multiple of {caps.multiple} expected", f"parameters.{name}")
    if plan.height * plan.width > caps.pixels:
        message = f"{plan.height}×{plan.width} pixels, at most {caps.pixels} in all expected"
        raise InvalidRequest(message, "parameters.height")
    return plan


def _check_meaning(modality: str, parameters: MediaParameters) -> None:
    meaningless = {
        "image": ("frames", "seconds"), "video": (), "audio": ("width", "height", "frames"),
    }  # fmt: skip
    for name in meaningless.get(modality, ()):
        if getattr(parameters, name) is not None:
            raise InvalidRequest(f"has no meaning for {modality}", f"parameters.{name}")
    if modality == "video" and parameters.frames is not None and parameters.seconds is not None:
        raise InvalidRequest("frames are given too, one of them expected", "parameters.seconds")


def _frames(parameters: MediaParameters, defaults: Defaults) -> int | None:
    if not defaults.frames or parameters.seconds is None:
        return parameters.frames
    # NaN and the like count as one frame too few, which is told as what it is.
    if not 0.0 < parameters.seconds < math.inf:
        raise InvalidRequest(f"{parameters.seconds:g}, above 0 expected", "parameters.seconds")
    return max(1, round(min(parameters.seconds, 1e6) * defaults.fps))


def _seconds(modality: str, parameters: MediaParameters, defaults: Defaults, caps: Caps) -> float:
    if modality == "video":
        return 0.0
    seconds: float = _within("seconds", parameters.seconds, defaults.seconds, 0.0, caps.seconds, defaults.seconds > 0)
    if parameters.seconds is not None and seconds <= 0.0:
        raise InvalidRequest(f"{seconds:g}, above 0 expected", "parameters.seconds")
    return seconds


def _within(name: str, given: Any, default: Any, least: float, most: float, meant: bool = True) -> Any:  # noqa: ANN401
    """Return a parameter or its default; NaN fails every comparison, so it is the good ones that are let through."""
    if given is None:
        return default
    if not meant:
        raise InvalidRequest("has no meaning for this generator", f"parameters.{name}")
    if not least <= given <= most:
        raise InvalidRequest(f"{given:g}, {least:g} to {most:g} expected", f"parameters.{name}")
    return given


def _mime_type(modality: str, wanted: str) -> str:
    known = FORMATS[modality]
    if not wanted:
        return known[0]
    if wanted not in known:
        raise InvalidRequest(f"{wanted[:64]!r}, one of {list(known)} expected", "parameters.mime_type")
    return wanted
