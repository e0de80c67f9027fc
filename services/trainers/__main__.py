"""`python -m services.trainers RECIPE.yaml`: trains without anything else running."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from services.trainers.run import run_recipe

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.trainers")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--minutes", type=float, default=None)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    run_recipe(arguments.recipe, out=arguments.out, max_minutes=arguments.minutes, runs=arguments.runs)
