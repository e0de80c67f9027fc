"""Keeps the tables of scores in the README those of kept results: ``python -m tests.tools.scores RESULT.json…``.

A table stands between two marks, the first of which names its suite and the result it was made from::

    <!-- scores of understanding: benchmarks/results/understanding-next-gpt-1a2b3c4d/result.json -->
    <!-- end of scores -->
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
NOT_YET = "none yet"
_TABLE = re.compile(r"<!-- scores of ([\w-]+): (.+?) -->\n(.*?)<!-- end of scores -->", re.DOTALL)


def table(result: dict[str, Any], folder: str) -> str:
    """Return the tables of a result, what it was measured on, and its contact sheets.

    Args:
        result: Of a run.
        folder: Where it lies, seen from the page.
    """
    from services.evaluation.report import directions, overview

    asked = f"{result['system']}, {result['asked_at']}; 95 % intervals in parentheses."
    return "\n".join([asked, "", *directions(result), *overview(result), *_contacts(result, folder)]) + "\n"


def _contacts(result: dict[str, Any], folder: str) -> list[str]:
    """Return the contact sheets of the cells of the table of directions, folded away."""
    sheets = [
        (" → ".join(result["rows"][name]["cell"]), f"{folder}/{cases['contact']}")
        for name, cases in result.get("cases", {}).items()
        if cases.get("contact") and result["rows"][name].get("cell")
    ]
    if not sheets:
        return []
    lines = ["", "<details><summary>The first cases of each cell: what went in, what came out</summary>", ""]
    for cell, path in sheets:
        lines += [f"{cell}:", "", f"![{cell}]({path})", ""]
    return [*lines, "</details>"]


def filled(text: str, path: Path) -> str:
    """Return a page with the table of a result in its place.

    Raises:
        ValueError: The page has no place for that suite, or the result is not that of a whole run of it.
    """
    from services.evaluation.scores import lacks
    from services.evaluation.suite import load_suite

    path = path.resolve()
    result = json.loads(path.read_text(encoding="utf-8"))
    suite, name = result["suite"], path.relative_to(ROOT).as_posix()
    if suite not in {match.group(1) for match in _TABLE.finditer(text)}:
        raise ValueError(f"no place for scores of {suite}")
    if lacking := lacks(result, load_suite(suite)):
        raise ValueError(f"{name} is no whole run: {lacking}")

    def replaced(match: re.Match[str]) -> str:
        if match.group(1) != suite:
            return match.group(0)
        folder = name.rpartition("/")[0]
        return f"<!-- scores of {suite}: {name} -->\n{table(result, folder)}<!-- end of scores -->"

    return _TABLE.sub(replaced, text)


def problems(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and complaint for every table that is not that of its result."""
    for match in _TABLE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        suite, name, shown = match.groups()
        if name == NOT_YET:
            continue
        if not (ROOT / name).exists():
            yield line, f"no file {name}"
            continue
        result = json.loads((ROOT / name).read_text(encoding="utf-8"))
        if (result["suite"], table(result, name.rpartition("/")[0])) != (suite, shown):
            yield line, f"not the scores of {name}; run: python -m tests.tools.scores {name}"


def main(arguments: list[str]) -> int:
    """Write the tables of some results into the README."""
    text = README.read_text(encoding="utf-8")
    for argument in arguments:
        text = filled(text, Path(argument))
    README.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
