from __future__ import annotations

from pathlib import Path

import pytest

from graph.errors import SpecError
from services.trainers.loop import Progress, fraction_done, rate_at
from services.trainers.recipe import Budget, Optimizer, read_recipe

RECIPES = sorted((Path(__file__).parents[3] / "weights" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_recipes_that_come_along_can_be_read(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe.writes
    assert recipe.systems or all(":" in slot for slot in recipe.writes.values())


def test_unknown_keys_are_refused_with_the_file_named(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("stage: vision\nname: x\nbatch: 1\nbudget: {}\noptimizer: {lr: 1}\nbacth: 2\n")
    with pytest.raises(SpecError, match="bacth") as refused:
        read_recipe(path)
    assert refused.value.problems == (f"{path}: bacth: Extra inputs are not permitted",)


@pytest.mark.parametrize("text", ["", "- 1\n", "stage: [\n", "stage: \0\n", "\ud800", "stage: vision\nbatch: many\n"])
def test_what_is_no_recipe_is_told_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SpecError, match="recipe has") as refused:
        read_recipe(path)
    assert all(problem.startswith(str(path)) for problem in refused.value.problems)
    assert "pydantic" not in str(refused.value)


def test_the_nearest_limit_counts() -> None:
    progress = Progress(samples=50, train_s=30)
    assert fraction_done(Budget(samples=100, minutes=5), progress) == 0.5
    assert fraction_done(Budget(samples=1000, minutes=1), progress) == 0.5
    assert fraction_done(Budget(samples=10), progress) == 1.0


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    optimizer = Optimizer(lr=1, warmup=0.1, decay_from=0.5)
    assert rate_at(optimizer, 0.05) == 0.5
    assert rate_at(optimizer, 0.3) == 1.0
    assert rate_at(optimizer, 0.75) == 0.5
    assert rate_at(optimizer, 1.0) == 0.0
