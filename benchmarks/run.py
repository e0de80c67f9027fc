"""Runs one benchmark: ``python benchmarks/run.py NAME [ARGUMENTS]``; without a name it lists them.

A benchmark is a file beside this one with a docstring (its first line says what it measures) and
``main(arguments: list[str]) -> int``. It prints a table and writes ``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def benchmarks() -> dict[str, str]:
    """Return the benchmarks there are: name and what they measure."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        if path.name != Path(__file__).name and not path.name.startswith("_"):
            summary = ast.get_docstring(ast.parse(path.read_text())) or ""
            found[path.stem] = summary.partition("\n")[0]
    return found


def main(arguments: list[str]) -> int:
    """Run the benchmark that is named."""
    known = benchmarks()
    if not arguments or arguments[0] in {"-h", "--help"}:
        print("usage: make bench NAME, or anyplex bench NAME")
        for name, summary in known.items():
            print(f"  {name:12} {summary}")
        return 0
    name = arguments[0]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}"
        print(f"no benchmark {name!r} ({hint})", file=sys.stderr)
        return 2
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", HERE / f"{name}.py")
    if spec is None or spec.loader is None:
        return 1
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(HERE.parent))
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    (HERE / "results").mkdir(exist_ok=True)
    return int(module.main(arguments[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
