"""Parameters of media: completed from defaults, refused beyond caps."""

from __future__ import annotations

import math
from typing import Any

import pytest

from graph.errors import FailedPrecondition, InvalidRequest
from graph.messages import MediaParameters
from services.generators.plans import Caps, Defaults, MediumPlan, plan_medium

DEFAULTS = {
    "image": Defaults(height=64, width=64),
    "video": Defaults(height=64, width=64, frames=8, fps=4.0),
    "audio": Defaults(seconds=2.0),
}


def planned(modality: str = "image", caps: dict[str, Any] | None = None, **parameters: Any) -> MediumPlan:
    defaults = DEFAULTS[modality]
    limits = Caps.from_config({"caps": caps or {}}, defaults, 4, 999)
    return plan_medium(modality, MediaParameters(**parameters), defaults, limits)


def test_what_is_not_said_is_the_default() -> None:
    plan = planned()
    assert (plan.steps, plan.guidance, plan.height, plan.width, plan.mime_type) == (20, 7.5, 64, 64, "image/png")
    assert plan.guided
    assert not planned(guidance_scale=1.0).guided
    assert planned("video").mime_type == "video/mp4"
    assert planned("video").frames == 8
    assert planned("video", seconds=4.0).frames == 16
    assert planned("video", mime_type="image/gif").mime_type == "image/gif"
    assert (planned("audio").seconds, planned("audio").mime_type) == (2.0, "audio/wav")


@pytest.mark.parametrize(
    ("modality", "field", "value"),
    [
        ("image", "steps", 0), ("image", "steps", -1), ("image", "steps", 1_000), ("image", "steps", 2**31 - 1),
        ("image", "guidance_scale", math.nan), ("image", "guidance_scale", math.inf), ("image", "guidance_scale", -0.1),
        ("image", "guidance_scale", 101.0), ("image", "width", 0), ("image", "width", -64), ("image", "width", 66),
        ("image", "height", 260), ("image", "height", 2**31 - 4), ("image", "preview_every_steps", -1),
        ("image", "preview_every_steps", 2**31 - 1), ("image", "frames", 8), ("image", "seconds", 1.0),
        ("image", "mime_type", "image/webp"), ("image", "mime_type", "x" * 10_000), ("video", "frames", 0),
        ("video", "frames", 33), ("video", "seconds", math.nan), ("video", "seconds", math.inf),
        ("video", "seconds", -1.0), ("video", "seconds", 1e30), ("audio", "seconds", 0.0), ("audio", "seconds", -0.0),
        ("audio", "seconds", 8.1), ("audio", "seconds", math.nan), ("audio", "width", 64), ("audio", "frames", 1),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(modality: str, field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match="expected|meaning") as caught:
        planned(modality, **{field: value})
    assert caught.value.where in {f"parameters.{field}", "parameters.frames"}
    assert len(str(caught.value)) < 300


def test_pixels_are_counted_together() -> None:
    assert planned(width=256, height=64).width == 256
    with pytest.raises(InvalidRequest, match="in all"):
        planned(width=256, height=128)
    assert planned(caps={"pixels": 2**20, "side": 1024}, width=1024, height=1024).width == 1024


def test_frames_and_seconds_are_not_both_given() -> None:
    with pytest.raises(InvalidRequest, match="one of them"):
        planned("video", frames=4, seconds=1.0)


@pytest.mark.parametrize(
    "config", [{"defaults": {"step": 3}}, {"defaults": {"steps": "3"}}, {"defaults": {"fps": True}}]
)
def test_defaults_that_nobody_knows_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(FailedPrecondition):
        Defaults.from_config(config)


def test_caps_that_nobody_knows_are_refused() -> None:
    with pytest.raises(FailedPrecondition):
        planned(caps={"pixel": 3})
