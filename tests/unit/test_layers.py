"""The rules of import-linter leave no package of models out."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def contract(name: str) -> dict[str, Any]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return next(one for one in config["tool"]["importlinter"]["contracts"] if one["name"] == name)


def test_every_package_with_models_is_held_against_ray_and_grpc() -> None:
    rule = contract("Models know neither Ray nor gRPC")
    with_models = {f"services.{face.parent.name}" for face in ROOT.glob("services/*/service.py")}
    assert {"services.encoders", "services.input_projectors", "services.backbone"} <= with_models
    # These have faces too, and no models behind them.
    assert with_models - {"services.gateway", "services.control"} <= set(rule["source_modules"])
    assert rule["ignore_imports"] == ["services.*.service -> grpc"]
    assert rule.get("as_packages", True), "every module of the packages, those to come included"
