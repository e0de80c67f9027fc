"""Recipes: what a training stage does, written in YAML, unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graph.errors import SpecError
from graph.problems import Problem
from graph.spec import raise_problems

Stage = Literal[
    "vision",
    "hearing",
    "language",
    "align",
    "instruct",
    "align_output",
    "picture_autoencoder",
    "sound_autoencoder",
    "diffusion",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Budget(_Strict):
    """When a stage ends: at the first limit that is reached. The learning rate follows the nearest one."""

    minutes: float | None = Field(default=None, gt=0)
    samples: int | None = Field(default=None, gt=0)


class Optimizer(_Strict):
    """Muon for hidden matrices, AdamW for the rest; warm-up, constant, then down to zero."""

    lr: float = Field(gt=0)
    muon: bool = True
    weight_decay: float = 0.01
    warmup: float = Field(default=0.02, ge=0, le=1)
    decay_from: float = Field(default=0.4, ge=0, le=1)
    clip_norm: float = 1.0


class Recipe(_Strict):
    """One stage: its data, its model, its optimizer, and what it writes."""

    stage: Stage
    name: str
    seed: int = 1
    batch: int = Field(gt=0)
    budget: Budget
    optimizer: Optimizer
    bf16: bool = False
    """Multiply matrices in bfloat16; weights and optimizer stay in float32."""
    score_every_s: float = 120.0
    checkpoint_every_s: float = 60.0
    workers: int = Field(default=0, ge=0)
    systems: tuple[str, ...] = ()
    """Systems whose version sets get the results."""
    writes: dict[str, str] = Field(default_factory=dict)
    """Which slot each result fills: `encoder`, `backbone`, `image_projector`, `adapter`, … → slot of all systems, or
    `SYSTEM:SLOT`."""
    reads: dict[str, str] = Field(default_factory=dict)
    """Artifacts the stage builds on: `image_encoder`, `backbone`, … → version, or `SYSTEM:SLOT`."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Config of the artifact that the stage trains."""
    options: dict[str, float] = Field(default_factory=dict)
    """Numbers that only this stage knows, such as shares of its mixture."""


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe.

    Raises:
        SpecError: The file is no recipe; ``problems`` tells all of them.
    """
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        problems = [_problem(path, item["loc"], item["msg"]) for item in error.errors(include_url=False)]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problems = [Problem(str(path), line, f"no YAML: {error.problem}")]
    except (yaml.YAMLError, UnicodeDecodeError):
        problems = [Problem(str(path), 0, "no YAML: characters that do not belong into text")]
    raise_problems(problems, "recipe")
    raise SpecError("nothing to read", str(path))


def _problem(path: Path, place: tuple[int | str, ...], message: str) -> Problem:
    where = ".".join(map(str, place))
    return Problem(str(path), 0, f"{where}: {message}" if where else message)
