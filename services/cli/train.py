"""``anyplex train``: runs a trainer, or makes probes, here, without a cluster."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from services.cli.exits import Exit
from services.cli.output import Progress


@click.group()
def train() -> None:
    """Train components; trainers are plain torch programs and need no cluster."""


@train.command("run")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.yaml")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Weights to read and write.")
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), help="Folder of checkpoints.")
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="End the budget earlier.")
def run(recipe: Path, out: Path | None, runs: Path | None, max_minutes: float | None) -> int:
    """Train what a recipe describes; goes on from its last checkpoint where there is one."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with Progress("loading torch", quiet_s=0.5):
        from services.trainers.run import run_recipe
    for slot, version in run_recipe(recipe, out=out, max_minutes=max_minutes, runs=runs).items():
        click.echo(f"{slot}: {version}")
    return Exit.OK


@train.command("probe")
@click.argument("systems", nargs=-1, required=True, metavar="SYSTEM...")
@click.option(
    "--weights",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with artifacts/ and sets/; else the bundled weights.",
)
def probe(systems: tuple[str, ...], folder: Path | None) -> int:
    """Make the probes that artifacts of SYSTEMs lack: what they make of noise, checked wherever they are loaded."""
    with Progress("loading torch", quiet_s=0.5):
        from services.trainers.probes import add_probes
        from services.trainers.results import Weights
        from services.trainers.run import WEIGHTS_FOLDER
    weights = Weights(folder or WEIGHTS_FOLDER)
    for system in systems:
        with Progress(f"running the components of {system}"):
            made = add_probes(weights.store, weights.slots(system))
        click.echo(f"{system}: {len(made)} probes made")
    return Exit.OK
