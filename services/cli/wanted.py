"""Which media a request insists on, and their parameters, as the command line says them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyplex import Client, MediaParameters

TEXT: Final = "text"
_SIZE = re.compile(r"(\d{1,5})(?:x(\d{1,5}))?")
_APPLIES: Final[dict[str, tuple[str, ...]]] = {
    "width": ("image", "video"),
    "height": ("image", "video"),
    "frames": ("video",),
    "seconds": ("audio",),
    "mime_type": ("video",),
}
"""Modalities that a parameter is for; those not named here are for every one."""


def size_px(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Read width and height in pixels: ``64x48``, or one number for both.

    Raises:
        click.BadParameter: It is neither.
    """
    if value is None:
        return None
    found = _SIZE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value[:40]!r}, width and height like 64x48 expected", ctx, param)
    width, height = found.groups()
    return int(width), int(height or width)


@dataclass(frozen=True)
class WantedMedia:
    """What was said about media to be made.

    Attributes:
        want: Modalities that must come, as given: ``image,audio``.
        size_px: Width and height of pictures and films.
        gif: Whether films are to come as GIF.
        preview_every_steps: How often to send a preview; 0 for never.
    """

    want: str = ""
    steps: int | None = None
    guidance_scale: float | None = None
    size_px: tuple[int, int] | None = None
    frames: int | None = None
    seconds: float | None = None
    gif: bool = False
    preview_every_steps: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said, so that nobody has to be asked what there is."""
        return self == WantedMedia()

    def modalities(self, system: str, makes: Sequence[str]) -> list[str]:
        """Return the modalities that must come.

        Raises:
            InvalidRequest: The system makes no such thing.
        """
        from anyplex import InvalidRequest
        from graph.problems import did_you_mean

        wanted = list(dict.fromkeys(word.strip().lower() for word in self.want.split(",") if word.strip()))
        for word in wanted:
            if word not in makes:
                raise InvalidRequest(f"--want {word[:40]!r}: {system} does not make it ({did_you_mean(word, makes)})")
        return wanted

    def parameters(self, system: str, modalities: Sequence[str]) -> dict[str, MediaParameters]:
        """Return the parameters by modality.

        Args:
            system: That is asked, for messages.
            modalities: That may be made.

        Raises:
            InvalidRequest: A parameter is for nothing that may be made.
        """
        from anyplex import InvalidRequest, MediaParameters

        width, height = self.size_px or (None, None)
        said: dict[str, Any] = {
            "width": width,
            "height": height,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "frames": self.frames,
            "seconds": self.seconds,
            "mime_type": "image/gif" if self.gif else None,
            "preview_every_steps": self.preview_every_steps,
        }
        given = {name: value for name, value in said.items() if value is not None}
        media = [modality for modality in modalities if modality != TEXT]
        for name in given:
            if not any(_is_for(name, modality) for modality in media):
                makes = ", ".join(media) or "no media"
                raise InvalidRequest(f"{_OPTIONS[name]}: {system} makes {makes}, which it is not for")
        found = {modality: {k: v for k, v in given.items() if _is_for(k, modality)} for modality in media}
        return {modality: MediaParameters(**values) for modality, values in found.items() if values}

    def options(self, client: Client, system: str) -> dict[str, Any]:
        """Return what a request says of it; asks the gateway what the system makes.

        Raises:
            AnyplexError: The system makes no such thing, or the gateway did not say.
        """
        if self.is_empty:
            return {}
        about = client.describe(system).system
        wanted = self.modalities(about.name, about.outputs)
        found: dict[str, Any] = {"outputs": wanted} if wanted else {}
        media = [modality for modality in wanted if modality != TEXT] or about.outputs
        if parameters := self.parameters(about.name, media):
            found["media_parameters"] = parameters
        return found


_OPTIONS: Final = {
    "width": "--size",
    "height": "--size",
    "steps": "--steps",
    "guidance_scale": "--guidance",
    "frames": "--frames",
    "seconds": "--seconds",
    "mime_type": "--gif",
    "preview_every_steps": "--preview",
}


def _is_for(parameter: str, modality: str) -> bool:
    return modality in _APPLIES.get(parameter, (modality,))
