"""Runs one benchmark: ``python benchmarks/run.py NAME [ARGUMENTS]``; without a name all of them.

A benchmark is a file beside this one with a docstring (its first line says what it measures) and
``main(arguments: list[str]) -> int``. It prints a table, writes ``benchmarks/results/NAME.json`` and a picture, and
returns something else than 0 when a figure is below its bar.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import subprocess
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


def run_one(name: str, arguments: list[str]) -> int:
    """Run a benchmark; return its exit code."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", HERE / f"{name}.py")
    if spec is None or spec.loader is None:
        return 1
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return int(module.main(arguments) or 0)


def run_all(names: list[str]) -> int:
    """Run every benchmark in a process of its own; return 0 when all reached their bars."""
    codes = {}
    for name in names:
        print(f"=== {name}", flush=True)
        codes[name] = subprocess.run([sys.executable, str(HERE / Path(__file__).name), name], check=False).returncode
    print("\n" + ", ".join(f"{name}: {'ok' if code == 0 else f'failed ({code})'}" for name, code in codes.items()))
    return 1 if any(codes.values()) else 0


def main(arguments: list[str]) -> int:
    """Run the benchmark that is named, or all."""
    known = benchmarks()
    if not arguments:
        return run_all(list(known))
    if arguments[0] in {"-h", "--help"}:
        print("usage: make bench [NAME], or anyplex bench [NAME]; without a name all are run")
        for name, summary in known.items():
            print(f"  {name:12} {summary}")
        return 0
    name = arguments[0]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}"
        print(f"no benchmark {name!r} ({hint})", file=sys.stderr)
        return 2
    sys.path.insert(0, str(HERE.parent))
    (HERE / "results").mkdir(exist_ok=True)
    return run_one(name, arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
