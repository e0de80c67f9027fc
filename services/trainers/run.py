"""Runs a recipe from its file to its artifacts."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from services.trainers.language import LanguageStage
from services.trainers.loop import Loop, Progress
from services.trainers.recipe import Recipe, read_recipe
from services.trainers.vision import VisionStage

logger = logging.getLogger(__name__)
RUNS_FOLDER = Path(".runs")


def pick_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run_recipe(path: Path, *, out: Path | None = None, max_minutes: float | None = None) -> Progress:
    """Trains what a recipe describes, from its last checkpoint where there is one."""
    recipe = read_recipe(path)
    folder = (out or RUNS_FOLDER) / recipe.name
    stage = {'vision': VisionStage, 'language': LanguageStage}[recipe.stage](recipe, device := pick_device())
    return Loop(recipe, stage, folder, device).run()
