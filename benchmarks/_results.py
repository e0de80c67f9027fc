"""What benchmarks share: where results go, on what they were measured, and whether a bar was reached."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Bar:
    """One figure, and what is asked of it.

    Attributes:
        what: What was measured.
        value: What came out.
        least: Least value that is good enough; None: any.
        most: Greatest value that is good enough; None: any.
        unit: Written behind both.
    """

    what: str
    value: float
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether it is good enough; what is no number is not."""
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        asked = [f">= {self.least:g}"] if self.least is not None else []
        asked += [f"<= {self.most:g}"] if self.most is not None else []
        verdict = "" if self.reached else "   MISSED"
        return f"{self.what:44} {self.value:8.2f} {self.unit:3} (asked: {', '.join(asked)}){verdict}"


def machine() -> dict[str, Any]:
    """Say on what a benchmark ran."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def write(name: str, result: dict[str, Any], folder: Path | None = None) -> None:
    """Write ``NAME.json``."""
    folder = folder or RESULTS
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({**result, "machine": machine()}, indent=1) + "\n")


def draw(name: str, columns: int, paint: Callable[[Any], None], folder: Path | None = None) -> None:
    """Write ``NAME.png``: ``paint`` gets the axes, ``columns`` side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder = folder or RESULTS
    folder.mkdir(exist_ok=True)
    figure, axes = pyplot.subplots(1, columns, figsize=(4.2 * columns, 3.2), squeeze=False)
    paint(axes[0])
    figure.tight_layout()
    figure.savefig(folder / f"{name}.png", dpi=100)
    pyplot.close(figure)


def judge(bars: Iterable[Bar]) -> int:
    """Print every bar; return the exit code, 1 when one was missed."""
    found = list(bars)
    for bar in found:
        print(bar)
    missed = [bar.what for bar in found if not bar.reached]
    if missed:
        print(f"below the bar: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0
